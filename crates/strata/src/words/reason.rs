//! Why a step ran, in one line each: what was compared with what, with old and new value.

use strata_build::{Change, ChangedFile, FileState, Files, How, Verified, Why};

use super::amount::{self, counted};

/// So many paths are named in a line; the rest is counted.
const NAMED_PATHS: usize = 5;
/// So many characters of a value are shown.
const SHOWN_CHARS: usize = 60;

/// The reason in one line.
pub(crate) fn words(why: &Why) -> String {
    match why {
        Why::First => "first build".to_owned(),
        Why::New => "new: the build before did not have this instruction".to_owned(),
        Why::FailedBefore => "it failed in the build before".to_owned(),
        Why::Forced => "forced: the cache was not to be used".to_owned(),
        Why::Expired { age_seconds, ttl_seconds } => {
            let [age, ttl] = [*age_seconds, *ttl_seconds].map(amount::duration);
            format!("older than its ttl of {ttl}: it ran {age} ago")
        }
        Why::Evicted => "evicted: its result is not in the store any more".to_owned(),
        Why::Changed { changes } => changes.iter().map(change).collect::<Vec<_>>().join("; "),
        Why::Input { files, .. } => {
            format!("an earlier step gave another tree: {}", named_files(files))
        }
    }
}

/// One word for scripts.
pub(crate) fn kind(why: &Why) -> &'static str {
    match why {
        Why::First => "first",
        Why::New => "new",
        Why::FailedBefore => "failed-before",
        Why::Forced => "forced",
        Why::Expired { .. } => "expired",
        Why::Evicted => "evicted",
        Why::Changed { .. } => "changed",
        Why::Input { .. } => "input",
    }
}

/// The reason with all that is known of it: one line, and one for each listed file.
pub(crate) fn lines(why: &Why) -> Vec<String> {
    let mut lines = Vec::new();
    match why {
        Why::Changed { changes } => {
            for one in changes {
                match one {
                    Change::Files { name, files } => {
                        let name = name.as_ref().map(|name| format!("{name}: "));
                        lines.push(format!("{}{}", name.unwrap_or_default(), counted_files(files)));
                        lines.extend(file_lines(files));
                    }
                    one => lines.push(change(one)),
                }
            }
        }
        Why::Input { files, .. } => {
            let counted = counted_files(files);
            lines.push(format!("an earlier step gave another tree: {counted}"));
            lines.extend(file_lines(files));
        }
        why => lines.push(words(why)),
    }
    lines
}

/// What came of running a hit again.
pub(crate) fn verified(verified: &Verified) -> String {
    match verified {
        Verified::Same => "VERIFIED: it gives the same again".to_owned(),
        Verified::Differs { files } => format!("NOT DETERMINISTIC: {}", named_files(files)),
        Verified::Failed => "NOT DETERMINISTIC: run again, it failed".to_owned(),
    }
}

/// The files in which running a hit again differed, one line each.
pub(crate) fn verified_lines(verified: &Verified) -> Vec<String> {
    match verified {
        Verified::Differs { files } => file_lines(files),
        Verified::Same | Verified::Failed => Vec::new(),
    }
}

fn change(change: &Change) -> String {
    match change {
        Change::Files { name: None, files } => named_files(files),
        Change::Files { name: Some(name), files } => format!("{name}: {}", named_files(files)),
        Change::Base { image, old, new } => {
            format!(
                "base image `{image}` moved from {} to {}",
                short_digest(old),
                short_digest(new)
            )
        }
        Change::Instruction { old, new } => {
            format!("another instruction stands here: {new}, not {old}")
        }
        Change::Variable { declared, name, old, new } => {
            text_change(&format!("{declared} `{name}`"), old.as_deref(), new.as_deref())
        }
        Change::Text { name, old, new } => text_change(name, old.as_deref(), new.as_deref()),
    }
}

