//! The store's promises in one process: the conformance suite, what survives closing, what heals.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use strata_cas::{
    Blob, BlobId, BlobStore, LayerId, NameStore, SnapshotStore, TreePath, conformance,
};
use strata_store::{DiskStore, INLINE_LIMIT_BYTES, OpenOptions};

fn open(root: &Path) -> DiskStore {
    DiskStore::open(root, OpenOptions::default()).expect("open")
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).expect("clean")
}

/// Where a store keeps a large blob.
fn file_of(root: &Path, id: &BlobId) -> PathBuf {
    let name = id.to_string();
    root.join("blobs-1").join(&name[..2]).join(&name[2..])
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    bytes[40_000] ^= 1;
    fs::set_permissions(path, Permissions::from_mode(0o644)).expect("chmod");
    fs::write(path, bytes).expect("write");
}

fn left_in(directory: &Path) -> usize {
    fs::read_dir(directory).expect("list").count()
}

/// What is being made, over all processes.
fn in_the_making(root: &Path) -> usize {
    let places = fs::read_dir(root.join("staging")).expect("list");
    places.map(|place| left_in(&place.expect("an entry").path())).sum()
}

#[test]
fn conforms() {
    let check = |check: fn(&DiskStore)| {
        let home = tempfile::tempdir().expect("a directory");
        check(&open(&home.path().join("a/store")));
    };
    check(|store| conformance::blobs(store));
    check(|store| conformance::incoming(store));
    check(|store| conformance::records(store));
    check(|store| conformance::claims(store));
    check(|store| conformance::names(store));
    check(conformance::snapshots);
}

#[test]
fn everything_is_there_after_closing_and_opening() {
    let home = tempfile::tempdir().expect("a directory");
    let layer = LayerId::from_bytes([1; 32]);
    let (small, large) = (vec![1; INLINE_LIMIT_BYTES], vec![2; INLINE_LIMIT_BYTES + 1]);
    let store = open(home.path());
    let (small_id, large_id) = (store.put(&small).expect("put"), store.put(&large).expect("put"));
    store.set_name("images", "app", Some(b"x")).expect("set");
    let staging = store.stage().expect("stage");
    fs::write(staging.fs().join("f"), "in a snapshot").expect("write");
    let in_snapshot = BlobId::of(b"in a snapshot");
    let at = store.commit(staging, &layer, &[(in_snapshot, path("f"))]).expect("commit");
    let last = store.put(&vec![3; 100_000]).expect("put");
    drop(store);

    let store = open(home.path());
    assert_eq!(store.get(&small_id).expect("get"), Some(small));
    assert_eq!(store.get(&large_id).expect("get"), Some(large));
    assert_eq!(store.get(&in_snapshot).expect("get"), Some(b"in a snapshot".to_vec()));
    assert_eq!(store.get(&last).expect("get"), Some(vec![3; 100_000]));
    assert_eq!(store.name("images", "app").expect("name"), Some(b"x".to_vec()));
    assert_eq!(store.snapshot(&layer).expect("snapshot"), Some(at));
    let mode = fs::metadata(file_of(home.path(), &large_id)).expect("stat").permissions().mode();
    assert_eq!(mode & 0o7777, 0o444);
    assert_eq!(left_in(&home.path().join("staging")), 0);
}

#[test]
fn a_damaged_file_is_never_an_answer_and_is_healed() {
    let home = tempfile::tempdir().expect("a directory");
    let content = vec![7; 100_000];
    let store = open(home.path());
    let id = store.put(&content).expect("put");
    store.set_name("t", "n", Some(b"")).expect("settle");
    let file = file_of(home.path(), &id);

    flip_a_bit(&file);
    let Some(blob @ Blob::File { .. }) = store.open(&id).expect("open") else {
        panic!("a large blob is a file")
    };
    let read = std::io::copy(&mut blob.reader(id), &mut std::io::sink());
    assert_eq!(read.expect_err("damaged").kind(), std::io::ErrorKind::InvalidData);
    // Nobody told the store, and still the next put heals it.
    store.put(&content).expect("put again");
    assert_eq!(store.get(&id).expect("get"), Some(content.clone()));

    store.set_name("t", "n", Some(b"")).expect("settle");
    flip_a_bit(&file);
    assert_eq!(store.get(&id).expect("get"), None);
    assert!(!store.has(&id).expect("has"));
    store.put_from(&mut &content[..]).expect("put again");
    assert_eq!(store.get(&id).expect("get"), Some(content));
}

