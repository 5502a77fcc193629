//! Takes secrets out of a command's output before anybody sees it or a log keeps it.
//!
//! It finds values as they are, wherever the pieces of the output begin and end; it can not know
//! one that the command has encoded in another way.

use std::collections::BTreeSet;

use strata_exec::Stream;

/// What is shown in a secret's place.
const MARK: &[u8] = b"***";

/// A line of a secret of several lines is looked for by itself from this length on: a key that is
/// printed with line numbers is still a key, a lone `}` is not.
const LINE_BYTES_MIN: usize = 8;

/// Looks for secrets in the two streams of one command.
pub(crate) struct Redactor<'a> {
    /// Longest first: of two that begin at the same place, the longer one is meant.
    values: Vec<&'a [u8]>,
    /// The end of each stream that may be the beginning of a secret.
    held: [Vec<u8>; 2],
}

impl<'a> Redactor<'a> {
    /// Looks for these values; white space at their ends is the file's, not the secret's.
    pub(crate) fn new(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut all = BTreeSet::new();
        for value in values {
            let value = value.trim_ascii();
            all.insert(value);
            if value.contains(&b'\n') {
                let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
                all.extend(lines.filter(|line| line.len() >= LINE_BYTES_MIN));
            }
        }
        let mut values: Vec<&[u8]> = all.into_iter().filter(|value| !value.is_empty()).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values, held: [Vec::new(), Vec::new()] }
    }

    /// Takes output and gives what of it can be shown by now.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        if self.values.is_empty() {
            return bytes.to_vec();
        }
        let mut text = std::mem::take(&mut self.held[stream as usize]);
        text.extend_from_slice(bytes);
        let mut shown = Vec::with_capacity(text.len());
        let mut rest = &text[..];
        while !rest.is_empty() {
            // A longer one that has begun may still come: then the shorter one is not meant.
            if self.values.iter().any(|value| value.len() > rest.len() && value.starts_with(rest)) {
                break;
            }
            match self.values.iter().find(|value| rest.starts_with(value)) {
                Some(value) => {
                    shown.extend_from_slice(MARK);
                    rest = &rest[value.len()..];
                }
                None => {
                    shown.push(rest[0]);
                    rest = &rest[1..];
                }
            }
        }
        self.held[stream as usize] = rest.to_vec();
        shown
    }

    /// What is left of a stream that has ended. Where output was cut, it may be a piece of a
    /// secret, and nobody gets it.
    pub(crate) fn finish(&mut self, stream: Stream, is_cut: bool) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.held[stream as usize]);
        if is_cut {
            return Vec::new();
        }
        let mut shown = Vec::new();
        while let Some(first) = rest.first().copied() {
            let found = self.values.iter().find(|value| rest.starts_with(value));
            let length = found.map_or(1, |value| value.len());
            shown.extend_from_slice(if found.is_some() {
                MARK
            } else {
                std::slice::from_ref(&first)
            });
            drop(rest.drain(..length));
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(values: &[&str], pieces: &[&str]) -> String {
        let mut redactor = Redactor::new(values.iter().map(|value| value.as_bytes()));
        let mut shown = Vec::new();
        for piece in pieces {
            shown.extend(redactor.push(Stream::Out, piece.as_bytes()));
        }
        shown.extend(redactor.finish(Stream::Out, false));
        String::from_utf8(shown).expect("UTF-8")
    }

    #[test]
    fn values_are_found_wherever_the_pieces_end() {
        let text = "a hunter2 b hunter hunter2hunter2 hunt";
        for at in 0..=text.len() {
            for next in at..=text.len() {
                let pieces = [&text[..at], &text[at..next], &text[next..]];
                assert_eq!(redacted(&["hunter2\n"], &pieces), "a *** b hunter ****** hunt");
            }
        }
        let single: Vec<String> = text.chars().map(String::from).collect();
        let single: Vec<&str> = single.iter().map(String::as_str).collect();
        assert_eq!(redacted(&["hunter2"], &single), "a *** b hunter ****** hunt");
    }

    #[test]
    fn of_two_the_longer_one_is_meant() {
        assert_eq!(redacted(&["abc", "abcdef"], &["abcd", "ef abcde abc"]), "*** ***de ***");
        assert_eq!(redacted(&["aab"], &["aaab aab"]), "a*** ***");
    }

    #[test]
    fn lines_of_a_key_are_found_by_themselves() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY-----\n";
        let shown = redacted(&[key], &["1: -----BEGIN KEY-----\n2: MIIEvQIBADANBg\n}\n"]);
        assert_eq!(shown, "1: ***\n2: ***\n}\n");
        assert_eq!(redacted(&[key], &["x", key]), "x***\n");
    }

    #[test]
    fn nothing_changes_without_secrets() {
        assert_eq!(redacted(&[], &["any", "thing"]), "anything");
        assert_eq!(redacted(&["", "\n"], &["any\n"]), "any\n");
    }

    #[test]
    fn a_piece_of_a_secret_at_a_cut_is_not_shown() {
        let mut redactor = Redactor::new([&b"hunter2"[..]].into_iter());
        assert_eq!(redactor.push(Stream::Err, b"is hunt"), b"is ");
        assert_eq!(redactor.finish(Stream::Err, true), b"");
        assert_eq!(redactor.push(Stream::Err, b"er2"), b"er2");
    }
}
