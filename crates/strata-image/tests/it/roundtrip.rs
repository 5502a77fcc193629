//! Random layers: packed, unpacked, materialised.

use std::collections::BTreeMap;

use crate::support::{form, is_root, pack, show, temporary, unpack_in};
use proptest::prelude::*;
use strata_cas::{
    Action, BlobStore, Change, Device, Item, Layer, MemoryStore, Metadata, Time, TreePath,
};
use strata_image::materialise;

/// Names that have been trouble somewhere.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let mut names: Vec<Vec<u8>> = ["a", "b", "c", "a.b", "..a", "-n", "a b", "a\nb", "ü", "\\303"]
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    names.push(b"\xff\xfe".to_vec());
    names.push(vec![b'n'; 99]);
    names.push(vec![b'm'; 140]);
    names.push(vec![b'o'; 255]);
    prop::sample::select(names)
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let id = prop_oneof![0..3000_u32, 2_097_150..2_097_154_u32, Just(u32::MAX - 1)];
    let key = prop::sample::select(vec![&b"user.a"[..], b"user.b c", b"security.x"]);
    let xattrs = prop::collection::btree_map(
        key.prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..40),
        0..3,
    );
    (0..0o10000_u32, id.clone(), id, xattrs).prop_map(|(mode, uid, gid, xattrs)| Metadata {
        mode,
        uid,
        gid,
        xattrs,
    })
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![0..2_000_000_000_i64, -100..100_i64, Just((1 << 33) + 7), Just(1 << 40)]
        .prop_map(Time)
}

#[derive(Debug, Clone)]
enum Kind {
    Remove,
    Directory(bool),
    File(Vec<u8>),
    Link(prop::sample::Index),
    Symlink(Vec<u8>),
    Device(Device),
}

fn kind() -> impl Strategy<Value = Kind> {
    let target = prop_oneof!["[a-z./]{1,30}", "[a-z]{101,120}", "ü/[a-z]{1,4}"];
    prop_oneof![
        1 => Just(Kind::Remove),
        2 => any::<bool>().prop_map(Kind::Directory),
        4 => prop::collection::vec(any::<u8>(), 0..1500).prop_map(Kind::File),
        2 => any::<prop::sample::Index>().prop_map(Kind::Link),
        1 => target.prop_map(|target| Kind::Symlink(target.into_bytes())),
        1 => prop_oneof![
            Just(Device::Fifo),
            (1..4096_u32, 0..1_048_576_u32).prop_map(|(a, b)| Device::Character(a, b)),
            (1..4096_u32, 0..1_048_576_u32).prop_map(|(a, b)| Device::Block(a, b)),
        ].prop_map(Kind::Device),
    ]
}

type Wish = (Vec<Vec<u8>>, Kind, Metadata, Time);

fn wish() -> impl Strategy<Value = Wish> {
    (prop::collection::vec(name(), 1..4), kind(), metadata(), time())
}

/// Makes wishes a layer that says everything itself: parents are there and are directories.
fn layer(wishes: Vec<Wish>, store: &MemoryStore) -> Layer {
    let mut set: BTreeMap<TreePath, Change> = BTreeMap::new();
    let parent = |path: TreePath| {
        let (item, metadata) = (Item::Directory { opaque: false }, Metadata::root(0o755));
        Change { path, action: Action::Set { item, metadata, modified: Time(0) } }
    };
    let mut files: Vec<Change> = Vec::new();
    for (names, kind, metadata, modified) in wishes {
        let path = TreePath::new(names.join(&b'/')).expect("clean");
        let (mut metadata, mut modified) = (metadata, modified);
        let item = match kind {
            Kind::Remove => None,
            Kind::Directory(opaque) => Some(Item::Directory { opaque }),
            Kind::File(content) => {
                let blob = store.put(&content).expect("put");
                Some(Item::File { blob, size: content.len() as u64 })
            }
            Kind::Link(index) => {
                let earlier: Vec<&Change> = files.iter().filter(|file| file.path < path).collect();
                if earlier.is_empty() {
                    continue;
                }
                let to = index.get(&earlier);
                let Action::Set { metadata: of, modified: at, .. } = &to.action else { continue };
                (metadata, modified) = (of.clone(), *at);
                Some(Item::HardLink { to: to.path.clone() })
            }
            Kind::Symlink(target) => {
                // The only mode that Linux has for one.
                metadata.mode = 0o777;
                Some(Item::Symlink { target })
            }
            Kind::Device(device) => Some(Item::Device(device)),
        };
        // What is there stays, and no file becomes a directory.
        let ancestors = path.ancestors();
        let is_directory = |path: &TreePath| {
            set.get(path).is_none_or(|change| {
                matches!(change.action, Action::Set { item: Item::Directory { .. }, .. })
            })
        };
        if set.contains_key(&path) || !ancestors.iter().all(is_directory) {
            continue;
        }
        for directory in ancestors.into_iter().filter(|path| !path.is_root()) {
            set.entry(directory.clone()).or_insert_with(|| parent(directory));
        }
        let action = match item {
            Some(item) => Action::Set { item, metadata, modified },
            None => Action::Remove,
        };
        let change = Change { path: path.clone(), action };
        if matches!(change.action, Action::Set { item: Item::File { .. }, .. }) {
            files.push(change.clone());
        }
        set.insert(path, change);
    }
    Layer::new(set.into_values().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn unpacking_undoes_packing(wishes in prop::collection::vec(wish(), 0..14)) {
        let store = MemoryStore::default();
        let layer = layer(wishes, &store);
        let tar = pack(&layer, &store);
        prop_assert_eq!(tar.len() % 512, 0);
        let outer = temporary();
        let unpacked = unpack_in(outer.path(), &tar).expect("unpack");
        prop_assert_eq!(&unpacked.layer, &layer);
        let other = temporary();
        materialise(&layer, &store, other.path(), form()).expect("materialise");
        if !is_root() {
            return Ok(()); // It can not look into all of what it made.
        }
        // Times beyond what a file system holds are cut off, by both ways in the same way; the
        // top directory is not the layer's unless it sets it.
        let lines = |text: String| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(lines(show(&outer.path().join("fs"))), lines(show(other.path())));
    }
}
