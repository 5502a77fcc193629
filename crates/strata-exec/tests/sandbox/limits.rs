//! Limits hold, and their cgroups are gone afterwards.

use strata_exec::{Cancel, ExecError, Limits, Obstacle, Status, Ulimit, in_user_namespace};

use crate::leftovers::cgroups_of;
use crate::support::Place;

pub(crate) const TESTS: &[super::Test] = &[
    ("ulimits_hold", ulimits_hold),
    ("cgroup_limits_hold_or_say_why_not", cgroup_limits_hold_or_say_why_not),
    ("impossible_limits_are_refused", impossible_limits_are_refused),
];

fn ulimits_hold() {
    let mut place = Place::new();
    let limit = |name: &str, soft, hard| Ulimit { name: name.to_owned(), soft, hard };
    place.job.limits.ulimits = vec![limit("nofile", 100, 200), limit("fsize", 4096, 4096)];
    place.job.shm_bytes = 1 << 20;
    let (_, out, _) = place.try_script(
        "ulimit -n; ulimit -Hn; (dd if=/dev/zero of=/big bs=1k count=64 2>/dev/null) || echo small
         stat -c %s /big; df -k /dev/shm | tail -n 1 | awk '{ print $2 }'",
    );
    assert_eq!(out, "100\n200\nsmall\n4096\n1024\n");
}

fn cgroup_limits_hold_or_say_why_not() {
    let mut place = Place::new();
    place.job.limits = Limits { pids: Some(20), memory_bytes: Some(64 << 20), ..Limits::default() };
    let (result, out, err) = place.try_script(
        "i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i + 1)); done 2>/dev/null; echo alive",
    );
    match result {
        Err(ExecError::Start { message, obstacle }) => {
            assert_eq!(std::env::var_os("STRATA_TEST_DELEGATED"), None, "{message}");
            assert!(message.starts_with("set the limits: "), "{message}");
            assert_eq!(obstacle, Some(Obstacle::Cgroups));
            // root can, but for containers that have no cgroups to write to.
            assert!(in_user_namespace() || !std::path::Path::new("/sys/fs/cgroup/pids").exists());
        }
        result => {
            // The shell can not fork any more, and says so by its exit code.
            assert_ne!((result.expect("run").status.code(), out.as_str()), (0, "alive\n"), "{err}");
            place.next();
            let (result, out, _) = place.try_script(
                "cat /proc/self/cgroup | grep -E 'pids|memory|^0:' | sed 's/.*://' | sort -u
                 exec dd if=/dev/zero of=/dev/null bs=256M count=1 2>/dev/null",
            );
            assert_eq!(out, "/\n", "it sees its own cgroup as the root");
            let status = result.expect("run").status;
            let killed = [Status::Exited(137), Status::Signaled(9)];
            assert!(killed.contains(&status), "{status:?}: dd keeps one block in memory");
        }
    }
    assert_eq!(cgroups_of(std::process::id()), Vec::<String>::new());
    // Also when it is ended from outside.
    place.next();
    let cancel = Cancel::new().expect("cancel");
    place.job.argv = ["sh", "-c", "echo x; sleep 1000"].map(str::to_owned).to_vec();
    let program = strata_exec::ReexecCommand::default();
    let mut stop = |_, _: &[u8]| cancel.cancel();
    drop(strata_exec::run(&program, &place.job, &place.root(), &mut stop, &cancel));
    assert_eq!(cgroups_of(std::process::id()), Vec::<String>::new());
}

fn impossible_limits_are_refused() {
    let mut place = Place::new();
    let name = "nofiles".to_owned();
    place.job.limits.ulimits = vec![Ulimit { name, soft: 1, hard: 1 }];
    assert!(matches!(place.try_script("true").0, Err(ExecError::Job { what: "ulimit", .. })));
    let mut place = Place::new();
    place.job.limits.cgroup_parent = Some("/a/../../b".to_owned());
    assert!(matches!(place.try_script("true").0, Err(ExecError::Job { what: "cgroup", .. })));
}
