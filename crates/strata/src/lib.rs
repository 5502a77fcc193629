//! The program: arguments become settings, settings become work, and what comes back becomes
//! words and an exit code.
//!
//! The libraries below are silent. They read no environment and no home, print nothing, and
//! fail with errors that say who did what to which object. All that belongs to a person sits
//! here: where the store is, what a flag is called, what a message says, and which exit code a
//! script gets. The decision that the crate defends: **each of these has one place.** One module
//! writes to stdout and stderr (`printer`), one reads the environment (`environment`), one words
//! each kind of error (`words`), and each command is one file that reads from top to bottom.
//!
//! stdout is data: an image id, a table, JSON, a tar. Everything else is talk and goes to stderr.
//! Exit codes: 0 done, 1 the build failed, 2 wrong usage, 3 the environment (no space, no
//! permission, registry down), 101 a bug of strata, 130 and 143 ended by a signal.
//!
//! ```
//! assert_eq!(strata::EXIT_USAGE, 2);
//! ```

mod arguments;
mod command;
mod config_file;
mod draw;
mod environment;
mod failure;
mod fetcher;
mod printer;
mod progress;
mod request;
mod rights;
mod session;
mod settings;
mod signals;
mod ssh_agent;
mod words;

use std::ffi::OsString;

use crate::arguments::Arguments;
use crate::environment::Environment;
use crate::printer::Printer;
use crate::rights::Rights;

pub use failure::{EXIT_BUG, EXIT_BUILD, EXIT_ENVIRONMENT, EXIT_USAGE};

/// Does what the arguments ask for; the first one is the program's own name. Gives the exit code;
/// all output is written then.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> u8 {
    let environment = Environment::of_process();
    let printer = Printer::new(&environment);
    printer::report_bugs();
    let (rights, arguments) = Rights::of(arguments);
    let all = arguments.clone();
    let arguments = match Arguments::read(arguments, &printer) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let done = rights
        .suffice_for(&arguments.command, &all, &printer)
        .and_then(|()| command::run(arguments, &environment, &printer));
    let code = done.unwrap_or_else(|failure| {
        printer.failure(&failure);
        failure.code()
    });
    printer.finish();
    code
}
