//! The store against a model in memory: random operations over two open stores that share a
//! directory, with kills and power cuts in between.
//!
//! A kill is played by going on with a copy of the directory as it is at that moment; a power cut
//! by a copy in which every file is cut to what it was when something was last durable, and in
//! which files that are newer are missing.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use strata_cas::{
    BlobId, BlobStore, BuildUse, ContentKey, Cost, DefinitionKey, Link, Links, NameStore, Named,
    Record, RecordKey, RecordStore, Slot, TreeId,
};
use strata_store::{DiskStore, OpenOptions, SweepRequest};

#[derive(Debug, Clone)]
enum Act {
    /// One of the two puts blobs of this size and keeps a record that needs them.
    Keep { store: usize, number: u8, size: usize },
    /// One of the two puts a blob, and nothing refers to it.
    Put { store: usize, size: usize },
    /// One of the two gives a name.
    Name { store: usize, number: u8 },
    /// One of the two takes it back.
    Unname { store: usize, number: u8 },
    /// A build ends that has used these.
    Build { store: usize, used: Vec<u8> },
    /// One of the two sweeps.
    Sweep { store: usize, all: bool },
    /// One of the two ends and begins again.
    Reopen { store: usize },
    /// Both are killed.
    Kill,
    /// The power is cut.
    PowerCut,
}

fn act() -> impl Strategy<Value = Act> {
    let store = 0..2_usize;
    prop_oneof![
        6 => (store.clone(), 0..12_u8, prop::sample::select(vec![10, 5_000, 16_385, 60_000]))
            .prop_map(|(store, number, size)| Act::Keep { store, number, size }),
        2 => (store.clone(), prop::sample::select(vec![100, 20_000, 1_500_000]))
            .prop_map(|(store, size)| Act::Put { store, size }),
        2 => (store.clone(), 0..4_u8).prop_map(|(store, number)| Act::Name { store, number }),
        1 => (store.clone(), 0..4_u8).prop_map(|(store, number)| Act::Unname { store, number }),
        2 => (store.clone(), prop::collection::vec(0..12_u8, 0..6))
            .prop_map(|(store, used)| Act::Build { store, used }),
        1 => (store.clone(), any::<bool>()).prop_map(|(store, all)| Act::Sweep { store, all }),
        2 => store.prop_map(|store| Act::Reopen { store }),
        1 => Just(Act::Kill),
        1 => Just(Act::PowerCut),
    ]
}

fn content(number: u8, size: usize) -> Vec<u8> {
    let name = BlobId::of(&[number]);
    name.as_bytes().iter().copied().cycle().take(size).collect()
}

fn record(number: u8, size: usize) -> Record {
    let mut key = [number; 32];
    key[1] = 1;
    let blob = BlobId::of(&content(number, size));
    Record {
        definition: DefinitionKey::from_bytes(key),
        content: ContentKey::from_bytes(key),
        facts: Vec::new(),
        inputs: Vec::new(),
        tree: TreeId::from_bytes(*blob.as_bytes()),
        payload: size.to_le_bytes().to_vec(),
        cost: Cost { millis: u64::from(number), bytes: size as u64 },
        slot: Slot("project".to_owned()),
        created: u64::from(number),
    }
}

/// A record leads to its blob alone; a name to nothing.
struct PlainLinks;

impl Links for PlainLinks {
    fn of_record(&self, record: &Record) -> Vec<Link> {
        vec![Link::Blob(record.tree.blob())]
    }

    fn of_name(&self, _: &str, _: &str, _: &[u8]) -> Named {
        Named::Root(Vec::new())
    }

    fn project_of(&self, record: &Record) -> String {
        record.slot.0.clone()
    }

    fn title_of(&self, record: &Record) -> String {
        format!("record {}", record.created)
    }
}

/// What must be there, and what may be.
#[derive(Debug, Default)]
struct Model {
    /// Records by number, with their sizes.
    kept: BTreeMap<u8, usize>,
    /// Those that a sweep may have taken.
    doubtful: BTreeMap<u8, usize>,
    names: BTreeMap<String, Vec<u8>>,
    /// What the latest build has used.
    used: Vec<u8>,
}

struct World {
    home: tempfile::TempDir,
    round: usize,
    stores: Vec<Option<DiskStore>>,
    /// The sizes of all files when something was last durable.
    durable: HashMap<PathBuf, u64>,
}

