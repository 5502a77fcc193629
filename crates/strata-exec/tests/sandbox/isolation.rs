//! What a process may not do or see.

use strata_exec::{Mount, MountKind, Network, Security, View, in_user_namespace, passwd};

use crate::support::Place;

pub(crate) const TESTS: &[super::Test] = &[
    ("capabilities_and_filter_are_dockers", capabilities_and_filter_are_dockers),
    ("users_have_no_capabilities", users_have_no_capabilities),
    ("insecure_may_do_anything", insecure_may_do_anything),
    ("paths_are_masked_or_read_only", paths_are_masked_or_read_only),
    ("device_nodes_do_not_open", device_nodes_do_not_open),
    ("network_none_is_only_lo", network_none_is_only_lo),
    ("it_sees_only_itself", it_sees_only_itself),
    ("the_program_cannot_be_overwritten", the_program_cannot_be_overwritten),
    ("etc_comes_from_strata", etc_comes_from_strata),
    ("mounts", mounts),
    ("mount_targets_stay_inside", mount_targets_stay_inside),
    ("impossible_mounts_are_refused", impossible_mounts_are_refused),
];

fn capabilities_and_filter_are_dockers() {
    let out = Place::new().script("grep -E '^(Cap|Seccomp:|NoNew)' /proc/self/status");
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    let expected = format!(
        "CapInh:\t{none}\nCapPrm:\t{docker}\nCapEff:\t{docker}\nCapBnd:\t{docker}\n\
         CapAmb:\t{none}\nNoNewPrivs:\t0\nSeccomp:\t2\n"
    );
    assert_eq!(out, expected);
    let (result, out, err) = Place::new().try_script(
        "unshare -U true || echo no1; unshare -n true || echo no2; unshare -m true || echo no3
         mount -t tmpfs none /tmp || echo no4; umount /proc || echo no5
         hostname other || echo no6; chroot / true && echo yes",
    );
    assert_eq!(result.expect("run").status.code(), 0);
    assert_eq!(out, "no1\nno2\nno3\nno4\nno5\nno6\nyes\n", "{err}");
}

fn users_have_no_capabilities() {
    let mut place = Place::new();
    place.job.user = passwd::resolve(&View::new(&place.lowers), "node").expect("node");
    let out = place.script("grep -E '^(CapEff|CapPrm|CapBnd|Seccomp:)' /proc/self/status");
    let none = "0000000000000000";
    let bounding = "00000000a80425fb";
    let expected = format!("CapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{bounding}\nSeccomp:\t2\n");
    assert_eq!(out, expected);
    let (_, out, _) = place_again().try_script("echo x > /etc/x || echo refused");
    assert_eq!(out, "refused\n");
}

fn place_again_as(place: &Place) -> Place {
    let mut again = Place::new();
    again.job.security = place.job.security;
    again
}

fn place_again() -> Place {
    let mut place = Place::new();
    place.job.user = passwd::resolve(&View::new(&place.lowers), "1000").expect("node");
    place
}

fn insecure_may_do_anything() {
    let mut place = Place::new();
    place.job.security = Security::Insecure;
    let out = place.script(
        "grep -E '^Seccomp:' /proc/self/status; mount -t tmpfs none /tmp && echo mounted
         unshare -m true && echo unshared",
    );
    assert_eq!(out, "Seccomp:\t0\nmounted\nunshared\n");
    // What is not the machine's root makes no devices, whatever it is allowed.
    let devices = place_again_as(&place).try_script("mknod /n c 1 3 && echo x > /n && echo opened");
    assert_eq!(devices.1.is_empty(), in_user_namespace(), "{}", devices.2);
}

fn paths_are_masked_or_read_only() {
    let (_, out, _) = Place::new().try_script(
        "cat /proc/kcore | wc -c; cat /proc/keys | wc -c; ls /sys/firmware | wc -l
         echo 1 > /proc/sys/kernel/core_uses_pid || echo ro1
         echo b > /proc/sysrq-trigger || echo ro2; mkdir /sys/x 2>/dev/null || echo ro3
         for d in null zero full random urandom tty; do test -c /dev/$d && echo $d; done
         head -c 4 /dev/zero | wc -c; echo x > /dev/null && echo written
         for l in fd stdout ptmx; do readlink /dev/$l; done
         echo > /dev/shm/x && echo shm",
    );
    let expected = "0\n0\n0\nro1\nro2\nro3\nnull\nzero\nfull\nrandom\nurandom\ntty\n4\nwritten\n\
                    /proc/self/fd\n/proc/self/fd/1\npts/ptmx\nshm\n";
    assert_eq!(out, expected);
}

/// Docker refuses it with a device cgroup, which not every machine has.
fn device_nodes_do_not_open() {
    let mut place = Place::new();
    let cache = place.directory.path().join("cache");
    std::fs::create_dir(&cache).expect("create");
    let kind = MountKind::Bind { source: cache, read_only: false };
    place.job.mounts.push(Mount { target: "/cache".to_owned(), kind });
    let kind = MountKind::Tmpfs { size_bytes: None };
    place.job.mounts.push(Mount { target: "/memory".to_owned(), kind });
    let (_, out, _) = place.try_script(
        "for d in / /dev /dev/shm /cache /memory /tmp; do
           mknod $d/node c 1 5 && head -c 1 $d/node >/dev/null || echo $d; done",
    );
    assert_eq!(out, "/\n/dev\n/dev/shm\n/cache\n/memory\n/tmp\n");
}

