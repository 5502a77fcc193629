//! Nothing survives a run but the reported change.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use strata_exec::{Cancel, ExecError, Runtime, Status, Stdio, in_user_namespace};

use crate::support::Place;

pub(crate) const TESTS: &[super::Test] = &[
    ("nothing_is_left_after_the_end", nothing_is_left_after_the_end),
    ("daemons_are_killed", daemons_are_killed),
    ("cancel_kills_everything", cancel_kills_everything),
    ("a_cancelled_switch_starts_nothing", a_cancelled_switch_starts_nothing),
    ("time_outs", time_outs),
    ("signals_are_passed_on", signals_are_passed_on),
    ("kill_9_of_the_caller_leaves_nothing", kill_9_of_the_caller_leaves_nothing),
    (
        "kill_9_of_the_caller_leaves_nothing_of_a_runtime",
        kill_9_of_the_caller_leaves_nothing_of_a_runtime,
    ),
    ("kill_9_during_the_start_leaves_nothing", kill_9_during_the_start_leaves_nothing),
    ("runs_side_by_side", runs_side_by_side),
    ("a_panicking_sink_leaves_nothing", a_panicking_sink_leaves_nothing),
];

/// What of this process's runs under `directory` is still there: processes, mounts and cgroups.
fn leftovers(directory: &Path) -> Vec<String> {
    leftovers_of(std::process::id(), directory)
}

/// The same for the runs of another process.
fn leftovers_of(caller: u32, directory: &Path) -> Vec<String> {
    let name = directory.to_str().expect("UTF-8");
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").expect("processes").flatten() {
        let path = process.path();
        let is_self = path.ends_with(std::process::id().to_string());
        for file in ["cmdline", "mountinfo", "environ"] {
            let text = std::fs::read(path.join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            if text.contains(name) && !(is_self && file == "cmdline") {
                found.push(format!("{}/{file}: {text}", path.display()));
            }
        }
    }
    found.extend(cgroups_of(caller));
    found
}

/// The cgroups of a process's runs, which are called after it: `strata-PID-…` and
/// `strata-run-PID-…`; and those of libcontainer, which would be called after nobody.
pub(crate) fn cgroups_of(caller: u32) -> Vec<String> {
    let own = ["strata-", "strata-run-"].map(|prefix| format!("{prefix}{caller}-*"));
    let mut find = Command::new("find");
    find.args(["/sys/fs/cgroup", "-name", &own[0], "-o", "-name", &own[1], "-o"]);
    let output = find.args(["-name", "*youki*"]).output().expect("find");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn assert_clean(directory: &Path) {
    assert_eq!(leftovers(directory), Vec::<String>::new());
}

/// Marks the job's processes so that `leftovers` finds them, wherever they are.
fn marked() -> Place {
    let mut place = Place::new();
    let mark = place.directory.path().to_str().expect("UTF-8").to_owned();
    place.job.env.push(("MARK".to_owned(), mark));
    place
}

fn nothing_is_left_after_the_end() {
    for script in ["true", "false", "kill -9 -1; exit 3", "no-such-program"] {
        let mut place = marked();
        place.try_script(script).0.expect("run");
        assert_clean(place.directory.path());
    }
    let mut place = marked();
    place.job.argv = vec!["true".to_owned()];
    place.lowers.push(place.directory.path().join("missing"));
    assert!(place.try_run(&Cancel::new().expect("cancel")).0.is_err());
    assert_clean(place.directory.path());
}

fn daemons_are_killed() {
    let mut place = marked();
    let start = Instant::now();
    let out = place.script("sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & echo done");
    assert_eq!(out, "done\n");
    assert!(start.elapsed() < Duration::from_secs(100));
    assert_clean(place.directory.path());
}

fn cancel_kills_everything() {
    let mut place = marked();
    place.job.argv =
        ["sh", "-c", "trap '' TERM INT; sleep 1000 & sleep 1000"].map(str::to_owned).to_vec();
    let cancel = Arc::new(Cancel::new().expect("cancel"));
    for delay in [300, 0, 5, 10, 20] {
        if delay != 300 {
            place.next();
        }
        let cancel =
            if delay == 300 { cancel.clone() } else { Arc::new(Cancel::new().expect("cancel")) };
        let switch = cancel.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay));
            switch.cancel();
        });
        let (result, ..) = place.try_run(&cancel);
        assert!(matches!(result, Err(ExecError::Cancelled)), "{result:?}");
        thread.join().expect("join");
        assert_clean(place.directory.path());
    }
}

fn a_cancelled_switch_starts_nothing() {
    let mut place = Place::new();
    place.job.argv = vec!["true".to_owned()];
    let cancel = Cancel::new().expect("cancel");
    cancel.cancel();
    assert!(matches!(place.try_run(&cancel).0, Err(ExecError::Cancelled)));
    assert!(!place.staging.path().join("run").exists());
}

fn time_outs() {
    let mut place = marked();
    place.job.timeout_millis = Some(1000);
    let (result, out, _) = place.try_script("echo before; sleep 1000");
    assert!(matches!(result, Err(ExecError::TimedOut { seconds: 1 })), "{result:?}");
    assert_eq!(out, "before\n");
    assert_clean(place.directory.path());
}

