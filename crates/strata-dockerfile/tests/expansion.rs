//! Expansion of variables, case by case.

use strata_dockerfile::{ExpandError, Expander, GROWTH_MAX, Quotes};

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "PWD" => "/home",
        "SHELL" => "bash",
        "KOREAN" => "\u{d55c}\u{ad6d}\u{c5b4}",
        "NULL" => "",
        "FOO" => "xxyy",
        "FILE" => "a.tar.gz",
        "PATHS" => "/usr/bin:/bin",
        "SPACED" => "a  b",
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn words() {
    let cases = [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he\\'llo", "he'llo"),
        ("\\\\", "\\"),
        ("abc\\tdef", "abctdef"),
        ("'abc\\tdef'", "abc\\tdef"),
        ("\"abc\\tdef\"", "abc\\tdef"),
        ("\"abc\\\"def\\$\\\\\"", "abc\"def$\\"),
        ("hello\\", "hello"),
        ("\"\"", ""),
        ("$", "$"),
        ("$ x", "$ x"),
        ("$PWD", "/home"),
        ("'$PWD'", "$PWD"),
        ("\"$PWD\"", "/home"),
        ("\"'$PWD'\"", "'/home'"),
        ("\\$PWD", "$PWD"),
        ("$PWD.x", "/home.x"),
        ("$PWDx", ""),
        ("${PWD}x", "/homex"),
        ("$KOREAN", "\u{d55c}\u{ad6d}\u{c5b4}"),
        ("\u{c548}${KOREAN}", "\u{c548}\u{d55c}\u{ad6d}\u{c5b4}"),
        ("$1x$99", "x"),
        ("$@$*$?$$$!$#$-", ""),
        ("${NONE:-word}", "word"),
        ("${NULL:-word}", "word"),
        ("${NULL-word}", ""),
        ("${NONE-word}", "word"),
        ("${PWD:-word}", "/home"),
        ("${NONE:+word}", ""),
        ("${NULL:+word}", ""),
        ("${NULL+word}", "word"),
        ("${PWD:+word}", "word"),
        ("${PWD:?no}", "/home"),
        ("${NULL?no}", ""),
        ("${NONE:-${PWD}}", "/home"),
        ("${NONE:-${NONE:-$SHELL}}", "bash"),
        ("${NONE:-'a b'}", "a b"),
        ("${NONE:-\\}}", "}"),
        ("${NONE:-a\\$b}", "a$b"),
        ("\"${NONE:-a b}\"", "a b"),
        ("${FOO#*x}", "xyy"),
        ("${FOO##*x}", "yy"),
        ("${FOO#z}", "xxyy"),
        ("${FOO#}", "xxyy"),
        ("${FOO##}", "xxyy"),
        ("${FILE%.*}", "a.tar"),
        ("${FILE%%.*}", "a"),
        ("${FILE%%$NULL}", "a.tar.gz"),
        ("${FOO/x/z}", "zxyy"),
        ("${FOO//x/z}", "zzyy"),
        ("${FOO/?/}", "xyy"),
        ("${FOO///}", "xxyy"),
        ("${FOO/$NULL/w}", "wxxyy"),
        ("${PATHS//\\//_}", "_usr_bin:_bin"),
        ("${PATHS/bin*/x}", "/usr/x"),
        ("${NONE/x/y}", ""),
        ("a${NONE}b", "ab"),
    ];
    let expander = Expander::new('\\');
    for (raw, expected) in cases {
        assert_eq!(expander.word(raw, &lookup).as_deref(), Ok(expected), "{raw}");
    }
}

#[test]
fn errors() {
    let cases = [
        ("'a", ExpandError::Unclosed('\'')),
        ("\"a", ExpandError::Unclosed('"')),
        ("\"a\\", ExpandError::Unclosed('"')),
        ("${PWD", ExpandError::Unclosed('}')),
        ("${", ExpandError::Unclosed('}')),
        ("${PWD:", ExpandError::Unclosed('}')),
        ("${PWD:-a", ExpandError::Unclosed('}')),
        ("${PWD:-'a}", ExpandError::Unclosed('}')),
        ("${FOO//ww}", ExpandError::Unclosed('/')),
        ("${FOO/a/b", ExpandError::Unclosed('}')),
        ("${}", ExpandError::BadSubstitution),
        ("${{PWD}}", ExpandError::BadSubstitution),
        ("${:-a}", ExpandError::BadSubstitution),
        ("${PWD=a}", ExpandError::UnknownModifier("=".to_owned())),
        ("${PWD:=a}", ExpandError::UnknownModifier(":=".to_owned())),
        ("${PWD:#a}", ExpandError::UnknownModifier(":#".to_owned())),
        ("${PWD^}", ExpandError::UnknownModifier("^".to_owned())),
        ("${PWD#\\x}", ExpandError::BadPattern("\\x".to_owned())),
    ];
    let expander = Expander::new('\\');
    for (raw, expected) in cases {
        assert_eq!(expander.word(raw, &lookup), Err(expected), "{raw}");
    }
    let deep = "${a:-".repeat(100_000);
    assert_eq!(expander.word(&deep, &lookup), Err(ExpandError::TooDeep));
}

