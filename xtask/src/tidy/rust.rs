//! The rules for one Rust file. They read tokens, not text, so that a brace in a string or a word
//! in a comment counts for nothing.

use std::str::FromStr;

use proc_macro2::{Delimiter, Group, LineColumn, Span, TokenStream, TokenTree};

use super::Finding;

const LONGEST_LINE: usize = 100;
const LONGEST_FUNCTION: usize = 70;
const LONGEST_FILE: usize = 800;
/// The one crate that may say `unsafe`.
const UNSAFE_CRATE: &str = "crates/strata-exec/";
/// Words that end a type's name without saying anything.
const EMPTY_WORDS: [&str; 8] =
    ["Manager", "Helper", "Util", "Utils", "Impl", "Data", "Info", "Handler"];

/// Checks one file; `formats` is the text of all pages on formats.
pub(super) fn check(path: &str, text: &str, formats: &str) -> Vec<Finding> {
    let mut file = File { path, formats, findings: Vec::new() };
    file.lines(text);
    match TokenStream::from_str(text) {
        Ok(tokens) => file.walk(tokens, is_test_file(path)),
        Err(error) => file.find(error.span(), "these are not Rust's tokens"),
    }
    file.findings
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("_tests.rs") || path.ends_with("/tests.rs")
}

struct File<'a> {
    path: &'a str,
    formats: &'a str,
    findings: Vec<Finding>,
}

impl File<'_> {
    fn find(&mut self, at: Span, message: impl Into<String>) {
        self.findings.push(Finding::new(self.path, at.start().line, message));
    }

    fn lines(&mut self, text: &str) {
        if !text.starts_with("//!") {
            let message = "a file opens with `//!`: what it is for, what it does not do";
            self.findings.push(Finding::new(self.path, 1, message));
        }
        let count = text.lines().count();
        if count > LONGEST_FILE {
            let message = format!("{count} lines, more than {LONGEST_FILE}");
            self.findings.push(Finding::new(self.path, count, message));
        }
        for (line, content) in (1..).zip(text.lines()) {
            let width = content.chars().count();
            // An address can not be broken.
            if width > LONGEST_LINE && !content.contains("://") {
                let message = format!("{width} characters, more than {LONGEST_LINE}");
                self.findings.push(Finding::new(self.path, line, message));
            }
        }
    }

    /// Looks at one group's tokens; `test` says whether they are only compiled for tests.
    fn walk(&mut self, tokens: TokenStream, test: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut item_is_test = test;
        let mut function: Option<LineColumn> = None;
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).map(|at| &tokens[at]);
            let after = tokens.get(at + 1);
            match token {
                TokenTree::Group(group) => {
                    item_is_test |= before.is_some_and(|token| is(token, "#")) && marks_test(group);
                    if group.delimiter() == Delimiter::Brace
                        && let Some(start) = function.take()
                    {
                        self.function(start, group);
                    }
                    self.walk(group.stream(), item_is_test);
                    if group.delimiter() == Delimiter::Brace {
                        item_is_test = test;
                    }
                }
                TokenTree::Ident(_) if is(token, "fn") => {
                    // Not the type `fn(…)`.
                    let named = matches!(after, Some(TokenTree::Ident(_)));
                    function = named.then(|| token.span().start());
                }
                TokenTree::Ident(_) => self.word(token, before, after, item_is_test),
                TokenTree::Punct(_) if is(token, ";") => {
                    (item_is_test, function) = (test, None);
                }
                TokenTree::Literal(literal) if !item_is_test => {
                    self.format_name(&literal.to_string(), literal.span());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    fn function(&mut self, start: LineColumn, body: &Group) {
        let lines = body.span_close().end().line - start.line + 1;
        if lines > LONGEST_FUNCTION {
            let message = format!("a function of {lines} lines, more than {LONGEST_FUNCTION}");
            self.findings.push(Finding::new(self.path, start.line, message));
        }
    }

    fn word(
        &mut self,
        token: &TokenTree,
        before: Option<&TokenTree>,
        after: Option<&TokenTree>,
        test: bool,
    ) {
        let method = before.is_some_and(|token| is(token, "."));
        if is(token, "unwrap") && method && !test && after.is_some_and(is_empty_call) {
            self.find(token.span(), "`unwrap()`: say `expect(\"why it holds\")` or handle it");
        }
        if is(token, "unsafe") && !self.path.starts_with(UNSAFE_CRATE) {
            self.find(token.span(), "`unsafe` belongs to strata-exec only");
        }
        let defines = |word| before.is_some_and(|token| is(token, word));
        // `type Data = …;` is a trait's word when it is another crate's trait.
        let is_foreign = defines("type") && token.to_string() == "Data";
        if ["struct", "enum", "trait", "type", "union"].into_iter().any(defines) && !is_foreign {
            let name = token.to_string();
            if let Some(word) = EMPTY_WORDS.into_iter().find(|word| name.ends_with(word)) {
                self.find(token.span(), format!("`{name}`: `{word}` says nothing"));
            }
        }
    }

    fn format_name(&mut self, literal: &str, at: Span) {
        let Some(name) = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return;
        };
        if is_format_name(name) && !self.formats.contains(name) {
            self.find(at, format!("the format `{name}` is not in docs/formats"));
        }
    }
}

