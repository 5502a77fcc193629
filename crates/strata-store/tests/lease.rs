//! How long what a process has looked at stays.

use std::path::Path;

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