#[test]
fn a_blob_that_its_snapshot_lost_is_not_there() {
    let home = tempfile::tempdir().expect("a directory");
    let content = vec![7; 50_000];
    let id = BlobId::of(&content);
    let store = open(home.path());
    let commit = |number: u8| {
        let staging = store.stage().expect("stage");
        fs::create_dir(staging.fs().join("d")).expect("create");
        fs::write(staging.fs().join("d/f"), &content).expect("write");
        symlink("/etc/passwd", staging.fs().join("link")).expect("link");
        let files = [(id, path("d/f")), (BlobId::of(b"no"), path("link"))];
        store.commit(staging, &LayerId::from_bytes([number; 32]), &files).expect("commit")
    };
    let snapshots = [commit(1), commit(2)];
    assert!(!store.has(&BlobId::of(b"no")).expect("has"), "a link is no file");

    // One of two: the other answers.
    flip_a_bit(&snapshots[0].join("d/f"));
    assert_eq!(store.get(&id).expect("get").as_ref(), Some(&content));
    // Neither: a directory that became a link out of the snapshot is not followed.
    fs::rename(snapshots[1].join("d"), home.path().join("logs-1/d")).expect("rename");
    symlink(home.path().join("logs-1/d"), snapshots[1].join("d")).expect("link");
    assert_eq!(store.get(&id).expect("get"), None);
    assert!(!store.has(&id).expect("has"));
    store.put(&content).expect("put");
    assert_eq!(store.get(&id).expect("get"), Some(content.clone()));
}

#[test]
fn a_snapshot_that_was_not_committed_is_replaced() {
    let home = tempfile::tempdir().expect("a directory");
    let layer = LayerId::from_bytes([5; 32]);
    let left = home.path().join("snapshots-1").join("05".repeat(16));
    drop(open(home.path()));
    fs::create_dir_all(left.join("fs/half")).expect("create");

    let store = open(home.path());
    assert_eq!(store.snapshot(&layer).expect("snapshot"), None);
    let staging = store.stage().expect("stage");
    fs::write(staging.fs().join("whole"), "x").expect("write");
    let at = store.commit(staging, &layer, &[]).expect("commit");
    assert!(at.join("whole").exists() && !at.join("half").exists());
    assert_eq!(in_the_making(home.path()), 0);
}

#[test]
fn a_damaged_snapshot_is_replaced_when_its_layer_is_made_again() {
    let home = tempfile::tempdir().expect("a directory");
    let store = open(home.path());
    let (layer, content) = (LayerId::from_bytes([5; 32]), vec![7; 50_000]);
    let id = BlobId::of(&content);
    let commit = || {
        let staging = store.stage().expect("stage");
        fs::write(staging.fs().join("f"), &content).expect("write");
        store.commit(staging, &layer, &[(id, path("f"))]).expect("commit")
    };
    let at = commit();
    fs::write(at.join("mark"), "the old one").expect("write");
    commit();
    assert!(at.join("mark").exists(), "a sound one is kept");
    for damage in [flip_a_bit, |file: &Path| fs::remove_file(file).expect("remove")] {
        damage(&at.join("f"));
        assert_eq!(store.get(&id).expect("get"), None);
        assert_eq!(commit(), at);
        assert_eq!(store.get(&id).expect("get").as_ref(), Some(&content));
    }
    assert!(!at.join("mark").exists());
    assert_eq!(in_the_making(home.path()), 0);
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let home = tempfile::tempdir().expect("a directory");
    drop(open(home.path()));
    let staging = home.path().join("staging");
    fs::create_dir_all(staging.join("0/work/work/x")).expect("create");
    fs::create_dir_all(staging.join("0/fs/a/b/c")).expect("create");
    fs::write(staging.join("blob-0"), "half a blob").expect("write");
    let locked = Permissions::from_mode(0o000);
    fs::set_permissions(staging.join("0/work/work"), locked).expect("chmod");
    fs::write(home.path().join("leases-1/1-a"), "1\n").expect("write");
    fs::write(home.path().join("claims/d00"), "1\n").expect("write");
    let store = open(home.path());
    store.set_name("t", "n", Some(b"")).expect("hold the database");
    for (part, left) in [("staging", 0), ("claims", 0), ("leases-1", 1)] {
        assert_eq!(left_in(&home.path().join(part)), left, "{part}");
    }
    drop(store);
    assert_eq!(left_in(&home.path().join("leases-1")), 0);
}