fn files(root: &Path) -> Vec<PathBuf> {
    let (mut rest, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(&directory).expect("list") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { rest.push(path) } else { files.push(path) }
        }
    }
    files
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let mut world = Self { home, round: 0, stores: vec![None, None], durable: HashMap::new() };
        world.open();
        world
    }

    fn root(&self) -> PathBuf {
        self.home.path().join(self.round.to_string())
    }

    fn open(&mut self) {
        for at in 0..2 {
            let store = DiskStore::open(&self.root(), OpenOptions::default()).expect("open");
            self.stores[at] = Some(store);
        }
        self.remember();
    }

    fn store(&self, at: usize) -> &DiskStore {
        self.stores[at].as_ref().expect("it is open")
    }

    fn remember(&mut self) {
        let root = self.root();
        let size = |path: PathBuf| {
            let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            (path.strip_prefix(&root).expect("below").to_owned(), size)
        };
        self.durable = files(&root).into_iter().map(size).collect();
    }

    /// Goes on with a copy of the directory, as a kill or a power cut leaves it.
    fn crash(&mut self, is_power_cut: bool) {
        let from = self.root();
        self.round += 1;
        let to = self.root();
        for path in files(&from) {
            let name = path.strip_prefix(&from).expect("below").to_owned();
            let Ok(mut bytes) = fs::read(&path) else { continue };
            // RocksDB syncs all but its log before it refers to it.
            let is_lossy =
                !name.starts_with("db-1") || name.extension().is_some_and(|end| end == "log");
            if is_power_cut && is_lossy {
                // Empty files make directories what they are, and are never written again.
                match self.durable.get(&name) {
                    Some(size) => bytes.truncate(usize::try_from(*size).expect("small")),
                    None => continue,
                }
            }
            let target = to.join(&name);
            fs::create_dir_all(target.parent().expect("a directory")).expect("create");
            fs::write(target, bytes).expect("copy");
        }
        for store in &mut self.stores {
            *store = None;
        }
        self.open();
    }
}

fn check(world: &World, model: &Model) {
    for at in 0..2 {
        let store = world.store(at);
        for (number, size) in &model.kept {
            let expected = record(*number, *size);
            let found = store.find(&RecordKey::Definition(expected.definition)).expect("find");
            assert_eq!(found.as_ref(), Some(&expected), "record {number}");
            let blob = store.get(&expected.tree.blob()).expect("get");
            assert_eq!(blob, Some(content(*number, *size)), "the blob of record {number}");
        }
        for (number, size) in &model.doubtful {
            let expected = record(*number, *size);
            if let Some(found) = store.find(&RecordKey::Content(expected.content)).expect("find") {
                assert_eq!(found, expected);
                let blob = store.get(&expected.tree.blob()).expect("get");
                assert_eq!(blob, Some(content(*number, *size)), "what a record needs is there");
            }
        }
        let names: BTreeMap<String, Vec<u8>> =
            store.names("t").expect("names").into_iter().collect();
        assert_eq!(names, model.names);
    }
    let checkup = world.store(0).check(&PlainLinks, false).expect("check");
    // The trees of these records are no trees.
    let damages = checkup.damages.iter().filter(|damage| damage.kind != "record");
    assert_eq!(damages.count(), 0, "{checkup:?}");
}

fn play(world: &mut World, model: &mut Model, act: Act) {
    match act {
        Act::Keep { store, number, size } => {
            let store = world.store(store);
            store.put(&content(number, size)).expect("put");
            store.keep(&record(number, size), &[]).expect("keep");
            model.doubtful.remove(&number);
            model.kept.insert(number, size);
            world.remember();
        }
        // It is durable once a record is; until then a power cut may take it.
        Act::Put { store, size } => {
            world.store(store).put(&content(200, size)).expect("put");
        }
        Act::Name { store, number } => {
            let name = number.to_string();
            world.store(store).set_name("t", &name, Some(&[number])).expect("set");
            model.names.insert(name, vec![number]);
            world.remember();
        }
        Act::Unname { store, number } => {
            let name = number.to_string();
            world.store(store).set_name("t", &name, None).expect("forget");
            model.names.remove(&name);
            world.remember();
        }
        Act::Build { store, used } => {
            let known = used.iter().filter_map(|number| {
                model.kept.get(number).map(|size| record(*number, *size).definition)
            });
            let steps: Vec<DefinitionKey> = known.collect();
            let build = BuildUse { project: "project", target: "", steps: &steps, ended: 1_000 };
            world.store(store).finish_build(&build).expect("remembered");
            model.used = used;
            world.remember();
        }
        Act::Sweep { store, all } => {
            let request = SweepRequest { all, ..SweepRequest::default() };
            let swept = world.store(store).sweep(&request, &PlainLinks).expect("sweep");
            assert!(!swept.is_busy);
            let goes = |number: &u8| all || !model.used.contains(number);
            let gone: Vec<u8> = model.kept.keys().copied().filter(goes).collect();
            for number in gone {
                let size = model.kept.remove(&number).expect("it was kept");
                model.doubtful.insert(number, size);
            }
            world.remember();
        }
        Act::Reopen { store } => {
            world.stores[store] = None;
            let opened = DiskStore::open(&world.root(), OpenOptions::default()).expect("open");
            world.stores[store] = Some(opened);
            world.remember();
        }
        Act::Kill => world.crash(false),
        Act::PowerCut => world.crash(true),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None,
        max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_store_keeps_what_the_model_keeps(acts in prop::collection::vec(act(), 1..14)) {
        let (mut world, mut model) = (World::new(), Model::default());
        for act in acts {
            play(&mut world, &mut model, act);
            check(&world, &model);
        }
    }
}
