//! What a scan visits and finds: globs, ignore rules, links. Stamps are in `stale.rs`.

mod support;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use strata_cas::{BlobId, Device, TreePath};
use strata_scan::{FoundKind, IgnoreRules, Note, ScanError};
use support::{Context, answer, check_trees, naive, path, paths};

#[test]
fn finds_what_is_wanted_and_not_excluded() {
    let context = Context::with(&["a/b/c", "a/b/d", "a/e", "f", "g.md", "h/i.md", "a.c"]);
    let check = |rules: &str, wanted: &[&str], expected: &str| {
        let cold = context.scan_cold(rules, wanted);
        assert_eq!(paths(&cold), expected, "{rules:?} {wanted:?}");
        let with_stamps = context.scan(rules, wanted);
        assert_eq!(answer(&with_stamps), answer(&cold));
        check_trees(&cold);
        check_trees(&with_stamps);
    };
    check("", &["."], "a a/b a/b/c a/b/d a/e a.c f g.md h h/i.md");
    check("", &[], "");
    check("", &["f"], "f");
    check("", &["a"], "a a/b a/b/c a/b/d a/e");
    check("", &["a/b/d", "f"], "a a/b a/b/d f");
    check("", &["*.md"], "g.md");
    check("", &["**/*.md"], "g.md h h/i.md");
    check("", &["*/b"], "a a/b a/b/c a/b/d");
    check("", &["a/*"], "a a/b a/b/c a/b/d a/e");
    check("", &["missing", "f/g", "a/missing/x", "f"], "f");
    check("a", &["."], "a.c f g.md h h/i.md");
    check("*\n!a/b/c", &["."], "a a/b a/b/c");
    check("*\n!a/b/c\n!f", &["a/b"], "a a/b a/b/c");
    check("**/*.md\n!h/*.md", &["."], "a a/b a/b/c a/b/d a/e a.c f h h/i.md");
    check("f", &["f"], "");
    check("**", &["."], "");
}

#[test]
fn keeps_a_directory_that_is_wanted_itself_though_it_is_empty() {
    let context = Context::with(&["empty/", "a/empty/"]);
    assert_eq!(paths(&context.scan_cold("", &["."])), "a a/empty empty");
    assert_eq!(paths(&context.scan_cold("", &["*/x"])), "");
    assert_eq!(paths(&context.scan_cold("a\n!a/x", &["."])), "empty");
}

#[test]
fn excluded_directories_are_not_even_opened() {
    let context = Context::with(&["a/secret/x", "b"]);
    let loops = context.path("a/secret/loop");
    std::os::unix::fs::symlink("loop", loops).expect("make a link");
    let answer = context.scan_cold("a/secret", &["."]);
    assert_eq!(paths(&answer), "a b");
    // The root and `a`.
    assert_eq!(answer.stats().directories, 2);
}

#[test]
fn a_wanted_file_costs_no_listing() {
    let context = Context::with(&["a/b/c", "a/b/d"]);
    assert_eq!(context.scan_cold("", &["a/b/c"]).stats().listed_directories, 0);
    assert_eq!(context.scan_cold("", &["a/b"]).stats().listed_directories, 1);
}

