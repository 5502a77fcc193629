//! That stamps save work and never tell a lie.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use strata_cas::{BlobId, TreePath};
use strata_scan::{FoundKind, IgnoreRules, Scan, ScanError, StampFile};
use support::{Context, answer, check_trees, naive, path, paths, settle};

fn write(context: &Context, name: &str, content: &str) {
    std::fs::write(context.path(name), content).expect("write a file");
}

fn content(scan: &Scan, name: &str) -> Option<BlobId> {
    match scan.get(&path(name))?.kind {
        FoundKind::File { blob, .. } => Some(blob),
        _ => None,
    }
}

#[test]
fn an_unchanged_context_is_neither_listed_nor_read() {
    let context = Context::with(&["a/b", "a/c", "d", "e -> d"]);
    settle();
    let first = context.scan("", &["."]).stats();
    assert_eq!((first.hashed_files, first.listed_directories, first.files), (3, 2, 3));
    assert!(first.stamps_replaced);
    let again = context.scan("", &["."]).stats();
    assert_eq!((again.hashed_files, again.listed_directories, again.files), (0, 0, 3));
    assert!(!again.stamps_replaced);
}

#[test]
fn only_what_changed_is_read() {
    let context = Context::with(&["a/b", "a/c", "d/e"]);
    settle();
    context.scan("", &["."]);
    write(&context, "a/c", "C/a");
    context.add("d/new");
    std::fs::remove_file(context.path("d/e")).expect("remove a file");
    let answer = context.scan("", &["."]);
    assert_eq!(paths(&answer), "a a/b a/c d d/new");
    assert_eq!(content(&answer, "a/c"), Some(BlobId::of(b"C/a")));
    assert_eq!((answer.stats().hashed_files, answer.stats().listed_directories), (2, 1));
}

#[test]
fn a_young_stamp_is_not_believed() {
    let context = Context::with(&["a"]);
    context.scan("", &["."]);
    // Possibly within the same tick of the clock.
    write(&context, "a", "A");
    assert_eq!(content(&context.scan("", &["."]), "a"), Some(BlobId::of(b"A")));
    settle();
    assert_eq!(context.scan("", &["."]).stats().hashed_files, 1);
    assert_eq!(context.scan("", &["."]).stats().hashed_files, 0);
}

fn set_modified(path: &std::path::Path, time: SystemTime) {
    let file = std::fs::File::options().write(true).open(path).expect("open a file");
    file.set_modified(time).expect("set its time");
}

#[test]
fn same_size_and_same_mtime_do_not_deceive() {
    let context = Context::with(&["a", "b"]);
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
    for name in ["a", "b"] {
        set_modified(&context.path(name), time);
    }
    settle();
    context.scan("", &["."]);
    settle();
    write(&context, "a", "A");
    set_modified(&context.path("a"), time);
    // A rename brings the old ctime with it, but not the inode.
    std::fs::write(context.path("c"), "B").expect("write a file");
    set_modified(&context.path("c"), time);
    std::fs::rename(context.path("c"), context.path("b")).expect("rename");
    let answer = context.scan("", &["."]);
    assert_eq!(content(&answer, "a"), Some(BlobId::of(b"A")));
    assert_eq!(content(&answer, "b"), Some(BlobId::of(b"B")));
}

#[test]
fn a_stamp_from_the_future_is_not_believed() {
    let context = Context::with(&["a"]);
    set_modified(&context.path("a"), SystemTime::now() + Duration::from_secs(1000));
    settle();
    for _ in 0..2 {
        assert_eq!(context.scan("", &["."]).stats().hashed_files, 1);
    }
}

#[test]
fn a_damaged_stamp_file_makes_a_cold_scan() {
    let context = Context::with(&["a/b", "c"]);
    settle();
    let expected = answer(&context.scan("", &["."]));
    let good = std::fs::read(context.stamps()).expect("it was written");
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    for bad in [&b""[..], b"strata.stamps.2\n", b"something else", &good[..99], &flipped] {
        std::fs::write(context.stamps(), bad).expect("damage it");
        let scan = context.scan("", &["."]);
        assert_eq!((answer(&scan), scan.stats().hashed_files), (expected.clone(), 2));
        assert_eq!(std::fs::read(context.stamps()).expect("healed"), good);
    }
}

