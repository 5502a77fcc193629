//! `copy-all-before-install`: with everything copied first, every change of any file installs all
//! dependencies anew. An install with a cache mount, or after another one, is let be.

use super::shell_words::{Command, commands, program};
use super::{Rule, Subject};
use crate::diagnostic::Diagnostic;
use crate::{Instruction, Kind, MountKey, RunArgs, Span};

pub(super) const RULE: Rule = Rule::ours(
    "copy-all-before-install",
    "Dependencies should be installed before all files are copied, from their lists alone",
    check,
);

fn check(subject: &Subject<'_>, findings: &mut Vec<Diagnostic>) {
    for stage in subject.counting() {
        let mut copied: Option<Span> = None;
        for instruction in stage.body {
            if let Some(span) = copies_all(instruction) {
                copied.get_or_insert(span);
            }
            let Kind::Run(run) = &instruction.kind else { continue };
            let Some((install, lists)) = install(run) else { continue };
            let has_cache = run
                .mounts
                .iter()
                .any(|mount| mount.value(MountKey::Type).is_some_and(|word| word.raw == "cache"));
            if let Some(span) = copied.filter(|_| !has_cache) {
                let line = subject.tree.line_of(instruction.span.start);
                let message =
                    format!("every change of a file makes `{install}` in line {line} run again");
                let hint = format!("copy only {lists} above it, and everything else below it");
                findings.push(RULE.finding(span, message).label("all files").hint(hint));
            }
            break;
        }
    }
}

/// Where an instruction copies the whole context.
fn copies_all(instruction: &Instruction) -> Option<Span> {
    let files = match &instruction.kind {
        Kind::Copy(copy) if copy.from.is_none() => &copy.files,
        Kind::Add(add) => &add.files,
        _ => return None,
    };
    let all = |path: &str| matches!(path.trim_matches('"'), "." | "./" | "/" | "*" | "./*");
    files.sources.iter().find(|word| all(&word.raw)).map(|word| word.span)
}

/// The first install of a `RUN`, and the files that say what is installed.
fn install(run: &RunArgs) -> Option<(String, &'static str)> {
    commands(&run.form).iter().find_map(|command| {
        let (name, sub) = program(command);
        let lists = lists(command, name, sub)?;
        Some((format!("{name} {}", sub.unwrap_or("install")), lists))
    })
}

fn lists(command: &Command, name: &str, sub: Option<&str>) -> Option<&'static str> {
    let has = |words: &[&str]| command.iter().any(|word| words.contains(&word.as_str()));
    if has(&["-g", "--global", "--version", "-v", "--help"]) {
        return None;
    }
    Some(match (name, sub) {
        ("npm", Some("ci" | "i" | "install" | "clean-install")) => {
            "`package.json` and `package-lock.json`"
        }
        ("yarn", None | Some("install")) => "`package.json` and `yarn.lock`",
        ("pnpm", Some("i" | "install" | "fetch")) => "`package.json` and `pnpm-lock.yaml`",
        ("pip" | "pip3", Some("install")) if !has(&[".", "-e", "--editable"]) => {
            "`requirements.txt`"
        }
        (python, Some("pip")) if python.starts_with("python") && has(&["-r"]) => {
            "`requirements.txt`"
        }
        ("poetry", Some("install")) => "`pyproject.toml` and `poetry.lock`",
        ("uv", Some("sync")) => "`pyproject.toml` and `uv.lock`",
        ("bundle", None | Some("install")) => "`Gemfile` and `Gemfile.lock`",
        ("cargo", Some("fetch" | "build")) => "`Cargo.toml` and `Cargo.lock`, `cargo fetch` there,",
        ("go", Some("mod")) if has(&["download"]) => "`go.mod` and `go.sum`",
        ("composer", Some("install")) => "`composer.json` and `composer.lock`",
        _ => return None,
    })
}
