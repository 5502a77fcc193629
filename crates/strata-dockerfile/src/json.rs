//! The JSON arrays of strings that the exec form is made of, read as Go's `encoding/json` does.
//!
//! Not a JSON library: it answers one question about one line.

/// What an argument is when read as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Array {
    /// An array of strings.
    Strings(Vec<String>),
    /// A valid array that holds something other than strings.
    Mixed,
    /// Not a valid array: the shell form is meant.
    Invalid,
}

/// Reads `text`, which must be an array and nothing else but white space around it.
pub(crate) fn read_array(text: &str) -> Array {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Array::Invalid;
    }
    let mut reader = Reader { rest: text };
    let mut array = Strings::default();
    match reader.array(&mut array, DEPTH_MAX) {
        Some(()) if reader.skip_space().is_empty() => array.finish(),
        _ => Array::Invalid,
    }
}

/// The string that the member `name` of an object is; of several the last, as in Go.
pub(crate) fn member(text: &str, name: &str) -> Option<String> {
    let mut reader = Reader { rest: text };
    let mut found = None;
    reader.members(DEPTH_MAX, &mut |reader, key| {
        if key != name {
            return reader.value(DEPTH_MAX);
        }
        found = if reader.skip_space().starts_with('"') {
            Some(reader.string()?)
        } else {
            reader.value(DEPTH_MAX)?;
            None
        };
        Some(())
    })?;
    found.filter(|_| reader.skip_space().is_empty())
}

const DEPTH_MAX: usize = 100;

#[derive(Default)]
struct Strings {
    strings: Vec<String>,
    mixed: bool,
}

impl Strings {
    fn finish(self) -> Array {
        if self.mixed { Array::Mixed } else { Array::Strings(self.strings) }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

/// Every method consumes what it reads and gives nothing if the text is not JSON.
impl<'a> Reader<'a> {
    fn skip_space(&mut self) -> &'a str {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.rest
    }

    fn eat(&mut self, token: &str) -> Option<()> {
        self.rest = self.skip_space().strip_prefix(token)?;
        Some(())
    }

    fn array(&mut self, into: &mut Strings, depth: usize) -> Option<()> {
        self.eat("[")?;
        if self.eat("]").is_some() {
            return Some(());
        }
        loop {
            if self.skip_space().starts_with('"') {
                into.strings.push(self.string()?);
            } else {
                into.mixed = true;
                self.value(depth)?;
            }
            if self.eat(",").is_none() {
                return self.eat("]");
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.skip_space().as_bytes().first()? {
            b'"' => self.string().map(drop),
            b'[' => self.array(&mut Strings::default(), depth),
            b'{' => self.object(depth),
            b't' => self.eat("true"),
            b'f' => self.eat("false"),
            b'n' => self.eat("null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.members(depth, &mut |reader, _| reader.value(depth))
    }

    /// An object, each member's value read by `read`, which is told its name.
    fn members(
        &mut self,
        depth: usize,
        read: &mut dyn FnMut(&mut Self, &str) -> Option<()>,
    ) -> Option<()> {
        depth.checked_sub(1)?;
        self.eat("{")?;
        if self.eat("}").is_some() {
            return Some(());
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.eat(":")?;
            read(self, &name)?;
            if self.eat(",").is_none() {
                return self.eat("}");
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.rest = self.rest.strip_prefix('-').unwrap_or(self.rest);
        match self.digits()? {
            digits if digits.len() > 1 && digits.starts_with('0') => return None,
            _ => {}
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            self.digits()?;
        }
        if let Some(rest) = self.rest.strip_prefix(['e', 'E']) {
            self.rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let (digits, rest) = self.rest.split_at(self.rest.len() - rest.len());
        self.rest = rest;
        (!digits.is_empty()).then_some(digits)
    }

    fn string(&mut self) -> Option<String> {
        self.rest = self.rest.strip_prefix('"')?;
        let mut value = String::new();
        loop {
            let special = self.rest.find(|c: char| matches!(c, '"' | '\\' | '\0'..'\x20'))?;
            value.push_str(&self.rest[..special]);
            let mark = self.rest.as_bytes().get(special)?;
            self.rest = &self.rest[special + 1..];
            match mark {
                b'"' => return Some(value),
                b'\\' => value.push(self.escape()?),
                _ => return None,
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let kind = letters.next()?;
        self.rest = letters.as_str();
        Some(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode()?,
            _ => return None,
        })
    }

    /// Four hex digits; a surrogate without its other half becomes the replacement character.
    fn unicode(&mut self) -> Option<char> {
        let high = self.hex()?;
        if let Some(letter) = char::from_u32(high) {
            return Some(letter);
        }
        let before = self.rest;
        if let Some(rest) = self.rest.strip_prefix("\\u") {
            self.rest = rest;
            let low = self.hex()?;
            if (0xD800..0xDC00).contains(&high) && (0xDC00..0xE000).contains(&low) {
                return char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
            }
            self.rest = before;
        }
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.rest = &self.rest[4..];
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let expected = expected.iter().map(|&string| string.to_owned()).collect();
        assert_eq!(read_array(text), Array::Strings(expected), "{text}");
    }

    #[test]
    fn arrays_of_strings() {
        check("[]", &[]);
        check(r#" [ "a" , "b c" ] "#, &["a", "b c"]);
        check(r#"["\"\\\/\b\f\n\r\t"]"#, &["\"\\/\x08\x0c\n\r\t"]);
        check(
            r#"["\u00e9\ud83d\ude00","\ud83d","\ud83d\u0041"]"#,
            &["\u{e9}\u{1F600}", "\u{FFFD}", "\u{FFFD}A"],
        );
    }

    #[test]
    fn other_values_are_told_from_errors() {
        for text in ["[1]", r#"["a", null]"#, r#"[{"a": [1.5e-3, true]}]"#, "[[]]", "[-0]"] {
            assert_eq!(read_array(text), Array::Mixed, "{text}");
        }
        let invalid = [
            "",
            "a",
            "{}",
            "[",
            "[]x",
            "['a']",
            r#"["a",]"#,
            r#"["a" "b"]"#,
            r#"["\x"]"#,
            "[01]",
            "[\"\t\"]",
            r#"["a"] # b"#,
            "[ -f x ] && y",
        ];
        for text in invalid {
            assert_eq!(read_array(text), Array::Invalid, "{text}");
        }
        assert_eq!(read_array(&"[".repeat(100_000)), Array::Invalid);
    }
}