#[test]
fn a_stamp_file_that_cannot_be_written_is_no_error() {
    let context = Context::with(&["a"]);
    settle();
    let nowhere = context.stamps().join("nowhere");
    let scan = context.try_scan("", &["."], Some(&nowhere)).expect("it can be scanned");
    assert!(matches!(scan.notes(), [strata_scan::Note::StampsNotKept(_)]));
}

#[test]
fn what_was_read_ahead_is_believed_no_more_than_what_is_read_now() {
    let context = Context::with(&["a", "d/b", "d/c"]);
    settle();
    context.scan("", &["."]);
    settle();
    let ahead = StampFile::new(context.stamps());
    ahead.read_ahead();
    // Somebody else's scan replaces the file meanwhile, and then a file changes once more.
    write(&context, "d/b", "4");
    context.scan("", &["."]);
    settle();
    write(&context, "d/b", "5");
    settle();
    let (root, rules) = (context.root(), IgnoreRules::default());
    let wanted = [strata_scan::Glob::new(b".").expect("good")];
    let scan = |file: &StampFile| {
        let (root, rules, wanted, stamps) = (root.as_path(), &rules, &wanted, Some(file));
        let request = strata_scan::ScanRequest { root, rules, wanted, stamps, threads: 2 };
        strata_scan::scan(&request).expect("it can be scanned")
    };
    let now = scan(&ahead);
    assert_eq!(answer(&now), answer(&context.scan_cold("", &["."])));
    assert_eq!(now.stats().hashed_files, 1);
    // It counts once: from here on the file is read.
    assert_eq!(scan(&ahead).stats().hashed_files, 0);
    // One that is not there costs a cold scan.
    let nowhere = StampFile::new(context.stamps().join("nowhere"));
    nowhere.read_ahead();
    assert_eq!(scan(&nowhere).stats().hashed_files, 3);
}

#[test]
fn another_contexts_stamps_are_not_believed() {
    let one = Context::with(&["a", "b/c"]);
    let two = Context::with(&["a", "b/c"]);
    write(&two, "a", "A");
    settle();
    one.scan("", &["."]);
    let scan = two.try_scan("", &["."], Some(&one.stamps())).expect("it can be scanned");
    assert_eq!(answer(&scan), answer(&two.scan_cold("", &["."])));
    assert_eq!(scan.stats().hashed_files, 2);
}

#[test]
fn builds_that_select_other_paths_share_a_stamp_file() {
    let context = Context::with(&["a/b", "a/c", "d/e", "f"]);
    settle();
    context.scan("", &["."]);
    for (rules, wanted) in [("", "a/c"), ("a", "."), ("", "d"), ("*\n!f", "."), ("", "*/e")] {
        assert_eq!(context.scan(rules, &[wanted]).stats().hashed_files, 0, "{rules} {wanted}");
    }
    // A change where only one of them looks.
    write(&context, "f", "F");
    settle();
    assert_eq!(context.scan("", &["f"]).stats().hashed_files, 1);
    assert_eq!(context.scan("", &["d/e"]).stats().hashed_files, 0);
    let all = context.scan("", &["."]).stats();
    assert_eq!((all.hashed_files, all.files), (0, 4));
}

#[test]
fn lookups_by_name_keep_stamps_too() {
    let context = Context::with(&["a/b", "a/c"]);
    settle();
    assert_eq!(context.scan("", &["a/b"]).stats().hashed_files, 1);
    assert_eq!(context.scan("", &["a/b"]).stats().hashed_files, 0);
    assert_eq!(context.scan("", &["a/c"]).stats().hashed_files, 1);
    let all = context.scan("", &["."]).stats();
    assert_eq!((all.hashed_files, all.listed_directories), (0, 2));
    assert_eq!(context.scan("", &["."]).stats().listed_directories, 0);
}

#[test]
fn large_files_are_read_whole() {
    let context = Context::new();
    for (name, size) in [("a", 256 << 10), ("b", (256 << 10) + 1), ("c", 70 << 20), ("d", 0)] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| at.to_le_bytes()[1] ^ 0x5a).collect();
        std::fs::write(context.path(name), &bytes).expect("write a file");
        let blob = content(&context.scan("", &["."]), name);
        assert_eq!(blob, Some(BlobId::of(&bytes)), "{name}");
    }
}

