//! Times whole commands of strata beside other builders on the same machine, in alternation, and
//! prints Markdown tables for `docs/benchmarks.md`.
//!
//! What it deliberately does not do: measure parts of strata, keep a history, or judge. A figure
//! is the wall time of the command that a person would type, the start of its process included;
//! a ratio compares two builders within one round, since a machine's mood lasts longer than that.

mod case;
mod compress;
mod context;
mod options;
mod report;
mod ship;
mod tool;

use std::io::Write;
use std::process::ExitCode;

use case::Case;
use options::Options;
use tool::Tool;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Options::read(&arguments, |name| std::env::var(name).ok()) {
        Ok(options) => run(&options).map_or_else(fail, |()| ExitCode::SUCCESS),
        Err(usage) => {
            say(&usage);
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let mut tools = vec![Tool::strata(&options.strata, &options.strata_arguments)];
    for (name, command) in &options.peers {
        match command {
            Some(command) => tools.push(Tool::peer(name, command)),
            None => say(&format!("{name}: left out, {} is not set", options::variable(name))),
        }
    }
    print(&report::head(&tools, options));
    for case in &options.cases {
        say(&format!("{}: {} rounds", case.name(), options.rounds));
        let mut tools = tools.clone();
        if case.compressor().is_some() {
            tools.truncate(1);
        }
        for (name, command) in helpers(*case, options) {
            match command {
                Some(command) => tools.push(Tool::helper(name, command)),
                None => say(&format!("{name}: left out, {} is not set", options::variable(name))),
            }
        }
        if case.has_git() {
            tools.push(Tool::git());
        }
        if case.is_split() {
            tools.insert(1, tools[0].split());
        }
        let outcome = case::run(*case, &tools, options)?;
        print(&report::table(*case, &tools, &outcome));
    }
    Ok(())
}

/// What does a part of a case, and no more.
fn helpers(case: Case, options: &Options) -> impl Iterator<Item = (&'static str, &Option<String>)> {
    let wanted = match case.compressor() {
        Some((_, name)) => Some(name),
        None => case.moves().then_some("skopeo"),
    };
    let all = options.helpers.iter().map(|(name, command)| (*name, command));
    all.filter(move |(name, _)| Some(*name) == wanted)
}

fn fail(error: String) -> ExitCode {
    say(&format!("error: {error}"));
    ExitCode::FAILURE
}

/// Data, for the page.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Talk, for whoever waits.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