#[test]
fn two_open_stores_are_one() {
    let home = tempfile::tempdir().expect("a directory");
    let (first, second) = (open(home.path()), open(home.path()));
    let content = vec![7; 100];
    let id = first.put(&content).expect("put");
    first.set_name("t", "n", Some(b"1")).expect("set");
    assert_eq!(second.get(&id).expect("get"), Some(content.clone()));
    second.set_name("t", "n", Some(b"2")).expect("set");
    assert_eq!(first.name("t", "n").expect("name"), Some(b"2".to_vec()));
    drop(first);
    // The one that was served goes on by itself, and serves the next one.
    second.set_name("t", "m", Some(b"3")).expect("set");
    assert_eq!(second.get(&id).expect("get"), Some(content));
    let third = open(home.path());
    assert_eq!(third.names("t").expect("names").len(), 2);
}

#[test]
fn long_listings_come_in_pieces() {
    let home = tempfile::tempdir().expect("a directory");
    let (leader, follower) = (open(home.path()), open(home.path()));
    let value = vec![1; 300_000];
    for number in 0..12 {
        leader.set_name("t", &format!("{number:02}"), Some(&value)).expect("set");
    }
    for store in [&leader, &follower] {
        let names = store.names("t").expect("names");
        let numbers: Vec<usize> =
            names.iter().map(|(name, _)| name.parse().expect("a number")).collect();
        assert_eq!(numbers, (0..12).collect::<Vec<_>>());
        assert!(names.iter().all(|(_, found)| *found == value));
    }
}

#[test]
fn a_store_at_a_long_path_is_shared_too() {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().join("a-long-name".repeat(20));
    let (first, second) = (open(&root), open(&root));
    first.set_name("t", "n", Some(b"1")).expect("set");
    assert_eq!(second.name("t", "n").expect("name"), Some(b"1".to_vec()));
}

#[test]
fn many_threads_put_the_same_and_different_blobs() {
    let home = tempfile::tempdir().expect("a directory");
    let store = open(home.path());
    let content = |number: usize| vec![number.to_le_bytes()[0]; 1 + number * 977 % 60_000];
    let all = |check: &(dyn Fn(usize) + Sync)| {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || (thread % 2..600).step_by(2).for_each(check));
            }
        });
    };
    all(&|number| {
        store.put_from(&mut &content(number)[..]).expect("put");
        if number % 100 == 0 {
            store.set_name("t", &number.to_string(), Some(b"")).expect("set");
        }
    });
    all(&|number| {
        let content = content(number);
        assert_eq!(store.get(&BlobId::of(&content)).expect("get"), Some(content));
    });
    store.set_name("t", "last", Some(b"")).expect("set");
    assert_eq!(in_the_making(home.path()), 0, "nothing waits twice");
}

#[test]
fn a_table_with_a_nul_would_be_another_table() {
    let home = tempfile::tempdir().expect("a directory");
    let store = open(home.path());
    assert!(store.set_name("a\0b", "c", Some(b"")).is_err());
    store.set_name("a", "b\0c", Some(b"1")).expect("set");
    assert_eq!(store.names("a").expect("names"), [("b\0c".to_owned(), b"1".to_vec())]);
}
