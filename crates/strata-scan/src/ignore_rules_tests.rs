//! Ignore rules against moby's documented cases, and the walk's way and pruning against a naive
//! twin of `MatchesUsingParentResults`.

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::new(text).expect("clean")
}

fn excludes(rules: &str, text: &str) -> bool {
    IgnoreRules::parse(rules.as_bytes()).expect("good rules").excludes(&path(text))
}

/// moby's `TestMatches`, with "or a parent matches" counted as a match.
const MOBY: &[(&str, &str, bool)] = &[
    ("**", "file", true),
    ("**/", "file", true),
    ("**", "dir/file", true),
    ("**/", "dir/file", true),
    ("**/**", "dir/file", true),
    ("dir/**", "dir/file", true),
    ("dir/**", "dir/dir2/file", true),
    ("**/dir", "dir", true),
    ("**/dir", "dir/file", true),
    ("**/dir2/*", "dir/dir2/file", true),
    ("**/dir2/**", "dir/dir2/dir3/file", true),
    ("**file", "file", true),
    ("**file", "dir/file", true),
    ("**/file", "dir/file", true),
    ("**file", "dir/dir/file", true),
    ("**/file", "dir/dir/file", true),
    ("**/file*", "dir/dir/file", true),
    ("**/file*", "dir/dir/file.txt", true),
    ("**/file*txt", "dir/dir/file.txt", true),
    ("**/file*.txt", "dir/dir/file.txt", true),
    ("**/file*.txt*", "dir/dir/file.txt", true),
    ("**/**/*.txt", "dir/dir/file.txt", true),
    ("**/**/*.txt2", "dir/dir/file.txt", false),
    ("**/*.txt", "file.txt", true),
    ("**/**/*.txt", "file.txt", true),
    ("a**/*.txt", "a/file.txt", true),
    ("a**/*.txt", "a/dir/file.txt", true),
    ("a**/*.txt", "a/dir/dir/file.txt", true),
    ("a/*.txt", "a/dir/file.txt", false),
    ("a/*.txt", "a/file.txt", true),
    ("a/*.txt**", "a/file.txt", true),
    ("a[b-d]e", "ae", false),
    ("a[b-d]e", "ace", true),
    ("a[b-d]e", "aae", false),
    ("a[^b-d]e", "aze", true),
    (".*", ".foo", true),
    (".*", "foo", false),
    ("abc.def", "abcdef", false),
    ("abc.def", "abc.def", true),
    ("abc.def", "abcZdef", false),
    ("abc?def", "abcZdef", true),
    ("abc?def", "abcdef", false),
    ("**/foo/bar", "foo/bar", true),
    ("**/foo/bar", "dir/foo/bar", true),
    ("**/foo/bar", "dir/dir2/foo/bar", true),
    ("abc/**", "abc", false),
    ("abc/**", "abc/def", true),
    ("abc/**", "abc/def/ghi", true),
    ("**/.foo", ".foo", true),
    ("**/.foo", "bar.foo", false),
    ("a(b)c/def", "a(b)c/def", true),
    ("a(b)c/def", "a(b)c/xyz", false),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
    ("dist/p.py-2.4.0rc3+g08-any.whl", "dist/p.py-2.4.0rc3+g08-any.whl", true),
    ("dist/*.whl", "dist/p.py-2.4.0rc3+g08-any.whl", true),
    ("a\\\\", "a\\", true),
    ("a\\*b", "a*b", true),
    ("a*", "ab/c", true),
    ("a*/b", "a/c/b", false),
    ("**\n!util/docker/web", "util/docker/web/foo", false),
    ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true),
    ("**\n!dist/*.whl", "dist/p.py-2.4.0rc3+g08-any.whl", false),
    ("*", "fileutils.go", true),
    ("*.go", "fileutils.go", true),
    ("!fileutils.go\n*.go", "fileutils.go", true),
    ("*.go\n!fileutils.go", "fileutils.go", false),
    ("docs\n!docs/README.md", "docs/README.md", false),
    ("docs/\n!docs/README.md", "docs/README.md", false),
    ("docs/*\n!docs/README.md", "docs/README.md", false),
    ("docs\n  !docs/README.md  ", "docs/README.md", false),
    ("", "any/path/there", false),
];

