//! Ignore rules: which paths of a context a `.dockerignore` leaves out. They differ from git's:
//! every pattern starts at the root, and `!` can bring back what is below an excluded directory.
//! Finding and reading the file is the caller's matter, and so is whether the rules apply to the
//! Dockerfile.
//!
//! Of moby patternmatcher's algorithms this is `MatchesUsingParentResults`, because it is
//! the one by which BuildKit transfers a context and does `COPY --exclude`. It goes down from the
//! top and asks of every path on the way each pattern in turn, but a pattern that would change
//! nothing (a `!` on what is not left out, any other on what is) is passed over and counts as not
//! matched. A pattern that matched a directory matches all that is below it. So `a/b` then `!a`
//! leaves out `a/b`: when it is `a`'s turn there is nothing to bring back, and `!a` does not
//! match `a/b` itself. (`MatchesOrParentMatches`, the classic builder's, would keep it.)
//!
//! moby carries, for each directory, whether each pattern matched. The last one that did is
//! enough: it matches everything below as well, and whatever happened before it, it decides what
//! holds after it. Hence one number for each directory, and only later patterns are ever asked.
//!
//! Two oddities of moby are left out on purpose: it turns patterns into regular expressions, so
//! that `\d` is any digit and `[*]` is not a star; here a `\` always makes the next character
//! ordinary and a set holds what is written in it, as Docker documents it.

use strata_cas::{BlobId, TreePath};

use crate::pattern::{self, DoubleStar, Token};

/// A line that is not an ignore rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{pattern}` is not a pattern: {reason}")]
pub struct IgnoreError {
    /// The line, from 1; the position in the list for rules that come from no file.
    pub line: usize,
    /// The pattern as cleaned.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The rules of one ignore file, or of `COPY --exclude`. The default excludes nothing.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// Whether it brings paths back (`!`).
    exception: bool,
    /// As cleaned.
    pattern: Vec<u8>,
    tokens: Vec<Token>,
    /// How many `/` a path has that matches it, if that is fixed.
    slashes: Option<usize>,
}

impl IgnoreRules {
    /// Reads an ignore file: one pattern a line, `#` at a line's start begins a comment.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if !line.starts_with(b"#") {
                rules.extend(Rule::read(line, index + 1)?);
            }
        }
        Ok(Self { rules })
    }

    /// Takes patterns that do not come from a file, such as those of `COPY --exclude`.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (index, pattern) in patterns.into_iter().enumerate() {
            rules.extend(Rule::read(pattern.as_ref(), index + 1)?);
        }
        Ok(Self { rules })
    }

    /// Names the rules: equal names leave out the same paths.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut writer = strata_cas::Writer::with_format("strata.ignore-rules.1");
        writer.count(self.rules.len());
        for Rule { exception, pattern, tokens: _, slashes: _ } in &self.rules {
            writer.flag(*exception);
            writer.bytes(pattern);
        }
        *BlobId::of(writer.as_bytes()).as_bytes()
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the path is left out. The root never is; what the path is does not matter.
    pub fn excludes(&self, path: &TreePath) -> bool {
        self.is_exclusion(self.verdict(path))
    }

    /// Whether a path below this directory may be not left out. False is certain, true is not.
    pub fn may_include_below(&self, directory: &TreePath) -> bool {
        self.may_include(directory.as_bytes(), self.verdict(directory))
    }

    /// The rule that decides on the path, found from the top component down. Each rule is matched
    /// with the whole path once, when it is first asked: where a match can end says which of the
    /// directories on the way it matches.
    fn verdict(&self, path: &TreePath) -> Verdict {
        let path = path.as_bytes();
        if path.is_empty() {
            return Verdict::default();
        }
        let mut matched: Vec<Option<Vec<usize>>> = vec![None; self.rules.len()];
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = slashes.map(|(at, _)| at).chain([path.len()]);
        ends.fold(Verdict::default(), |above, end| {
            self.decide(above, above.next()..self.rules.len(), |index| {
                let whole = || pattern::ends(&self.rules[index].tokens, path);
                matched[index].get_or_insert_with(whole).binary_search(&end).is_ok()
            })
        })
    }

    /// Asks these rules, first one first, about a path whose directory has this verdict.
    fn decide(
        &self,
        above: Verdict,
        candidates: impl Iterator<Item = usize>,
        mut matches: impl FnMut(usize) -> bool,
    ) -> Verdict {
        let mut verdict = above;
        let mut excluded = self.is_exclusion(above);
        for index in candidates {
            if self.rules[index].exception == excluded && matches(index) {
                verdict = Verdict(Some(index));
                excluded = !excluded;
            }
        }
        verdict
    }

    /// Whether what has this verdict is left out.
    pub fn is_exclusion(&self, verdict: Verdict) -> bool {
        verdict.0.and_then(|last| self.rules.get(last)).is_some_and(|rule| !rule.exception)
    }

    /// Whether a path below a directory with this verdict may be not left out: while all is left
    /// out only exceptions are asked, and only those after the one that decided.
    pub fn may_include(&self, directory: &[u8], verdict: Verdict) -> bool {
        if !self.is_exclusion(verdict) {
            return true;
        }
        let later = &self.rules[verdict.next()..];
        later.iter().any(|rule| rule.exception && rule.may_match_below(directory, false))
    }

    /// Prepares for the entries of one directory, whose own verdict is known.
    pub fn below(&self, directory: &TreePath, inherited: Verdict) -> RulesBelow<'_> {
        let directory = directory.as_bytes();
        let excluded = self.is_exclusion(inherited);
        let active = (inherited.next()..self.rules.len())
            .filter(|rule| self.rules[*rule].may_match_below(directory, true))
            .skip_while(|rule| self.rules[*rule].exception != excluded)
            .collect();
        let mut prefix = directory.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        RulesBelow { rules: self, inherited, active, prefix }
    }
}

