//! `UndefinedVar`: a variable that is neither `ARG` nor `ENV` is empty. In commands the shell
//! replaces variables, so they are not looked at.
//!
//! A base image may bring variables. Where the caller does not know it, only what is surely meant
//! to be of this file is reported: a name near one that is there, one that the file declares
//! elsewhere, or one with small letters.

use std::collections::BTreeSet;

use super::{Rule, Scope, Subject};
use crate::diagnostic::Diagnostic;
use crate::suggest::suggest;
use crate::{Expander, Files, Heredoc, Instruction, Kind, Pair, Span, Word};

pub(super) const RULE: Rule =
    Rule::buildkit("UndefinedVar", "Variables should be defined before their use", check);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    let declared = declared(subject);
    subject.walk(|instruction, scope| {
        // Each of several ARGs in a line sees those before it.
        let own: Vec<&str> = match &instruction.kind {
            Kind::Arg(all) => all.iter().map(|each| each.name.as_str()).collect(),
            _ => Vec::new(),
        };
        let mut report = |text: &str, span: Span, expander: &Expander| {
            let unset = scope.expand(expander, text).map(|found| found.unset);
            for name in unset.unwrap_or_default().iter().filter(|name| !scope.has(name)) {
                if own.contains(&name.as_str()) {
                    continue;
                }
                if is_certain(name, scope, &declared) {
                    findings.push(finding(subject, scope, name, span));
                }
            }
        };
        let expander = subject.expander();
        words(instruction).into_iter().for_each(|word| report(&word.raw, word.span, &expander));
        for heredoc in heredocs(instruction).iter().filter(|heredoc| heredoc.expand) {
            report(&heredoc.body, heredoc.body_span, &Expander::heredoc());
        }
    });
}

fn finding(subject: &Subject<'_>, scope: &Scope, name: &str, span: Span) -> Diagnostic {
    let text = subject.tree.text(span);
    let place = [format!("${name}"), format!("${{{name}")].into_iter().find_map(|written| {
        let at = span.start + text.find(&written)?;
        Some(Span::new(at, at + written.len()))
    });
    let message = format!("the variable `{name}` is not set here, so it is empty");
    let near = Some(name).filter(|name| name.len() > 2);
    let hint = match near.and_then(|name| suggest(name, scope.names())) {
        Some(near) => format!("did you mean `${near}`?"),
        None => format!("declare it above: `ARG {name}=<default>`"),
    };
    RULE.finding(place.unwrap_or(span), message).hint(hint)
}

/// Whether a name that is not set cannot be the base image's.
fn is_certain(name: &str, scope: &Scope, declared: &BTreeSet<&str>) -> bool {
    !scope.is_open
        || declared.contains(name)
        || name.contains(|c: char| c.is_ascii_lowercase())
        // `GOPATH` is no mistyped `PATH`.
        || suggest(name, scope.names()).is_some_and(|near| !name.contains(near))
}

/// Every name that the file or the builder declares somewhere.
fn declared<'a>(subject: &'a Subject<'_>) -> BTreeSet<&'a str> {
    let mut names: BTreeSet<&str> = subject.globals.names().collect();
    for instruction in subject.tree.instructions() {
        match &instruction.kind {
            Kind::Arg(all) => names.extend(all.iter().map(|each| each.name.as_str())),
            Kind::Env(pairs) => names.extend(pairs.iter().map(|pair| pair.key.as_str())),
            _ => {}
        }
    }
    names
}

/// The words of an instruction in which the builder replaces variables.
fn words(instruction: &Instruction) -> Vec<&Word> {
    match &instruction.kind {
        Kind::Env(pairs) | Kind::Label(pairs) => of_pairs(pairs),
        Kind::Arg(all) => all.iter().filter_map(|each| each.default.as_ref()).collect(),
        Kind::Copy(copy) => of_files(&copy.files),
        Kind::Add(add) => of_files(&add.files).into_iter().chain(&add.checksum).collect(),
        Kind::Workdir(word) | Kind::User(word) | Kind::Stopsignal(word) => vec![word],
        Kind::Volume(words) => words.iter().collect(),
        Kind::Run(run) => {
            let options = run.mounts.iter().flat_map(|mount| &mount.options);
            options.filter_map(|option| option.value.as_ref()).collect()
        }
        _ => Vec::new(),
    }
}

fn of_pairs(pairs: &[Pair]) -> Vec<&Word> {
    pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect()
}

/// What BuildKit expands of them; patterns of `--exclude` it does not.
fn of_files(files: &Files) -> Vec<&Word> {
    let Files { sources, heredocs: _, dest, chown, chmod, link: _, exclude: _ } = files;
    let flags = chown.iter().chain(chmod);
    sources.iter().chain([dest]).chain(flags).collect()
}

fn heredocs(instruction: &Instruction) -> &[Heredoc] {
    match &instruction.kind {
        Kind::Copy(copy) => &copy.files.heredocs,
        Kind::Add(add) => &add.files.heredocs,
        _ => &[],
    }
}
