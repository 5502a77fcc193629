//! What every store promises, as checks that any implementation's tests call. They panic at the
//! first broken promise: that is their only job.
#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "these are checks")]

use crate::{
    BlobId, BlobStore, Claim, ContentKey, Cost, DefinitionKey, Fact, LayerId, NameStore, Record,
    RecordKey, RecordStore, Slot, SnapshotStore, TreeId, TreePath,
};

/// Blobs whose bytes come in pieces are the same blobs; those that never end leave nothing.
pub fn incoming(store: &dyn BlobStore) {
    for size in [0, 1, 16 << 10, (16 << 10) + 1, 1_000_003] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| at.to_le_bytes()[1] ^ 0xa5).collect();
        let id = BlobId::of(&bytes);
        let write = || {
            let mut incoming = store.begin().expect("begin");
            for piece in bytes.chunks(10_007) {
                incoming.write(piece).expect("write");
            }
            assert_eq!((incoming.size(), incoming.id()), (u64::from(size), id), "{size} bytes");
            incoming
        };
        drop(write());
        assert!(!store.has(&id).expect("has"), "{size} bytes, not finished");
        for _ in 0..2 {
            assert_eq!(store.finish(write()).expect("finish"), id, "{size} bytes");
            assert_eq!(store.get(&id).expect("get").as_ref(), Some(&bytes), "{size} bytes");
        }
    }
}

/// Blobs come back whole, whatever their size; putting twice is putting once.
pub fn blobs(store: &dyn BlobStore) {
    for size in [0, 1, 100, 16 << 10, (16 << 10) + 1, 1 << 20, 3_000_001] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| at.to_le_bytes()[1] ^ 0x5a).collect();
        let id = BlobId::of(&bytes);
        assert!(!store.has(&id).expect("has"), "{size} bytes before put");
        assert!(store.get(&id).expect("get").is_none(), "{size} bytes before put");
        assert_eq!(store.size(&id).expect("size"), None, "{size} bytes before put");
        assert_eq!(store.put(&bytes).expect("put"), id, "{size} bytes");
        assert_eq!(store.put_from(&mut &bytes[..]).expect("put again"), id, "{size} bytes");
        assert!(store.has(&id).expect("has"), "{size} bytes");
        assert_eq!(store.size(&id).expect("size"), Some(u64::from(size)));
        assert_eq!(store.get(&id).expect("get"), Some(bytes), "{size} bytes");
        let blob = store.open(&id).expect("open").expect("there");
        assert_eq!(blob.size(), u64::from(size));
    }
}

fn record(name: &str, number: u8) -> Record {
    Record {
        definition: DefinitionKey::from_bytes([number; 32]),
        content: ContentKey::from_bytes([number; 32]),
        facts: vec![Fact::text("instruction", name), Fact::tree("files", tree(number))],
        inputs: vec![tree(number)],
        tree: tree(number),
        payload: vec![number; 5],
        cost: Cost { millis: 7, bytes: 8 },
        slot: Slot(name.to_owned()),
        created: 1_700_000_000,
    }
}

fn tree(number: u8) -> TreeId {
    TreeId::from_bytes([number; 32])
}

/// Records are found under each of their keys and, newest first, under their slot.
pub fn records(store: &dyn RecordStore) {
    let first = record("a", 1);
    let definition = RecordKey::Definition(first.definition);
    assert_eq!(store.find(&definition).expect("find"), None);
    assert!(store.recent(&first.slot).expect("recent").is_empty());

    let alias = RecordKey::Definition(DefinitionKey::from_bytes([99; 32]));
    store.keep(&first, &[alias]).expect("keep");
    for key in [definition, RecordKey::Content(first.content), alias] {
        assert_eq!(store.find(&key).expect("find").as_ref(), Some(&first), "{key:?}");
    }
    // The same bytes as a definition key and as a content key are two keys.
    let other = RecordKey::Content(ContentKey::from_bytes([99; 32]));
    assert_eq!(store.find(&other).expect("find"), None);

    for number in 2..=8 {
        store.keep(&record("a", number), &[]).expect("keep");
    }
    store.keep(&record("b", 50), &[]).expect("keep");
    store.keep(&record("a", 3), &[]).expect("keep again");
    let recent = store.recent(&first.slot).expect("recent");
    let order: Vec<u8> = recent.iter().map(|record| record.payload[0]).collect();
    assert_eq!(order, [3, 8, 7, 6, 5, 4, 2, 1]);
}