/// The last rule that matched a path or a directory above it, if any did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict(Option<usize>);

impl Verdict {
    /// The first rule that could still overrule it.
    fn next(self) -> usize {
        self.0.map_or(0, |last| last + 1)
    }
}

/// The rules as they concern the entries of one directory: only those that can match there, come
/// after the one that decided on the directory, and are not sure to be passed over.
#[derive(Debug)]
pub struct RulesBelow<'a> {
    rules: &'a IgnoreRules,
    inherited: Verdict,
    /// First one first.
    active: Vec<usize>,
    /// The directory's path with a `/` behind it, if it is not the root.
    prefix: Vec<u8>,
}

impl RulesBelow<'_> {
    /// Which rule decides on an entry.
    pub fn verdict(&self, name: &[u8]) -> Verdict {
        if self.active.is_empty() {
            return self.inherited;
        }
        let path = [&self.prefix, name].concat();
        self.rules.decide(self.inherited, self.active.iter().copied(), |index| {
            pattern::matches(&self.rules.rules[index].tokens, &path)
        })
    }
}

impl Rule {
    /// Reads one line; none if it is blank.
    fn read(line: &[u8], number: usize) -> Result<Option<Self>, IgnoreError> {
        let line = trim(line);
        let (exception, pattern) = match line {
            [] => return Ok(None),
            [b'!', rest @ ..] => (true, trim(rest)),
            pattern => (false, pattern),
        };
        let error = |pattern: &[u8], reason| IgnoreError {
            line: number,
            pattern: String::from_utf8_lossy(pattern).into_owned(),
            reason,
        };
        let mut cleaned = clean(pattern);
        if cleaned.len() > 1 && cleaned[0] == b'/' {
            cleaned.remove(0);
        }
        if exception && (pattern.is_empty() || cleaned == b"/") {
            return Err(error(line, "nothing follows the `!`"));
        }
        let tokens = pattern::parse(&cleaned, DoubleStar::Crosses)
            .map_err(|reason| error(&cleaned, reason))?;
        let backwards = |token: &Token| match token {
            Token::Class { ranges, .. } => ranges.iter().any(|(low, high)| low > high),
            _ => false,
        };
        if tokens.iter().any(backwards) {
            return Err(error(&cleaned, "a range in a set goes backwards"));
        }
        // "." would be the context itself, which cannot be left out.
        Ok((cleaned != b".").then(|| Self {
            exception,
            slashes: slashes(&tokens),
            tokens,
            pattern: cleaned,
        }))
    }

    /// Whether it can match a path below a directory; directly in it, if so wanted.
    fn may_match_below(&self, directory: &[u8], directly: bool) -> bool {
        let depth = match directory {
            [] => 0,
            path => 1 + path.iter().filter(|byte| **byte == b'/').count(),
        };
        match self.slashes {
            Some(slashes) if slashes < depth => return false,
            Some(slashes) if directly && slashes != depth => return false,
            _ => {}
        }
        match self.tokens.first() {
            Some(Token::Literal(literal)) if depth > 0 => {
                literal.iter().zip(directory.iter().chain(b"/")).all(|(a, b)| a == b)
            }
            _ => true,
        }
    }
}

fn slashes(tokens: &[Token]) -> Option<usize> {
    let in_token = |token: &Token| match token {
        Token::Literal(bytes) => Some(bytes.iter().filter(|byte| **byte == b'/').count()),
        Token::Character | Token::Star => Some(0),
        Token::Class { .. } | Token::Directories | Token::Anything => None,
    };
    tokens.iter().map(in_token).sum()
}

/// Without white space at its ends, as Unicode sees it.
fn trim(text: &[u8]) -> &[u8] {
    std::str::from_utf8(text).map_or(text.trim_ascii(), |text| text.trim().as_bytes())
}

/// The shortest form of a path, by its text only: Go's `filepath.Clean`.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.last().is_some_and(|last| *last != b"..") => drop(names.pop()),
            b".." if rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
#[path = "ignore_rules_tests.rs"]
mod tests;
