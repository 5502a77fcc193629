//! `strata check --fix`: what is mended means what it meant, and nothing else changes.

mod meaning;

use std::collections::BTreeMap;

use meaning::{dockerfiles, meaning};
use proptest::prelude::*;
use strata_dockerfile::{CheckRequest, check, fixed, parse};

/// Mends a file until there is nothing left to mend.
fn fix(source: &[u8]) -> Vec<u8> {
    let arguments = BTreeMap::new();
    let mut source = source.to_vec();
    for _ in 0..8 {
        let report = check(&parse(&source), &CheckRequest::new(&arguments));
        let (mended, count) = fixed(&source, &report.findings);
        if count == 0 {
            return source;
        }
        source = mended;
    }
    source
}

fn keeps_its_meaning(source: &[u8]) -> Result<(), TestCaseError> {
    let before = parse(source);
    let mended = fix(source);
    let after = parse(&mended);
    let shown = String::from_utf8_lossy(&mended).into_owned();
    prop_assert_eq!(before.has_errors(), after.has_errors(), "{:?}", &shown);
    if !before.has_errors() {
        prop_assert_eq!(meaning(&before.tree), meaning(&after.tree), "{:?}", &shown);
    }
    prop_assert_eq!(fix(&mended), mended, "there was more to mend");
    Ok(())
}

#[test]
fn each_fix_changes_its_place_and_nothing_else() {
    let check = |source: &str, expected: &str| {
        let mended = fix(source.as_bytes());
        assert_eq!(String::from_utf8_lossy(&mended), expected, "{source}");
    };
    let same = |source: &str| check(source, source);
    // StageNameCasing
    check("FROM  a  AS  Base \nRUN x\n", "FROM  a  AS  base \nRUN x\n");
    // FromAsCasing
    check("FROM a \\\n # c\n as b\r\n", "FROM a \\\n # c\n AS b\r\n");
    check("from a AS b\n", "from a as b\n");
    // ConsistentInstructionCasing
    check("FROM a\n\trun  X y\nRUN z\n", "FROM a\n\tRUN  X y\nRUN z\n");
    // NoEmptyContinuation
    check("FROM a\nRUN x \\\n\n \t\n  # c\n\n  y\n\n", "FROM a\nRUN x \\\n  # c\n  y\n\n");
    // LegacyKeyValueFormat
    check("FROM a\nENV A b\n", "FROM a\nENV A=b\n");
    check("FROM a\nENV A   b  c$D\n", "FROM a\nENV A=\"b  c$D\"\n");
    check("FROM a\nLABEL a.b \"c d\"\n", "FROM a\nLABEL a.b=\"c d\"\n");
    same("FROM a\nENV A b\\ c\n");
    same("FROM a\nENV $A\u{a0}c d\n");
    same("FROM a\nENV A b \"c\"\n");
    same("FROM a\nENV A b \\\n c\n");
    // ExposeProtoCasing
    check("FROM a\nEXPOSE 80/TCP  81\n", "FROM a\nEXPOSE 80/tcp  81\n");
    same("FROM a\nENV P=80/TCP\nEXPOSE $P\n");
    // RedundantTargetPlatform
    check("FROM --platform=$TARGETPLATFORM   a\n", "FROM a\n");
    same("FROM --platform=\"$TARGETPLATFORM\" a\n");
    // What only a person can tell, and what is skipped.
    same("FROM a\nMAINTAINER me\nCMD x y\nWORKDIR w\n");
    same("# check=skip=all\nFROM a as B\nenv A b\n");
    same("FROM a\n# check=skip=LegacyKeyValueFormat\nENV A b\n");
}

#[test]
fn real_files_keep_their_meaning() {
    for file in dockerfiles() {
        let source = std::fs::read(&file).expect("a file");
        keeps_its_meaning(&source).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

const PIECES: [&str; 34] = [
    "from a as B\n",
    "FROM scratch\n",
    "FROM --platform=$TARGETPLATFORM a\n",
    "FROM --platform=$TARGETPLATFORM \\\n a\n",
    "# escape=`\n",
    "run x\n",
    "RUN x \\\n\n\n y\n",
    "env A ",
    "LABEL k.l ",
    "ENV ",
    "copy a b\n",
    "EXPOSE 80/TCP 81/Udp\n",
    "expose ",
    "\n",
    "\n",
    "\\\n",
    "`\n",
    " ",
    "\t",
    "\"",
    "'",
    "$A",
    "${A:-b c}",
    "\\",
    "`",
    "=",
    "b",
    "c d",
    "#",
    "<<E\n",
    "E\n",
    "\u{a0}",
    "\u{e9}",
    "\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_file_keeps_its_meaning(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..20)
    ) {
        keeps_its_meaning(pieces.concat().as_bytes())?;
        keeps_its_meaning(format!("FROM a\n{}", pieces.concat()).as_bytes())?;
    }
}
