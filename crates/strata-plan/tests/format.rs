//! Formatting a Dockerfile changes neither what it builds nor, the second time, the file.

mod meaning;

use std::collections::BTreeSet;

use meaning::{dockerfiles, meaning};
use proptest::prelude::*;
use strata_dockerfile::{SyntaxTree, format, parse};

fn check(source: &[u8]) -> Result<(), TestCaseError> {
    let before = parse(source);
    let formatted = format(&before.tree);
    let after = parse(&formatted);
    let shown = String::from_utf8_lossy(&formatted).into_owned();
    prop_assert_eq!(format(&after.tree), formatted, "not the same again: {:?}", shown);
    let codes = |parse: &strata_dockerfile::Parse| -> BTreeSet<&'static str> {
        let codes = parse.diagnostics.iter().map(|each| each.code);
        codes.filter(|code| *code != "NoEmptyContinuation").collect()
    };
    prop_assert_eq!(codes(&before), codes(&after), "{:?}", shown);
    let directives = |tree: &SyntaxTree| -> Vec<_> {
        tree.directives().iter().map(|each| (each.name, each.value.clone())).collect()
    };
    prop_assert_eq!(directives(&before.tree), directives(&after.tree), "{:?}", shown);
    if !before.has_errors() {
        prop_assert_eq!(meaning(&before.tree), meaning(&after.tree), "{:?}", shown);
    }
    Ok(())
}

const PIECES: [&str; 45] = [
    "from a as b",
    "FROM scratch",
    "FROM a AS c",
    "run",
    "RUN x",
    "copy a b",
    "ADD",
    "env",
    "LABEL",
    "arg",
    "onbuild",
    "HEALTHCHECK",
    "shell",
    "cmd",
    "User",
    "workdir",
    "--mount=type=cache,target=/c",
    "--from=a",
    "<<EOF",
    "<<-'EOF'",
    "EOF",
    "\n",
    "\n",
    "\n\n\n",
    "\r\n",
    "\r",
    " ",
    "\t",
    "\\\n",
    "\\ \t\n",
    "`\n",
    "\\",
    "# comment  \n",
    "  # indented\n",
    "# escape=`\n",
    "#escape = `  \n",
    "# syntax = docker/dockerfile:1\n",
    " # check=skip=all\n",
    "#!/usr/bin/env x\n",
    "[\"a\", \"b\"]",
    "\"",
    "a=b",
    "\u{feff}",
    "\u{a0}",
    "\x0c",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_file_keeps_its_meaning(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..25)
    ) {
        check(pieces.concat().as_bytes())?;
    }

    #[test]
    fn any_bytes_keep_their_meaning(source in prop::collection::vec(any::<u8>(), 0..60)) {
        check(&source)?;
    }
}

#[test]
fn real_files_keep_their_meaning() {
    for file in dockerfiles() {
        let source = std::fs::read(&file).expect("a file");
        check(&source).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

#[test]
fn what_changes_and_what_does_not() {
    let check = |source: &str, expected: &str| {
        let formatted = format(&parse(source.as_bytes()).tree);
        assert_eq!(String::from_utf8_lossy(&formatted), expected, "{source}");
    };
    check("from a as b", "FROM a AS b\n");
    check("\n\nFROM a\n\n\n\nRUN x\n\n", "FROM a\n\nRUN x\n");
    check("#syntax = docker/dockerfile:1  \nFROM a", "# syntax=docker/dockerfile:1\nFROM a\n");
    check("  FROM a\n\trun   x  y  \n", "FROM a\nRUN x  y\n");
    check("FROM a\nRUN x \\  \n\n  # c  \n  && y\n", "FROM a\nRUN x \\\n  # c\n  && y\n");
    check("FROM a\n   # c\nRUN x\n", "FROM a\n# c\nRUN x\n");
    check("FROM a\nrun <<E  \n  x  \n\n\nE\n", "FROM a\nRUN <<E\n  x  \n\n\nE\n");
    check("FROM a\r\n\r\n\r\nrun x\r\n", "FROM a\r\n\r\nRUN x\r\n");
    check("FROM a\nRUN x \\\r \n", "FROM a\nRUN x \\\r \n");
    check("FROM a\nx\r", "FROM a\nx\r\n");
    check("FROM \\\n  a as \\\n  as\n", "FROM \\\n  a AS \\\n  as\n");
    check("FROM a\nONBUILD run  x\n", "FROM a\nONBUILD run  x\n");
    // A comment must not become a directive, nor a directive a comment.
    check("\n# escape=`\nFROM a\n", "\n# escape=`\nFROM a\n");
    check("# c\n\n\n# escape=`\nFROM a\n", "# c\n\n# escape=`\nFROM a\n");
}
