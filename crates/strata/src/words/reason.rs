//! Why a step ran, in one line each: what was compared with what, with old and new value.

use std::collections::BTreeMap;

use strata_cas::{TreeChange, TreePath};
use strata_engine::{FactChange, MissReason, PathChanges};
use strata_plan::{CopyOp, CopySource};

use super::amount::counted;

/// So many paths are named; the rest is counted.
const NAMED_PATHS: usize = 5;
/// So many characters of a value are shown.
const SHOWN_CHARS: usize = 60;

/// Which instruction, `ARG` or `ENV`, gives a step the variables that it sees, by their names.
pub(crate) type Variables = BTreeMap<String, &'static str>;

/// What the Dockerfile calls the things that a reason is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wording<'a> {
    pub(crate) variables: &'a Variables,
    /// The instruction, if it copies.
    pub(crate) copy: Option<&'a CopyOp>,
    /// The image's name, if the step is a base image.
    pub(crate) image: Option<&'a str>,
}

impl Wording<'_> {
    /// A path among the files that an instruction selects, as the user knows it. There, each match
    /// has a number, and below it `name NAME` for a file, `contents/…` for a directory.
    fn path(self, path: &TreePath) -> String {
        let text = path.to_string();
        let (number, rest) = text.split_once('/').unwrap_or((&text, ""));
        let (Ok(number), true) = (number.parse::<usize>(), number.len() == 8) else { return text };
        let source = self.source(number);
        let rest = rest.strip_prefix("contents").unwrap_or(rest).trim_start_matches('/');
        let named = match (rest.strip_prefix("name "), &source) {
            (Some(_), Some(source)) => source.clone(),
            (Some(name), None) => name.to_owned(),
            (None, Some(source)) if !source.is_empty() => format!("{source}/{rest}"),
            (None, _) => rest.to_owned(),
        };
        match named.trim_matches('/') {
            "" => ".".to_owned(),
            named => named.to_owned(),
        }
    }

    /// What a match is called in the Dockerfile, where each source is one match.
    fn source(self, number: usize) -> Option<String> {
        let copy = self.copy.filter(|copy| !copy.parents)?;
        let is_pattern = |source: &CopySource| source.pattern.contains(['*', '?', '[', '\\']);
        if copy.sources.iter().any(is_pattern) {
            return None;
        }
        let source = copy.sources.get(number)?;
        if let Some(remote) = &source.remote {
            return Some(remote.shown());
        }
        Some(TreePath::normalise(source.pattern.as_bytes()).to_string())
    }
}

/// The reason in words.
pub(crate) fn words(reason: &MissReason, wording: Wording<'_>) -> String {
    match reason {
        MissReason::First => "first build".to_owned(),
        MissReason::Forced => "forced: the cache was not to be used".to_owned(),
        MissReason::Evicted => "evicted: its result is not in the store any more".to_owned(),
        MissReason::Changed(changes) => changed(changes, wording),
        MissReason::Input { input: _, paths } => {
            format!("an earlier step gave another tree: {}", files(paths, wording))
        }
    }
}

/// One word for scripts.
pub(crate) fn kind(reason: &MissReason) -> &'static str {
    match reason {
        MissReason::First => "first",
        MissReason::Forced => "forced",
        MissReason::Evicted => "evicted",
        MissReason::Changed(_) => "changed",
        MissReason::Input { .. } => "input",
    }
}

fn changed(changes: &[FactChange], wording: Wording<'_>) -> String {
    let other = changes.iter().find_map(|change| match change {
        FactChange::Text { name, old: Some(old), new: Some(new) } if name == "kind" => {
            Some(format!("another instruction stands here: {new}, not {old}"))
        }
        _ => None,
    });
    other.unwrap_or_else(|| {
        changes.iter().map(|one| change(one, wording)).collect::<Vec<_>>().join("; ")
    })
}

