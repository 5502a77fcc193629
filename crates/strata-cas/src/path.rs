//! Paths inside a tree: relative, clean, bytes. They cannot lead outside by construction.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A path that is absolute, empty in a component, or has `.`, `..` or a NUL in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a clean relative path", String::from_utf8_lossy(.0))]
pub struct InvalidPath(Vec<u8>);

/// A clean path below a tree's root, `/`-separated, without leading slash; empty for the root.
///
/// Ordered by components, not by bytes, so that a directory stands directly before what is in it
/// (`a`, `a/b`, `a.c`).
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The root.
    pub const ROOT: Self = Self(Vec::new());

    /// Takes a path that is clean already.
    pub fn new(path: impl Into<Vec<u8>>) -> Result<Self, InvalidPath> {
        let path = path.into();
        let clean =
            |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
        if path.is_empty() || path.split(|byte| *byte == b'/').all(clean) {
            Ok(Self(path))
        } else {
            Err(InvalidPath(path))
        }
    }

    /// Makes any path clean, as if it were resolved from `/`: `..` stops at the root.
    /// A NUL ends it.
    pub fn normalise(path: &[u8]) -> Self {
        let mut names: Vec<&[u8]> = Vec::new();
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        Self(names.join(&b'/'))
    }

    /// The bytes, without leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of an entry in this directory. The name must be a single clean component.
    pub fn child(&self, name: &[u8]) -> Result<Self, InvalidPath> {
        if name.is_empty() || name.contains(&b'/') {
            return Err(InvalidPath(name.to_vec()));
        }
        self.join(&Self::new(name)?)
    }

    /// `other` below this path.
    pub fn join(&self, other: &Self) -> Result<Self, InvalidPath> {
        Ok(match (self.is_root(), other.is_root()) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => Self([&self.0[..], &other.0[..]].join(&b'/')),
        })
    }

    /// The directory that holds it; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// The components from the top; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// What is left of this path below `base`, if it is `base` or below it.
    pub fn below(&self, base: &Self) -> Option<Self> {
        if base.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(&base.0[..])? {
            [] => Some(Self::ROOT),
            [b'/', rest @ ..] => Some(Self(rest.to_vec())),
            _ => None,
        }
    }

    /// All directories above it, from the root down, itself left out.
    pub fn ancestors(&self) -> Vec<Self> {
        let mut ancestors: Vec<Self> = std::iter::successors(self.parent(), Self::parent).collect();
        ancestors.reverse();
        ancestors
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Component by component, which is byte by byte with `/` before every other byte.
        let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl TryFrom<Vec<u8>> for TreePath {
    type Error = InvalidPath;

    fn try_from(path: Vec<u8>) -> Result<Self, InvalidPath> {
        Self::new(path)
    }
}

impl From<TreePath> for Vec<u8> {
    fn from(path: TreePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_lead_outside() {
        for bad in ["/a", "a/", "a//b", ".", "..", "a/../b", "a\0b"] {
            assert!(TreePath::new(bad).is_err(), "{bad:?}");
        }
        assert!(TreePath::new("a/b.c/..d").is_ok());
    }

    #[test]
    fn normalises_as_if_from_the_root() {
        let check = |from: &str, to: &str| {
            assert_eq!(TreePath::normalise(from.as_bytes()).to_string(), to, "{from}");
        };
        check("/app/./x//y/", "app/x/y");
        check("../../etc", "etc");
        check("a/../..", "");
    }

    #[test]
    fn sorts_a_directory_before_its_entries_and_those_before_its_neighbours() {
        let path = |text: &str| TreePath::new(text).expect("clean");
        let mut paths = [path("a.c"), path("a/b"), path("a"), path("")];
        paths.sort();
        assert_eq!(paths.map(|path| path.to_string()), ["", "a", "a/b", "a.c"]);
    }
}
