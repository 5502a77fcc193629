//! Runs real processes in the sandbox over a root file system made of busybox: as root, and as a
//! user, who enters a user namespace first as strata does.
//!
//! The test program is its own child program, as strata is, so it has its own `main`; that
//! speaks just as much of libtest's command line as `cargo test` and `cargo nextest` use.
#![expect(clippy::print_stdout, reason = "this is a test harness")]

mod escapes;
mod isolation;
mod layers;
mod leftovers;
mod limits;
mod process;
mod support;
mod terminal;

use std::process::ExitCode;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let all: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let mut arguments = all[1..].to_vec();
    if arguments.first().is_some_and(|first| first == strata_exec::CHILD) {
        return strata_exec::child_main(&arguments[1..]);
    }
    let in_namespace = arguments.first().is_some_and(|first| first == strata_exec::INSIDE);
    if in_namespace {
        assert_eq!(arguments.drain(..2).nth(1), Some("".into()), "the user has many ids");
    } else if !arguments.iter().any(|argument| argument == "--list") {
        strata_exec::enter(&all).expect("a user namespace");
    }
    let arguments: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    if let ["--sleep-in", directory, ref runtime @ ..] = arguments[..] {
        return leftovers::sleep_in(directory.as_ref(), runtime.first().copied());
    }
    if arguments == ["--shell"] {
        return terminal::shell();
    }
    let tests: Vec<Test> = [
        process::TESTS,
        isolation::TESTS,
        escapes::TESTS,
        layers::TESTS,
        leftovers::TESTS,
        limits::TESTS,
        terminal::TESTS,
    ]
    .concat();
    if arguments.contains(&"--list") {
        if !arguments.contains(&"--ignored") {
            tests.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&str> =
        arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
    for (name, test) in tests {
        if wanted.is_empty() || wanted.contains(&name) {
            println!("test {name} ...");
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}
