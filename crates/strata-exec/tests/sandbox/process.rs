//! What a process is given and gives: arguments, environment, user, output, exit code.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use strata_exec::{ExecError, Runtime, Status, View, passwd};

use crate::support::Place;

pub(crate) const TESTS: &[super::Test] = &[
    ("exit_codes_and_signals", exit_codes_and_signals),
    ("streams_stay_apart_and_whole", streams_stay_apart_and_whole),
    ("environment_directory_and_user", environment_directory_and_user),
    ("passwd_is_read_inside_the_image_only", passwd_is_read_inside_the_image_only),
    ("programs_that_cannot_run", programs_that_cannot_run),
    ("setuid_programs_work", setuid_programs_work),
    ("other_runtimes", other_runtimes),
    ("overhead_of_true", overhead_of_true),
];

fn exit_codes_and_signals() {
    let status = |script| Place::new().try_script(script).0.expect("run").status;
    assert_eq!(status("exit 0"), Status::Exited(0));
    assert_eq!(status("exit 42"), Status::Exited(42));
    assert_eq!(status("(kill -9 $$) & wait; exit 3"), Status::Exited(3));
    assert_eq!(Status::Signaled(9).code(), 137);
}

fn streams_stay_apart_and_whole() {
    let mut place = Place::new();
    let (result, out, err) =
        place.try_script("for i in $(seq 20000); do echo out $i; echo err $i >&2; done");
    assert_eq!(result.expect("run").cut_bytes, 0);
    let expected = |name| (1..=20000).map(|i| format!("{name} {i}\n")).collect::<String>();
    assert!(out == expected("out") && err == expected("err"));

    let mut place = Place::new();
    place.job.log_limit_bytes = 10;
    let (result, out, _) = place.try_script("printf 0123456789abcdef");
    assert_eq!((result.expect("run").cut_bytes, out.as_str()), (6, "0123456789"));
}

fn environment_directory_and_user() {
    let mut place = Place::new();
    place.job.env = vec![("A".to_owned(), "1 = x".to_owned())];
    place.job.cwd = "/made/for it".to_owned();
    place.job.user = passwd::resolve(&View::new(&place.lowers), "node").expect("node");
    let out = place.script("pwd; id -u; id -g; id -G; env | sort; hostname; umask; cat | wc -c");
    let expected = "/made/for it\n1000\n1000\n1000 50\nA=1 = x\nHOME=/home/node\n\
                    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
                    PWD=/made/for it\nSHLVL=1\nbuildkitsandbox\n0022\n0\n";
    assert_eq!(out, expected);
    let paths: Vec<String> =
        place.changed().layer.changes().iter().map(|change| change.path.to_string()).collect();
    assert_eq!(paths, ["made", "made/for it"]);
}

fn passwd_is_read_inside_the_image_only() {
    let place = Place::new();
    std::fs::rename(place.base().join("etc/passwd"), place.base().join("var/users"))
        .expect("rename");
    symlink("/../../../var/users", place.base().join("etc/passwd")).expect("link");
    let view = View::new(&place.lowers);
    assert_eq!(passwd::resolve(&view, "node").expect("node").uid, 1000);
    let owner = passwd::resolve_owner(&view, "node:staff").expect("owner");
    assert_eq!((owner.uid, owner.gid), (1000, 50));
    std::fs::remove_file(place.base().join("etc/passwd")).expect("remove");
    symlink("/etc/passwd", place.base().join("etc/passwd")).expect("link");
    assert!(passwd::resolve(&view, "0").is_err(), "a link to itself");
    std::fs::remove_file(place.base().join("etc/passwd")).expect("remove");
    assert!(passwd::resolve(&view, "node").is_err());
    assert_eq!(passwd::resolve(&view, "7:8").expect("numbers").gid, 8);
}

fn programs_that_cannot_run() {
    let check = |argv: &[&str], code: i32, message: &str| {
        let mut place = Place::new();
        std::fs::write(place.base().join("etc/text"), "no program").expect("write");
        place.job.argv = argv.iter().map(|&argument| argument.to_owned()).collect();
        let cancel = strata_exec::Cancel::new().expect("cancel");
        let (result, _, err) = place.try_run(&cancel);
        assert_eq!(result.expect("run").status, Status::Exited(code), "{argv:?}: {err}");
        assert!(err.contains(message), "{err}");
    };
    check(&["no-such-program"], 127, "exec: `no-such-program`: executable file not found in $PATH");
    check(&["/no/such/program"], 127, "No such file");
    check(&["/etc/text"], 126, "Permission denied");
    let mut place = Place::new();
    place.job.cwd = "/etc/passwd".to_owned();
    assert!(matches!(place.try_script("true").0, Err(ExecError::Job { .. })));
}

fn setuid_programs_work() {
    let mut place = Place::new();
    let busybox = place.base().join("bin/busybox");
    std::fs::set_permissions(busybox, PermissionsExt::from_mode(0o4755)).expect("chmod");
    place.job.user = passwd::resolve(&View::new(&place.lowers), "node").expect("node");
    assert_eq!(place.script("grep NoNewPrivs /proc/self/status"), "NoNewPrivs:\t0\n");
    assert_eq!(place.changed().layer.changes(), []);
}

/// The runtimes of this machine that are programs. crun takes no machine with both generations of
/// cgroups.
pub(crate) fn runtimes() -> Vec<&'static str> {
    let exists = |path: &str| std::path::Path::new(path).exists();
    let both = exists("/sys/fs/cgroup/unified") && exists("/sys/fs/cgroup/pids");
    let runc = ["/usr/sbin/runc", "/usr/bin/runc"].into_iter().find(|path| exists(path));
    let crun = Some("/usr/bin/crun").filter(|path| exists(path) && !both);
    runc.into_iter().chain(crun).collect()
}

fn other_runtimes() {
    for runtime in runtimes() {
        let mut place = Place::new();
        place.job.runtime = Runtime::Command(runtime.into());
        let look = "echo hello; grep -E 'CapEff|Seccomp:' /proc/self/status; echo x > /x";
        let out = place.script(look);
        assert_eq!(out, "hello\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n", "{runtime}");
        assert_eq!(place.changed().files.len(), 1);
    }
}

/// Reports, asserts nothing about time.
#[expect(clippy::print_stdout, reason = "the figure is the point")]
fn overhead_of_true() {
    let program = strata_exec::ReexecCommand::default();
    let mut times: Vec<_> = (0..50)
        .map(|_| {
            let mut place = Place::new();
            place.job.argv = vec!["/bin/true".to_owned()];
            let cancel = strata_exec::Cancel::new().expect("cancel");
            let start = Instant::now();
            let root = place.root();
            strata_exec::run(&program, &place.job, &root, &mut |_, _| {}, &cancel).expect("run");
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("RUN true: min {:?}, p50 {:?}, p90 {:?}", times[0], times[25], times[45]);
}