fn change(change: &FactChange, wording: Wording<'_>) -> String {
    match change {
        FactChange::Files { name, paths } if name == "files" => files(paths, wording),
        FactChange::Files { name, paths } => format!("{name}: {}", files(paths, wording)),
        FactChange::Text { name, old: Some(old), new: Some(new) } if name == "image" => {
            let image = wording.image.map(|name| format!(" `{name}`")).unwrap_or_default();
            format!("base image{image} moved from {} to {}", short_digest(old), short_digest(new))
        }
        FactChange::Text { name, old, new } => {
            let name = fact_name(name, wording);
            let [old, new] = [old, new].map(|value| value.as_deref().map(readable));
            match (old, new) {
                (Some(old), Some(new)) => {
                    let (old, new) = around_difference(&old, &new);
                    format!("{name} changed from {old} to {new}")
                }
                (None, Some(new)) => format!("{name} is new: {}", cut(&new, 0)),
                (Some(old), None) => format!("{name} is gone: it was {}", cut(&old, 0)),
                (None, None) => format!("{name} changed"),
            }
        }
    }
}

/// `env REV` → ``ARG `REV` ``: by the instruction if there is one in this Dockerfile, and with
/// what the user wrote as a literal.
fn fact_name(name: &str, wording: Wording<'_>) -> String {
    match name.split_once(' ') {
        Some(("env", variable)) => {
            format!("{} `{variable}`", wording.variables.get(variable).unwrap_or(&"env"))
        }
        _ => name.to_owned(),
    }
}

