//! Which globs can still match at a place of the walk. It knows names only, no file system.

use crate::Glob;
use crate::glob::Component;

/// What is wanted of one directory, or of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// A glob matched it or a directory above it: all of it is wanted.
    pub everything: bool,
    /// Globs, by number, that could match below it, with the component to come next.
    pending: Vec<(usize, usize)>,
}

impl Selection {
    /// What is wanted of the root.
    pub fn of_root(globs: &[Glob]) -> Self {
        let mut selection = Self::default();
        for glob in 0..globs.len() {
            selection.add(globs, glob, 0);
        }
        selection
    }

    /// What is wanted of an entry.
    pub fn of_entry(&self, globs: &[Glob], name: &[u8]) -> Self {
        if self.everything {
            return Self { everything: true, pending: Vec::new() };
        }
        let mut selection = Self::default();
        for (glob, next) in &self.pending {
            let components = globs[*glob].components();
            let component = &components[*next];
            if *component == Component::AnyDepth && next + 1 < components.len() {
                selection.add(globs, *glob, *next);
            } else if component.matches(name) {
                selection.add(globs, *glob, next + 1);
            }
        }
        selection
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.pending.is_empty()
    }

    /// The names that entries must have to be wanted, in order, if that is known.
    pub(crate) fn names<'a>(&self, globs: &'a [Glob]) -> Option<Vec<&'a [u8]>> {
        if self.everything {
            return None;
        }
        let literal = |(glob, next): &(usize, usize)| match &globs[*glob].components()[*next] {
            Component::Literal(name) => Some(name.as_slice()),
            _ => None,
        };
        let mut names: Vec<&[u8]> = self.pending.iter().map(literal).collect::<Option<_>>()?;
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    fn add(&mut self, globs: &[Glob], glob: usize, next: usize) {
        let components = globs[glob].components();
        if next == components.len() {
            self.everything = true;
        } else if !self.pending.contains(&(glob, next)) {
            self.pending.push((glob, next));
            // `**` may also stand for no directory.
            if components[next] == Component::AnyDepth && next + 1 < components.len() {
                self.add(globs, glob, next + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_cas::TreePath;

    proptest::proptest! {
        #[test]
        fn goes_down_as_globs_match(
            patterns in proptest::collection::vec(
                "([ab*?]{1,2}|\\*\\*)(/([ab*]{1,2}|\\*\\*)){0,2}",
                0..3,
            ),
            text in "[ab]{1,2}(/[ab]{1,2}){0,3}",
        ) {
            let globs: Vec<Glob> =
                patterns.iter().map(|text| Glob::new(text.as_bytes()).expect("good")).collect();
            let text = TreePath::new(text).expect("clean");
            let mut selection = Selection::of_root(&globs);
            for name in text.components() {
                if let Some(names) = selection.names(&globs) {
                    let wanted = !selection.of_entry(&globs, name).is_empty();
                    assert_eq!(names.contains(&name), wanted);
                }
                selection = selection.of_entry(&globs, name);
            }
            let above = text.ancestors().into_iter().chain([text]);
            let matches = |path: &TreePath| globs.iter().any(|glob| glob.matches(path));
            let expected = above.into_iter().any(|path| matches(&path));
            assert_eq!(selection.everything, expected);
        }
    }
}
