//! What ignore rules and globs have in common: a pattern as a list of tokens, and whether a text
//! matches it. The syntax is that of Go's `filepath.Match` (`*`, `?`, `[a-z]`, `[^a-z]`, `\`);
//! what `**` means is the caller's choice. Cleaning, negation and the meaning for a whole tree
//! are in `ignore_rules` and `glob`.
//!
//! Matching follows all positions that a text can be at, token by token, so its cost is bounded
//! by the product of both lengths: no pattern makes it explode.

/// What a pattern consists of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Token {
    /// These bytes.
    Literal(Vec<u8>),
    /// `?`: one character but `/`.
    Character,
    /// `[…]`: one character of a set, which may hold `/`.
    Class {
        /// Whether it is one that is not in the set.
        negated: bool,
        /// The set, as ranges with both ends in it.
        ranges: Vec<(char, char)>,
    },
    /// `*`: any characters but `/`.
    Star,
    /// `**/` before something: any directories, or none.
    Directories,
    /// `**` at the end: anything at all.
    Anything,
}

/// What `**` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DoubleStar {
    /// As in `filepath.Match`: the same as `*`.
    IsStar,
    /// As in moby's ignore files: it crosses directories.
    Crosses,
}

/// Reads a pattern, or says what is wrong with it.
pub(crate) fn parse(pattern: &[u8], double: DoubleStar) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let [first, after @ ..] = rest {
        rest = match first {
            b'*' => star(after, double, &mut tokens),
            b'?' => {
                tokens.push(Token::Character);
                after
            }
            b'[' => class(after, &mut tokens)?,
            b'\\' => match after {
                [] => return Err("a `\\` stands at its end"),
                [escaped, after @ ..] => {
                    literal(*escaped, &mut tokens);
                    after
                }
            },
            _ => {
                literal(*first, &mut tokens);
                after
            }
        };
    }
    if double == DoubleStar::Crosses {
        suffix_form(pattern, &mut tokens);
        tokens.dedup_by(|next, last| *next == Token::Directories && next == last);
    }
    Ok(tokens)
}

fn literal(byte: u8, tokens: &mut Vec<Token>) {
    if let Some(Token::Literal(bytes)) = tokens.last_mut() {
        bytes.push(byte);
    } else {
        tokens.push(Token::Literal(vec![byte]));
    }
}

/// Reads what follows a `*`.
fn star<'a>(after: &'a [u8], double: DoubleStar, tokens: &mut Vec<Token>) -> &'a [u8] {
    match after {
        [b'*', after @ ..] if double == DoubleStar::Crosses => {
            let after = after.strip_prefix(b"/").unwrap_or(after);
            tokens.push(if after.is_empty() { Token::Anything } else { Token::Directories });
            after
        }
        _ => {
            if tokens.last() != Some(&Token::Star) {
                tokens.push(Token::Star);
            }
            after
        }
    }
}

/// moby reads `**name`, when nothing else in it is special, as "ends in `name`", although
/// `**name*` means "a component begins with `name`".
fn suffix_form(pattern: &[u8], tokens: &mut [Token]) {
    if let [first @ Token::Directories, Token::Literal(_)] = tokens
        && !pattern.starts_with(b"**/")
        && !pattern.contains(&b'\\')
    {
        *first = Token::Anything;
    }
}

/// Reads what follows a `[`.
fn class<'a>(mut rest: &'a [u8], tokens: &mut Vec<Token>) -> Result<&'a [u8], &'static str> {
    let negated = rest.first() == Some(&b'^');
    if negated {
        rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if let [b']', after @ ..] = rest
            && !ranges.is_empty()
        {
            tokens.push(Token::Class { negated, ranges });
            return Ok(after);
        }
        let low = class_character(&mut rest)?;
        let mut high = low;
        if let [b'-', after @ ..] = rest {
            rest = after;
            high = class_character(&mut rest)?;
        }
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut &[u8]) -> Result<char, &'static str> {
    const OPEN: &str = "a `[` has no `]`";
    let text = match *rest {
        [] => return Err(OPEN),
        [b'-' | b']', ..] => return Err("a set is empty or has a range without an end"),
        [b'\\', after @ ..] => after,
        text => text,
    };
    if text.is_empty() {
        return Err(OPEN);
    }
    let (character, length) = decode(text);
    *rest = &text[length..];
    match character {
        _ if rest.is_empty() => Err(OPEN),
        Some(character) => Ok(character),
        None => Err("a set holds bytes that are not UTF-8"),
    }
}

