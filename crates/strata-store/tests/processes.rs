//! Several processes and sudden deaths. The test program is its own child: a child runs one test
//! of this file, which does nothing unless a variable says where the store is.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use strata_cas::{
    BlobId, BlobStore, Claim, ContentKey, Cost, DefinitionKey, LayerId, NameStore, Record,
    RecordKey, RecordStore, Slot, SnapshotStore, TreeId, TreePath,
};
use strata_store::{DiskStore, OpenOptions};

const STORE: &str = "STRATA_STORE_TEST_CHILD";
/// Which of several writers a child is: its numbers begin there.
const BASE: &str = "STRATA_STORE_TEST_BASE";

fn store_of_child() -> Option<PathBuf> {
    std::env::var_os(STORE).map(PathBuf::from)
}

fn spawn(test: &str, store: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    spawn_numbered(test, store, 0)
}

fn spawn_numbered(test: &str, store: &Path, base: u64) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(STORE, store)
        .env(BASE, base.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    (child, lines)
}

fn open(root: &Path) -> DiskStore {
    DiskStore::open(root, OpenOptions::default()).expect("open")
}

/// What the writer keeps in round `number`: blobs of all sizes and, sometimes, a snapshot.
fn contents(number: u64) -> Vec<Vec<u8>> {
    let sizes = [10, 3_000, 16_384, 16_385, 90_000];
    let fill = |size| number.to_le_bytes().into_iter().cycle().take(size).collect();
    sizes.into_iter().map(fill).collect()
}

fn key(number: u64) -> [u8; 32] {
    *BlobId::of(&number.to_le_bytes()).as_bytes()
}

fn record(number: u64) -> Record {
    Record {
        definition: DefinitionKey::from_bytes(key(number)),
        content: ContentKey::from_bytes(key(number)),
        facts: Vec::new(),
        inputs: Vec::new(),
        tree: TreeId::from_bytes(key(number)),
        payload: number.to_le_bytes().to_vec(),
        cost: Cost::default(),
        slot: slot_of(number),
        created: number,
    }
}

/// Each writer has a slot of its own.
fn slot_of(number: u64) -> Slot {
    Slot(format!("slot {}", number / WRITER))
}

const WRITER: u64 = 1_000_000;

#[test]
fn child_writes() {
    let Some(root) = store_of_child() else { return };
    let store = open(&root);
    let base: u64 = std::env::var(BASE).expect("a base").parse().expect("a number");
    let start = store.recent(&slot_of(base)).expect("recent");
    let start = start.first().map_or(base, |record| record.created + 1);
    for number in start..start + 100_000 {
        for content in contents(number) {
            store.put(&content).expect("put");
        }
        if number.is_multiple_of(4) {
            let staging = store.stage().expect("stage");
            let content = format!("snapshot {number}");
            std::fs::write(staging.fs().join("file"), &content).expect("write");
            let file = (BlobId::of(content.as_bytes()), TreePath::new("file").expect("clean"));
            store.commit(staging, &LayerId::from_bytes(key(number)), &[file]).expect("commit");
        }
        store.keep(&record(number), &[]).expect("keep");
        println!("\nkept {number}");
    }
}

fn check_kept(store: &DiskStore, number: u64) {
    let found = store.find(&RecordKey::Definition(record(number).definition)).expect("find");
    assert_eq!(found, Some(record(number)), "record {number}");
    for content in contents(number) {
        let id = BlobId::of(&content);
        assert_eq!(store.get(&id).expect("get"), Some(content), "a blob of record {number}");
    }
    if number.is_multiple_of(4) {
        let path = store.snapshot(&LayerId::from_bytes(key(number))).expect("snapshot");
        let file = path.expect("committed").join("file");
        let content = std::fs::read_to_string(file).expect("read");
        assert_eq!(content, format!("snapshot {number}"));
        assert!(store.has(&BlobId::of(content.as_bytes())).expect("has"));
    }
}

#[test]
fn what_was_kept_survives_a_kill_at_any_moment() {
    let home = tempfile::tempdir().expect("a directory");
    let mut kept = Vec::new();
    for round in 0..20_u64 {
        let (mut child, lines) = spawn("child_writes", home.path());
        let reader = std::thread::spawn(move || {
            let lines = lines.map_while(Result::ok);
            let numbers = lines.filter_map(|line| line.strip_prefix("kept ")?.parse().ok());
            numbers.collect::<Vec<u64>>()
        });
        // From before the store is open to well into the writing.
        std::thread::sleep(Duration::from_millis(5 + round * round * 37 % 400));
        child.kill().expect("kill");
        let status = child.wait().expect("wait");
        assert_eq!(status.signal(), Some(9), "it ended by itself: {status}");
        let new = reader.join().expect("read");
        let store = open(home.path());
        new.iter().chain(kept.iter().rev().take(5)).for_each(|number| check_kept(&store, *number));
        store.set_name("t", "n", Some(b"")).expect("hold the database");
        let staging = home.path().join("staging");
        assert_eq!(std::fs::read_dir(staging).expect("list").count(), 0);
        kept.extend(new);
    }
    let store = open(home.path());
    kept.iter().for_each(|number| check_kept(&store, *number));
    assert!(kept.len() > 20, "the children wrote: {}", kept.len());
    println!("{} records were kept and are there", kept.len());
}

