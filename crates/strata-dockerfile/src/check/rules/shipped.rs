//! What the rules about the context share: the sources that take something along.

use super::Subject;
use crate::{Kind, ShippedKind, Word};

/// Visits each source of `COPY` and `ADD` that takes such a thing along, with its path. A thing is
/// told once, at the first source that takes it.
pub(super) fn each(
    subject: &Subject<'_>,
    what: ShippedKind,
    mut visit: impl FnMut(&Word, &[String]),
) {
    let mut told: Vec<String> = Vec::new();
    subject.walk(|instruction, scope| {
        let files = match &instruction.kind {
            Kind::Copy(copy) if copy.from.is_none() => &copy.files,
            Kind::Add(add) => &add.files,
            _ => return,
        };
        for word in &files.sources {
            let Some(source) = subject.expand(scope, word) else { continue };
            if source.contains("://") {
                continue;
            }
            let shipped = (subject.request.shipped)(&source).into_iter();
            let new = shipped.filter(|each| each.what == what && !told.contains(&each.path));
            let new: Vec<String> = new.map(|each| each.path).collect();
            if !new.is_empty() {
                visit(word, &new);
                told.extend(new);
            }
        }
    });
}

/// `a`, or `a` and how many more.
pub(super) fn shown(paths: &[String]) -> String {
    match paths {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [one, two] => format!("`{one}` and `{two}`"),
        [one, rest @ ..] => format!("`{one}` and {} more", rest.len()),
    }
}
