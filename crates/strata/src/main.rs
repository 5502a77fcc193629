//! The door: tells a run's child from the program that a person started, and nothing else.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Before any thread, file or setting: the child must have one thread only.
    if arguments.get(1).is_some_and(|first| first == strata_exec::CHILD) {
        return strata_exec::child_main(&arguments[2..]);
    }
    strata_exec::leave(strata::main(arguments))
}
