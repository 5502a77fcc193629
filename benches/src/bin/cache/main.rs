//! Loads `strata serve` and the peers that it is compared with, each started here with an empty
//! store, in turns, and prints Markdown tables for `docs/benchmarks.md`.
//!
//! The client and the server share the machine, so a ratio says more than a figure. What it
//! deliberately does not do: keep a history, or judge.

mod bulk;
mod load;
mod options;
mod servers;
mod start;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use load::{Load, Outcome};
use options::Options;
use servers::{Kind, Running};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match Options::read(&arguments, |name| std::env::var(name).ok()) {
        Ok(options) => options,
        Err(usage) => {
            say(&usage);
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let wanted = |case: &str| options.cases.is_empty() || options.cases.iter().any(|c| c == case);
    for load in Load::ALL.into_iter().filter(|load| wanted(load.name())) {
        let servers = Running::start(options, |kind| load.suits(kind))?;
        print(&format!("### {}\n", load.title()));
        print("| server | connections | a second | p50 | p99 | strata ÷ server |");
        print("|---|---|---|---|---|---|");
        for connections in [1, 32, 256] {
            rows(options, load, &servers, connections)?;
        }
        memory(&servers);
    }
    if wanted("gigabyte") {
        bulk::run(options)?;
    }
    if wanted("start") {
        start::run(options)?;
    }
    Ok(())
}

/// One line for each server; the servers take turns.
fn rows(
    options: &Options,
    load: Load,
    servers: &[Running],
    connections: usize,
) -> Result<(), String> {
    let mut all: Vec<Vec<Outcome>> = servers.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for at in 0..servers.len() {
            let at = (at + round) % servers.len();
            all[at].push(load.run(&servers[at], connections, options.seconds)?);
        }
    }
    for (server, outcomes) in servers.iter().zip(&all) {
        let pairs = all[0].iter().zip(outcomes);
        let ratio = median(pairs.map(|(strata, peer)| strata.rate / peer.rate).collect());
        let of = |field: fn(&Outcome) -> f64| median(outcomes.iter().map(field).collect());
        print(&format!(
            "| {} | {connections} | {:.0} | {:.2} ms | {:.2} ms | {ratio:.2} |",
            server.name,
            of(|one| one.rate),
            of(|one| one.p50_millis),
            of(|one| one.p99_millis),
        ));
    }
    Ok(())
}

fn memory(servers: &[Running]) {
    let all: Vec<String> =
        servers.iter().map(|server| format!("{} {} MiB", server.name, server.peak_mib())).collect();
    print(&format!("\nPeak memory: {}.\n", all.join(", ")));
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Data, for the page.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Talk, for whoever waits.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

impl Load {
    fn suits(self, kind: Kind) -> bool {
        match self {
            Self::FindMissing | Self::SmallWrites => matches!(kind, Kind::Strata | Kind::Casd),
            Self::GetValue => matches!(kind, Kind::Strata | Kind::Nginx),
            Self::GetBlob => matches!(kind, Kind::Strata | Kind::Registry),
        }
    }
}
