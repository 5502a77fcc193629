//! The `*` and `?` patterns of `${v#p}`, `${v%p}` and `${v/p/r}`.
//!
//! As BuildKit has them: `*` is any run of characters, `?` is one, neither matches a line feed,
//! `\*`, `\?` and `\\` are literal, and there are no bracket expressions. A pattern is matched by
//! stepping a set of positions over the text, once for all places where a match may start, and
//! once more for each match over its own lines: no pattern costs more than the product of its
//! length and the text's.

use std::collections::HashMap;

use super::positions::Positions;

/// A pattern that was read.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// How many characters a match has at least.
    shortest: usize,
}

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
        tokens.dedup_by(|next, last| (*next, *last) == (Token::Many, Token::Many));
        let shortest = tokens.iter().filter(|token| **token != Token::Many).count();
        Some(Self { tokens, shortest })
    }

    /// `text` without the prefix that matches.
    pub(super) fn trim_prefix(&self, text: &str, reach: Reach) -> String {
        let letters: Vec<char> = text.chars().collect();
        let end = self.match_at_start(&letters, reach).unwrap_or(0);
        letters[end..].iter().collect()
    }

    /// `text` without the suffix that matches.
    pub(super) fn trim_suffix(mut self, text: &str, reach: Reach) -> String {
        self.tokens.reverse();
        let letters: Vec<char> = text.chars().rev().collect();
        let end = self.match_at_start(&letters, reach).unwrap_or(0);
        letters[end..].iter().rev().collect()
    }

    /// `text` with the first match replaced; nothing if that is longer than `limit`.
    pub(super) fn replace_first(&self, text: &str, with: &str, limit: usize) -> Option<String> {
        let letters: Vec<char> = text.chars().collect();
        let Some(start) = self.starts(&letters).into_iter().next() else {
            return Some(text.to_owned());
        };
        let mut result = Limited { text: String::new(), limit };
        result.extend(&letters[..start])?;
        result.push(with)?;
        result.extend(&letters[self.longest(&letters, start)..])?;
        Some(result.text)
    }

    /// `text` with every match replaced; an empty match right after another match does not count.
    /// Nothing if that is longer than `limit`.
    pub(super) fn replace_all(&self, text: &str, with: &str, limit: usize) -> Option<String> {
        let letters: Vec<char> = text.chars().collect();
        let with = Template::read(with);
        let mut result = Limited { text: String::new(), limit };
        let mut done = 0;
        for start in self.starts(&letters) {
            if start < done {
                continue;
            }
            let end = self.longest(&letters, start);
            result.extend(&letters[done..start])?;
            if end > done || start == 0 {
                with.fill_in(&letters[start..end], &mut result)?;
            }
            done = end;
        }
        result.extend(&letters[done..])?;
        Some(result.text)
    }

    /// Where a match that starts at the first letter ends.
    fn match_at_start(&self, letters: &[char], reach: Reach) -> Option<usize> {
        if self.shortest > letters.len() {
            return None;
        }
        let mut start = Positions::none(letters.len());
        start.insert(0);
        let ends = ends(&self.tokens, letters, start);
        match reach {
            Reach::Shortest => ends.first(),
            Reach::Longest => ends.last(),
        }
    }

    /// Where a match can start, ascending: where it ends if all is read backwards.
    fn starts(&self, letters: &[char]) -> Vec<usize> {
        if self.shortest > letters.len() {
            return Vec::new();
        }
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let letters: Vec<char> = letters.iter().rev().copied().collect();
        let any = Positions::of(letters.len(), |_| true);
        let mut starts: Vec<usize> =
            ends(&tokens, &letters, any).iter().map(|end| letters.len() - end).collect();
        starts.reverse();
        starts
    }

    /// Where the longest of the matches that start here ends. A match has as many line feeds as
    /// the pattern, so only its lines are looked at. Of two matches in one line, the longest
    /// from the first start would have been both, so no line is looked at for each of many.
    fn longest(&self, letters: &[char], start: usize) -> usize {
        if !self.tokens.contains(&Token::Many) {
            return start + self.shortest;
        }
        let feeds = self.tokens.iter().filter(|token| **token == Token::Literal('\n')).count();
        let rest = &letters[start..];
        let mut ends = rest.iter().enumerate().filter(|(_, letter)| **letter == '\n');
        let lines = ends.nth(feeds).map_or(rest, |(end, _)| &rest[..end]);
        self.match_at_start(lines, Reach::Longest).map_or(start, |end| start + end)
    }
}

