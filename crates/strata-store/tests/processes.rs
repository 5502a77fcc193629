//! Several processes and sudden deaths. The test program is its own child: a child runs one test
//! of this file, which does nothing unless a variable says where the store is.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use strata_cas::{
    BlobId, BlobStore, ContentKey, Cost, DefinitionKey, LayerId, Record, RecordKey, RecordStore,
    Slot, SnapshotStore, TreeId, TreePath,
};
use strata_store::{DiskStore, OpenOptions};

const STORE: &str = "STRATA_STORE_TEST_CHILD";

fn store_of_child() -> Option<PathBuf> {
    std::env::var_os(STORE).map(PathBuf::from)
}

fn spawn(test: &str, store: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(STORE, store)
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
        slot: Slot("slot".to_owned()),
        created: number,
    }
}

#[test]
fn child_writes() {
    let Some(root) = store_of_child() else { return };
    let store = open(&root);
    let start = store.recent(&Slot("slot".to_owned())).expect("recent");
    let start = start.first().map_or(0, |record| record.created + 1);
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
        let staging = home.path().join("staging");
        assert_eq!(std::fs::read_dir(staging).expect("list").count(), 0);
        kept.extend(new);
    }
    let store = open(home.path());
    kept.iter().for_each(|number| check_kept(&store, *number));
    assert!(kept.len() > 20, "the children wrote: {}", kept.len());
    println!("{} records were kept and are there", kept.len());
}

#[test]
fn child_holds() {
    let Some(root) = store_of_child() else { return };
    let store = open(&root);
    println!("\nholding");
    std::thread::sleep(Duration::from_millis(300));
    store.put(b"from the child").expect("put");
}

#[test]
fn the_second_process_waits_for_the_first() {
    let home = tempfile::tempdir().expect("a directory");
    let (mut child, mut lines) = spawn("child_holds", home.path());
    assert!(lines.any(|line| line.is_ok_and(|line| line == "holding")));
    let (start, waits) = (Instant::now(), AtomicUsize::new(0));
    let on_wait = |_| {
        waits.fetch_add(1, Ordering::Relaxed);
    };
    let options = OpenOptions { wait_limit: Duration::from_secs(60), on_wait: &on_wait };
    let store = DiskStore::open(home.path(), options).expect("open");
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(waits.load(Ordering::Relaxed) > 1);
    assert!(store.has(&BlobId::of(b"from the child")).expect("has"));
    assert!(child.wait().expect("wait").success());
}
