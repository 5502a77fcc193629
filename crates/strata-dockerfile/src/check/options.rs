//! `skip=A,B;error=true;experimental=C`: the options of a `# check=` directive, read as BuildKit's
//! `frontend/dockerfile/linter/linter.go` reads them.

use super::rules::Rule;
use crate::Comment;

/// Which rules count, and whether they stop a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    skip: Names,
    experimental: Names,
    pub(super) error: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    Some(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl Names {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            text => Self::Some(text.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn contain(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.iter().any(|each| each == name),
        }
    }
}

impl Options {
    /// Reads options; the part that is none is the error.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        // BuildKit splits at two semicolons and no more.
        for part in text.splitn(3, ';') {
            let wrong = || part.trim().to_owned();
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            match name.trim() {
                "skip" => options.skip = Names::parse(value),
                "experimental" => options.experimental = Names::parse(value),
                "error" => options.error = boolean(value.trim()).ok_or_else(wrong)?,
                _ => return Err(wrong()),
            }
        }
        Ok(options)
    }

    /// Whether a warning with this code is wanted. Experimental rules are asked for by name, and
    /// then `skip` does not concern them.
    pub(super) fn allows(&self, code: &str) -> bool {
        match Rule::find(code) {
            Some(rule) if rule.experimental => self.experimental.contain(code),
            _ => !self.skips(code),
        }
    }

    /// Whether the rule is skipped by name, or all are.
    pub(super) fn skips(&self, code: &str) -> bool {
        self.skip.contain(code)
    }
}

/// The options that a comment above an instruction holds.
pub(super) fn inline(comment: &Comment) -> Option<&str> {
    let (name, options) = comment.text.split_once('=')?;
    name.trim_end().eq_ignore_ascii_case("check").then_some(options)
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_buildkits() {
        let read = |text: &str| Options::parse(text).expect(text);
        assert_eq!(read(""), Options::default());
        let some = read("skip=A, B ;error=true; experimental=CopyIgnoredFile");
        assert!(some.error && some.skips("B") && !some.allows("A") && some.allows("C"));
        assert!(some.allows("CopyIgnoredFile"));
        let all = read("skip=all;experimental=all");
        assert!(!all.allows("C") && !all.error && all.allows("CopyIgnoredFile"));
        assert!(!read("error=0").allows("CopyIgnoredFile"));
        for (text, part) in [("skip", "skip"), ("skip=A; b=1", "b=1"), ("error=yes", "error=yes")] {
            assert_eq!(Options::parse(text), Err(part.to_owned()));
        }
    }
}