/// As many digits as Docker shows of an id.
fn short_digest(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

/// A command is kept as a list; the shell form is shown as it was written.
fn readable(value: &str) -> String {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let list: Result<Vec<String>, _> = serde_json::from_str(value);
    match list.as_deref() {
        Ok([_, flag, script]) if flag == "-c" => one_line(script),
        _ => one_line(value),
    }
}

/// Both values, cut so that what differs can be seen.
fn around_difference(old: &str, new: &str) -> (String, String) {
    let same = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
    let longest = old.chars().count().max(new.chars().count());
    let skipped = if longest <= SHOWN_CHARS { 0 } else { same.saturating_sub(SHOWN_CHARS / 3) };
    (cut(old, skipped), cut(new, skipped))
}

fn cut(value: &str, skipped: usize) -> String {
    if value.is_empty() {
        return "nothing".to_owned();
    }
    let shown: String = value.chars().skip(skipped).take(SHOWN_CHARS).collect();
    let before = if skipped > 0 { "…" } else { "" };
    let after = if value.chars().count() > skipped + SHOWN_CHARS { "…" } else { "" };
    format!("{before}{shown}{after}")
}

fn files(paths: &PathChanges, wording: Wording<'_>) -> String {
    if paths.total == 0 {
        return "files changed".to_owned();
    }
    let how = |change: &TreeChange| match change {
        TreeChange::Added => "added",
        TreeChange::Removed => "removed",
        TreeChange::Content => "content",
        TreeChange::Metadata => "mode or owner",
    };
    let listed = paths.listed.iter().take(NAMED_PATHS);
    let mut named: Vec<String> =
        listed.map(|(path, change)| format!("{} ({})", wording.path(path), how(change))).collect();
    let rest = paths.total.saturating_sub(named.len());
    if rest > 0 {
        named.push(format!("{rest} more"));
    }
    format!("{} changed: {}", counted(paths.total, "file"), named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: &MissReason, expected: &str) {
        let variables = [("REV".to_owned(), "ARG"), ("MODE".to_owned(), "ENV")];
        let variables = variables.into_iter().collect();
        let wording = Wording { variables: &variables, copy: None, image: Some("node:18") };
        assert_eq!(words(reason, wording), expected);
    }

    fn text(name: &str, old: Option<&str>, new: Option<&str>) -> MissReason {
        let [old, new] = [old, new].map(|value| value.map(str::to_owned));
        MissReason::Changed(vec![FactChange::Text { name: name.to_owned(), old, new }])
    }

    fn paths(changes: &[(&str, TreeChange)]) -> PathChanges {
        let path = |text: &str| TreePath::new(text).expect("a path");
        let listed = changes.iter().map(|(text, change)| (path(text), *change)).collect();
        PathChanges { listed, total: changes.len() }
    }

    #[test]
    fn first_forced_evicted() {
        check(&MissReason::First, "first build");
        check(&MissReason::Forced, "forced: the cache was not to be used");
        check(&MissReason::Evicted, "evicted: its result is not in the store any more");
    }

    #[test]
    fn changed_texts() {
        check(&text("env REV", Some("a"), Some("b")), "ARG `REV` changed from a to b");
        check(&text("env MODE", None, Some("b")), "ENV `MODE` is new: b");
        check(&text("env PATH", Some("a"), None), "env `PATH` is gone: it was a");
        check(&text("user", Some(""), Some("node")), "user changed from nothing to node");
        let shell = |script: &str| format!("[\"/bin/sh\",\"-c\",\"{script}\"]");
        let changed = text("command", Some(&shell("echo a")), Some(&shell("echo b")));
        check(&changed, "command changed from echo a to echo b");
        let other = text("kind", Some("copy"), Some("run"));
        check(&other, "another instruction stands here: run, not copy");
    }

    #[test]
    fn a_tag_that_points_elsewhere() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let moved = text("image", Some(&digest("a")), Some(&digest("b")));
        let expected = "base image `node:18` moved from sha256:aaaaaaaaaaaa to sha256:bbbbbbbbbbbb";
        check(&moved, expected);
    }

    #[test]
    fn long_texts_are_cut_around_what_differs() {
        let long = |end: &str| format!("{}{end}", "x".repeat(100));
        let reason = text("command", Some(&long("a")), Some(&long("b")));
        let twenty = "x".repeat(20);
        check(&reason, &format!("command changed from …{twenty}a to …{twenty}b"));
    }

    #[test]
    fn changed_files() {
        use TreeChange::{Added, Content, Metadata, Removed};
        let two = paths(&[("src/a.js", Content), ("b", Added)]);
        let reason = |name: &str, paths| {
            MissReason::Changed(vec![FactChange::Files { name: name.to_owned(), paths }])
        };
        check(&reason("files", two), "2 files changed: src/a.js (content), b (added)");
        let one = paths(&[("a", Removed)]);
        check(&reason("mount", one), "mount: 1 file changed: a (removed)");
        let mut many = paths(&[("a", Metadata); 6]);
        many.total = 40;
        let listed = ["a (mode or owner)"; 5].join(", ");
        check(&reason("files", many), &format!("40 files changed: {listed}, 35 more"));
        check(&reason("files", PathChanges::default()), "files changed");
    }

    #[test]
    fn selected_files_are_called_what_the_dockerfile_calls_them() {
        let check = |instruction: &str, path: &str, expected: &str| {
            let text = format!("FROM scratch\n{instruction}\n");
            let parse = strata_dockerfile::parse(text.as_bytes());
            let plan = strata_plan::plan(&strata_plan::Request::new(&parse.tree), &|_| None);
            let plan = plan.expect("a plan");
            let strata_plan::Op::Copy(copy) = &plan.steps[0].op else { unreachable!() };
            let wording = Wording { variables: &Variables::new(), copy: Some(copy), image: None };
            assert_eq!(wording.path(&TreePath::new(path).expect("a path")), expected);
        };
        check("COPY src /app", "00000000/contents/a.js", "src/a.js");
        check("COPY . /app", "00000000/contents/src/a.js", "src/a.js");
        check("COPY . /app", "00000000/contents", ".");
        check("COPY a ./lib/b.js /app/", "00000001/name b.js", "lib/b.js");
        check("COPY a b /app/", "00000001", "b");
        check("COPY *.js /app/", "00000003/name b.js", "b.js");
        check("COPY lib* /app/", "00000003/contents/b.js", "b.js");
    }

    #[test]
    fn changed_input() {
        let reason = MissReason::Input { input: 0, paths: paths(&[("a", TreeChange::Content)]) };
        check(&reason, "an earlier step gave another tree: 1 file changed: a (content)");
    }
}
