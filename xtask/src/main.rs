//! The workspace's chores: `cargo xtask tidy` holds the house rules that neither the compiler nor
//! clippy knows. It changes nothing and knows nothing of what strata does.

mod tidy;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(),
        _ => {
            say("usage: cargo xtask tidy");
            ExitCode::from(2)
        }
    }
}

fn tidy() -> ExitCode {
    // Asked at run time: with a target directory for several checkouts, the program may have been
    // compiled in another one.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| "xtask".to_owned());
    let root = Path::new(&here).parent().unwrap_or(Path::new("."));
    match tidy::check(root) {
        Ok(findings) if findings.is_empty() => {
            say("tidy: nothing to complain about");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            findings.iter().for_each(|finding| say(&finding.to_string()));
            say(&format!("tidy: {} findings", findings.len()));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(3)
        }
    }
}

fn say(line: &str) {
    // A closed pipe leaves nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