#[test]
fn many_entries_are_many_threads_work() {
    let context = Context::new();
    for number in 0..5_000 {
        write(&context, &format!("{number}"), &format!("{number}"));
    }
    settle();
    let cold = context.scan("", &["."]);
    assert_eq!(cold.stats().hashed_files, 5_000);
    for (path, found) in cold.entries().skip(1) {
        let FoundKind::File { blob, .. } = found.kind else { continue };
        assert_eq!(blob, BlobId::of(path.as_bytes()));
    }
    let warm = context.scan("", &["."]);
    assert_eq!((warm.stats().hashed_files, answer(&warm)), (0, answer(&cold)));
}

/// Changes the first byte of a file as a program does that has mapped it: by memory alone.
#[cfg(target_arch = "x86_64")]
fn write_through_a_mapping(path: &std::path::Path, byte: &str) {
    // mmap(0, 4096, READ|WRITE, SHARED, fd, 0); read(pipe, mapping, 1); munmap(mapping, 4096)
    let script = "open F, '+<', $ARGV[0] or die; pipe R, W; syswrite W, $ARGV[1]; \
        my $at = syscall(9, 0, 4096, 3, 1, fileno(F), 0); die if $at == -1; \
        syscall(0, fileno(R), $at, 1) == 1 or die; syscall(11, $at, 4096)";
    let status =
        std::process::Command::new("perl").args(["-e", script]).arg(path).arg(byte).status();
    assert!(status.expect("perl, which every Debian has").success());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_write_through_a_mapping_is_noticed() {
    let context = Context::with(&["a"]);
    write(&context, "a", &"x".repeat(4096));
    settle();
    context.scan("", &["."]);
    assert_eq!(context.scan("", &["."]).stats().hashed_files, 0);
    write_through_a_mapping(&context.path("a"), "y");
    let changed = format!("y{}", "x".repeat(4095));
    assert_eq!(content(&context.scan("", &["."]), "a"), Some(BlobId::of(changed.as_bytes())));
}

/// `rsync -t` and `cp -p` bring another content with an old time, by a new file under the name.
#[test]
fn what_is_copied_over_with_its_old_time_is_noticed() {
    let context = Context::with(&["a", "b/c"]);
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 7);
    for name in ["a", "b/c"] {
        set_modified(&context.path(name), time);
    }
    settle();
    let before = context.scan("", &["."]).tree(&TreePath::ROOT, 0o755);
    for name in ["a", "b/c"] {
        let new = context.path(".new");
        std::fs::write(&new, name.to_uppercase()).expect("write a file");
        set_modified(&new, time);
        std::fs::rename(&new, context.path(name)).expect("rename");
    }
    let answer = context.scan("", &["."]);
    assert_eq!(content(&answer, "a"), Some(BlobId::of(b"A")));
    assert_eq!(content(&answer, "b/c"), Some(BlobId::of(b"B/C")));
    assert_ne!(answer.tree(&TreePath::ROOT, 0o755), before);
}

#[test]
fn a_link_that_points_elsewhere_is_noticed_whatever_its_length() {
    let context = Context::with(&["a", "b", "d/link -> x"]);
    settle();
    let before = context.scan("", &["."]).tree(&path("d"), 0o755);
    settle();
    assert_eq!(context.scan("", &["."]).tree(&path("d"), 0o755), before);
    std::fs::remove_file(context.path("d/link")).expect("remove");
    context.add("d/link -> y");
    let answer = context.scan("", &["."]);
    assert_ne!(answer.tree(&path("d"), 0o755), before);
    check_trees(&answer);
}

/// Network file systems may give a file another inode at each mount: all is read again, and the
/// answer is the same.
#[test]
fn inodes_that_are_not_stable_cost_time_only() {
    let context = Context::with(&["a", "b/c", "b/d"]);
    settle();
    let before = answer(&context.scan("", &["."]));
    let copy = context.root().with_extension("copy");
    let status = std::process::Command::new("cp").arg("-a").arg(context.root()).arg(&copy).status();
    assert!(status.expect("cp").success());
    std::fs::remove_dir_all(context.root()).expect("remove");
    std::fs::rename(&copy, context.root()).expect("rename");
    settle();
    let again = context.scan("", &["."]);
    assert_eq!((answer(&again), again.stats().hashed_files), (before, 3));
    assert_eq!(context.scan("", &["."]).stats().hashed_files, 0);
}

