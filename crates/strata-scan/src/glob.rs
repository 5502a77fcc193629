//! Globs: the sources of COPY and ADD. Each component follows Go's `filepath.Match`; a component
//! that is `**` stands for any directories. Up to the first component with a wildcard, names are
//! taken as they stand, so a backslash in them is one and escapes nothing, as in BuildKit.
//! What becomes of a match (a directory brings its subtree, a link is followed) is decided where
//! globs are used.

use strata_cas::TreePath;

use crate::pattern::{self, DoubleStar, Token};

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a pattern: {reason}")]
pub struct BadPattern {
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A path with wildcards, from the context's root: `/` at its ends, `.` and `..` are cleaned away
/// as if it were resolved from `/`.
///
/// ```
/// use strata_cas::TreePath;
/// use strata_scan::Glob;
///
/// let glob = Glob::new(b"./src/**/*.rs").expect("a good pattern");
/// assert!(glob.matches(&TreePath::normalise(b"src/lib.rs")));
/// assert!(glob.matches(&TreePath::normalise(b"src/a/b.rs")));
/// assert_eq!(glob.literal_prefix(), TreePath::normalise(b"src"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    components: Vec<Component>,
}

/// One component of a glob.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Component {
    /// Exactly this name.
    Literal(Vec<u8>),
    /// A name that matches.
    Wild(Vec<Token>),
    /// `**`: any directories, or none; at the end, anything below.
    AnyDepth,
}

impl Component {
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Wild(tokens) => pattern::matches(tokens, name),
            Self::AnyDepth => true,
        }
    }

    fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

impl Glob {
    /// Reads a pattern. The empty one and `.` are the root.
    pub fn new(pattern: &[u8]) -> Result<Self, BadPattern> {
        let error =
            |reason| BadPattern { pattern: String::from_utf8_lossy(pattern).into_owned(), reason };
        let mut components = Vec::new();
        for name in pattern.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(components.pop()),
                b"**" if components.last() == Some(&Component::AnyDepth) => {}
                b"**" => components.push(Component::AnyDepth),
                name => {
                    let is_first = components.iter().all(Component::is_literal);
                    components.push(component(name, is_first).map_err(error)?);
                }
            }
        }
        Ok(Self { components })
    }

    /// The glob that matches one path only, whatever characters it has.
    pub fn literal(path: &TreePath) -> Self {
        let literal = |name: &[u8]| Component::Literal(name.to_vec());
        Self { components: path.components().map(literal).collect() }
    }

    /// Whether the path itself matches; one below a match does not.
    pub fn matches(&self, path: &TreePath) -> bool {
        let names: Vec<&[u8]> = path.components().collect();
        // Which components can come next, after each name.
        let mut states = vec![false; self.components.len() + 1];
        states[0] = true;
        self.skip_any_depth(&mut states);
        for name in names {
            let mut next = vec![false; states.len()];
            for (index, component) in self.components.iter().enumerate() {
                if states[index] && component.matches(name) {
                    next[index + 1] |= self.advances(index);
                    next[index] |= *component == Component::AnyDepth;
                }
            }
            self.skip_any_depth(&mut next);
            states = next;
        }
        states[self.components.len()]
    }

    /// Whether one name is enough for this component: `**` in the middle is left by skipping it.
    fn advances(&self, index: usize) -> bool {
        self.components[index] != Component::AnyDepth || index + 1 == self.components.len()
    }

    fn skip_any_depth(&self, states: &mut [bool]) {
        for index in 0..self.components.len() {
            if !self.advances(index) {
                states[index + 1] |= states[index];
            }
        }
    }

    /// The path that it matches, if it has no wildcard.
    pub fn is_literal(&self) -> Option<TreePath> {
        self.components.iter().all(Component::is_literal).then(|| self.literal_prefix())
    }

    /// The deepest path above all that it can match; the path itself, if it has no wildcard.
    pub fn literal_prefix(&self) -> TreePath {
        let literal = |component: &Component| match component {
            Component::Literal(name) => Some(name.clone()),
            _ => None,
        };
        let names: Vec<Vec<u8>> = self.components.iter().map_while(literal).collect();
        TreePath::normalise(&names.join(&b'/'))
    }

    /// The same wildcards below another path than the literal prefix: where that leads.
    #[must_use]
    pub fn moved(&self, prefix: &TreePath) -> Self {
        let Self { mut components } = Self::literal(prefix);
        let wild = self.components.iter().skip_while(|component| component.is_literal());
        components.extend(wild.cloned());
        Self { components }
    }

    /// Whether it has a `**`, so that what lies below a match may match as well.
    pub fn crosses_directories(&self) -> bool {
        self.components.contains(&Component::AnyDepth)
    }

    pub(crate) fn components(&self) -> &[Component] {
        &self.components
    }

    pub(crate) fn from_components(components: Vec<Component>) -> Self {
        Self { components }
    }
}

