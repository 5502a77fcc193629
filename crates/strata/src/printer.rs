//! The one module that writes to stdout and stderr. stdout is data, stderr is talk. That one of
//! them is closed, or full, is no failure: nobody is left to tell.

use std::io::{self, IsTerminal, Write};

use strata_dockerfile::{Diagnostic, Span};

use crate::environment::Environment;
use crate::failure::Failure;
use crate::request::Dockerfile;

/// Writes what a person or a script reads.
#[derive(Debug)]
pub(crate) struct Printer {
    colors: bool,
    terminal: bool,
}

impl Printer {
    /// Colours and live lines only where stderr is a terminal that can show them.
    pub(crate) fn new(environment: &Environment) -> Self {
        let dumb = environment.text("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stderr().is_terminal() && !dumb;
        Self { colors: terminal && environment.text("NO_COLOR").is_none(), terminal }
    }

    /// Whether stderr is a terminal on which lines can be drawn anew.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether stderr shows colours.
    pub(crate) fn colors(&self) -> bool {
        self.colors
    }

    /// One line, or several, of data.
    pub(crate) fn data(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    }

    /// Data as it is.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    }

    /// Writes what is left of the data, when nothing follows any more.
    pub(crate) fn finish(&self) {
        let _ = io::stdout().flush();
    }

    /// One line, or several, of talk.
    pub(crate) fn talk(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// `error: …`, `warning: …`, `hint: …`, `note: …`.
    pub(crate) fn labelled(&self, label: Label, text: &str) {
        self.talk(&format!("{}: {text}", self.paint(label)));
    }

    /// Why nothing came of it.
    pub(crate) fn failure(&self, failure: &Failure) {
        for line in &failure.before {
            self.talk(line);
        }
        match &failure.places {
            Some(places) => {
                let findings = places.findings.iter();
                findings.for_each(|finding| self.finding(&places.source, finding));
            }
            None => {
                self.labelled(Label::Error, &failure.message);
                failure.hint.iter().for_each(|hint| self.labelled(Label::Hint, hint));
            }
        }
        failure.notes.iter().for_each(|note| self.labelled(Label::Note, note));
    }

    /// Something about a Dockerfile, drawn under its line if it is about one.
    pub(crate) fn finding(&self, source: &Dockerfile, finding: &Diagnostic) {
        if finding.span == Span::default() {
            self.labelled(
                if finding.is_error() { Label::Error } else { Label::Warning },
                &finding.message,
            );
            finding.hint.iter().for_each(|hint| self.labelled(Label::Hint, hint));
        } else {
            self.talk(&crate::draw::diagnostic(source, finding, self.colors));
        }
    }

    fn paint(&self, label: Label) -> String {
        let (word, color) = match label {
            Label::Error => ("error", "1;31"),
            Label::Warning => ("warning", "1;33"),
            Label::Hint => ("hint", "1;36"),
            Label::Note => ("note", "1;32"),
        };
        if self.colors { format!("\x1b[{color}m{word}\x1b[0m") } else { word.to_owned() }
    }
}

/// What kind of line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// It failed.
    Error,
    /// It may not mean what was meant.
    Warning,
    /// What to do about it.
    Hint,
    /// What else there is to know.
    Note,
}

/// Words a panic as what it is: our fault, with what a report needs.
pub(crate) fn report_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        let mut stderr = io::stderr().lock();
        let _ = writeln!(stderr, "error: strata has a bug: {panic}");
        let _ = writeln!(stderr, "hint: please report it together with the Dockerfile");
    }));
}