#[test]
fn a_context_that_moved_to_another_device_is_read_again() {
    let elsewhere = std::path::Path::new("/dev/shm");
    if !elsewhere.is_dir() {
        return;
    }
    let context = Context::with(&["a", "b/c"]);
    settle();
    let before = answer(&context.scan("", &["."]));
    let there = tempfile::tempdir_in(elsewhere).expect("a directory");
    let root = there.path().join("context");
    let status = std::process::Command::new("cp").arg("-a").arg(context.root()).arg(&root).status();
    assert!(status.expect("cp").success());
    settle();
    let scan = || {
        let wanted = [strata_scan::Glob::new(b".").expect("good")];
        let (rules, stamps) = (IgnoreRules::default(), context.stamps());
        let request = strata_scan::ScanRequest {
            root: &root,
            rules: &rules,
            wanted: &wanted,
            stamps: Some(&strata_scan::StampFile::new(&stamps)),
            threads: 2,
        };
        strata_scan::scan(&request).expect("it can be scanned")
    };
    let moved = scan();
    assert_eq!((answer(&moved), moved.stats().hashed_files), (before, 2));
    assert_eq!(scan().stats().hashed_files, 0);
}

/// Whatever a scan saw of a file that was being written, it is not believed later.
#[test]
fn what_changes_during_scans_is_right_when_it_has_settled() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let context = Context::with(&["a/b", "c"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let bytes = number.to_le_bytes().repeat(20_000);
                std::fs::write(context.path("a/b"), &bytes).expect("write a file");
            }
        });
        for _ in 0..30 {
            let scan = context.try_scan("", &["."], Some(&context.stamps()));
            assert!(matches!(scan, Ok(_) | Err(ScanError::Changing(_))), "{scan:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    check(&context, "", &["."]);
    settle();
    check(&context, "", &["."]);
    let bytes = std::fs::read(context.path("a/b")).expect("read");
    assert_eq!(content(&context.scan("", &["."]), "a/b"), Some(BlobId::of(&bytes)));
}

/// Other rules give other trees of the same files; back to the first ones, so do the trees.
#[test]
fn other_rules_do_not_get_these_rules_trees() {
    let context = Context::with(&["a/b", "a/c.log", "d.log", "e"]);
    settle();
    let tree = |rules: &str| {
        let warm = context.scan(rules, &["."]);
        check_trees(&warm);
        assert_eq!(answer(&warm), answer(&context.scan_cold(rules, &["."])), "{rules}");
        warm.tree(&TreePath::ROOT, 0o755)
    };
    let all = tree("");
    let few = tree("**/*.log");
    assert_ne!(all, few);
    for _ in 0..2 {
        assert_eq!(tree(""), all);
        assert_eq!(tree("**/*.log"), few);
        assert_eq!(tree("**/*.log"), few);
        assert_eq!(tree("*.log\n!d.log\n**/c.log"), tree("a/c.log"));
    }
}

/// One thing that may happen to a context between two scans.
#[derive(Debug, Clone)]
enum Edit {
    Write(usize, u8),
    WriteKeepingTime(usize, u8),
    Replace(usize, u8),
    Rename(usize, usize),
    Remove(usize),
    Directory(usize),
    Link(usize, usize),
    Mode(usize, u32),
    Settle,
    Scan(usize, usize),
}

const NAMES: [&str; 7] = ["a", "b", "d/a", "d/b", "d/e/a", "d/e/b", "d"];
const RULES: [&str; 4] = ["", "d/e", "*\n!d/e/a", "**/b"];
const WANTED: [&[&str]; 4] = [&["."], &["d/a", "a"], &["d/*"], &["d/e", "**/b"]];

fn edit() -> impl Strategy<Value = Edit> {
    let name = || 0..NAMES.len();
    prop_oneof![
        3 => (name(), 0..3u8).prop_map(|(name, byte)| Edit::Write(name, byte)),
        3 => (name(), 0..3u8).prop_map(|(name, byte)| Edit::WriteKeepingTime(name, byte)),
        2 => (name(), 0..3u8).prop_map(|(name, byte)| Edit::Replace(name, byte)),
        1 => (name(), name()).prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => name().prop_map(Edit::Remove),
        1 => name().prop_map(Edit::Directory),
        1 => (name(), name()).prop_map(|(name, to)| Edit::Link(name, to)),
        1 => (name(), prop_oneof![Just(0o644), Just(0o755)])
            .prop_map(|(name, mode)| Edit::Mode(name, mode)),
        2 => Just(Edit::Settle),
        4 => (0..RULES.len(), 0..WANTED.len())
            .prop_map(|(rules, wanted)| Edit::Scan(rules, wanted)),
    ]
}

impl Edit {
    /// Does it where it can be done.
    fn apply(&self, context: &Context) {
        let at = |name: &usize| context.path(NAMES[*name]);
        let parents = |name: &usize| {
            let parent = at(name).parent().map(std::path::Path::to_owned);
            parent.is_some_and(|parent| std::fs::create_dir_all(parent).is_ok())
        };
        match self {
            Self::Write(name, byte) => {
                parents(name).then(|| std::fs::write(at(name), [*byte; 3]));
            }
            Self::WriteKeepingTime(name, byte) => {
                let time = std::fs::symlink_metadata(at(name)).and_then(|found| found.modified());
                if let (Ok(time), true) = (time, at(name).is_file()) {
                    std::fs::write(at(name), [*byte; 3]).expect("write a file");
                    set_modified(&at(name), time);
                }
            }
            Self::Replace(name, byte) => {
                let new = context.path("new");
                std::fs::write(&new, [*byte; 3]).expect("write a file");
                if std::fs::rename(&new, at(name)).is_err() {
                    std::fs::remove_file(&new).expect("remove it");
                }
            }
            Self::Rename(from, to) => drop(std::fs::rename(at(from), at(to))),
            Self::Remove(name) => {
                if std::fs::remove_file(at(name)).is_err() {
                    drop(std::fs::remove_dir_all(at(name)));
                }
            }
            Self::Directory(name) => drop(std::fs::create_dir_all(at(name))),
            Self::Link(name, to) => {
                // Not to a directory, lest a later edit goes through it.
                let target = format!("/{}-not", NAMES[*to]);
                parents(name).then(|| std::os::unix::fs::symlink(target, at(name)));
            }
            Self::Mode(name, mode) => {
                if at(name).symlink_metadata().is_ok_and(|found| !found.is_symlink()) {
                    let mode = std::fs::Permissions::from_mode(
                        *mode | (0o100 * u32::from(at(name).is_dir())),
                    );
                    std::fs::set_permissions(at(name), mode).expect("chmod");
                }
            }
            Self::Settle => settle(),
            Self::Scan(rules, wanted) => check(context, RULES[*rules], WANTED[*wanted]),
        }
    }
}

fn check(context: &Context, rules: &str, wanted: &[&str]) {
    let warm = context.try_scan(rules, wanted, Some(&context.stamps()));
    let cold = context.try_scan(rules, wanted, None);
    let (warm, cold) = match (warm, cold) {
        // A link that leads through itself.
        (Err(ScanError::SymlinkLoop(warm)), Err(ScanError::SymlinkLoop(cold))) => {
            return assert_eq!(warm, cold);
        }
        (warm, cold) => (warm.expect("it can be scanned"), cold.expect("it can be scanned")),
    };
    assert_eq!(answer(&warm), answer(&cold), "{rules:?} {wanted:?}");
    check_trees(&warm);
    if wanted == ["."] {
        let rules = IgnoreRules::parse(rules.as_bytes()).expect("good");
        let found: Vec<(TreePath, FoundKind)> =
            warm.entries().map(|(path, found)| (path, found.kind)).collect();
        assert_eq!(found, naive(&context.root(), &rules));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happened, a scan with stamps answers as one from nothing.
    #[test]
    fn a_warm_scan_is_a_cold_scan(edits in proptest::collection::vec(edit(), 1..40)) {
        let context = Context::with(&NAMES[..6]);
        for edit in &edits {
            edit.apply(&context);
        }
        check(&context, "", &["."]);
    }
}