/// The first character of a text that is not empty, none if it is not UTF-8, and its length.
fn decode(text: &[u8]) -> (Option<char>, usize) {
    let length = match text {
        [..0x80, ..] => return (Some(char::from(text[0])), 1),
        [0xc0..0xe0, ..] => 2,
        [0xe0..0xf0, ..] => 3,
        _ => 4,
    };
    let character = text
        .get(..length)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|text| text.chars().next());
    (character, if character.is_some() { length } else { 1 })
}

/// Whether the whole text matches.
pub(crate) fn matches(tokens: &[Token], text: &[u8]) -> bool {
    if let Some(Token::Literal(literal)) = tokens.first()
        && !text.starts_with(literal)
    {
        return false;
    }
    if let Some(Token::Literal(literal)) = tokens.last()
        && !text.ends_with(literal)
    {
        return false;
    }
    ends(tokens, text).last() == Some(&text.len())
}

/// Where a match that starts at the text's start can end, ascending: what of a path matches.
pub(crate) fn ends(tokens: &[Token], text: &[u8]) -> Vec<usize> {
    let mut positions = vec![0];
    for token in tokens {
        positions = token.advance(text, &positions);
        count(positions.len());
        if positions.is_empty() {
            break;
        }
    }
    positions
}

/// Counts the work that tests bound.
#[cfg(not(test))]
fn count(_positions: usize) {}

#[cfg(test)]
fn count(positions: usize) {
    WORK.set(WORK.get() + positions);
}