#[test]
fn required_variables() {
    let message = |raw| match Expander::new('\\').word(raw, &lookup) {
        Err(error) => error.to_string(),
        Ok(word) => word,
    };
    assert_eq!(message("${NONE:?set it in $SHELL}"), "`NONE`: set it in bash");
    assert_eq!(message("${NONE?}"), "`NONE`: is not allowed to be unset");
    assert_eq!(message("${NULL:?}"), "`NULL`: is not allowed to be empty");
}

#[test]
fn splitting() {
    let cases: [(&str, &[&str]); 12] = [
        ("hello", &["hello"]),
        ("hello world", &["hello", "world"]),
        (" hello  'a b' ", &["hello", "a b"]),
        ("a\\ b", &["a b"]),
        ("\"$SPACED\"", &["a  b"]),
        ("$SPACED", &["a", "b"]),
        ("x$SPACED.y", &["xa", "b.y"]),
        ("$NULL", &[]),
        ("'' a", &["a"]),
        ("'a'b", &["ab"]),
        ("80/tcp $NONE", &["80/tcp"]),
        ("a <<  b", &["a", "<<  b"]),
    ];
    let expander = Expander::new('\\');
    for (raw, expected) in cases {
        let words = expander.words(raw, &lookup).expect("sound");
        assert_eq!(words, expected, "{raw}");
    }
}

#[test]
fn the_escape_character_can_be_another() {
    let expander = Expander::new('`');
    let word = |raw| expander.word(raw, &lookup).expect("sound");
    assert_eq!(word("c:\\dir\\"), "c:\\dir\\");
    assert_eq!(word("`$PWD\\$SHELL"), "$PWD\\bash");
    assert_eq!(word("\"a`\"b\""), "a\"b");
}

#[test]
fn modes() {
    let heredoc = Expander::heredoc();
    assert_eq!(heredoc.word("'$PWD' \\$PWD \"", &lookup).as_deref(), Ok("'/home' $PWD \""));
    let display = Expander::display('\\');
    let shown = "'$PWD' \"/home\" $NONE ${NONE:-x} ${NONE/a/b}";
    let raw = "'$PWD' \"$PWD\" $NONE ${NONE:-x} ${NONE/a/b}";
    assert_eq!(display.word(raw, &lookup).as_deref(), Ok(shown));
    let raw = Expander { quotes: Quotes::Keep, keep_escapes: true, ..Expander::new('\\') };
    assert_eq!(raw.word("a\\ b '\\'", &lookup).as_deref(), Ok("a\\ b '\\'"));
}

#[test]
fn which_variables_it_took() {
    let expansion = Expander::new('\\')
        .expand("${FOO:-$SHELL} $NONE ${GONE:-x} '$QUOTED' \\$ESCAPED", &lookup)
        .expect("sound");
    assert_eq!(expansion.text, "xxyy  x $QUOTED $ESCAPED");
    assert_eq!(Vec::from_iter(expansion.used), ["FOO", "SHELL"]);
    assert_eq!(Vec::from_iter(expansion.unset), ["GONE", "NONE"]);
}

#[test]
fn values_do_not_grow_without_end() {
    let long = "a".repeat(GROWTH_MAX / 2);
    let lookup = |name: &str| match name {
        "LONG" => Some(long.clone()),
        "TEN" => Some("0123456789".to_owned()),
        _ => None,
    };
    let expander = Expander::new('\\');
    let word = |raw: &str| expander.word(raw, &lookup).map(|text| text.len());
    assert_eq!(word("$LONG${LONG}"), Ok(GROWTH_MAX));
    for raw in ["$LONG$LONG$TEN", "${LONG:-x}\"$LONG\"${TEN#0}", "$LONG${LONG/a/$TEN}"] {
        assert_eq!(word(raw), Err(ExpandError::TooLong), "{raw}");
    }
    // 10, 100, 1000 and so on: ten times as long with each level.
    let nested = |levels| "${TEN//?/".repeat(levels) + "ab" + &"}".repeat(levels);
    assert_eq!(word(&nested(4)), Ok(20_000));
    for levels in [6, 64] {
        assert_eq!(word(&nested(levels)), Err(ExpandError::TooLong));
    }
    // What is written counts for nothing, however long and deep.
    let written = "${NONE:-".repeat(40) + &"x".repeat(2 * GROWTH_MAX) + &"}".repeat(40);
    assert_eq!(word(&written), Ok(2 * GROWTH_MAX));
}
