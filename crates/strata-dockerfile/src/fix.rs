//! Mending a file by what its findings say.

use crate::{Diagnostic, Edit};

/// The source with every fix of these findings, and how many findings that mended. Of fixes that
/// touch the same text the first one counts; everything else stays byte for byte.
///
/// ```
/// use strata_dockerfile::{CheckRequest, check, fixed, parse};
///
/// let (source, arguments) = (b"FROM a AS B\n", Default::default());
/// let report = check(&parse(source), &CheckRequest::new(&arguments));
/// assert_eq!(fixed(source, &report.findings), (b"FROM a AS b\n".to_vec(), 1));
/// ```
#[must_use]
pub fn fixed(source: &[u8], findings: &[Diagnostic]) -> (Vec<u8>, usize) {
    let mut edits: Vec<&Edit> = Vec::new();
    let mut mended = 0;
    for finding in findings.iter().filter(|finding| !finding.fix.is_empty()) {
        let fits = |edit: &Edit| {
            edit.span.end <= source.len() && edits.iter().all(|other| !overlap(edit, other))
        };
        if finding.fix.iter().all(fits) {
            edits.extend(&finding.fix);
            mended += 1;
        }
    }
    edits.sort_by_key(|edit| edit.span.start);
    let mut text = Vec::with_capacity(source.len());
    let mut done = 0;
    for edit in edits {
        text.extend_from_slice(&source[done..edit.span.start]);
        text.extend_from_slice(edit.text.as_bytes());
        done = edit.span.end;
    }
    text.extend_from_slice(&source[done..]);
    (text, mended)
}

fn overlap(edit: &Edit, other: &Edit) -> bool {
    edit.span.start < other.span.end && other.span.start < edit.span.end
        || edit.span.start == other.span.start
}