/// Where a match of these tokens can end, if it can be at any of the positions `from`.
fn ends(tokens: &[Token], letters: &[char], from: Positions) -> Positions {
    let length = letters.len();
    let in_line = Positions::of(length, |at| letters.get(at).is_some_and(|letter| *letter != '\n'));
    let mut places: HashMap<char, Positions> = HashMap::new();
    for token in tokens {
        if let Token::Literal(letter) = token {
            places.entry(*letter).or_insert_with(|| Positions::none(length));
        }
    }
    for (at, letter) in letters.iter().enumerate() {
        if let Some(places) = places.get_mut(letter) {
            places.insert(at);
        }
    }
    let mut ends = from;
    for token in tokens {
        match token {
            Token::Many => ends.spread(&in_line),
            Token::One => ends.step(&in_line),
            Token::Literal(letter) => ends.step(&places[letter]),
        }
        if ends.is_empty() {
            break;
        }
    }
    ends
}

/// A text that does not become longer than it may.
struct Limited {
    text: String,
    limit: usize,
}

impl Limited {
    fn push(&mut self, text: &str) -> Option<()> {
        self.text.push_str(text);
        (self.text.len() <= self.limit).then_some(())
    }

    fn extend(&mut self, letters: &[char]) -> Option<()> {
        self.text.extend(letters);
        (self.text.len() <= self.limit).then_some(())
    }
}

/// A replacement that was read, once for all matches.
struct Template(Vec<Part>);

enum Part {
    Text(String),
    /// The match, so many times.
    Match(usize),
}

impl Template {
    /// BuildKit hands a replacement to Go's `ReplaceAllString`, for which `$0` is the match,
    /// `$name` and `${name}` are groups, of which there are none, and `$$` is a dollar sign.
    fn read(with: &str) -> Self {
        let mut template = Self(Vec::new());
        let mut parts = with.split('$');
        template.text(parts.next().unwrap_or_default());
        while let Some(part) = parts.next() {
            let (name, rest) = match part.strip_prefix('{').map(|inside| inside.split_once('}')) {
                Some(Some((name, rest))) if name.chars().all(is_word) => (name, rest),
                Some(_) => ("", part),
                None => part.split_at(part.find(|c| !is_word(c)).unwrap_or(part.len())),
            };
            if name.is_empty() {
                template.text("$");
                if part.is_empty() {
                    template.text(parts.next().unwrap_or_default());
                }
            } else if name.chars().all(|c| c == '0') {
                match template.0.last_mut() {
                    Some(Part::Match(times)) => *times += 1,
                    _ => template.0.push(Part::Match(1)),
                }
            }
            template.text(rest);
        }
        template
    }

    fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(before)) => before.push_str(text),
            _ => self.0.push(Part::Text(text.to_owned())),
        }
    }

    fn fill_in(&self, matched: &[char], result: &mut Limited) -> Option<()> {
        for part in &self.0 {
            match part {
                Part::Text(text) => result.push(text)?,
                Part::Match(_) if matched.is_empty() => {}
                Part::Match(times) => (0..*times).try_for_each(|_| result.extend(matched))?,
            }
        }
        Some(())
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
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
        let first = |pattern, text, with| read(pattern).replace_first(text, with, 100);
        let all = |pattern, text, with| read(pattern).replace_all(text, with, 100);
        let check =
            |result: Option<String>, expected| assert_eq!(result.as_deref(), Some(expected));
        check(first("\\*/", "/foo*/*/*.txt", "."), "/foo.*/*.txt");
        check(all("\\*/", "/foo*/*/*.txt", "."), "/foo..*.txt");
        check(all("/?/", "/a/foo/b/c.txt", "/"), "/foo/c.txt");
        check(first("", "xxyy", "ww"), "wwxxyy");
        check(all("", "ab", "-"), "-a-b-");
        check(all("*", "ab", "-"), "-");
        check(all("*", "ab\n\ncd", "-"), "-\n-\n-");
        check(all("a*\n*b", "xa1\n2b3b4\na\nb", "-"), "x-4\n-");
        check(all("x", "axb", "\\$1"), "a\\b");
        check(all("x", "axb", "[$0$0|${0}|$a|$$|$.|$]"), "a[xx|x||$|$.|$]b");
        check(first("x", "axb", "$1"), "a$1b");
    }

    #[test]
    fn no_result_is_longer_than_its_limit() {
        assert_eq!(read("a").replace_all("aa", "12345", 10).as_deref(), Some("1234512345"));
        assert_eq!(read("a").replace_all("aa", "12345", 9), None);
        assert_eq!(read("a").replace_first("aa", "12345", 5), None);
        let huge = "${0}x".repeat(1 << 20);
        assert_eq!(read("*").replace_all(&"a".repeat(1 << 20), &huge, 1 << 20), None);
    }

    /// What the hardest patterns cost, in words of 64 positions, is at most what it takes to step
    /// each token over the text twice.
    #[test]
    fn no_pattern_explodes() {
        let texts = ["a".repeat(2000), "ab".repeat(1000), "a\n".repeat(1000)];
        let patterns = ["*", "?", "*a".repeat(900).as_str(), "*?".repeat(900).as_str()]
            .map(str::to_owned)
            .into_iter()
            .chain(["*a*b".repeat(400) + "c", "*\na".repeat(400), "a*\n".to_owned()])
            .chain(["*".repeat(2000) + "c", "a".repeat(1990) + "*"]);
        for pattern in patterns {
            for text in &texts {
                let read = read(&pattern);
                super::super::positions::WORK.set(0);
                read.replace_all(text, "", usize::MAX).expect("no limit");
                let work = super::super::positions::WORK.get();
                let bound = 2 * read.tokens.len() * (text.len() / 64 + 1) + 4 * text.len();
                assert!(work <= bound, "{work} > {bound} for {} tokens", read.tokens.len());
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_naive_twin(pattern in "[ab*?\n]{0,6}", text in "[ab\n]{0,90}") {
            let read = read(&pattern);
            let letters: Vec<char> = text.chars().collect();
            let naive = |start| naive(&read.tokens, &letters, start);
            let starts: Vec<usize> =
                (0..=letters.len()).filter(|start| !naive(*start).is_empty()).collect();
            assert_eq!(read.starts(&letters), starts);
            for start in starts {
                assert_eq!(Some(&read.longest(&letters, start)), naive(start).last());
            }
            let shortest = read.match_at_start(&letters, Reach::Shortest);
            assert_eq!(shortest.as_ref(), naive(0).first());
        }
    }

    /// All ends of a match that starts here, ascending.
    fn naive(tokens: &[Token], letters: &[char], start: usize) -> Vec<usize> {
        let mut ends = std::collections::BTreeSet::from([start]);
        for token in tokens {
            let mut next = std::collections::BTreeSet::new();
            for end in ends {
                let letter = letters.get(end).copied();
                match token {
                    Token::Literal(goal) if letter == Some(*goal) => drop(next.insert(end + 1)),
                    Token::One if letter.is_some_and(|c| c != '\n') => drop(next.insert(end + 1)),
                    Token::Literal(_) | Token::One => {}
                    Token::Many => {
                        let run = letters[end..].iter().take_while(|c| **c != '\n').count();
                        next.extend(end..=end + run);
                    }
                }
            }
            ends = next;
        }
        ends.into_iter().collect()
    }
}
