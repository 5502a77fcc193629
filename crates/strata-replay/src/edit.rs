//! Changes of a Dockerfile's text that keep what it means and change what is cached.

use std::collections::BTreeMap;

use strata_dockerfile::{CopyArgs, Instruction, Kind, SyntaxTree, Word, parse};

use crate::model::{Class, classify};
use crate::prepare::Asked;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// Instructions that seldom change go before those that often do, as far as neither can see
    /// the other: commands that need no file of the context go above the COPYs before them, and
    /// COPYs to different places are ordered among each other.
    Reorder {
        /// How often an instruction, in one line, was broken by its own files.
        breaks: BTreeMap<String, u64>,
    },
    /// Where everything is copied and then dependencies are installed, the files that name the
    /// dependencies are copied first, then they are installed, then comes everything.
    SplitCopy {
        /// The files that name dependencies, in the newest commit.
        manifests: Vec<String>,
    },
    /// Every COPY becomes one with `--link`.
    Link,
}

impl Edit {
    /// What it does, in words.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Reorder { .. } => "what changes seldom comes first",
            Self::SplitCopy { .. } => "dependencies are installed before the rest is copied",
            Self::Link => "every COPY is one with --link",
        }
    }
}

/// The changed text, if there is anything to change.
pub(crate) fn apply(edit: &Edit, text: &[u8], _asked: &Asked) -> Option<Vec<u8>> {
    let parsed = parse(text);
    if parsed.diagnostics.iter().any(strata_dockerfile::Diagnostic::is_error) {
        return None;
    }
    let changed = match edit {
        Edit::Reorder { breaks } => reorder(&parsed.tree, breaks),
        Edit::SplitCopy { manifests } => split(&parsed.tree, manifests),
        Edit::Link => link(&parsed.tree),
    };
    changed.filter(|changed| changed != text)
}

/// The text of an instruction with the comments directly above it, up to its last line's end.
fn pieces(tree: &SyntaxTree) -> (Vec<u8>, Vec<Vec<u8>>, Vec<u8>) {
    let source = tree.source();
    let instructions = tree.instructions();
    let line_end = |at: usize| {
        source[at..].iter().position(|byte| *byte == b'\n').map_or(source.len(), |n| at + n + 1)
    };
    let ends: Vec<usize> = instructions
        .iter()
        .map(|one| line_end(one.span.end.saturating_sub(1).max(one.span.start)))
        .collect();
    let mut parts = Vec::new();
    let mut from = instructions.first().map_or(0, |first| comment_start(source, first.span.start));
    let head = source[..from].to_vec();
    for end in &ends {
        parts.push(source[from..*end].to_vec());
        from = *end;
    }
    (head, parts, source[from..].to_vec())
}