#[test]
fn agrees_with_moby() {
    for (rules, text, expected) in MOBY {
        assert_eq!(excludes(rules, text), *expected, "{rules:?} on {text}");
    }
}

/// What `MatchesOrParentMatches` answers otherwise: a `!` on a directory comes too early to bring
/// back what a pattern leaves out below, and a pattern passed over for a directory does not
/// return for what is below. The first was measured with docker 28.5.2.
#[test]
fn buildkit_passes_over_rules_for_directories() {
    let check = |rules: &str, text: &str, expected: bool| {
        assert_eq!(excludes(rules, text), expected, "{rules:?} on {text}");
    };
    check("a/b\n!a", "a/b", true);
    check("a/b\n!a", "a/b/c", true);
    check("a/b\n!a", "a/c", false);
    check("a/b\n!a/b", "a/b", false);
    check("**/b\n!a", "a/b", true);
    check("a/b\n!a/**", "a/b", false);
    check("*\n!a\na/b\n!a", "a/b", true);
    check("a\n!a/x\na", "a/x", false);
    check("a\n!a/x\na", "a/y", true);
    check("a\n!a/x\na/*", "a/x", true);
}

#[test]
fn differs_from_git() {
    let check = |rules: &str, text: &str, expected: bool| {
        assert_eq!(excludes(rules, text), expected, "{rules:?} on {text}");
    };
    check("foo", "a/foo", false);
    check("*.md\n!README.md", "d/x.md", false);
    check("*.md\n!README.md", "README.md", false);
    check("temp?", "x/tempa", false);
    check("temp?", "tempa", true);
    check("*/temp*", "somedir/temporary.txt", true);
    check("*/*/temp*", "somedir/subdir/temporary.txt", true);
    check("*/*/temp*", "somedir/temporary.txt", false);
    check("/foo/", "foo", true);
    check("*\n!src", "src/main.rs", false);
    check("*\n!src", "other/main.rs", true);
    check("**/*.go", "a/b/c.go", true);
    check("**file*", "dir/myfile.txt", false);
    check("**file", "dir/myfile", true);
    // The Dockerfile reference's: order matters.
    check("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true);
    check("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false);
}

#[test]
fn reads_lines_as_moby_does() {
    let check = |rules: &str, text: &str, expected: bool| {
        assert_eq!(excludes(rules, text), expected, "{rules:?} on {text}");
    };
    check("\u{feff}a", "a", true);
    check("a\r\nb\r\n", "b", true);
    check("# a\n", "# a", false);
    check(" # a", "# a", true);
    check("\\# a", "# a", true);
    check("\t a \u{a0}", "a", true);
    check("/a/./b//../c", "a/c", true);
    check("**\n! /inverted/abs/path", "inverted/abs/path", false);
    check("./a", "a", true);
    check("../a", "a", false);
    check(".", "a", false);
    check("/", "a", false);
    check("\\!a", "!a", true);
    check("*\n!!a", "!a", false);
    assert!(!IgnoreRules::parse(b"**").expect("good").excludes(&TreePath::ROOT));
}

/// However deep a path is, each rule goes over it once.
#[test]
fn a_deep_path_costs_each_rule_once() {
    let deep = path(&vec!["a"; 1000].join("/"));
    for (rule, tokens) in [("**/x", 2), ("**/a*/b", 4), ("*/*/x", 4), ("a/**/*a/b/**", 5)] {
        let rules = IgnoreRules::new(vec![rule; 50]).expect("good rules");
        pattern::WORK.set(0);
        assert!(!rules.excludes(&deep));
        let work = pattern::WORK.get();
        assert!(work <= 50 * tokens * (deep.as_bytes().len() + 1), "{work} for {rule}");
    }
}

#[test]
fn says_which_line_is_wrong() {
    for (rules, line) in [("a\n\n[", 3), ("!", 1), ("#\n! ", 2), ("a\\", 1), ("!/", 1)] {
        let error = IgnoreRules::parse(rules.as_bytes()).expect_err(rules);
        assert_eq!(error.line, line, "{rules}");
    }
    // moby checks such a range only when it first matches, and fails the build then.
    assert!(IgnoreRules::parse(b"[Local-Only]/").is_err());
}

#[test]
fn prunes_unless_an_exception_can_match_below() {
    let check = |rules: &str, directory: &str, expected: bool| {
        let rules = IgnoreRules::parse(rules.as_bytes()).expect("good");
        assert_eq!(rules.may_include_below(&path(directory)), expected, "{directory}");
    };
    check("node_modules", "node_modules", false);
    check("node_modules", "node_modules/x/y", false);
    check("node_modules", "src", true);
    check("*\n!src/a", "src", true);
    check("*\n!src/a", "srcs", false);
    check("*\n!src/a", "sr", false);
    check("*\n!src/a", "src/a", true);
    check("*\n!src/a", "src/b", false);
    check("*\n!*.md", "docs", false);
    check("*\n!**/*.md", "docs", true);
    check("!docs/a\n*", "docs", false);
    check("*\n!*/x*/y", "a", true);
    check("a/b\n!a", "a/b", false);
    check("a/b\n!a", "a", true);
    check("a\n!a/x\na", "a", true);
}

/// moby's `MatchesUsingParentResults`, line by line: whether the path is left out, and for each
/// pattern whether it matched.
fn matches_using_parent_results(
    rules: &IgnoreRules,
    file: &TreePath,
    parent_matched: &[bool],
) -> (bool, Vec<bool>) {
    let mut matched = false;
    let mut match_info = vec![false; rules.rules.len()];
    for (index, rule) in rules.rules.iter().enumerate() {
        let mut matches = parent_matched[index];
        if !matches {
            if rule.exception != matched {
                continue;
            }
            matches = pattern::matches(&rule.tokens, file.as_bytes());
        }
        match_info[index] = matches;
        if matches {
            matched = !rule.exception;
        }
    }
    (matched, match_info)
}

/// Compares all that is below a directory, four levels deep; whether any of it is kept.
fn check_below(
    rules: &IgnoreRules,
    directory: &TreePath,
    matched: &[bool],
    verdict: Verdict,
) -> bool {
    let mut kept = false;
    if directory.components().count() == 4 {
        return kept;
    }
    let below = rules.below(directory, verdict);
    for name in ["a", "b", "ab", "ba"] {
        let entry = directory.child(name.as_bytes()).expect("a name");
        let (expected, matched) = matches_using_parent_results(rules, &entry, matched);
        let verdict = below.verdict(name.as_bytes());
        assert_eq!(rules.excludes(&entry), expected, "{entry}");
        assert_eq!(rules.verdict(&entry), verdict, "{entry}");
        assert_eq!(verdict.0, matched.iter().rposition(|matched| *matched), "{entry}");
        let kept_below = check_below(rules, &entry, &matched, verdict);
        assert!(!kept_below || rules.may_include_below(&entry), "{entry} was pruned");
        assert!(rules.may_include_below(directory) || !rules.may_include_below(&entry), "{entry}");
        kept |= kept_below || !expected;
    }
    kept
}

proptest::proptest! {
    /// What the walk does, what is said of each path alone and what moby says are the same, and
    /// nothing that is kept lies below a pruned directory.
    #[test]
    fn the_walks_way_is_buildkits_way(
        rules in "(!?(/?[ab*?]{1,2}|\\*\\*)(/([ab*?]{1,2}|\\*\\*)){0,2}\n){0,6}",
    ) {
        let rules = IgnoreRules::parse(rules.as_bytes()).expect("good");
        let matched = vec![false; rules.rules.len()];
        check_below(&rules, &TreePath::ROOT, &matched, Verdict::default());
    }

    #[test]
    fn never_panics(rules: Vec<u8>, text: String) {
        if let Ok(rules) = IgnoreRules::parse(&rules) {
            let text = TreePath::normalise(text.as_bytes());
            rules.excludes(&text);
            rules.may_include_below(&text);
        }
    }
}
