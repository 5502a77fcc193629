//! `RUN`, `CMD`, `ENTRYPOINT`, `SHELL` and `HEALTHCHECK`: what runs programs.

use std::time::Duration;

use super::{COMMENT_HINT, Head, Reader};
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::flags::Flags;
use crate::suggest::did_you_mean;
use crate::word::Piece;
use crate::{
    Check, CommandForm, Healthcheck, Heredoc, Keyword, Kind, Mount, Network, RunArgs, Script,
    Security, Word,
};

/// Where the script of a here-document with a `#!` lies while it runs.
const SCRIPT_DIRECTORY: &str = "/dev/pipes";

/// No time that a health check gives may be shorter.
const SHORTEST: Duration = Duration::from_millis(1);

impl Reader<'_> {
    /// `CMD` and `ENTRYPOINT`: nothing at all is allowed, but hardly meant.
    pub(super) fn command(&mut self, head: &Head<'_>) -> Option<CommandForm> {
        let form = self.form(head.rest)?;
        if matches!(&form, CommandForm::Shell(text) if text.is_empty()) {
            self.warn_about_nothing(head);
        }
        Some(form)
    }

    pub(super) fn run(&mut self, head: &Head<'_>, mut flags: Flags) -> Option<Kind> {
        let network = flags.value("network");
        let network =
            network.map_or(Some(Network::Default), |word| self.choose("network", &word, &NETWORKS));
        let security = flags.value("security");
        let security = security
            .map_or(Some(Security::Sandbox), |word| self.choose("security", &word, &SECURITIES));
        let mounts = self.mounts(flags.values("mount"));
        let form = self.form(head.rest)?;
        let nothing = match &form {
            CommandForm::Shell(text) => text.is_empty(),
            CommandForm::Exec(arguments) => arguments.is_empty(),
        };
        if nothing {
            self.warn_about_nothing(head);
        }
        self.warn_about_swallowed_lines(head.rest);
        let heredocs = self.heredocs.to_vec();
        let (form, script) = with_heredocs(form, &heredocs);
        Some(Kind::Run(RunArgs {
            mounts: mounts?,
            network: network?,
            security: security?,
            devices: flags.values("device"),
            form,
            script,
            heredocs,
        }))
    }

    fn mounts(&mut self, words: Vec<Word>) -> Option<Vec<Mount>> {
        let mut mounts = Some(Vec::new());
        for word in words {
            match Mount::read(word) {
                Ok(mount) => {
                    if let Some(mounts) = &mut mounts {
                        mounts.push(mount);
                    }
                }
                Err(diagnostic) => mounts = self.fail(*diagnostic),
            }
        }
        mounts
    }

    pub(super) fn shell(&mut self, head: &Head<'_>) -> Option<Kind> {
        const EXAMPLE: &str = "SHELL [\"/bin/bash\", \"-c\"]";
        let span = head.rest.span();
        match self.json(head.rest).ok()? {
            Some(arguments) if arguments.is_empty() => {
                self.missing(head, "at least one argument", EXAMPLE)
            }
            Some(arguments) => Some(Kind::Shell(arguments)),
            None if head.rest.is_empty() => self.missing(head, "at least one argument", EXAMPLE),
            None => {
                let message = "`SHELL` requires the arguments to be a JSON array";
                let diagnostic = Diagnostic::error("shell-not-json", span, message);
                self.fail(diagnostic.hint(format!("write `{EXAMPLE}`")))
            }
        }
    }

    pub(super) fn healthcheck(&mut self, head: &Head<'_>, mut flags: Flags) -> Option<Kind> {
        let (kind, command) = split_space(head.rest);
        let span = kind.span();
        match kind.text().to_ascii_uppercase().as_str() {
            "" => self.missing(head, "`CMD` or `NONE`", "HEALTHCHECK CMD <command>"),
            "NONE" => {
                if command.is_empty() {
                    return Some(Kind::Healthcheck(Healthcheck::None));
                }
                let span = command.span();
                let message = "`HEALTHCHECK NONE` takes no arguments";
                self.fail(Diagnostic::error("too-many-arguments", span, message))
            }
            "CMD" => self.check(head, command, &mut flags),
            other => {
                let message = format!("unknown type `{other}` in `HEALTHCHECK`");
                let hint = did_you_mean(other, ["CMD", "NONE"])
                    .unwrap_or_else(|| "write `HEALTHCHECK CMD <command>`".to_owned());
                let diagnostic = Diagnostic::error("unknown-healthcheck", span, message);
                self.fail(diagnostic.hint(hint))
            }
        }
    }

    fn check(&mut self, head: &Head<'_>, command: Piece<'_>, flags: &mut Flags) -> Option<Kind> {
        let interval = self.time(flags, "interval");
        let timeout = self.time(flags, "timeout");
        let start_period = self.time(flags, "start-period");
        let start_interval = self.time(flags, "start-interval");
        let retries = self.retries(flags);
        let form = self.form(command)?;
        let empty = match &form {
            CommandForm::Shell(text) => text.is_empty(),
            CommandForm::Exec(arguments) => arguments.is_empty(),
        };
        if empty {
            return self.missing(head, "a command after `CMD`", "HEALTHCHECK CMD <command>");
        }
        Some(Kind::Healthcheck(Healthcheck::Cmd(Check {
            interval: interval.ok()?,
            timeout: timeout.ok()?,
            start_period: start_period.ok()?,
            start_interval: start_interval.ok()?,
            retries: retries.ok()?,
            form,
        })))
    }

    /// A time flag; 0 is the same as not given.
    fn time(&mut self, flags: &mut Flags, name: &str) -> Result<Option<Duration>, ()> {
        let Some(word) = flags.value(name).filter(|word| !word.raw.is_empty()) else {
            return Ok(None);
        };
        let (message, hint) = match duration::read(&word.raw) {
            Some(Duration::ZERO) => return Ok(None),
            Some(time) if time >= SHORTEST => return Ok(Some(time)),
            Some(_) => (format!("flag `--{name}` cannot be less than `1ms`"), None),
            None => {
                let message = format!("flag `--{name}` must be a duration, not `{word}`");
                (message, Some("write `30s`, `1m30s` or the like".to_owned()))
            }
        };
        let diagnostic = Diagnostic::error("invalid-flag-value", word.span, message);
        self.diagnostics.push(diagnostic.hint_if(hint));
        Err(())
    }

    fn retries(&mut self, flags: &mut Flags) -> Result<Option<u32>, ()> {
        let Some(word) = flags.value("retries").filter(|word| !word.raw.is_empty()) else {
            return Ok(None);
        };
        if let Some(retries) = word.raw.parse::<i32>().ok().and_then(|n| u32::try_from(n).ok()) {
            return Ok(Some(retries));
        }
        let message = format!("flag `--retries` must be a number from 0 on, not `{word}`");
        self.diagnostics.push(Diagnostic::error("invalid-flag-value", word.span, message));
        Err(())
    }

    /// A command as JSON array, or else as text for the shell.
    fn form(&mut self, piece: Piece<'_>) -> Option<CommandForm> {
        if let Some(arguments) = self.json(piece).ok()? {
            return Some(CommandForm::Exec(arguments));
        }
        self.warn_about_json(piece);
        Some(CommandForm::Shell(piece.text().to_owned()))
    }

    fn choose<T: Copy>(&mut self, flag: &str, word: &Word, known: &[(&str, T)]) -> Option<T> {
        if let Some((_, found)) = known.iter().find(|(name, _)| *name == word.raw) {
            return Some(*found);
        }
        let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
        let names = names.join(", ");
        let message = format!("flag `--{flag}` must be one of {names}, not `{word}`");
        let hint = did_you_mean(&word.raw, known.iter().map(|(name, _)| *name));
        let diagnostic = Diagnostic::error("invalid-flag-value", word.span, message);
        self.fail(diagnostic.hint_if(hint))
    }

    /// Warns about a shell comment that takes the lines below with it, since they are joined.
    fn warn_about_swallowed_lines(&mut self, command: Piece<'_>) {
        let Some(at) = shell_comment(command.text()).filter(|at| command.has_later_line(*at))
        else {
            return;
        };
        let span = command.slice(at..at + 1).span();
        let message = "for the shell everything from here is a comment, also the lines below";
        let diagnostic = Diagnostic::warning("comment-swallows-lines", span, message);
        self.diagnostics.push(diagnostic.hint(COMMENT_HINT));
    }

    fn warn_about_nothing(&mut self, head: &Head<'_>) {
        let span = head.whole.trim().span();
        let message = format!("`{}` has no command", head.keyword);
        let diagnostic = Diagnostic::warning("empty-command", span, message);
        let hint = match head.keyword {
            Keyword::Run => None,
            keyword => Some(format!("write `{keyword} []` to unset it")),
        };
        self.diagnostics.push(diagnostic.hint_if(hint));
    }
}

