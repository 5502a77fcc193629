//! Ways out of a container that others have found, each of them closed: as root and as a user.
//!
//! System calls are made by perl, which Debian and Ubuntu always have.

use std::path::{Path, PathBuf};
use std::process::Command;

use strata_exec::{Mount, MountKind, Runtime, in_user_namespace};

use crate::support::Place;

pub(crate) const TESTS: &[super::Test] = &[
    ("forbidden_system_calls_fail", forbidden_system_calls_fail),
    ("nobody_outside_can_be_traced", nobody_outside_can_be_traced),
    ("kernel_settings_are_not_to_be_changed", kernel_settings_are_not_to_be_changed),
    ("the_machines_files_are_out_of_reach", the_machines_files_are_out_of_reach),
    ("no_open_file_leaks_in", no_open_file_leaks_in),
    ("only_dockers_devices_are_there", only_dockers_devices_are_there),
    ("dots_lead_nowhere", dots_lead_nowhere),
    ("links_in_the_image_lead_nowhere", links_in_the_image_lead_nowhere),
    ("setuid_gives_no_more_than_root_has", setuid_gives_no_more_than_root_has),
    ("from_inside_it_is_as_with_runc", from_inside_it_is_as_with_runc),
    ("every_system_call_is_answered_as_with_runc", every_system_call_is_answered_as_with_runc),
];

/// A place with perl, and what perl is linked with.
fn place_with_perl() -> Place {
    let place = Place::new();
    let linked = Command::new("ldd").arg("/usr/bin/perl").output().expect("ldd").stdout;
    let linked = String::from_utf8_lossy(&linked).into_owned();
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain(["/usr/bin/perl"]) {
        let to = place.base().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("create");
        std::fs::copy(path, to).expect("copy");
    }
    place
}

/// Number and arguments of system calls that let a process out, or look at the machine.
#[cfg(target_arch = "x86_64")]
const CALLS: [(&str, &str); 35] = [
    ("mount", "165, 'none', '/tmp', 'tmpfs', 0, 0"),
    ("umount2", "166, '/proc', 2"),
    ("pivot_root", "155, '/', '/tmp'"),
    ("fsopen", "430, 'tmpfs', 0"),
    ("open_tree", "428, -100, '/', 1"),
    ("move_mount", "429, -1, '', -1, '', 0"),
    ("mount_setattr", "442, -1, '', 0, 0, 0"),
    ("fspick", "433, -100, '/', 0"),
    ("unshare user", "272, 0x10000000"),
    ("unshare mount", "272, 0x00020000"),
    ("setns", "308, 0, 0"),
    ("clone with a user namespace", "56, 0x10000011, 0, 0, 0, 0"),
    ("keyctl", "250, 0, 0, 0, 0, 0"),
    ("add_key", "248, 'user', 'a', 'b', 1, -3"),
    ("request_key", "249, 'user', 'a', 0, -3"),
    ("bpf", "321, 0, 0, 0"),
    ("perf_event_open", "298, 0, 0, -1, -1, 0"),
    ("init_module", "175, 0, 0, ''"),
    ("finit_module", "313, 0, '', 0"),
    ("delete_module", "176, 'x', 0"),
    ("kexec_load", "246, 0, 0, 0, 0"),
    ("open_by_handle_at", "304, 0, 0, 0"),
    ("userfaultfd", "323, 0"),
    ("io_uring_setup", "425, 1, 0"),
    ("pidfd_getfd", "438, 0, 0, 0"),
    ("reboot", "169, 0, 0, 0, 0"),
    ("swapon", "167, '/x', 0"),
    ("settimeofday", "164, 0, 0"),
    ("clock_settime", "227, 0, 0"),
    ("sethostname", "170, 'x', 1"),
    ("iopl", "172, 3"),
    ("ioperm", "173, 0, 1, 1"),
    ("acct", "163, '/x'"),
    ("quotactl", "179, 0, 0, 0, 0"),
    ("syslog", "103, 3, 0, 0"),
];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: [(&str, &str); 0] = [];