#[test]
fn tells_modes_times_and_types() {
    let context = Context::with(&["run", "link -> run", "directory/"]);
    let mode = std::fs::Permissions::from_mode(0o4750);
    std::fs::set_permissions(context.path("run"), mode).expect("chmod");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        context.path("fifo"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .expect("make a fifo");
    let _socket = std::os::unix::net::UnixListener::bind(context.path("socket")).expect("bind");
    let answer = context.scan_cold("", &["."]);
    let file = answer.get(&path("run")).expect("it is there");
    assert_eq!(file.mode, 0o4750);
    assert_eq!(file.kind, FoundKind::File { blob: BlobId::of(b"run"), size: 3 });
    let modified = std::fs::metadata(context.path("run")).expect("stat").modified().expect("time");
    let since = modified.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    assert_eq!(file.modified.seconds.unsigned_abs(), since.as_secs());
    assert_eq!(file.modified.nanoseconds, since.subsec_nanos());
    let kind = |name| answer.get(&path(name)).expect("it is there").kind;
    assert_eq!(kind("link"), FoundKind::Symlink { target: b"run".to_vec() });
    assert_eq!(kind("directory"), FoundKind::Directory);
    assert_eq!(kind("fifo"), FoundKind::Device(Device::Fifo));
    assert!(answer.get(&path("socket")).is_none());
    assert!(matches!(answer.notes(), [Note::Socket(socket)] if *socket == path("socket")));
}

#[test]
fn follows_links_on_the_way_to_a_wanted_path() {
    let context = Context::with(&[
        "real/sub/x",
        "real/y",
        "other",
        "link -> real",
        "absolute -> /real/sub",
        "outside -> ../../../real",
        "chain -> link",
        "up -> real/sub/../y",
        "file -> other",
        "in/deep -> ../link/sub",
        "dangling -> nowhere",
    ]);
    let check = |wanted: &str, resolved: Option<&str>, expected: &str| {
        let answer = context.scan("", &[wanted]);
        assert_eq!(answer.resolve(&path(wanted)), resolved.map(path), "{wanted}");
        assert_eq!(paths(&answer), expected, "{wanted}");
    };
    check("link/y", Some("real/y"), "link real real/y");
    check("link", Some("real"), "link real real/sub real/sub/x real/y");
    check("absolute/x", Some("real/sub/x"), "absolute real real/sub real/sub/x");
    check("outside/y", Some("real/y"), "outside real real/y");
    check("chain/y", Some("real/y"), "chain link real real/y");
    check("up", Some("real/y"), "real real/y up");
    check("file", Some("other"), "file other");
    check("in/deep/x", Some("real/sub/x"), "in in/deep link real real/sub real/sub/x");
    check("dangling", None, "dangling");
    check("dangling/x", None, "dangling");
    check("link/missing", None, "link");

    let answer = context.scan_cold("", &["l*/*", "fil?"]);
    assert_eq!(paths(&answer), "file link other real real/sub real/sub/x real/y");
    assert_eq!(answer.resolve_parents(&path("file")), Some(path("file")));
    assert_eq!(answer.resolve_parents(&path("link/y")), Some(path("real/y")));
    // Below a wanted directory a link is content.
    assert_eq!(paths(&context.scan_cold("", &["in"])), "in in/deep");
    // An excluded link is not there.
    assert_eq!(context.scan_cold("link", &["link/y"]).resolve(&path("link/y")), None);
}

#[test]
fn links_in_a_circle_are_an_error_only_where_they_are_followed() {
    let context =
        Context::with(&["a -> b", "b -> a", "self -> self", "grow -> grow/x", "d/c -> c"]);
    for wanted in ["a", "self/x", "grow", "s*", "d/c"] {
        let error = context.try_scan("", &[wanted], None).expect_err(wanted);
        assert!(matches!(error, ScanError::SymlinkLoop(_)), "{wanted}: {error}");
    }
    let answer = context.scan_cold("", &["."]);
    assert_eq!(paths(&answer), "a b d d/c grow self");
    assert_eq!(answer.resolve(&path("a")), None);
}

#[test]
fn names_need_not_be_text() {
    let context = Context::new();
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe \n");
    std::fs::write(context.path(name), "x").expect("write a file");
    for _ in 0..2 {
        support::settle();
        let answer = context.scan("", &["."]);
        let path = TreePath::new(&b"\xff\xfe \n"[..]).expect("clean");
        assert!(answer.get(&path).is_some());
    }
}

#[test]
fn errors_name_the_path() {
    let context = Context::with(&["a/b"]);
    let missing = strata_scan::ScanRequest {
        root: &context.path("missing"),
        rules: &IgnoreRules::default(),
        wanted: &[],
        stamps: None,
        threads: 0,
    };
    assert!(matches!(strata_scan::scan(&missing), Err(ScanError::Root { .. })));
    if rustix::process::geteuid().is_root() {
        return;
    }
    for (name, action) in [("a/b", "read"), ("a", "open")] {
        let mode = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(context.path(name), mode).expect("chmod");
        let error = context.try_scan("", &["."], None).expect_err(name);
        assert_eq!(error.to_string(), format!("cannot {action} `{name}`"));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(context.path(name), mode).expect("chmod");
    }
}

#[test]
fn depth_has_no_limit() {
    const DEPTH: usize = 3_000;
    let context = Context::new();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    let mut at = rustix::fs::open(context.root(), flags, mode).expect("open the root");
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&at, "d", mode).expect("create a directory");
        at = rustix::fs::openat(&at, "d", flags, mode).expect("open a directory");
    }
    for _ in 0..2 {
        let answer = context.scan("", &["."]);
        assert_eq!(answer.entries().len(), DEPTH + 1);
        support::settle();
    }
}

#[test]
fn lists_what_is_below_and_in_a_directory() {
    let context = Context::with(&["a/b/c", "a/d", "a.c", "e"]);
    let answer = context.scan_cold("", &["."]);
    let names = |paths: Vec<(TreePath, strata_scan::Found)>| {
        paths.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(answer.below(&path("a")).collect()), "a/b a/b/c a/d");
    assert_eq!(names(answer.below(&path("e")).collect()), "");
    assert_eq!(names(answer.below(&path("x")).collect()), "");
    assert_eq!(names(answer.children(&TreePath::ROOT).collect()), "a a.c e");
    assert_eq!(names(answer.children(&path("a")).collect()), "a/b a/d");
    let glob = strata_scan::Glob::new(b"a*").expect("good");
    assert_eq!(names(answer.matches(&glob).collect()), "a a.c");
}

#[test]
fn agrees_with_another_walker() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for text in ["", "src", "*\n!src/*.rs", "**/*_tests.rs\ntests"] {
        let rules = IgnoreRules::parse(text.as_bytes()).expect("good");
        let answer = strata_scan::scan(&strata_scan::ScanRequest {
            root,
            rules: &rules,
            wanted: &[strata_scan::Glob::new(b".").expect("good")],
            stamps: None,
            threads: 0,
        });
        let answer = answer.expect("it can be scanned");
        let found: Vec<(TreePath, FoundKind)> =
            answer.entries().map(|(path, found)| (path, found.kind)).collect();
        assert_eq!(found, naive(root, &rules), "{text}");
    }
}
