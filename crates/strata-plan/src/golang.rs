//! How Go prints values: the history of an image that BuildKit builds is full of it.

use std::time::Duration;

/// `%q` of a string.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            other if is_printed(other) => quoted.push(other),
            other => quoted.push_str(&match u32::from(other) {
                ascii @ 0..0x80 => format!("\\x{ascii:02x}"),
                short @ 0x80..0x1_0000 => format!("\\u{short:04x}"),
                long => format!("\\U{long:08x}"),
            }),
        }
    }
    quoted.push('"');
    quoted
}

/// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the blank. Rust
/// escapes the same characters, and accents that have nothing to stand on.
fn is_printed(character: char) -> bool {
    if character == '\'' {
        return true;
    }
    let mut text = String::from("a");
    text.push(character);
    text.escape_debug().eq(text.chars())
}

/// `%q` of an integer: the character with that number, in single quotes.
pub(crate) fn quote_rune(number: u32) -> String {
    match char::from_u32(number) {
        Some('\'') => "'\\''".to_owned(),
        Some('"') => "'\"'".to_owned(),
        Some(character) => {
            let quoted = quote(&character.to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
        None => "'\u{fffd}'".to_owned(),
    }
}

/// `%q` of a list of strings.
pub(crate) fn quote_all(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `%v` of a `time.Duration`.
pub(crate) fn duration(value: Duration) -> String {
    let (seconds, nanos) = (value.as_secs(), value.subsec_nanos());
    if value.is_zero() {
        return "0s".to_owned();
    }
    if seconds == 0 {
        let (unit, name) = match nanos {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{name}", with_fraction(u64::from(nanos / unit), nanos % unit, unit));
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = with_fraction(seconds % 60, nanos, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

fn with_fraction(whole: u64, part: u32, unit: u32) -> String {
    if part == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{part:0digits$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go() {
        assert_eq!(quote_all(&["a\"b".to_owned(), "c\n".to_owned()]), r#"["a\"b" "c\n"]"#);
        let odd = "\u{200b}\u{ad}\u{e000}\u{2028}\u{a0}\u{378}\u{fdd0}\u{7f}\u{85}\u{e0001}";
        let quoted = r#""\u200b\u00ad\ue000\u2028\u00a0\u0378\ufdd0\x7f\u0085\U000e0001""#;
        assert_eq!(quote(odd), quoted);
        assert_eq!(quote("\u{301}\u{1f600}'é\u{fffd}"), "\"\u{301}\u{1f600}'é\u{fffd}\"");
        assert_eq!([quote_rune(2), quote_rune(10), quote_rune(65)], ["'\\x02'", "'\\n'", "'A'"]);
        let check = |millis, expected: &str| {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        };
        check(0, "0s");
        check(300_000, "5m0s");
        check(3_600_000, "1h0m0s");
        check(1_500, "1.5s");
        check(250, "250ms");
    }
}