#[cfg(test)]
thread_local! {
    /// How many positions this thread has been at.
    pub(crate) static WORK: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Token {
    /// Where a match can go on behind this token, if it could be at `from`. Both ascend.
    fn advance(&self, text: &[u8], from: &[usize]) -> Vec<usize> {
        let one = |accepts: &dyn Fn(Option<char>) -> bool| {
            let step = |at: &usize| {
                let rest = text.get(*at..).filter(|rest| !rest.is_empty())?;
                let (character, length) = decode(rest);
                accepts(character).then_some(at + length)
            };
            let mut ends: Vec<usize> = from.iter().filter_map(step).collect();
            // In a name that is not UTF-8 one position may be inside the character of another.
            ends.sort();
            ends.dedup();
            ends
        };
        match self {
            Self::Literal(literal) => from
                .iter()
                .filter(|at| text[**at..].starts_with(literal))
                .map(|at| at + literal.len())
                .collect(),
            Self::Character => one(&|character| character != Some('/')),
            Self::Class { negated, ranges } => one(&|character| {
                let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
                let found = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                found != *negated
            }),
            Self::Star => star_ends(text, from),
            Self::Directories => directory_ends(text, from),
            Self::Anything => (from.first().copied().unwrap_or(0)..=text.len()).collect(),
        }
    }
}

fn star_ends(text: &[u8], from: &[usize]) -> Vec<usize> {
    let mut ends = Vec::new();
    for start in from {
        let mut at = *start;
        // What an earlier start has reached already, it has reached from there on too.
        if ends.last().is_some_and(|last| *last >= at) {
            continue;
        }
        ends.push(at);
        while at < text.len() && text[at] != b'/' {
            at += decode(&text[at..]).1;
            ends.push(at);
        }
    }
    ends
}

fn directory_ends(text: &[u8], from: &[usize]) -> Vec<usize> {
    let Some(first) = from.first() else { return Vec::new() };
    let slashes = text[*first..].iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut ends: Vec<usize> = slashes.map(|(at, _)| first + at + 1).collect();
    ends.extend_from_slice(from);
    // Two ascending runs: a stable sort merges them.
    ends.sort();
    ends.dedup();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go's own table for `filepath.Match`; `None` is a bad pattern.
    const GO: &[(&str, &str, Option<bool>)] = &[
        ("abc", "abc", Some(true)),
        ("*", "abc", Some(true)),
        ("*c", "abc", Some(true)),
        ("a*", "a", Some(true)),
        ("a*", "abc", Some(true)),
        ("a*", "ab/c", Some(false)),
        ("a*/b", "abc/b", Some(true)),
        ("a*/b", "a/c/b", Some(false)),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Some(false)),
        ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
        ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
        ("ab[c]", "abc", Some(true)),
        ("ab[b-d]", "abc", Some(true)),
        ("ab[e-g]", "abc", Some(false)),
        ("ab[^c]", "abc", Some(false)),
        ("ab[^b-d]", "abc", Some(false)),
        ("ab[^e-g]", "abc", Some(true)),
        ("a\\*b", "a*b", Some(true)),
        ("a\\*b", "ab", Some(false)),
        ("a?b", "a☺b", Some(true)),
        ("a[^a]b", "a☺b", Some(true)),
        ("a???b", "a☺b", Some(false)),
        ("a[^a][^a][^a]b", "a☺b", Some(false)),
        ("[a-ζ]*", "α", Some(true)),
        ("*[a-ζ]", "A", Some(false)),
        ("a?b", "a/b", Some(false)),
        ("a*b", "a/b", Some(false)),
        ("[\\]a]", "]", Some(true)),
        ("[\\-]", "-", Some(true)),
        ("[x\\-]", "x", Some(true)),
        ("[x\\-]", "-", Some(true)),
        ("[x\\-]", "z", Some(false)),
        ("[\\-x]", "x", Some(true)),
        ("[\\-x]", "-", Some(true)),
        ("[\\-x]", "a", Some(false)),
        ("[]a]", "]", None),
        ("[-]", "-", None),
        ("[x-]", "x", None),
        ("[x-]", "-", None),
        ("[x-]", "z", None),
        ("[-x]", "x", None),
        ("[-x]", "-", None),
        ("[-x]", "a", None),
        ("\\", "a", None),
        ("[a-b-c]", "a", None),
        ("[", "a", None),
        ("[^", "a", None),
        ("[^bc", "a", None),
        ("a[", "a", None),
        ("a[", "ab", None),
        ("*x", "xxx", Some(true)),
        ("", "", Some(true)),
        ("", "a", Some(false)),
        ("**", "a", Some(true)),
        ("*?", "α", Some(true)),
        ("*?*?", "α", Some(false)),
    ];

    #[test]
    fn matches_as_go_does() {
        for (pattern, text, expected) in GO {
            let tokens = parse(pattern.as_bytes(), DoubleStar::IsStar).ok();
            let answer = tokens.map(|tokens| matches(&tokens, text.as_bytes()));
            assert_eq!(answer, *expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let tokens = parse(&b"*a".repeat(200), DoubleStar::Crosses).expect("good");
        assert!(!matches(&tokens, &[b'a'; 199]));
        let tokens = parse(&b"**/a/".repeat(100), DoubleStar::Crosses).expect("good");
        assert!(!matches(&tokens, &b"a/".repeat(90)));
        let tokens = parse(&b"**/".repeat(100), DoubleStar::Crosses).expect("good");
        assert_eq!(tokens.len(), 2, "{tokens:?}");
    }

    #[test]
    fn positions_ascend_in_names_that_are_not_utf8() {
        let tokens = parse(b"*\xe2?", DoubleStar::Crosses).expect("good");
        assert_eq!(ends(&tokens, b"\xe2\xe2\x82\xac"), [3, 4]);
        assert!(matches(&tokens, b"\xe2\xe2\x82\xac"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(pattern: Vec<u8>, text: Vec<u8>) {
            for double in [DoubleStar::IsStar, DoubleStar::Crosses] {
                if let Ok(tokens) = parse(&pattern, double) {
                    matches(&tokens, &text);
                }
            }
        }

        #[test]
        fn agrees_with_a_naive_twin(pattern in "[ab/*?]{0,8}", text in "[ab/]{0,8}") {
            let tokens = parse(pattern.as_bytes(), DoubleStar::Crosses).expect("good");
            let expected = naive(&tokens, text.as_bytes());
            assert_eq!(matches(&tokens, text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    /// By trying everything, on one-byte characters.
    fn naive(tokens: &[Token], text: &[u8]) -> bool {
        let Some((token, tokens)) = tokens.split_first() else { return text.is_empty() };
        let any = |splits: &dyn Fn(&[u8]) -> bool| {
            (0..=text.len()).any(|at| splits(&text[..at]) && naive(tokens, &text[at..]))
        };
        match token {
            Token::Literal(literal) => any(&|head| head == literal),
            Token::Character => any(&|head| head.len() == 1 && head != b"/"),
            Token::Class { .. } => false,
            Token::Star => any(&|head| !head.contains(&b'/')),
            Token::Directories => any(&|head| head.is_empty() || head.ends_with(b"/")),
            Token::Anything => any(&|_| true),
        }
    }
}