/// A key is one caller's at a time; asking for several gives all of them or none.
pub fn claims(store: &dyn RecordStore) {
    let definition = |number| RecordKey::Definition(DefinitionKey::from_bytes([number; 32]));
    let content = RecordKey::Content(ContentKey::from_bytes([1; 32]));
    let is_held = |claim: &Claim| matches!(claim, Claim::Held(_));
    let first = store.claim(&[definition(1), content]).expect("claim");
    assert!(is_held(&first));
    for keys in [&[definition(1)][..], &[content], &[definition(2), content]] {
        let claim = store.claim(keys).expect("claim");
        let own = Some(std::process::id());
        assert!(matches!(claim, Claim::Taken { pid } if pid == own), "{keys:?}: {claim:?}");
    }
    let other = store.claim(&[definition(2)]).expect("nothing of a refused claim stays");
    assert!(is_held(&other));
    drop(first);
    assert!(is_held(&store.claim(&[content, definition(1)]).expect("claim")));
    assert!(!is_held(&store.claim(&[definition(2)]).expect("claim")));
}

/// Names are set, replaced, listed by table and forgotten.
pub fn names(store: &dyn NameStore) {
    assert_eq!(store.name("images", "app").expect("name"), None);
    store.set_name("images", "app", Some(b"1")).expect("set");
    store.set_name("images", "app", Some(b"2")).expect("replace");
    store.set_name("images", "a", Some(b"0")).expect("set");
    store.set_name("image", "sapp", Some(b"3")).expect("set in another table");
    assert_eq!(store.name("images", "app").expect("name"), Some(b"2".to_vec()));
    let all = [("a".to_owned(), b"0".to_vec()), ("app".to_owned(), b"2".to_vec())];
    assert_eq!(store.names("images").expect("names"), all);
    let mut below = Vec::new();
    let mut see = |table: &str, name: &str, value: &[u8]| {
        below.push(format!("{table} {name} {}", String::from_utf8_lossy(value)));
    };
    store.each_name("image", &mut see).expect("each name");
    store.each_name("nothing", &mut see).expect("each name");
    below.sort();
    assert_eq!(below, ["image sapp 3", "images a 0", "images app 2"]);
    store.set_name_soon("images", "app", b"4").expect("replace");
    assert_eq!(store.name("images", "app").expect("name"), Some(b"4".to_vec()));
    store.set_name("images", "app", None).expect("forget");
    store.set_name("images", "app", None).expect("forget again");
    assert_eq!(store.names("images").expect("names"), all[..1]);
}

/// A snapshot is there once it is committed, its files can be read as blobs, and a staging
/// directory that was dropped leaves nothing.
pub fn snapshots<S: SnapshotStore + BlobStore>(store: &S) {
    let layer = LayerId::from_bytes([7; 32]);
    assert_eq!(store.snapshot(&layer).expect("snapshot"), None);
    let staging = store.stage().expect("stage");
    let dropped = staging.path().to_owned();
    drop(staging);
    assert!(!dropped.exists());

    let staging = store.stage().expect("stage");
    let content = vec![b'x'; 70_000];
    std::fs::create_dir(staging.fs().join("d")).expect("create a directory");
    std::fs::write(staging.fs().join("d/big"), &content).expect("write a file");
    let files = [(BlobId::of(&content), TreePath::new("d/big").expect("clean"))];
    let path = store.commit(staging, &layer, &files).expect("commit");
    assert_eq!(store.snapshot(&layer).expect("snapshot"), Some(path.clone()));
    assert_eq!(std::fs::read(path.join("d/big")).expect("read"), content);
    assert!(store.has(&files[0].0).expect("has"));
    assert_eq!(store.get(&files[0].0).expect("get"), Some(content));

    let again = store.stage().expect("stage");
    assert_eq!(store.commit(again, &layer, &[]).expect("commit again"), path);
}