fn forbidden_system_calls_fail() {
    let mut place = place_with_perl();
    let calls: String = CALLS
        .iter()
        .map(|(name, arguments)| {
            // perl passes no constant strings to the kernel.
            format!(
                "@a = ({arguments}); $n = shift @a; $! = 0; $r = syscall($n, @a); \
                 print \"{name}: $r \", $! + 0, \"\\n\";\n"
            )
        })
        .collect();
    place.job.argv = ["perl", "-e", &calls].map(str::to_owned).to_vec();
    place.job.env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let (result, out, err) = place.try_run(&strata_exec::Cancel::new().expect("cancel"));
    assert_eq!(result.expect("run").status.code(), 0, "{err}");
    let expected: String = CALLS.iter().map(|(name, _)| format!("{name}: -1 1\n")).collect();
    assert_eq!(out, expected, "all are EPERM");
}

/// A process outside, by the number that it has outside: attaching to it, seizing it, reading and
/// writing its memory.
#[cfg(target_arch = "x86_64")]
fn nobody_outside_can_be_traced() {
    let mut outside = Command::new("sleep").arg("1000").spawn().expect("sleep");
    // A number that nobody has inside, where there are few.
    let number = outside.id();
    assert!(number > 50, "{number}");
    let mut place = place_with_perl();
    let script = format!(
        "for $r (16, 0x4206) {{ print syscall(101, $r, {number}, 0, 0), ' ', $! + 0, \"\\n\" }}
         $b = \"\\0\" x 16; $v = pack('QQ', unpack('Q', pack('P', $b)), 16);
         for $n (310, 311) {{
           print syscall($n, {number}, $v, 1, $v, 1, 0), ' ', $! + 0, \"\\n\"
         }}
         print 'memory ', (open(F, '<', '/proc/{number}/mem') ? 'open' : 'not there'), \"\\n\";"
    );
    place.job.argv = ["perl", "-e", &script].map(str::to_owned).to_vec();
    place.job.env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let (result, out, err) = place.try_run(&strata_exec::Cancel::new().expect("cancel"));
    outside.kill().expect("kill");
    outside.wait().expect("wait");
    assert_eq!(result.expect("run").status.code(), 0, "{err}");
    // 1: not permitted; 3: no such process.
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 5, "{out}");
    for line in &lines[..4] {
        assert!(["-1 1", "-1 3"].contains(line), "{out}");
    }
    assert_eq!(lines[4], "memory not there");
}

#[cfg(not(target_arch = "x86_64"))]
fn nobody_outside_can_be_traced() {}

fn kernel_settings_are_not_to_be_changed() {
    let (_, out, _) = Place::new().try_script(
        "for f in kernel/core_pattern kernel/modprobe kernel/hostname kernel/domainname \
            kernel/randomize_va_space kernel/unprivileged_userns_clone vm/drop_caches \
            vm/overcommit_memory net/ipv4/ip_forward fs/suid_dumpable user/max_user_namespaces; do
           [ -e /proc/sys/$f ] || continue
           (echo 1 > /proc/sys/$f) 2>/dev/null && echo written $f
         done
         for f in /proc/sysrq-trigger /proc/irq/default_smp_affinity /proc/latency_stats \
            /sys/kernel/uevent_helper /sys/kernel/mm/transparent_hugepage/enabled \
            /sys/power/state /sys/module/kernel/parameters/panic /proc/1/oom_score_adj; do
           [ -e $f ] && [ $f != /proc/1/oom_score_adj ] || continue
           (echo 1 > $f) 2>/dev/null && echo written $f
         done
         chmod 777 /proc/sys/kernel 2>/dev/null && echo changed
         echo done",
    );
    assert_eq!(out, "done\n");
}

/// A folder of this machine with a file in it that no container should see.
fn secret_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, "secret").expect("write");
    (folder, file)
}

fn the_machines_files_are_out_of_reach() {
    let (_folder, secret) = secret_folder();
    let secret = secret.display();
    let out = Place::new().script(&format!(
        "for way in '' /proc/1/root /proc/self/root /proc/1/cwd /proc/self/cwd /proc/self/fd/0 \
            /proc/self/fd/1 /proc/self/fd/2 /dev/fd/0 /proc/1/root/../../.. /../../../.. \
            /proc/self/cwd/../../../../.. /proc/1/map_files /dev/shm/../..; do
           cat $way{secret} 2>/dev/null && echo reached by $way
         done
         ls /proc | grep -E '^[0-9]+$' | wc -l > /tmp/count
         [ $(cat /tmp/count) -lt 8 ] || echo sees other processes
         grep -c ' / / ' /proc/self/mountinfo"
    ));
    assert_eq!(out, "1\n", "one root, its own");
}

