//! What this process may do: enough, or it starts itself again where it may more.

use std::ffi::OsString;

use strata_exec::INSIDE;

use crate::arguments::Command;
use crate::failure::Failure;
use crate::printer::{Label, Printer};
use crate::words::lower_errors;

/// How the process was started.
pub(crate) enum Rights {
    /// By a person.
    Given,
    /// By itself, in a user namespace; with a reason why that has one id only, if it has.
    Made(String),
}

impl Rights {
    /// Takes what the program has told itself out of its arguments.
    pub(crate) fn of(mut arguments: Vec<OsString>) -> (Self, Vec<OsString>) {
        if arguments.get(1).is_none_or(|first| first != INSIDE) {
            return (Self::Given, arguments);
        }
        let mut told = arguments.drain(1..arguments.len().min(3)).skip(1);
        let why = told.next().map(|why| why.to_string_lossy().into_owned());
        drop(told);
        (Self::Made(why.unwrap_or_default()), arguments)
    }

    /// Sees to it that the command may do what it does. Must come before the first thread.
    pub(crate) fn suffice_for(
        &self,
        command: &Command,
        arguments: &[OsString],
        printer: &Printer,
    ) -> Result<(), Failure> {
        match (self, command) {
            (_, Command::Check(_) | Command::Version) => Ok(()),
            (Self::Given, _) => {
                strata_exec::enter(arguments).map_err(|error| lower_errors::namespace(&error))
            }
            (Self::Made(why), Command::Build(_) | Command::Run(_)) if !why.is_empty() => {
                let text = format!(
                    "{why}: commands see all files as root's, and can give none to another user"
                );
                printer.labelled(Label::Warning, &text);
                printer.labelled(Label::Hint, ONE_ID);
                Ok(())
            }
            (Self::Made(_), _) => Ok(()),
        }
    }
}

/// How to come by more ids.
pub(crate) const ONE_ID: &str = "install `uidmap` (Debian, Ubuntu) or `shadow-utils` and give \
    this user ids: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_tells_itself_is_taken_out() {
        let check = |texts: &[&str], expected: Option<&str>, rest: &[&str]| {
            let given = texts.iter().map(OsString::from).collect();
            let (rights, left) = Rights::of(given);
            let why = match &rights {
                Rights::Given => None,
                Rights::Made(why) => Some(why.as_str()),
            };
            assert_eq!((why, left), (expected, rest.iter().map(OsString::from).collect()));
        };
        check(&["strata", "build", "."], None, &["strata", "build", "."]);
        check(&["strata", INSIDE, "", "build"], Some(""), &["strata", "build"]);
        check(&["strata", INSIDE, "no", "build", "."], Some("no"), &["strata", "build", "."]);
        check(&["strata", INSIDE], Some(""), &["strata"]);
        check(&["strata"], None, &["strata"]);
    }
}
