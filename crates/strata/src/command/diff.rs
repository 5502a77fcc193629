//! What changed between two versions of a file, as `diff -u` shows it.

use std::fmt::Write as _;

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

/// What is done with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep,
    Remove,
    Add,
}

/// The difference, with the file's name above it; nothing where there is none.
pub(super) fn unified(name: &str, old: &[u8], new: &[u8]) -> String {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let (old, new) = (lines(&old), lines(&new));
    let edits = edits(&old, &new);
    let mut text = String::new();
    for hunk in hunks(&edits) {
        if text.is_empty() {
            text.push_str(&format!("--- {name}\n+++ {name}\n"));
        }
        write_hunk(&mut text, &edits, hunk, &old, &new);
    }
    text
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// The shortest way from one to the other, by their longest common subsequence.
fn edits(old: &[&str], new: &[&str]) -> Vec<Edit> {
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let before = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) = (&old[before..], &new[before..]);
    let after = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(same).count();
    let (old, new) = (&old_rest[..old_rest.len() - after], &new_rest[..new_rest.len() - after]);
    let width = new.len() + 1;
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    for at in (0..old.len()).rev() {
        for other in (0..new.len()).rev() {
            longest[at * width + other] = match old[at] == new[other] {
                true => longest[(at + 1) * width + other + 1] + 1,
                false => longest[(at + 1) * width + other].max(longest[at * width + other + 1]),
            };
        }
    }
    let mut edits = vec![Edit::Keep; before];
    let (mut at, mut other) = (0, 0);
    while at < old.len() || other < new.len() {
        let edit = if at < old.len() && other < new.len() && old[at] == new[other] {
            Edit::Keep
        } else if at < old.len()
            && (other == new.len()
                || longest[(at + 1) * width + other] >= longest[at * width + other + 1])
        {
            Edit::Remove
        } else {
            Edit::Add
        };
        at += usize::from(edit != Edit::Add);
        other += usize::from(edit != Edit::Remove);
        edits.push(edit);
    }
    edits.extend(std::iter::repeat_n(Edit::Keep, after));
    edits
}

/// Changes with the lines around them; what is near is shown together.
fn hunks(edits: &[Edit]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in edits.iter().enumerate().filter(|(_, edit)| **edit != Edit::Keep) {
        let (start, end) = (at.saturating_sub(CONTEXT_LINES), at + CONTEXT_LINES + 1);
        let end = end.min(edits.len());
        match hunks.last_mut() {
            Some(last) if last.end >= start => last.end = end,
            _ => hunks.push(start..end),
        }
    }
    hunks
}

fn write_hunk(
    text: &mut String,
    edits: &[Edit],
    hunk: std::ops::Range<usize>,
    old: &[&str],
    new: &[&str],
) {
    let count = |edits: &[Edit], not: Edit| edits.iter().filter(|edit| **edit != not).count();
    let (before, inside) = (&edits[..hunk.start], &edits[hunk]);
    let (mut at, mut other) = (count(before, Edit::Add), count(before, Edit::Remove));
    let (removed, added) = (count(inside, Edit::Add), count(inside, Edit::Remove));
    let first = |lines: usize, count: usize| if count == 0 { lines } else { lines + 1 };
    let (from, to) = (first(at, removed), first(other, added));
    let _ = writeln!(text, "@@ -{from},{removed} +{to},{added} @@");
    for edit in inside {
        let (mark, line) = match edit {
            Edit::Keep => (' ', old[at]),
            Edit::Remove => ('-', old[at]),
            Edit::Add => ('+', new[other]),
        };
        at += usize::from(*edit != Edit::Add);
        other += usize::from(*edit != Edit::Remove);
        text.push(mark);
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks_are_those_of_diff() {
        let check = |old: &str, new: &str, expected: &str| {
            assert_eq!(unified("f", old.as_bytes(), new.as_bytes()), expected);
        };
        check("a\n", "a\n", "");
        check("a\nb\nc\n", "a\nB\nc\n", "--- f\n+++ f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
        check(
            "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
            "2\n3\n4\n5\n6\n7\n8\n9",
            "--- f\n+++ f\n@@ -1,4 +1,3 @@\n-1\n 2\n 3\n 4\n@@ -6,4 +5,4 @@\n 6\n 7\n 8\n-9\n+9\n\
             \\ No newline at end of file\n",
        );
        check("", "a\n", "--- f\n+++ f\n@@ -0,0 +1,1 @@\n+a\n");
    }
}
