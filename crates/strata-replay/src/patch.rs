//! Unified diffs that `git apply` takes.

use std::fmt::Write;

/// Lines around a change.
const CONTEXT: usize = 3;

/// One line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The patch from `old`, or from no file, to `new`; empty if nothing differs.
pub fn unified(path: &str, old: Option<&str>, new: &str) -> String {
    let before = old.unwrap_or_default();
    if before == new && old.is_some() {
        return String::new();
    }
    let lines = compare(before, new);
    let mut patch = match old {
        Some(_) => format!("diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n"),
        None => format!(
            "diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n"
        ),
    };
    for hunk in hunks(&lines) {
        write_hunk(&lines, hunk, &mut patch);
    }
    patch
}

/// Lines with their ends.
fn split(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// The longest common subsequence, by the plain table: Dockerfiles are short.
fn compare<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new) = (split(old), split(new));
    let width = new.len() + 1;
    let mut table = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            table[i * width + j] = if old[i] == new[j] {
                table[(i + 1) * width + j + 1] + 1
            } else {
                table[(i + 1) * width + j].max(table[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && table[(i + 1) * width + j] >= table[i * width + j + 1])
        {
            lines.push(Line::Old(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
    lines
}

/// Ranges of lines that belong together.
fn hunks(lines: &[Line<'_>]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if matches!(line, Line::Same(_)) {
            continue;
        }
        let (from, to) = (at.saturating_sub(CONTEXT), (at + CONTEXT + 1).min(lines.len()));
        match hunks.last_mut() {
            Some(last) if from <= last.end => last.end = to,
            _ => hunks.push(from..to),
        }
    }
    hunks
}

fn write_hunk(lines: &[Line<'_>], hunk: std::ops::Range<usize>, patch: &mut String) {
    let count = |lines: &[Line<'_>], old: bool| {
        let counted = lines.iter().filter(|line| match line {
            Line::Same(_) => true,
            Line::Old(_) => old,
            Line::New(_) => !old,
        });
        counted.count()
    };
    let start = |old: bool| {
        let (above, inside) = (count(&lines[..hunk.start], old), count(&lines[hunk.clone()], old));
        (if inside == 0 { above } else { above + 1 }, inside)
    };
    let ((old_at, old_count), (new_at, new_count)) = (start(true), start(false));
    let _ = writeln!(patch, "@@ -{old_at},{old_count} +{new_at},{new_count} @@");
    for line in &lines[hunk] {
        let (sign, text) = match line {
            Line::Same(text) => (' ', text),
            Line::Old(text) => ('-', text),
            Line::New(text) => ('+', text),
        };
        patch.push(sign);
        patch.push_str(text);
        if !text.ends_with('\n') {
            patch.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_gits() {
        let patch = unified("a", Some("1\n2\n3\n4\n5\n6\n"), "1\n2\nx\n3\n4\n5\n6\n");
        let expected = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,5 +1,6 @@\n \
                        1\n 2\n+x\n 3\n 4\n 5\n";
        assert_eq!(patch, expected);
        let patch = unified("n", None, "x\n");
        assert!(patch.ends_with("--- /dev/null\n+++ b/n\n@@ -0,0 +1,1 @@\n+x\n"), "{patch}");
        assert_eq!(unified("a", Some("1"), "1"), "");
        assert!(unified("a", Some("1"), "1\n").contains("-1\n\\ No newline at end of file\n+1\n"));
    }
}
