//! A process with the caller's own input and output, with and without a terminal.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use strata_exec::Cancel;

use crate::support::Place;

pub(crate) const TESTS: &[super::Test] =
    &[("a_shell_in_a_terminal", a_shell_in_a_terminal), ("a_shell_in_a_pipe", a_shell_in_a_pipe)];

/// The other process of these tests: a shell that has this process's input and output.
pub(crate) fn shell() -> ExitCode {
    let mut place = Place::new();
    place.job.argv = vec!["sh".to_owned()];
    place.job.stdio = strata_exec::Stdio::Inherit;
    let finished = place.try_run(&Cancel::new().expect("cancel")).0.expect("run");
    ExitCode::from(u8::try_from(finished.status.code()).unwrap_or(u8::MAX))
}

fn talk(command: &mut Command, lines: &[&str]) -> (Option<i32>, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("spawn");
    let mut input = child.stdin.take().expect("piped");
    for line in lines {
        std::thread::sleep(Duration::from_millis(500));
        input.write_all(line.as_bytes()).expect("write");
        input.flush().expect("flush");
    }
    let output = child.wait_with_output().expect("wait");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).replace('\r', ""))
}

fn a_shell_in_a_terminal() {
    let own = std::env::current_exe().expect("own path");
    // As in the background: that signals are ignored outside changes nothing inside.
    let mut script = Command::new("env");
    script.args(["--ignore-signal=INT,QUIT,HUP", "script"]);
    script.args(["-qec", &format!("{} --shell", own.display()), "/dev/null"]);
    let lines = [
        "echo $((20 + 3))\n",
        "test -t 0 && readlink /proc/self/fd/0\n",
        "sleep 1000\n",
        "\x03",
        "echo after $((40 + 4))\n",
        "exit 4\n",
    ];
    let (code, out) = talk(&mut script, &lines);
    assert_eq!(code, Some(4), "{out}");
    for expected in ["\n23\n", "\n/dev/pts/0\n", "\nafter 44\n"] {
        assert!(out.contains(expected), "{expected:?} is not in {out:?}");
    }
    assert!(!out.contains("job control"), "{out}");
}

fn a_shell_in_a_pipe() {
    let mut own = Command::new("/proc/self/exe");
    let (code, out) = talk(own.arg("--shell"), &["echo $((20 + 3))\n", "exit 5\n"]);
    assert_eq!((code, out.as_str()), (Some(5), "23\n"));
}
