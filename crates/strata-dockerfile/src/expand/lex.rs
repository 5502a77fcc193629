//! The reader behind [`Expander`]: one pass over the characters, recursing only into `${...}`.

use std::iter::Peekable;
use std::str::Chars;

use super::pattern::{Pattern, Reach};
use super::{DEPTH_MAX, ExpandError, Expander, Expansion, GROWTH_MAX, Lookup, Quotes};

/// See [`Expander::expand`].
pub(super) fn expand(
    rules: &Expander,
    raw: &str,
    lookup: Lookup<'_>,
) -> Result<Expansion, ExpandError> {
    let mut lexer = Lexer {
        rules,
        lookup,
        rest: raw.chars().peekable(),
        keep_escapes: rules.keep_escapes,
        depth: 0,
        room: GROWTH_MAX,
        found: Expansion::default(),
    };
    let (text, words) = lexer.until(None, rules.keep_escapes)?;
    Ok(Expansion { text, words, ..lexer.found })
}

struct Lexer<'a> {
    rules: &'a Expander,
    lookup: Lookup<'a>,
    rest: Peekable<Chars<'a>>,
    keep_escapes: bool,
    depth: usize,
    /// How many bytes of values may still come; what is written in the word itself is free.
    room: usize,
    found: Expansion,
}