fn text_change(name: &str, old: Option<&str>, new: Option<&str>) -> String {
    match (old.map(readable), new.map(readable)) {
        (Some(old), Some(new)) => {
            let (old, new) = around_difference(&old, &new);
            format!("{name} changed from {old} to {new}")
        }
        (None, Some(new)) => format!("{name} is new: {}", cut(&new, 0)),
        (Some(old), None) => format!("{name} is gone: it was {}", cut(&old, 0)),
        (None, None) => format!("{name} changed"),
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

/// An old tree may have been swept: then nothing is known but that it was another one.
fn counted_files(files: &Files) -> String {
    match files.total {
        0 => "files changed".to_owned(),
        total => format!("{} changed", counted(total, "file")),
    }
}

fn named_files(files: &Files) -> String {
    let how = |file: &ChangedFile| match file.change {
        How::Added => "added".to_owned(),
        How::Removed => "removed".to_owned(),
        How::Content => "content".to_owned(),
        How::Owner => "owner or attributes".to_owned(),
        How::Mode => {
            let mode = |state: &Option<FileState>| state.as_ref().map(|state| state.mode.clone());
            match (mode(&file.old), mode(&file.new)) {
                (Some(old), Some(new)) => format!("mode {old} to {new}"),
                _ => "mode".to_owned(),
            }
        }
    };
    let listed = files.listed.iter().take(NAMED_PATHS);
    let mut named: Vec<String> =
        listed.map(|file| format!("{} ({})", file.path, how(file))).collect();
    let rest = files.total.saturating_sub(named.len());
    if rest > 0 && !named.is_empty() {
        named.push(format!("{rest} more"));
    }
    match named.is_empty() {
        true => counted_files(files),
        false => format!("{}: {}", counted_files(files), named.join(", ")),
    }
}

/// `  src/a.js: content: 120B, 3f9c1a… to 124B, 77ab02…`
fn file_lines(files: &Files) -> Vec<String> {
    let mut lines: Vec<String> = files.listed.iter().map(file_line).collect();
    let rest = files.total.saturating_sub(lines.len());
    if rest > 0 && !lines.is_empty() {
        lines.push(format!("  and {rest} more"));
    }
    lines
}

fn file_line(file: &ChangedFile) -> String {
    let ChangedFile { path, change, old, new } = file;
    let what = match (change, old, new) {
        (How::Added, _, Some(new)) => format!("added: {}", content(new)),
        (How::Removed, Some(old), _) => format!("removed: it was {}", content(old)),
        (How::Mode, Some(old), Some(new)) => format!("mode {} to {}", old.mode, new.mode),
        (How::Owner, Some(old), Some(new)) if old.owner != new.owner => {
            format!("owner {} to {}", old.owner, new.owner)
        }
        (How::Content, Some(old), Some(new)) => {
            let mode = match old.mode == new.mode {
                true => String::new(),
                false => format!(", mode {} to {}", old.mode, new.mode),
            };
            format!("content: {} to {}{mode}", content(old), content(new))
        }
        (How::Added, ..) => "added".to_owned(),
        (How::Removed, ..) => "removed".to_owned(),
        (How::Content, ..) => "content".to_owned(),
        (How::Mode, ..) => "mode".to_owned(),
        (How::Owner, ..) => "owner or attributes".to_owned(),
    };
    format!("  {path}: {what}")
}

/// What tells one content from another.
fn content(state: &FileState) -> String {
    match (state.size, &state.blake3, &state.target) {
        (Some(size), Some(digest), _) => {
            let digits: String = digest.chars().take(12).collect();
            format!("{} {digits}", amount::bytes(size))
        }
        (_, _, Some(target)) => format!("link to {target}"),
        _ => state.kind.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(why: &Why, expected: &str) {
        assert_eq!(words(why), expected);
    }

    fn changed(change: Change) -> Why {
        Why::Changed { changes: vec![change] }
    }

    fn text(name: &str, old: Option<&str>, new: Option<&str>) -> Why {
        let [old, new] = [old, new].map(|value| value.map(str::to_owned));
        changed(Change::Text { name: name.to_owned(), old, new })
    }

    fn variable(declared: &str, name: &str, old: Option<&str>, new: Option<&str>) -> Why {
        let [old, new] = [old, new].map(|value| value.map(str::to_owned));
        changed(Change::Variable { declared: declared.to_owned(), name: name.to_owned(), old, new })
    }

    fn state(mode: &str, size: u64) -> Option<FileState> {
        Some(FileState {
            kind: "file".to_owned(),
            mode: mode.to_owned(),
            owner: "0:0".to_owned(),
            size: Some(size),
            blake3: Some("0123456789abcdef".to_owned()),
            target: None,
        })
    }

    fn files(changes: &[(&str, How)]) -> Files {
        let file = |(path, change): &(&str, How)| {
            let (old, new) = match change {
                How::Added => (None, state("0644", 1)),
                How::Removed => (state("0644", 1), None),
                How::Mode => (state("0644", 1), state("0755", 1)),
                How::Content | How::Owner => (state("0644", 1), state("0644", 2000)),
            };
            ChangedFile { path: (*path).to_owned(), change: *change, old, new }
        };
        Files { total: changes.len(), listed: changes.iter().map(file).collect() }
    }

    #[test]
    fn reasons_without_a_comparison() {
        check(&Why::First, "first build");
        check(&Why::New, "new: the build before did not have this instruction");
        check(&Why::FailedBefore, "it failed in the build before");
        check(&Why::Forced, "forced: the cache was not to be used");
        check(&Why::Evicted, "evicted: its result is not in the store any more");
        let expired = Why::Expired { age_seconds: 90_000, ttl_seconds: 86_400 };
        check(&expired, "older than its ttl of 24h: it ran 25h ago");
    }

    #[test]
    fn changed_texts() {
        check(&variable("ARG", "REV", Some("a"), Some("b")), "ARG `REV` changed from a to b");
        check(&variable("ENV", "MODE", None, Some("b")), "ENV `MODE` is new: b");
        check(&variable("env", "PATH", Some("a"), None), "env `PATH` is gone: it was a");
        check(&text("user", Some(""), Some("node")), "user changed from nothing to node");
        let shell = |script: &str| format!("[\"/bin/sh\",\"-c\",\"{script}\"]");
        let command = text("command", Some(&shell("echo a")), Some(&shell("echo b")));
        check(&command, "command changed from echo a to echo b");
        let other = changed(Change::Instruction { old: "copy".into(), new: "run".into() });
        check(&other, "another instruction stands here: run, not copy");
    }

    #[test]
    fn a_tag_that_points_elsewhere() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let (old, new) = (digest("a"), digest("b"));
        let moved = changed(Change::Base { image: "node:18".to_owned(), old, new });
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
        let reason = |name: Option<&str>, files| {
            changed(Change::Files { name: name.map(str::to_owned), files })
        };
        let two = files(&[("src/a.js", How::Content), ("b", How::Added)]);
        check(&reason(None, two.clone()), "2 files changed: src/a.js (content), b (added)");
        let one = files(&[("a", How::Removed)]);
        check(&reason(Some("mount 0"), one), "mount 0: 1 file changed: a (removed)");
        let mut many = files(&[("a", How::Mode); 6]);
        many.total = 40;
        let listed = ["a (mode 0644 to 0755)"; 5].join(", ");
        check(&reason(None, many.clone()), &format!("40 files changed: {listed}, 35 more"));
        check(&reason(None, Files::default()), "files changed");
        let input = Why::Input { from: Some(0), files: files(&[("a", How::Content)]) };
        check(&input, "an earlier step gave another tree: 1 file changed: a (content)");
        let expected = [
            "2 files changed",
            "  src/a.js: content: 1B 0123456789ab to 2kB 0123456789ab",
            "  b: added: 1B 0123456789ab",
        ];
        assert_eq!(lines(&reason(None, two)), expected);
        let shown = lines(&Why::Input { from: None, files: many });
        assert_eq!((shown.len(), &*shown[7]), (8, "  and 34 more"));
        assert_eq!(shown[1], "  a: mode 0644 to 0755");
    }
}