/// One component of a pattern, and whether no other one before it has a wildcard.
fn component(name: &[u8], is_first: bool) -> Result<Component, &'static str> {
    if name.contains(&0) {
        return Err("it holds a NUL");
    }
    if is_first && !has_wildcard(name) {
        return Ok(Component::Literal(name.to_vec()));
    }
    let mut tokens = pattern::parse(name, DoubleStar::IsStar)?;
    Ok(match tokens.as_mut_slice() {
        [Token::Literal(literal)] => match literal.as_slice() {
            b"." | b".." => return Err("it escapes a `.` or `..`"),
            _ => Component::Literal(std::mem::take(literal)),
        },
        _ => Component::Wild(tokens),
    })
}

/// Whether a name has a wildcard that no backslash escapes.
fn has_wildcard(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(pattern: &str) -> Glob {
        Glob::new(pattern.as_bytes()).expect("a good pattern")
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text).expect("clean")
    }

    #[test]
    fn matches_component_by_component() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(glob(pattern).matches(&path(text)), expected, "{pattern} on {text}");
        };
        check("a", "a", true);
        check("a", "a/b", false);
        check("/a/", "a", true);
        check("./x/../a", "a", true);
        check("../../a", "a", true);
        check(".", "", true);
        check("", "", true);
        check("*", "a", true);
        check("*", "a/b", false);
        check("*", "", false);
        check("a*/b?", "abc/bx", true);
        check("a*/b?", "abc/d/bx", false);
        check("hom*", "home.txt", true);
        check("hom?.txt", "home.txt", true);
        check("arr[[]0].txt", "arr[0].txt", true);
        check("a\\*b", "a\\*b", true);
        check("a\\*b", "a*b", false);
        check("a\\b", "a\\b", true);
        check("a\\*b?", "a*bx", true);
        check("a\\*b?", "axbx", false);
        check("a\\b/*", "a\\b/c", true);
        check("*/a\\*b", "c/a*b", true);
        check("*/a\\*b", "c/a\\*b", false);
        check("**", "a", true);
        check("**", "a/b/c", true);
        check("**", "", false);
        check("**/c", "c", true);
        check("**/c", "a/b/c", true);
        check("a/**", "a", false);
        check("a/**", "a/b/c", true);
        check("a/**/c", "a/c", true);
        check("a/**/c", "a/x/y/c", true);
        check("a/**/**/c", "a/c", true);
        check("a/**/c", "b/c", false);
        check("**/*.rs", "src/x.rs", true);
        check("a**b", "axxb", true);
        check("a**b", "ax/xb", false);
    }

    #[test]
    fn knows_what_is_literal() {
        let check = |pattern: &str, literal: Option<&str>, prefix: &str| {
            let glob = glob(pattern);
            assert_eq!(glob.is_literal(), literal.map(path), "{pattern}");
            assert_eq!(glob.literal_prefix(), path(prefix), "{pattern}");
        };
        check("a/b", Some("a/b"), "a/b");
        check(".", Some(""), "");
        check("a\\*b/c", Some("a\\*b/c"), "a\\*b/c");
        check("a\\", Some("a\\"), "a\\");
        check("?/a\\*b", None, "");
        check("a/b*/c", None, "a");
        check("**/c", None, "");
        assert_eq!(Glob::literal(&path("a*/[")).is_literal(), Some(path("a*/[")));
    }

    #[test]
    fn refuses_bad_patterns() {
        for bad in ["[", "a/[b", "*a\\", "?/a\\", "[z-", "a\0b", "*/\\.."] {
            assert!(Glob::new(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