impl Lexer<'_> {
    /// Reads to `stop`, which is consumed, or to the end if there is none.
    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
    ) -> Result<(String, Vec<String>), ExpandError> {
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let result = self.until_inner(stop);
        self.keep_escapes = outer;
        result
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpandError> {
        let mut text = String::new();
        let mut words = Words::default();
        let quotes = self.rules.quotes != Quotes::Literal;
        while let Some(next) = self.rest.peek().copied() {
            if Some(next) == stop {
                self.rest.next();
                return Ok((text, words.finish()));
            }
            match next {
                '$' => {
                    let value = self.dollar()?;
                    text.push_str(&value);
                    value.chars().for_each(|letter| words.push(letter));
                }
                '\'' | '"' if quotes => {
                    let value = if next == '"' { self.double_quoted()? } else { self.quoted()? };
                    text.push_str(&value);
                    words.push_guarded(&value);
                }
                '<' => {
                    let value = self.maybe_heredoc();
                    text.push_str(&value);
                    words.push_guarded(&value);
                }
                _ => self.plain(&mut text, &mut words),
            }
        }
        match stop {
            None => Ok((text, words.finish())),
            Some(missing) => Err(ExpandError::Unclosed(missing)),
        }
    }

    /// One ordinary character, or an escape and what it escapes.
    fn plain(&mut self, text: &mut String, words: &mut Words) {
        let Some(letter) = self.rest.next() else { return };
        if letter != self.rules.escape {
            text.push(letter);
            words.push(letter);
            return;
        }
        let kept = self.keep_escapes.then_some(letter);
        for letter in kept.into_iter().chain(self.rest.next()) {
            text.push(letter);
            words.push_guarded(letter.encode_utf8(&mut [0; 4]));
        }
    }

    /// `<<` and the blanks after it, which stay with the word: it may name a here-document.
    fn maybe_heredoc(&mut self) -> String {
        self.rest.next();
        let mut text = String::from('<');
        if self.rest.next_if_eq(&'<').is_some() {
            text.push('<');
            while let Some(blank) = self.rest.next_if(|c| matches!(c, ' ' | '\t' | '\r')) {
                text.push(blank);
            }
        }
        text
    }

    /// Single quotes: nothing inside is special.
    fn quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = self.quote();
        loop {
            match self.rest.peek() {
                None => return Err(ExpandError::Unclosed('\'')),
                Some('\'') => return Ok(text + &self.quote()),
                Some(letter) => {
                    text.push(*letter);
                    self.rest.next();
                }
            }
        }
    }

    /// Double quotes: `$` is special, and the escape before `"`, `$` or itself.
    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = self.quote();
        loop {
            match self.rest.peek().copied() {
                None => return Err(ExpandError::Unclosed('"')),
                Some('"') => return Ok(text + &self.quote()),
                Some('$') => text.push_str(&self.dollar()?),
                Some(letter) if letter == self.rules.escape => self.escape_in_quotes(&mut text),
                Some(letter) => {
                    text.push(letter);
                    self.rest.next();
                }
            }
        }
    }

    fn escape_in_quotes(&mut self, text: &mut String) {
        let escape = self.rules.escape;
        self.rest.next();
        if self.keep_escapes {
            text.push(escape);
        }
        let special = |c: &char| matches!(c, '"' | '$') || *c == escape;
        match self.rest.next_if(special) {
            Some(letter) => text.push(letter),
            None if self.rest.peek().is_some() => text.push(escape),
            None => {}
        }
    }

    /// Consumes a quote and gives what remains of it.
    fn quote(&mut self) -> String {
        let quote = self.rest.next();
        let kept = quote.filter(|_| self.rules.quotes == Quotes::Keep);
        kept.map(String::from).unwrap_or_default()
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.rest.next();
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.value_of(&name);
            return self.or_kept(value, || format!("${name}"));
        }
        if self.depth == DEPTH_MAX {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        let value = self.braced();
        self.depth -= 1;
        value
    }

    /// What is between `${` and its `}`, which is consumed too.
    fn braced(&mut self) -> Result<String, ExpandError> {
        match self.rest.peek() {
            None => return Err(ExpandError::Unclosed('}')),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let Some(first) = self.rest.next() else { return Err(ExpandError::Unclosed('}')) };
        match first {
            '}' => {
                let value = self.value_of(&name);
                self.or_kept(value, || format!("${{{name}}}"))
            }
            ':' => match self.rest.next() {
                Some(second) => self.modified(&name, second, true),
                None => Err(ExpandError::Unclosed('}')),
            },
            '+' | '-' | '?' | '#' | '%' => self.modified(&name, first, false),
            '/' => self.replaced(&name),
            other => Err(ExpandError::UnknownModifier(other.to_string())),
        }
    }

    /// `${name-word}` and its kin; with `colon`, an empty value counts as not set.
    fn modified(&mut self, name: &str, kind: char, colon: bool) -> Result<String, ExpandError> {
        let cuts = !colon && matches!(kind, '#' | '%');
        let (word, _) = self.until(Some('}'), cuts).map_err(|error| self.missing_brace(error))?;
        let value = self.value_of(name);
        let sign = || if colon { format!(":{kind}") } else { kind.to_string() };
        if value.is_none() && self.rules.keep_unset {
            return Ok(format!("${{{name}{}{word}}}", sign()));
        }
        let missing = value.as_ref().is_none_or(|value| colon && value.is_empty());
        match kind {
            '-' if missing => Ok(word),
            '+' if missing => Ok(String::new()),
            '+' => Ok(word),
            '?' if missing => Err(required(name, word, value.is_some())),
            '-' | '?' => self.grown(value.unwrap_or_default()),
            '#' | '%' if !colon => self.grown(cut(kind, &word, &value.unwrap_or_default())?),
            _ => Err(ExpandError::UnknownModifier(sign())),
        }
    }

    /// `${name/pattern/word}` and `${name//pattern/word}`.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let (pattern, _) = self.until(Some('/'), true)?;
        let (word, _) = self.until(Some('}'), true).map_err(|error| self.missing_brace(error))?;
        let value = self.value_of(name);
        let Some(value) = value.or_else(|| (!self.rules.keep_unset).then(String::new)) else {
            return Ok(format!("${{{name}/{pattern}/{word}}}"));
        };
        let read = Pattern::read(&pattern).ok_or(ExpandError::BadPattern(pattern))?;
        let result = if all {
            read.replace_all(&value, &word, self.room)
        } else {
            read.replace_first(&value, &word, self.room)
        };
        self.grown(result.ok_or(ExpandError::TooLong)?)
    }

    /// At the end of the text the missing brace is the better news than what was inside it.
    fn missing_brace(&mut self, error: ExpandError) -> ExpandError {
        match error {
            ExpandError::Unclosed(_) if self.rest.peek().is_none() => ExpandError::Unclosed('}'),
            other => other,
        }
    }

    /// A name: letters, digits and `_`; or digits alone; or one special parameter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let first = self.rest.peek().copied();
        if first.is_some_and(is_special) {
            name.extend(self.rest.next());
            return name;
        }
        let digits = first.is_some_and(|c| c.is_ascii_digit());
        let belongs =
            |c: &char| c.is_ascii_digit() || !digits && (c.is_alphanumeric() || *c == '_');
        while let Some(letter) = self.rest.next_if(belongs) {
            name.push(letter);
        }
        name
    }

    fn value_of(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        let list = if value.is_some() { &mut self.found.used } else { &mut self.found.unset };
        if !list.contains(name) {
            list.insert(name.to_owned());
        }
        value
    }

    fn or_kept(
        &mut self,
        value: Option<String>,
        written: impl Fn() -> String,
    ) -> Result<String, ExpandError> {
        match value {
            Some(value) => self.grown(value),
            None => Ok(if self.rules.keep_unset { written() } else { String::new() }),
        }
    }

    /// The value, if there is room for it.
    fn grown(&mut self, value: String) -> Result<String, ExpandError> {
        self.room = self.room.checked_sub(value.len()).ok_or(ExpandError::TooLong)?;
        Ok(value)
    }
}

/// The special parameters of a shell: here they are just names that nobody sets.
fn is_special(letter: char) -> bool {
    matches!(letter, '@' | '*' | '#' | '?' | '-' | '$' | '!')
}

fn required(name: &str, message: String, is_set: bool) -> ExpandError {
    let ours = if is_set { "is not allowed to be empty" } else { "is not allowed to be unset" };
    let message = if message.is_empty() { ours.to_owned() } else { message };
    ExpandError::Required { name: name.to_owned(), message }
}

/// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`: the second sign arrives as the word's first.
fn cut(kind: char, word: &str, value: &str) -> Result<String, ExpandError> {
    let (pattern, reach) = match word.strip_prefix(kind) {
        Some(pattern) => (pattern, Reach::Longest),
        None => (word, Reach::Shortest),
    };
    let read = Pattern::read(pattern).ok_or_else(|| ExpandError::BadPattern(pattern.to_owned()))?;
    Ok(if kind == '#' { read.trim_prefix(value, reach) } else { read.trim_suffix(value, reach) })
}

/// Collects words: white space ends one, unless it is guarded.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    fn push(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.word.push(letter);
        } else if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    fn push_guarded(&mut self, text: &str) {
        self.word.push_str(text);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}