fn no_open_file_leaks_in() {
    // This process has files open, some of which a child would inherit.
    let (_folder, secret) = secret_folder();
    let open = std::fs::File::open(&secret).expect("open");
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).expect("inheritable");
    let out = Place::new().script("cd /proc/1/fd; echo *");
    // 3 is the listed directory itself.
    assert_eq!(out, "0 1 2 3\n");
}

fn only_dockers_devices_are_there() {
    let out = Place::new().script("ls /dev | tr '\\n' ' '");
    let expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom \
                    zero ";
    // A link to the kernel's memory, which is masked, where the kernel has that file.
    assert_eq!(out.trim_start_matches("core "), expected);
    // A disk's node could be anything that the process may make: none of them opens.
    let (_, out, _) = Place::new().try_script(
        "for n in '1 1' '1 2' '1 4' '10 229' '8 0' '254 0' '259 0'; do
           for t in b c; do
             rm -f /tmp/n; mknod /tmp/n $t $n 2>/dev/null && head -c 1 /tmp/n >/dev/null 2>&1 \
               && echo opened $t $n
           done
         done; echo done",
    );
    assert_eq!(out, "done\n");
}

/// Every path that a job can name is the container's own.
fn dots_lead_nowhere() {
    let mut place = Place::new();
    let outside = place.directory.path().join("outside");
    std::fs::create_dir(&outside).expect("create");
    let climbing = format!("/../../../../../../../../..{}", outside.display());
    place.job.cwd = climbing.clone();
    place.job.mounts.push(Mount {
        target: format!("{climbing}/mounted/here"),
        kind: MountKind::Tmpfs { size_bytes: None },
    });
    let out = place.script("pwd; echo x > here; ls");
    assert_eq!(out, format!("{}\nhere\nmounted\n", outside.display()));
    assert_eq!(std::fs::read_dir(&outside).expect("read").count(), 0, "nothing came out");
}

fn links_in_the_image_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let mut place = Place::new();
    let outside = place.directory.path().join("outside");
    std::fs::create_dir(&outside).expect("create");
    // Everything that strata itself writes to, or mounts on, as a link to the outside.
    for name in ["work", "proc", "dev", "sys", "run"] {
        symlink(&outside, place.base().join(name)).expect("link");
    }
    std::fs::remove_dir_all(place.base().join("etc")).expect("remove");
    symlink(&outside, place.base().join("etc")).expect("link");
    place.job.cwd = "/work/deeper".to_owned();
    let kind = MountKind::Tmpfs { size_bytes: None };
    place.job.mounts.push(Mount { target: "/run/secrets".to_owned(), kind });
    // Whether such an image runs is its own matter.
    drop(place.try_script("echo x > file; mkdir -p /run/a").0);
    assert_eq!(list(&outside), [""; 0]);
}

