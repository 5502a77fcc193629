//! The `*` and `?` patterns of `${v#p}`, `${v%p}` and `${v/p/r}`.
//!
//! As BuildKit has them: `*` is any run of characters, `?` is one, neither matches a line feed,
//! `\*`, `\?` and `\\` are literal, and there are no bracket expressions. A pattern is matched
//! by stepping a set of possible ends over the text, so no pattern can take exponential time.

/// A pattern that was read.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Many,
}

/// How much a `*` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Shortest,
    Longest,
}

impl Pattern {
    /// Reads a pattern; nothing if a backslash stands before a character it cannot escape.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut rest = text.chars();
        while let Some(letter) = rest.next() {
            tokens.push(match letter {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match rest.next()? {
                    escaped @ ('*' | '?' | '\\' | '}' | '/') => Token::Literal(escaped),
                    _ => return None,
                },
                other => Token::Literal(other),
            });
        }
        Some(Self(tokens))
    }

    /// `text` without the prefix that matches.
    pub(super) fn trim_prefix(&self, text: &str, reach: Reach) -> String {
        let letters: Vec<char> = text.chars().collect();
        let end = self.match_at(&letters, 0, reach).unwrap_or(0);
        letters[end..].iter().collect()
    }

    /// `text` without the suffix that matches.
    pub(super) fn trim_suffix(mut self, text: &str, reach: Reach) -> String {
        self.0.reverse();
        let letters: Vec<char> = text.chars().rev().collect();
        let end = self.match_at(&letters, 0, reach).unwrap_or(0);
        letters[end..].iter().rev().collect()
    }

    /// `text` with the first match replaced.
    pub(super) fn replace_first(&self, text: &str, with: &str) -> String {
        let letters: Vec<char> = text.chars().collect();
        let Some((start, end)) = self.find(&letters, 0) else {
            return text.to_owned();
        };
        let mut result: String = letters[..start].iter().collect();
        result.push_str(with);
        result.extend(&letters[end..]);
        result
    }

    /// `text` with every match replaced; an empty match right after another match does not count.
    pub(super) fn replace_all(&self, text: &str, with: &str) -> String {
        let letters: Vec<char> = text.chars().collect();
        let mut result = String::new();
        let mut done = 0;
        let mut from = 0;
        while let Some((start, end)) = self.find(&letters, from) {
            result.extend(&letters[done..start]);
            if end > done || start == 0 {
                fill_in(with, &letters[start..end], &mut result);
            }
            done = end;
            from = if end > from { end } else { from + 1 };
        }
        result.extend(&letters[done..]);
        result
    }

    /// The leftmost match that starts at or after `from`, as long as it can be.
    fn find(&self, letters: &[char], from: usize) -> Option<(usize, usize)> {
        (from..=letters.len())
            .find_map(|start| Some((start, self.match_at(letters, start, Reach::Longest)?)))
    }

    /// Where a match that starts at `start` ends.
    fn match_at(&self, letters: &[char], start: usize, reach: Reach) -> Option<usize> {
        let mut ends = vec![start];
        for token in &self.0 {
            ends = match token {
                Token::Many => spread(letters, &ends),
                Token::One => step(letters, &ends, |letter| letter != '\n'),
                Token::Literal(goal) => step(letters, &ends, |letter| letter == *goal),
            };
        }
        match reach {
            Reach::Shortest => ends.first().copied(),
            Reach::Longest => ends.last().copied(),
        }
    }
}

/// Appends a replacement. BuildKit hands it to Go's `ReplaceAllString`, for which `$0` is the
/// match, `$name` and `${name}` are groups, of which there are none, and `$$` is a dollar sign.
fn fill_in(with: &str, matched: &[char], result: &mut String) {
    let mut parts = with.split('$');
    result.push_str(parts.next().unwrap_or_default());
    while let Some(part) = parts.next() {
        let (name, rest) = match part.strip_prefix('{').map(|inside| inside.split_once('}')) {
            Some(Some((name, rest))) if name.chars().all(is_word) => (name, rest),
            Some(_) => ("", part),
            None => part.split_at(part.find(|c| !is_word(c)).unwrap_or(part.len())),
        };
        if name.is_empty() {
            result.push('$');
            if part.is_empty() {
                result.push_str(parts.next().unwrap_or_default());
            }
        } else if name.chars().all(|c| c == '0') {
            result.extend(matched);
        }
        result.push_str(rest);
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The ends after one more character that `fits`; `ends` is sorted, and so is the result.
fn step(letters: &[char], ends: &[usize], fits: impl Fn(char) -> bool) -> Vec<usize> {
    let fitting = |at: &&usize| letters.get(**at).is_some_and(|letter| fits(*letter));
    ends.iter().filter(fitting).map(|at| at + 1).collect()
}

/// The ends after any run of characters other than a line feed.
fn spread(letters: &[char], ends: &[usize]) -> Vec<usize> {
    let mut reached: Vec<usize> = Vec::new();
    for &end in ends {
        if reached.last().is_some_and(|last| *last >= end) {
            continue;
        }
        let run = letters[end..].iter().take_while(|letter| **letter != '\n').count();
        reached.extend(end..=end + run);
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Pattern {
        Pattern::read(text).expect("a valid pattern")
    }

    #[test]
    fn prefixes_and_suffixes() {
        let prefix = |text, pattern, reach| read(pattern).trim_prefix(text, reach);
        let suffix = |text, pattern, reach| read(pattern).trim_suffix(text, reach);
        assert_eq!(prefix("xxyy", "*x", Reach::Shortest), "xyy");
        assert_eq!(prefix("xxyy", "*x", Reach::Longest), "yy");
        assert_eq!(prefix("a/b/c", "*/", Reach::Longest), "c");
        assert_eq!(prefix("a\nb", "*b", Reach::Longest), "a\nb");
        assert_eq!(suffix("a.tar.gz", ".*", Reach::Shortest), "a.tar");
        assert_eq!(suffix("a.tar.gz", ".*", Reach::Longest), "a");
        assert_eq!(suffix("a***yy*", "\\**\\*", Reach::Longest), "a");
    }

    #[test]
    fn bad_escapes_are_no_pattern() {
        for text in ["\\", "\\x", "\\\\\\"] {
            assert!(Pattern::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn replacing() {
        assert_eq!(read("\\*/").replace_first("/foo*/*/*.txt", "."), "/foo.*/*.txt");
        assert_eq!(read("\\*/").replace_all("/foo*/*/*.txt", "."), "/foo..*.txt");
        assert_eq!(read("/?/").replace_all("/a/foo/b/c.txt", "/"), "/foo/c.txt");
        assert_eq!(read("").replace_first("xxyy", "ww"), "wwxxyy");
        assert_eq!(read("").replace_all("ab", "-"), "-a-b-");
        assert_eq!(read("*").replace_all("ab", "-"), "-");
        assert_eq!(read("x").replace_all("axb", "\\$1"), "a\\b");
        assert_eq!(read("x").replace_all("axb", "[$0|${0}|$a|$$|$.|$]"), "a[x|x||$|$.|$]b");
        assert_eq!(read("x").replace_first("axb", "$1"), "a$1b");
    }
}