/// `strata.tree.1` and its like.
fn is_format_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    let [first, middle @ .., version] = &parts[..] else { return false };
    let is_word =
        |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    *first == "strata"
        && !middle.is_empty()
        && middle.iter().all(is_word)
        && version.parse::<u32>().is_ok()
}

fn is(token: &TokenTree, text: &str) -> bool {
    match token {
        TokenTree::Ident(ident) => *ident == text,
        TokenTree::Punct(punct) => text.len() == 1 && text.starts_with(punct.as_char()),
        TokenTree::Group(_) | TokenTree::Literal(_) => false,
    }
}

fn is_empty_call(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group)
        if group.delimiter() == Delimiter::Parenthesis && group.stream().is_empty())
}

/// Whether the brackets of an attribute hold `test` or `cfg(test)`.
fn marks_test(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text == "test" || text == "cfg(test)" || text.starts_with("cfg(all(test")
}

#[cfg(test)]
mod tests {
    fn check(path: &str, text: &str, expected: &[&str]) {
        let findings = super::check(path, text, "strata.known.1");
        let lines: Vec<String> =
            findings.iter().map(|one| format!("{}: {}", one.line, one.message)).collect();
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        check("crates/a/src/a.rs", "//! A.\nfn a() {}\n", &[]);
        let message = "1: a file opens with `//!`: what it is for, what it does not do";
        check("crates/a/src/a.rs", "// A.\n", &[message]);
    }

    #[test]
    fn lines_functions_and_files_have_limits() {
        let long = "x".repeat(90);
        check(
            "a.rs",
            &format!("//! A.\n// 12345678{long}\n"),
            &["2: 101 characters, more than 100"],
        );
        check("a.rs", &format!("//! A.\n// http://56789{long}\n"), &[]);
        let function = |lines: usize| format!("//! A.\nfn a() {{{}}}\n", "\n".repeat(lines - 1));
        check("a.rs", &function(70), &[]);
        check("a.rs", &function(71), &["2: a function of 71 lines, more than 70"]);
        let nested = format!("//! A.\nimpl A {{\n{}\n}}", &function(80)[7..]);
        check("a.rs", &nested, &["3: a function of 80 lines, more than 70"]);
        let declared = format!("//! A.\nfn a();\nmod b {{{}}}", "\n".repeat(90));
        check("a.rs", &declared, &[]);
        check("a.rs", &format!("//! A.\n{}", "\n".repeat(800)), &["801: 801 lines, more than 800"]);
    }

    #[test]
    fn unwrap_is_for_tests() {
        let code = "//! A.\nfn a() {\n    x(b.unwrap());\n}\n";
        let message = "3: `unwrap()`: say `expect(\"why it holds\")` or handle it";
        check("crates/a/src/a.rs", code, &[message]);
        check("crates/a/tests/a.rs", code, &[]);
        check("a.rs", "//! A.\n#[test]\nfn a() { b.unwrap(); }\nfn c() {}\n", &[]);
        let after =
            "//! A.\n#[cfg(test)]\nmod t { fn a() { b.unwrap(); } }\nfn c() { d.unwrap() }\n";
        check("a.rs", after, &["4: `unwrap()`: say `expect(\"why it holds\")` or handle it"]);
        check("a.rs", "//! A.\n// a.unwrap()\nfn a() { \".unwrap()\"; b.unwrap_or(1); }\n", &[]);
    }

    #[test]
    fn unsafe_has_one_home() {
        let code = "//! A.\nfn a() { unsafe { b() } }\n";
        check("crates/strata-exec/src/a.rs", code, &[]);
        check("crates/a/src/a.rs", code, &["2: `unsafe` belongs to strata-exec only"]);
    }

    #[test]
    fn names_say_something() {
        check(
            "a.rs",
            "//! A.\nstruct BuildManager;\n",
            &["2: `BuildManager`: `Manager` says nothing"],
        );
        check("a.rs", "//! A.\nstruct Metadata;\nfn x(data: Data) {}\n", &[]);
    }

    #[test]
    fn formats_are_written_down() {
        check("a.rs", "//! A.\nconst A: &str = \"strata.known.1\";\n", &[]);
        let message = "2: the format `strata.new.2` is not in docs/formats";
        check("a.rs", "//! A.\nconst A: &str = \"strata.new.2\";\n", &[message]);
    }
}