/// A writer and the numbers that it says it has kept.
struct Writer {
    child: Child,
    count: Arc<AtomicUsize>,
    kept: std::thread::JoinHandle<Vec<u64>>,
}

impl Writer {
    fn begin(store: &Path, base: u64) -> Self {
        let (child, lines) = spawn_numbered("child_writes", store, base);
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let kept = std::thread::spawn(move || {
            let lines = lines.map_while(Result::ok);
            let numbers = lines.filter_map(|line| line.strip_prefix("kept ")?.parse().ok());
            let numbers = numbers.inspect(|_| {
                counted.fetch_add(1, Ordering::SeqCst);
            });
            numbers.collect()
        });
        Self { child, count, kept }
    }

    /// Waits until it has kept some.
    fn wait_for(&self, count: usize) {
        let has_kept = || self.count.load(Ordering::SeqCst) >= count;
        let mut patience = (0..60_000).take_while(|_| !has_kept());
        patience.by_ref().for_each(|_| std::thread::sleep(Duration::from_millis(1)));
        assert!(has_kept(), "nothing was written within a minute");
    }

    fn kill(mut self) -> Vec<u64> {
        self.child.kill().expect("kill");
        let status = self.child.wait().expect("wait");
        assert_eq!(status.signal(), Some(9), "it ended by itself: {status}");
        self.kept.join().expect("read")
    }
}

/// How many kills; `STRATA_TEST_KILLS` asks for more.
fn kills() -> u64 {
    let asked = std::env::var("STRATA_TEST_KILLS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(30)
}

#[test]
fn three_processes_write_while_one_after_the_other_is_killed() {
    let home = tempfile::tempdir().expect("a directory");
    let mut writers: Vec<Writer> =
        (0..3).map(|writer| Writer::begin(home.path(), writer * WRITER)).collect();
    let mut kept = Vec::new();
    for round in 0..kills() {
        // The one that holds the database as often as one that is served.
        let writer = usize::try_from(round * 7 % 3).expect("small");
        // Also before it has the store open.
        writers[writer].wait_for(usize::try_from(round % 4).expect("small"));
        std::thread::sleep(Duration::from_millis(round * round * 37 % 90));
        let next = Writer::begin(home.path(), writer as u64 * WRITER);
        kept.extend(std::mem::replace(&mut writers[writer], next).kill());
    }
    for writer in writers {
        writer.wait_for(1);
        kept.extend(writer.kill());
    }
    let store = open(home.path());
    kept.iter().for_each(|number| check_kept(&store, *number));
    let mut distinct = kept.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 10, "the children wrote: {}", distinct.len());
    println!("{} records were kept and are there", distinct.len());
}

#[test]
fn child_holds() {
    let Some(root) = store_of_child() else { return };
    let store = open(&root);
    let key = RecordKey::Definition(DefinitionKey::from_bytes([1; 32]));
    let claim = store.claim(&[key]).expect("claim");
    assert!(matches!(claim, Claim::Held(_)));
    store.put(b"from the child").expect("put");
    store.set_name("t", "n", Some(b"1")).expect("set");
    println!("\nholding");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn nobody_waits_for_the_one_that_holds_the_database() {
    let home = tempfile::tempdir().expect("a directory");
    let (mut child, mut lines) = spawn("child_holds", home.path());
    assert!(lines.any(|line| line.is_ok_and(|line| line == "holding")));
    let store = open(home.path());
    assert_eq!(store.name("t", "n").expect("name"), Some(b"1".to_vec()));
    assert!(store.has(&BlobId::of(b"from the child")).expect("has"));
    store.keep(&record(5), &[]).expect("keep");
    let key = RecordKey::Definition(DefinitionKey::from_bytes([1; 32]));
    match store.claim(&[key]).expect("claim") {
        Claim::Taken { pid } => assert_eq!(pid, Some(child.id())),
        Claim::Held(_) => panic!("the child is at it"),
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    // What the dead one was at is taken over, and what it acknowledged is there.
    assert!(matches!(store.claim(&[key]).expect("claim"), Claim::Held(_)));
    assert_eq!(
        store.find(&RecordKey::Definition(record(5).definition)).expect("find"),
        Some(record(5))
    );
    assert!(store.has(&BlobId::of(b"from the child")).expect("has"));
}