fn signals_are_passed_on() {
    let mut place = marked();
    // Not before the trap is set: the first process of a namespace takes no other signal.
    let script = "trap 'echo got it; exit 5' TERM; echo ready; while true; do sleep 0.05; done";
    place.job.argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let (cancel, mut out) = (Cancel::new().expect("cancel"), Vec::new());
    let mut sink = |_, bytes: &[u8]| {
        if out.is_empty() {
            cancel.signal(15);
        }
        out.extend_from_slice(bytes);
    };
    let program = strata_exec::ReexecCommand::default();
    let result = strata_exec::run(&program, &place.job, &place.root(), &mut sink, &cancel);
    assert_eq!(result.expect("run").status, Status::Exited(5));
    assert_eq!(String::from_utf8_lossy(&out), "ready\ngot it\n");
}

/// The other process of the `kill -9` tests: runs a job that sleeps, and says when it started.
/// With a runtime it has limits, too.
pub(crate) fn sleep_in(directory: &Path, runtime: Option<&str>) -> ExitCode {
    let mut place = marked();
    if let Some(runtime) = runtime {
        place.job.runtime = Runtime::Command(runtime.into());
        place.job.limits.pids = (!in_user_namespace()).then_some(50);
    }
    let mark = directory.to_str().expect("UTF-8").to_owned();
    place.job.env.push(("MARK".to_owned(), mark));
    let script = "echo started; setsid sleep 1000 & sleep 1000";
    place.job.argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    place.job.stdio = Stdio::Inherit;
    let result = place.try_run(&Cancel::new().expect("cancel")).0;
    assert!(result.is_ok(), "{result:?}");
    ExitCode::SUCCESS
}

fn kill_after(delay: Option<Duration>, runtime: Option<&str>) {
    use std::io::BufRead;
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut caller = Command::new("/proc/self/exe")
        .args(["--sleep-in".as_ref(), directory.path().as_os_str()])
        .args(runtime)
        .env("TMPDIR", directory.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("spawn");
    match delay {
        Some(delay) => std::thread::sleep(delay),
        None => {
            let mut line = String::new();
            let out = caller.stdout.take().expect("piped");
            std::io::BufReader::new(out).read_line(&mut line).expect("read");
            assert_eq!(line, "started\n");
            let seen = leftovers_of(caller.id(), directory.path());
            assert!(seen.len() >= 3, "the test can see the processes: {seen:#?}");
            let cgroups = cgroups_of(caller.id());
            assert_eq!(cgroups.is_empty(), runtime.is_none() || in_user_namespace(), "{cgroups:?}");
            let own = std::env::current_exe().expect("own path");
            let mounted = format!(" {} ro,", own.display());
            let is_read_only = |text: &String| text.contains(&mounted);
            assert!(seen.iter().any(is_read_only), "strata's own file: {seen:#?}");
        }
    }
    caller.kill().expect("kill");
    assert_eq!(caller.wait().expect("wait").signal(), Some(9));
    let (start, left) = (Instant::now(), || leftovers_of(caller.id(), directory.path()));
    // More than one look: a runtime that is killed while it starts may be in none of the places at
    // the first, and make its cgroup after it.
    let is_gone = || {
        (0..6).all(|_| {
            std::thread::sleep(Duration::from_millis(10));
            left().is_empty()
        })
    };
    while !is_gone() && start.elapsed() < Duration::from_secs(20) {}
    assert_eq!(left(), Vec::<String>::new());
}

fn kill_9_of_the_caller_leaves_nothing() {
    kill_after(None, None);
}

/// runc and crun are killed with everything else, and can not remove their cgroups then.
fn kill_9_of_the_caller_leaves_nothing_of_a_runtime() {
    for runtime in crate::process::runtimes() {
        kill_after(None, Some(runtime));
        for delay in (0..120).step_by(20) {
            kill_after(Some(Duration::from_millis(delay)), Some(runtime));
        }
    }
}

fn kill_9_during_the_start_leaves_nothing() {
    for delay in (0..40).step_by(2) {
        kill_after(Some(Duration::from_millis(delay)), None);
    }
}

fn runs_side_by_side() {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for _ in 0..5 {
                    let out = marked().script(&format!("echo {number} > /x; cat /x; sleep 0.01"));
                    assert_eq!(out, format!("{number}\n"));
                }
            });
        }
    });
}

fn a_panicking_sink_leaves_nothing() {
    let mut place = marked();
    place.job.argv = ["sh", "-c", "echo x; sleep 1000"].map(str::to_owned).to_vec();
    let directory = place.directory.path().to_owned();
    let root = place.root();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let cancel = Cancel::new().expect("cancel");
        let mut sink = |_, _: &[u8]| std::panic::resume_unwind(Box::new(()));
        strata_exec::run(&Default::default(), &place.job, &root, &mut sink, &cancel)
    }));
    assert!(panicked.is_err());
    assert_clean(&directory);
}