/// Where the first instruction's line begins.
fn comment_start(source: &[u8], at: usize) -> usize {
    source[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

fn joined(head: Vec<u8>, parts: Vec<Vec<u8>>, tail: &[u8]) -> Vec<u8> {
    let mut text = head;
    for part in parts {
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.extend(part);
    }
    text.extend_from_slice(tail);
    text
}

fn from_context(instruction: &Instruction) -> Option<&CopyArgs> {
    match &instruction.kind {
        Kind::Copy(copy) if copy.from.is_none() => Some(copy),
        _ => None,
    }
}

fn is_copy(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Copy(_) | Kind::Add(_))
}

/// Whether an instruction says nothing to the commands after it.
fn is_silent(instruction: &Instruction) -> bool {
    matches!(
        instruction.kind,
        Kind::Label(_)
            | Kind::Expose(_)
            | Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Healthcheck(_)
            | Kind::Stopsignal(_)
            | Kind::Maintainer(_)
    )
}

/// What a RUN does, on one line, if it has no mounts that bring files.
fn command(instruction: &Instruction) -> Option<String> {
    match &instruction.kind {
        Kind::Run(run) if run.mounts.is_empty() => {
            let words = instruction.original.split_once(char::is_whitespace)?.1;
            Some(words.to_owned())
        }
        _ => None,
    }
}

fn reorder(tree: &SyntaxTree, breaks: &BTreeMap<String, u64>) -> Option<Vec<u8>> {
    let (head, parts, tail) = pieces(tree);
    let instructions = tree.instructions();
    let mut order: Vec<usize> = (0..instructions.len()).collect();
    let mut at = 0;
    while at < order.len() {
        let instruction = &instructions[order[at]];
        let needs_nothing =
            command(instruction).is_some_and(|command| classify(&command) == Class::NoContext);
        if needs_nothing {
            let mut place = at;
            while place > 0 {
                let above = &instructions[order[place - 1]];
                if !(is_copy(above) || is_silent(above)) {
                    break;
                }
                place -= 1;
            }
            let moved = order.remove(at);
            order.insert(place, moved);
        }
        at += 1;
    }
    sort_copies(instructions, &mut order, breaks);
    let parts = order.into_iter().map(|index| parts[index].clone()).collect();
    Some(joined(head, parts, &tail))
}

/// Orders COPYs that follow each other by how seldom they are broken.
fn sort_copies(instructions: &[Instruction], order: &mut [usize], breaks: &BTreeMap<String, u64>) {
    let count = |index: usize| {
        let text = instructions[index].original.split_whitespace().collect::<Vec<_>>().join(" ");
        breaks.get(&text).copied().unwrap_or(0)
    };
    // As bubble sort: two neighbours change places where neither can see the other.
    for _ in 0..order.len() {
        for at in 1..order.len() {
            let (one, other) = (order[at - 1], order[at]);
            if count(one) > count(other) && apart(&instructions[one], &instructions[other]) {
                order.swap(at - 1, at);
            }
        }
    }
}

/// Whether two COPYs of the context go to places of which neither is in the other.
fn apart(one: &Instruction, other: &Instruction) -> bool {
    let (Some(one), Some(other)) = (from_context(one), from_context(other)) else { return false };
    let place = |copy: &CopyArgs| copy.files.dest.raw.trim_matches('"').to_owned();
    let names = |copy: &CopyArgs| -> Option<Vec<String>> {
        let dest = place(copy);
        if !dest.ends_with('/') && dest != "." {
            return (!dest.contains('$')).then(|| vec![dest]);
        }
        // Into a directory: files under their own names; a directory's contents can be anything.
        let named = |source: &Word| {
            let raw = source.raw.trim_matches('"');
            let name = raw.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let known = name.contains('.') && !raw.contains(['*', '?', '[', '$']) && name != ".";
            known.then(|| format!("{}/{name}", dest.trim_end_matches('/')))
        };
        copy.files.sources.iter().map(named).collect()
    };
    let (Some(one), Some(other)) = (names(one), names(other)) else { return false };
    one.iter().all(|a| {
        other.iter().all(|b| {
            let (a, b) = (a.trim_start_matches("./"), b.trim_start_matches("./"));
            let inside = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
            !inside(a, b) && !inside(b, a)
        })
    })
}

/// Puts the files that name dependencies, and the installer, before the COPY of everything.
fn split(tree: &SyntaxTree, manifests: &[String]) -> Option<Vec<u8>> {
    let (head, parts, tail) = pieces(tree);
    let instructions = tree.instructions();
    for (index, instruction) in instructions.iter().enumerate() {
        let Some(copy) = from_context(instruction) else { continue };
        let everything = copy.files.sources.len() == 1
            && matches!(copy.files.sources[0].raw.trim_end_matches('/'), "." | "");
        if !everything || !copy.files.heredocs.is_empty() {
            continue;
        }
        let Some(install) = installer_after(instructions, index) else { continue };
        let wanted = manifests_of(&instructions[install].original, manifests);
        if wanted.is_empty() {
            continue;
        }
        let copies = manifest_copies(copy, instruction, &wanted);
        let mut moved: Vec<Vec<u8>> = Vec::new();
        moved.extend(parts[..index].iter().cloned());
        moved.push(copies.into_bytes());
        moved.push(parts[install].clone());
        moved.push(parts[index].clone());
        moved.extend(parts[index + 1..install].iter().cloned());
        moved.extend(parts[install + 1..].iter().cloned());
        return Some(joined(head, moved, &tail));
    }
    None
}

/// The installer that follows a COPY with nothing but silent instructions between.
fn installer_after(instructions: &[Instruction], copy: usize) -> Option<usize> {
    for (index, instruction) in instructions.iter().enumerate().skip(copy + 1) {
        match &instruction.kind {
            Kind::Run(run) => {
                let brings = run.mounts.iter().any(|mount| {
                    let text = &mount.raw.raw;
                    !text.contains("type=cache") && !text.contains("type=secret")
                });
                let words = instruction.original.split_whitespace();
                let command: Vec<&str> =
                    words.skip(1).filter(|word| !word.starts_with("--mount")).collect();
                let installs = classify(&command.join(" ")) == Class::Installer;
                return (installs && !brings).then_some(index);
            }
            _ if is_silent(instruction) => {}
            _ => return None,
        }
    }
    None
}

/// Those of the manifests that belong to the installer's ecosystem.
fn manifests_of(command: &str, manifests: &[String]) -> Vec<String> {
    let has = |words: &[&str]| words.iter().any(|word| command.contains(word));
    let names: &[&str] = if has(&["npm", "yarn", "pnpm", "bun ", "lerna"]) {
        &["package", "npm", "yarn", "pnpm", "bun", "lerna"]
    } else if has(&["cargo"]) {
        &["cargo", "rust-toolchain"]
    } else if has(&["go mod", "go get"]) {
        &["go."]
    } else if has(&["pip", "uv ", "poetry", "pipenv", "pdm", "conda"]) {
        &["pyproject", "poetry", "uv.", "pipfile", "requirements", "setup.", "environment."]
    } else if has(&["bundle"]) {
        &["gemfile", ".ruby-version", "gemspec"]
    } else if has(&["composer"]) {
        &["composer"]
    } else if has(&["gradle", "mvn"]) {
        &["pom.xml", "gradle"]
    } else if has(&["mix"]) {
        &["mix."]
    } else if has(&["dotnet"]) {
        &["csproj", "fsproj", ".sln", "packages.lock"]
    } else {
        &[]
    };
    let belongs = |path: &&String| {
        let file = path.rsplit('/').next().unwrap_or(path).to_lowercase();
        names.iter().any(|name| file.contains(name))
    };
    manifests.iter().filter(belongs).cloned().collect()
}

/// One COPY for each directory that has manifests.
fn manifest_copies(copy: &CopyArgs, instruction: &Instruction, manifests: &[String]) -> String {
    let dest = copy.files.dest.raw.trim_end_matches('/');
    let words = instruction.original.split_whitespace().skip(1);
    let flags: Vec<&str> = words.take_while(|word| word.starts_with("--")).collect();
    let flags: String = flags.iter().map(|flag| format!("{flag} ")).collect();
    let mut directories: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in manifests {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        directories.entry(directory).or_default().push(path);
    }
    let mut text = String::new();
    for (directory, paths) in directories {
        let below = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        text.push_str(&format!("COPY {flags}{} {dest}/{below}\n", paths.join(" ")));
    }
    text
}

fn link(tree: &SyntaxTree) -> Option<Vec<u8>> {
    let mut text = tree.source().to_vec();
    for instruction in tree.instructions().iter().rev() {
        if let Kind::Copy(copy) = &instruction.kind
            && !copy.files.link
        {
            let at = instruction.keyword_span.end;
            text.splice(at..at, b" --link".iter().copied());
        }
    }
    Some(text)
}