fn network_none_is_only_lo() {
    let mut place = Place::new();
    place.job.network = Network::None;
    // Kernels with tunnels built in put their (dead) devices into every namespace.
    let out = place.script(
        "ls /sys/class/net | grep -vE '^(lo|sit0|ip6tnl0|tunl0)$' | wc -l
         ls /sys/class/net | grep -c '^lo$'",
    );
    assert_eq!(out, "0\n1\n");
}

fn it_sees_only_itself() {
    let out = Place::new()
        .script("echo $$; ps | sed 1d | wc -l; cat /proc/self/cgroup | grep -vc ':/$'; true");
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("1"));
    let processes: u32 = lines.next().and_then(|line| line.parse().ok()).expect("a number");
    assert!(processes <= 5, "{out}");
    assert_eq!(lines.next(), Some("0"), "its own cgroup is the root");
}

/// A process can reach strata's own file as `/proc/self/exe` while that is what it runs.
fn the_program_cannot_be_overwritten() {
    let mut place = Place::new();
    place.job.argv = vec!["/proc/self/exe".to_owned(), "--list".to_owned()];
    let own = std::env::current_exe().expect("own path");
    let before = std::fs::metadata(&own).expect("metadata").modified().expect("time");
    let cancel = strata_exec::Cancel::new().expect("cancel");
    // The dynamic loader is not in this image: whatever happens, it is not a run of the program.
    let (result, out, _) = place.try_run(&cancel);
    assert_ne!((result.expect("run").status.code(), out.as_str()), (0, ""));
    let after = std::fs::metadata(&own).expect("metadata").modified().expect("time");
    assert_eq!(before, after);
}

fn etc_comes_from_strata() {
    let mut place = Place::new();
    place.job.hostname = "box".to_owned();
    place.job.tells_hostname = true;
    place.job.extra_hosts = vec![("db".to_owned(), "10.0.0.7".to_owned())];
    let out = place.script("cat /etc/hosts /etc/hostname; cat /etc/resolv.conf > /dev/null");
    assert!(out.contains("10.0.0.7\tdb\n") && out.ends_with("box\n"), "{out}");
    let (_, out, _) = place_with_changes().try_script("echo x > /etc/hosts || echo refused");
    assert_eq!(out, "refused\n");
    assert_eq!(place.changed().layer.changes(), [], "not in the layer");
}

fn place_with_changes() -> Place {
    let place = Place::new();
    std::fs::write(place.base().join("etc/hosts"), "the image's own").expect("write");
    place
}

fn mounts() {
    let mut place = Place::new();
    let source = place.directory.path().join("source");
    std::fs::create_dir(&source).expect("create");
    std::fs::write(source.join("file"), "content\n").expect("write");
    let mut mount = |target: &str, kind| {
        place.job.mounts.push(Mount { target: target.to_owned(), kind });
    };
    mount("/cache/a", MountKind::Bind { source: source.clone(), read_only: false });
    mount("/home/node/ro", MountKind::Bind { source: source.clone(), read_only: true });
    mount("/run/secrets/one", MountKind::Bind { source: source.join("file"), read_only: true });
    mount("/memory", MountKind::Tmpfs { size_bytes: Some(1 << 20) });
    mount("/memory/below", MountKind::Bind { source: source.clone(), read_only: true });
    let (result, out, _) = place.try_script(
        "cat /cache/a/file /home/node/ro/file /run/secrets/one /memory/below/file
         echo new > /cache/a/new; touch /home/node/ro/x || echo ro; stat -c %a /memory
         dd if=/dev/zero of=/memory/big bs=1M count=2 2>/dev/null || echo full
         echo kept > /cache/kept",
    );
    assert_eq!(result.expect("run").status.code(), 0);
    assert_eq!(out, "content\ncontent\ncontent\ncontent\nro\n1777\nfull\n");
    assert_eq!(std::fs::read(source.join("new")).expect("read"), b"new\n");
    let changed: Vec<String> =
        place.changed().layer.changes().iter().map(|change| change.path.to_string()).collect();
    assert_eq!(changed, ["cache", "cache/kept"], "mount points are not in the layer");
}

/// Links of the image lead nowhere but into the image.
fn mount_targets_stay_inside() {
    let mut place = Place::new();
    let outside = place.directory.path().join("outside");
    std::fs::create_dir(&outside).expect("create");
    std::os::unix::fs::symlink(&outside, place.base().join("out")).expect("link");
    std::os::unix::fs::symlink("../../../../var/lib/data", place.base().join("in")).expect("link");
    let kind = MountKind::Tmpfs { size_bytes: None };
    let target = |target: &str| Mount { target: target.to_owned(), kind: kind.clone() };
    place.job.mounts = vec![target("/out/new"), target("/in")];
    let out = place.script("ls /var/lib/data | wc -l; grep -c tmpfs /proc/mounts > /dev/null");
    assert_eq!(out, "0\n");
    assert_eq!(std::fs::read_dir(&outside).expect("read").count(), 0);
    assert_eq!(place.changed().layer.changes(), []);
}

fn impossible_mounts_are_refused() {
    for target in ["/", "/..", "/etc/passwd", "/etc/passwd/x", "relative"] {
        let mut place = Place::new();
        let kind = MountKind::Tmpfs { size_bytes: None };
        place.job.mounts.push(Mount { target: target.to_owned(), kind });
        assert!(place.try_script("true").0.is_err(), "{target}");
    }
}
