//! How long what a process has looked at stays.

use std::path::Path;
use std::time::Duration;

use strata_cas::entry::Entry;
use strata_cas::{BlobStore, Link, Links, NameStore, Named, Record};
use strata_store::{DiskStore, OpenOptions, SweepRequest};

/// Knows entries, and nothing else.
struct EntryLinks;

impl Links for EntryLinks {
    fn of_record(&self, _: &Record) -> Vec<Link> {
        Vec::new()
    }

    fn of_name(&self, table: &str, _: &str, value: &[u8]) -> Named {
        Entry::named(table, value).unwrap_or(Named::Root(Vec::new()))
    }

    fn used(&self, _: &str, value: &[u8]) -> u64 {
        Entry::decode(value).map_or(0, |entry| entry.used)
    }

    fn project_of(&self, _: &Record) -> String {
        String::new()
    }

    fn title_of(&self, _: &Record) -> String {
        String::new()
    }
}

fn open(root: &Path) -> DiskStore {
    DiskStore::open(root, OpenOptions::default()).expect("open")
}

fn sweep(store: &DiskStore) -> usize {
    let request = SweepRequest { all: true, ..SweepRequest::default() };
    store.sweep(&request, &EntryLinks).expect("a sweep").removed.len()
}

#[test]
fn what_was_looked_at_stays_until_the_lease_is_renewed_twice() {
    let home = tempfile::tempdir().expect("a directory");
    let server = open(home.path());
    let (small, large) = (server.put(b"small").expect("put"), vec![7; 70_000]);
    let large = server.put(&large).expect("put");
    server.set_name("n", "n", Some(b"x")).expect("all of it is on disk");
    let other = open(home.path());
    let is_there = || [small, large].map(|id| other.open(&id).expect("open").is_some());
    for id in [small, large] {
        assert!(server.has(&id).expect("has"));
    }
    sweep(&other);
    assert_eq!(is_there(), [true, true]);
    server.renew_lease().expect("renew");
    sweep(&other);
    assert_eq!(is_there(), [true, true]);
    // What is looked at again stays again.
    assert!(server.has(&large).expect("has"));
    server.renew_lease().expect("renew");
    sweep(&other);
    assert_eq!(is_there(), [false, true]);
    server.renew_lease().expect("renew");
    sweep(&other);
    assert_eq!(is_there(), [false, false]);
    drop((server, other));
    assert_eq!(std::fs::read_dir(home.path().join("leases-1")).expect("list").count(), 0);
}

/// The store's leases, by name.
fn leases(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("leases-1")).expect("list");
    entries.map(|e| e.expect("e").file_name().into_string().expect("text")).collect()
}

#[test]
fn what_a_server_has_looked_at_outlives_it_until_its_time_is_over() {
    let home = tempfile::tempdir().expect("a directory");
    let server = open(home.path());
    let (early, late) = (server.put(b"early").expect("put"), server.put(b"late").expect("put"));
    server.set_name("n", "n", Some(b"x")).expect("all of it is on disk");
    server.outlive(Duration::from_secs(3600));
    assert!(server.has(&late).expect("has"));
    // It is not time.
    for _ in 0..3 {
        server.renew_lease().expect("renew");
    }
    // As far as files tell, this is a process that was killed: nobody holds what it leaves.
    drop(server);
    let left = leases(home.path());
    let [name] = &left[..] else { panic!("{left:?}") };
    for _ in 0..2 {
        let other = open(home.path());
        sweep(&other);
        let is_there = [early, late].map(|id| other.open(&id).expect("open").is_some());
        assert_eq!(is_there, [false, true]);
        drop(other);
        assert_eq!(leases(home.path()), left);
    }
    // Its time is over; or a clock that went wrong has written it.
    let (_, rest) = name.strip_prefix("until-").expect("until").split_once('-').expect("a time");
    for until in ["1", "99999999999"] {
        let path = |name: &str| home.path().join("leases-1").join(name);
        let wrong = format!("until-{until}-{rest}");
        std::fs::rename(path(&leases(home.path())[0]), path(&wrong)).expect("rename");
        let other = open(home.path());
        sweep(&other);
        assert!(other.open(&late).expect("open").is_none());
        assert!(!leases(home.path()).contains(&wrong));
        other.outlive(Duration::from_secs(3600));
        assert_eq!(other.put(b"late").expect("put"), late);
        drop(other);
    }
}

#[test]
fn a_server_that_is_always_at_it_keeps_its_word_over_renewals_and_leaves_no_heap_of_files() {
    let home = tempfile::tempdir().expect("a directory");
    let server = open(home.path());
    let ids = [1, 2, 3, 4].map(|number| server.put(&[number; 9]).expect("put"));
    server.set_name("n", "n", Some(b"x")).expect("all of it is on disk");
    // Said anew, it begins a file; so does a clock that jumps.
    for id in ids {
        server.outlive(Duration::from_secs(3600));
        assert!(server.has(&id).expect("has"));
    }
    let other = open(home.path());
    sweep(&other);
    assert_eq!(ids.map(|id| other.open(&id).expect("open").is_some()), [true; 4]);
    assert_eq!(leases(home.path()).len(), 6);
    // Those that are held count whatever their names say; of the others, what is over goes.
    for name in leases(home.path()) {
        if let Some((_, rest)) = name.strip_prefix("until-").and_then(|name| name.split_once('-')) {
            let path = |name: &str| home.path().join("leases-1").join(name);
            std::fs::rename(path(&name), path(&format!("until-1-{rest}"))).expect("rename");
        }
    }
    server.outlive(Duration::from_secs(3600));
    assert!(server.has(&ids[3]).expect("has"));
    let left = leases(home.path());
    assert_eq!(left.iter().filter(|name| name.starts_with("until-1-")).count(), 1, "{left:?}");
    drop((server, other));
    let other = open(home.path());
    sweep(&other);
    let is_there = ids.map(|id| other.open(&id).expect("open").is_some());
    assert_eq!(is_there, [false, false, false, true]);
}

#[test]
fn an_entry_goes_with_its_blobs_and_the_oldest_goes_first() {
    let home = tempfile::tempdir().expect("a directory");
    let store = open(home.path());
    let entry = |name: &str, used: u64, stays: bool| {
        let body = store.put(format!("body of {name}").as_bytes()).expect("put");
        let entry = Entry {
            body,
            size: 0,
            attributes: Default::default(),
            needs: Vec::new(),
            stays,
            writer: String::new(),
            trust: 0,
            written: 0,
            used,
            far: false,
        };
        store.set_name("entries-1/a", name, Some(&entry.encode())).expect("set");
        body
    };
    let bodies = [entry("a-new", 30, false), entry("b-old", 10, false), entry("kept", 0, true)];
    drop(store);
    let store = open(home.path());
    let request = SweepRequest { all: true, dry_run: true, ..SweepRequest::default() };
    let order: Vec<String> = store
        .sweep(&request, &EntryLinks)
        .expect("a sweep")
        .removed
        .into_iter()
        .map(|removed| removed.what)
        .collect();
    assert_eq!(order, ["b-old in entries-1/a", "a-new in entries-1/a"]);
    assert_eq!(sweep(&store), 2);
    let names = store.names("entries-1/a").expect("names");
    assert_eq!(names.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["kept"]);
    let left = bodies.map(|body| store.open(&body).expect("open").is_some());
    assert_eq!(left, [false, false, true]);
}