const NETWORKS: [(&str, Network); 3] =
    [("default", Network::Default), ("none", Network::None), ("host", Network::Host)];

const SECURITIES: [(&str, Security); 2] =
    [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];

/// The first word, at any white space, and what follows it.
fn split_space(piece: Piece<'_>) -> (Piece<'_>, Piece<'_>) {
    let text = piece.text();
    let (first, rest) = piece.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    (first, rest.trim())
}

/// Where a shell sees a comment: at a `#` that begins a word outside of quotes.
fn shell_comment(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut at_word_start = true;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (None, '#') if at_word_start => return Some(at),
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => drop(letters.next()),
            _ => {}
        }
        at_word_start = quote.is_none() && matches!(letter, ' ' | '\t' | ';' | '&' | '|');
    }
    None
}

/// What `RUN` really runs.
///
/// A here-document on its own is the script, and with `#!` a program; with more text around it,
/// it is left to the shell, which gets it back in full.
fn with_heredocs(form: CommandForm, heredocs: &[Heredoc]) -> (CommandForm, Option<Script>) {
    let (CommandForm::Shell(text), Some(first)) = (&form, heredocs.first()) else {
        return (form, None);
    };
    if Heredoc::read(text).is_none() {
        let mut whole = text.clone();
        for heredoc in heredocs {
            whole.extend(["\n", &heredoc.body, &heredoc.name]);
        }
        return (CommandForm::Shell(whole), None);
    }
    let body = first.content();
    // BuildKit (docker 28.5) asks before it takes the tabs off, so `<<-` has no `#!`.
    if !first.body.starts_with("#!") {
        return (CommandForm::Shell(body), None);
    }
    let path = format!("{SCRIPT_DIRECTORY}/{}", first.name);
    (CommandForm::Shell(path.clone()), Some(Script { path, body }))
}