fn list(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("read").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn setuid_gives_no_more_than_root_has() {
    let mut place = place_with_perl();
    place.script("cp /usr/bin/perl /perl; chown 0:0 /perl; chmod 4755 /perl");
    place.next();
    place.job.user.uid = 1000;
    place.job.user.gid = 1000;
    let script = "open F, '/proc/self/status'; print grep /^(CapEff|CapBnd|Seccomp:)/, <F>; \
                  @a = ('none', '/tmp', 'tmpfs'); \
                  print syscall(165, @a, 0, 0), \"\\n\"";
    place.job.argv = ["/perl", "-e", script].map(str::to_owned).to_vec();
    let (result, out, err) = place.try_run(&strata_exec::Cancel::new().expect("cancel"));
    assert_eq!(result.expect("run").status.code(), 0, "{err}");
    let docker = "00000000a80425fb";
    assert_eq!(out, format!("CapEff:\t{docker}\nCapBnd:\t{docker}\nSeccomp:\t2\n-1\n"));
}

/// What a process sees of its sandbox, line by line, without what differs from run to run.
const LOOK: &str = r"
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status
umask; id -u; id -g; hostname; pwd
for f in $(ls /proc/sys/kernel | head -3) ; do test -w /proc/sys/kernel/$f && echo writable; done
for f in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list; do
  [ -e /proc/$f ] && echo $f $(cat /proc/$f 2>/dev/null | wc -c) $(ls /proc/$f 2>/dev/null | wc -l)
done
ls /sys/firmware | wc -l
for f in bus fs irq sys sysrq-trigger; do
  grep -q ' /proc/'$f' ro' /proc/self/mountinfo && echo ro /proc/$f
done
for f in /dev/*; do echo $(stat -c '%n %F %a %u:%g' $f); done
while read -r a b c d target options rest; do
  echo $target ${rest#*- } | cut -d ' ' -f 1,2
  for o in ro nosuid nodev noexec; do
    case ,$options, in *,$o,*) echo $target $o ;; esac
  done
done < /proc/self/mountinfo | sort -u
cat /proc/self/cgroup | grep -vc ':/$'; ls /proc/self/ns | tr '\n' ' '
";

/// Debian's, if it is there.
fn runc() -> Option<&'static str> {
    ["/usr/sbin/runc", "/usr/bin/runc"].into_iter().find(|path| Path::new(path).exists())
}

fn from_inside_it_is_as_with_runc() {
    let Some(runc) = runc() else { return };
    let look = |runtime: Runtime| {
        let mut place = Place::new();
        place.job.runtime = runtime;
        let (result, out, err) = place.try_script(LOOK.trim());
        assert!(result.is_ok(), "{result:?} {err}");
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        // strata binds each device to itself, so that all other nodes in `/dev` can be forbidden;
        // what is below `/sys/fs/cgroup` lies hidden there.
        let devices = ["null", "zero", "full", "random", "urandom", "tty"];
        let is_own = |line: &String| {
            let (target, what) = line.split_once(' ').unwrap_or_default();
            target == "/dev" && what == "nodev"
                || target.starts_with("/sys/fs/cgroup")
                || target.strip_prefix("/dev/").is_some_and(|name| devices.contains(&name))
                    && !what.contains(' ')
        };
        lines.retain(|line| !is_own(line));
        lines
    };
    let (ours, theirs) = (look(Runtime::Libcontainer), look(Runtime::Command(runc.into())));
    assert!(ours.len() > 60, "{ours:#?}");
    let differ = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).cloned().collect()
    };
    let (only_ours, only_theirs) = (differ(&ours, &theirs), differ(&theirs, &ours));
    assert_eq!((only_ours, only_theirs), (Vec::new(), Vec::new()), "{}", in_user_namespace());
}

/// Makes each system call that there is, and many that are not, in a process of its own, with
/// arguments that no call can do anything with, and says how the kernel answers.
const ASK: &str = r#"
$| = 1;
# Those that wait, or that perl itself is in the middle of: fork, vfork, exit, wait4, pause.
my %left_out = map { $_ => 1 } (15, 34, 57, 58, 60, 61, 231, 247, 435);
for my $n (0 .. 470) {
    next if $left_out{$n};
    my $pid = fork;
    if (!$pid) {
        alarm 2;
        $! = 0;
        my $answer = syscall($n, -1, -1, -1, -1, -1, -1);
        exit($answer == -1 ? $! + 0 : 0);
    }
    waitpid $pid, 0;
    my $said = $? & 127 ? "signal " . ($? & 127) : "error " . ($? >> 8);
    print "$n $said\n";
}
"#;

/// The filters are made by others from one list: libseccomp's by runc, ours by us.
fn every_system_call_is_answered_as_with_runc() {
    let Some(runc) = runc().filter(|_| cfg!(target_arch = "x86_64")) else { return };
    let ask = |runtime: Runtime| {
        let mut place = place_with_perl();
        place.job.runtime = runtime;
        place.job.argv = ["perl", "-e", ASK].map(str::to_owned).to_vec();
        place.job.env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let (result, out, err) = place.try_run(&strata_exec::Cancel::new().expect("cancel"));
        assert_eq!(result.expect("run").status.code(), 0, "{err}");
        out
    };
    let (ours, theirs) = (ask(Runtime::Libcontainer), ask(Runtime::Command(runc.into())));
    assert_eq!(ours.lines().count(), 462, "{ours}");
    let number = |line: &str| -> u32 {
        line.split_once(' ').and_then(|(number, _)| number.parse().ok()).expect("a number")
    };
    // `personality` is compared by the 32 bits that the kernel takes, here: it is asked for with
    // -1. A libseccomp that is older than the profile does not know its newest calls.
    let is_meant = |ours: &str, theirs: &str| match number(ours) {
        135 => true,
        457..=466 => theirs.ends_with(" error 38"),
        _ => false,
    };
    let differ: Vec<(&str, &str)> = ours
        .lines()
        .zip(theirs.lines())
        .filter(|(ours, theirs)| ours != theirs && !is_meant(ours, theirs))
        .collect();
    assert_eq!(differ, []);
}
