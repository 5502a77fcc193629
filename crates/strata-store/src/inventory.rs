//! What is in a store, what it weighs, and what leads to what: counted from the truth each time,
//! so there is no count that a crash could leave wrong.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strata_cas::{
    BlobId, BlobStore, DefinitionKey, Directory, FactValue, Layer, LayerId, Link, Links, Named,
    Node, Record, RecordKey, StoreError, TreeId,
};

use crate::builds::{self, ProjectBuilds};
use crate::codec::{self, Committed, Named as NamedValue, Pointer};
use crate::database::Table;
use crate::layout::{Layout, Part};
use crate::{DiskStore, names, snapshots};

/// What a file takes on disk is a multiple of this.
const BLOCK_BYTES: u64 = 4096;

/// Something that can be removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Item {
    /// A record, by the name of its bytes.
    Record(BlobId),
    /// A blob: a tree node, a layer's value, a file's content, what came from a registry.
    Blob(BlobId),
    /// A layer's snapshot.
    Snapshot(LayerId),
    /// A name in a table.
    Name(String, String),
}

/// What it is there for, as people know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    Tree,
    Layer,
    File,
    Name,
    /// Nothing leads to it.
    Left,
}

/// What is known of an item.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) bytes: u64,
    pub(crate) role: Role,
    /// How many items, names and notes of running processes lead to it.
    pub(crate) uses: u32,
    /// What it leads to has been counted.
    pub(crate) is_open: bool,
}

/// A record with what the sweep wants to know of it.
#[derive(Debug, Clone)]
pub(crate) struct KnownRecord {
    pub(crate) record: Record,
    pub(crate) project: String,
    /// When the next build is expected that uses it, in seconds since 1970; none where no latest
    /// build has used it.
    pub(crate) next_use: Option<u64>,
    pub(crate) keys: Vec<RecordKey>,
}

/// A name with what it leads to.
#[derive(Debug, Clone)]
pub(crate) struct KnownName {
    pub(crate) is_root: bool,
    /// Whether what it leads to need not be here.
    pub(crate) may_dangle: bool,
    pub(crate) links: Vec<Link>,
    /// When it was of use last, in seconds since 1970, where that is known.
    pub(crate) used: u64,
}

/// All that is in a store.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) items: HashMap<Item, Entry>,
    pub(crate) records: HashMap<BlobId, KnownRecord>,
    pub(crate) by_key: HashMap<RecordKey, BlobId>,
    pub(crate) names: HashMap<(String, String), KnownName>,
    /// Snapshots that hold the only copy of nothing.
    pub(crate) copies: HashSet<LayerId>,
    /// Which blobs the others have.
    pub(crate) places: HashMap<LayerId, Vec<BlobId>>,
    pub(crate) builds: Vec<ProjectBuilds>,
    /// What large blobs take as files.
    pub(crate) file_bytes: u64,
    /// What is in the store's directories that are not items: by the directory's name.
    pub(crate) other_bytes: Vec<(&'static str, u64)>,
}

impl DiskStore {
    /// Takes stock. `links` knows what is in payloads and names.
    pub(crate) fn take_stock(&self, links: &dyn Links) -> Result<Inventory, StoreError> {
        self.settle()?;
        self.tables.refresh()?;
        let mut stock = Inventory { builds: builds::all(&self.layout)?, ..Inventory::default() };
        self.weigh_blobs(&mut stock)?;
        self.read_records(&mut stock, links)?;
        self.read_names(&mut stock, links)?;
        self.read_snapshots(&mut stock)?;
        for part in [Part::Caches, Part::Logs, Part::Stamps, Part::Staging, Part::Database] {
            stock.other_bytes.push((part.name(), size_of_tree(&self.layout.part(part))));
        }
        let records: Vec<BlobId> = stock.records.keys().copied().collect();
        for id in records {
            let links = stock.links_of_record(&id, links);
            stock.count(self, links)?;
        }
        let roots = stock.names.values().filter(|name| name.is_root);
        let roots: Vec<Link> = roots.flat_map(|name| name.links.clone()).collect();
        stock.count(self, roots)?;
        Ok(stock)
    }

    fn weigh_blobs(&self, stock: &mut Inventory) -> Result<(), StoreError> {
        let mut take = |pairs: Vec<crate::database::Pair>| {
            for pair in pairs {
                if let Ok(id) = <[u8; 32]>::try_from(&pair.key[..]) {
                    stock.weigh(Item::Blob(BlobId::from_bytes(id)), pair.size + 32);
                }
            }
        };
        self.tables.pages(Table::Blobs, b"", true, &mut take)?;
        self.tables.pages(Table::Chunked, b"", true, &mut take)?;
        for_each_blob_file(&self.layout, &mut |id, metadata| {
            let bytes = metadata.blocks() * 512;
            stock.file_bytes += bytes;
            stock.weigh(Item::Blob(id), bytes);
        })
    }

    fn read_records(&self, stock: &mut Inventory, links: &dyn Links) -> Result<(), StoreError> {
        let now = now();
        let mut uses: HashMap<DefinitionKey, u64> = HashMap::new();
        for build in &stock.builds {
            let next = build.next(now);
            for step in &build.steps {
                let use_of = uses.entry(*step).or_insert(next);
                *use_of = next.min(*use_of);
            }
        }
        let mut pointers = Vec::new();
        let mut take = |pairs: Vec<crate::database::Pair>| {
            for pair in pairs {
                let Some((kind, id)) = pair.key.split_first() else { continue };
                let Ok(id) = <[u8; 32]>::try_from(id) else { continue };
                if *kind != b'r' {
                    if let Some(pointer) = codec::decode::<Pointer>(&pair.value) {
                        pointers.push((*kind, id, pointer.record));
                    }
                    continue;
                }
                let id = BlobId::from_bytes(id);
                stock.weigh(Item::Record(id), pair.size + 33);
                let whole = (BlobId::of(&pair.value) == id).then_some(&pair.value);
                let Some(record) = whole.and_then(|bytes| codec::decode::<Record>(bytes)) else {
                    continue;
                };
                let project = links.project_of(&record);
                let known = KnownRecord { record, project, next_use: None, keys: Vec::new() };
                stock.records.insert(id, known);
            }
        };
        self.tables.pages(Table::Records, b"", false, &mut take)?;
        for (kind, id, record) in pointers {
            let Some(key) = RecordKey::from_parts(kind, id) else { continue };
            let Some(known) = stock.records.get_mut(&record) else { continue };
            known.keys.push(key);
            if let RecordKey::Definition(definition) = key {
                let next_uses = [known.next_use, uses.get(&definition).copied()];
                known.next_use = next_uses.into_iter().flatten().min();
            }
            stock.by_key.insert(key, record);
        }
        Ok(())
    }

    fn read_names(&self, stock: &mut Inventory, links: &dyn Links) -> Result<(), StoreError> {
        let mut take = |pairs: Vec<crate::database::Pair>| {
            for pair in pairs {
                let Some((table, name)) = names::split(&pair.key) else { continue };
                let Some(value) = codec::decode::<NamedValue<'_>>(&pair.value) else { continue };
                let used = links.used(&table, value.value);
                let (is_root, may_dangle, links) = match links.of_name(&table, &name, value.value) {
                    Named::Root(links) => (true, false, links),
                    Named::Derived(links) => (false, false, links),
                    Named::Cached(links) => (false, true, links),
                };
                stock.weigh(Item::Name(table.clone(), name.clone()), pair.size);
                stock.names.insert((table, name), KnownName { is_root, may_dangle, links, used });
            }
        };
        self.tables.pages(Table::Names, b"", false, &mut take)
    }

    fn read_snapshots(&self, stock: &mut Inventory) -> Result<(), StoreError> {
        for pair in self.tables.list(Table::Snapshots, b"")? {
            let Ok(layer) = <[u8; 32]>::try_from(&pair.key[..]) else { continue };
            let layer = LayerId::from_bytes(layer);
            let files = codec::decode::<Committed>(&pair.value).map_or(0, |known| known.files);
            if files == 0 {
                stock.copies.insert(layer);
            }
            let bytes = self.layer(&layer)?.map_or(BLOCK_BYTES, |layer| on_disk(&layer));
            stock.weigh(Item::Snapshot(layer), bytes);
        }
        let mut take = |pairs: Vec<crate::database::Pair>| {
            for pair in pairs {
                let blob = pair.key.get(..32).and_then(|id| <[u8; 32]>::try_from(id).ok());
                if let (Some(blob), Some(layer)) = (blob, snapshots::layer_of(&pair.key)) {
                    stock.places.entry(layer).or_default().push(BlobId::from_bytes(blob));
                }
            }
        };
        self.tables.pages(Table::Places, b"", true, &mut take)
    }

    pub(crate) fn layer(&self, id: &LayerId) -> Result<Option<Layer>, StoreError> {
        let bytes = self.get(&id.blob())?;
        Ok(bytes.and_then(|bytes| Layer::decode(&bytes).ok()))
    }

    fn directory(&self, id: &TreeId) -> Result<Option<Directory>, StoreError> {
        let bytes = self.get(&id.blob())?;
        Ok(bytes.and_then(|bytes| Directory::decode(&bytes).ok()))
    }
}

impl Inventory {
    fn weigh(&mut self, item: Item, bytes: u64) {
        let new = Entry { bytes: 0, role: Role::Left, uses: 0, is_open: false };
        let entry = self.items.entry(item).or_insert(new);
        // A blob in two homes takes both.
        entry.bytes += bytes;
    }

    /// What a record leads to: what it gave, and what reasons are worded with.
    pub(crate) fn links_of_record(&self, id: &BlobId, links: &dyn Links) -> Vec<Link> {
        let Some(known) = self.records.get(id) else { return Vec::new() };
        let record = &known.record;
        let facts = record.facts.iter().filter_map(|fact| match fact.value {
            FactValue::Tree(tree) => Some(Link::Tree(tree)),
            FactValue::Text(_) => None,
        });
        let trees = record.inputs.iter().map(|tree| Link::Tree(*tree));
        let mut all = links.of_record(record);
        all.push(Link::Tree(record.tree));
        all.extend(facts.chain(trees));
        all
    }

    /// Counts one more use of each, and of all that they lead to where it is the first.
    pub(crate) fn count(&mut self, store: &DiskStore, links: Vec<Link>) -> Result<(), StoreError> {
        let mut rest = links;
        while let Some(link) = rest.pop() {
            let (item, role) = item_of(&link);
            // A blob that only a snapshot has weighs nothing by itself.
            let new = Entry { bytes: 0, role, uses: 0, is_open: false };
            let entry = self.items.entry(item).or_insert(new);
            entry.uses += 1;
            if entry.role == Role::Left {
                entry.role = role;
            }
            if !std::mem::replace(&mut entry.is_open, true) {
                rest.extend(self.below(store, &link)?);
            }
        }
        Ok(())
    }

    /// What something leads to.
    pub(crate) fn below(&self, store: &DiskStore, link: &Link) -> Result<Vec<Link>, StoreError> {
        let pieces = |id: BlobId| -> Result<Vec<Link>, StoreError> {
            let pieces = store.pieces(&id)?.map(|kept| kept.pieces).unwrap_or_default();
            Ok(pieces.into_iter().map(Link::Blob).collect())
        };
        Ok(match link {
            Link::Blob(_) => Vec::new(),
            Link::Tree(id) => {
                let mut below = pieces(id.blob())?;
                let entries = store.directory(id)?.map(|node| node.entries).unwrap_or_default();
                let tree = |node: Node| match node {
                    Node::Directory(tree) => Some(Link::Tree(tree)),
                    _ => None,
                };
                below.extend(entries.into_values().filter_map(tree));
                below
            }
            Link::Layer(id) => {
                let mut below = pieces(id.blob())?;
                if let Some(layer) = store.layer(id)? {
                    below.extend(layer.blobs().map(|(blob, _)| Link::Blob(blob)));
                }
                below
            }
            Link::Name { table, name } => {
                let known = self.names.get(&(table.clone(), name.clone()));
                known.map(|known| known.links.clone()).unwrap_or_default()
            }
        })
    }

    /// What all items weigh, and all that is no item.
    pub(crate) fn total_bytes(&self) -> u64 {
        // What is in the database weighs what the database weighs.
        let snapshots = self.items.iter().filter(|(item, _)| matches!(item, Item::Snapshot(_)));
        snapshots.map(|(_, entry)| entry.bytes).sum::<u64>()
            + self.file_bytes
            + self.other_bytes.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// What a link leads to first, and as what.
pub(crate) fn item_of(link: &Link) -> (Item, Role) {
    match link {
        Link::Tree(id) => (Item::Blob(id.blob()), Role::Tree),
        Link::Layer(id) => (Item::Blob(id.blob()), Role::Layer),
        Link::Blob(id) => (Item::Blob(*id), Role::File),
        Link::Name { table, name } => (Item::Name(table.clone(), name.clone()), Role::Name),
    }
}

/// What a layer's files take as files.
pub(crate) fn on_disk(layer: &Layer) -> u64 {
    let files = layer.blobs().map(|(_, size)| size.next_multiple_of(BLOCK_BYTES));
    // The directories above them.
    files.sum::<u64>() + 2 * BLOCK_BYTES
}

/// Shows each large blob's file.
pub(crate) fn for_each_blob_file(
    layout: &Layout,
    take: &mut dyn FnMut(BlobId, &fs::Metadata),
) -> Result<(), StoreError> {
    let blobs = layout.part(Part::Blobs);
    let action = |path: &Path| StoreError::io(format!("read `{}`", path.display()));
    for shard in fs::read_dir(&blobs).map_err(action(&blobs))? {
        let shard = shard.map_err(action(&blobs))?;
        let first = shard.file_name().to_string_lossy().into_owned();
        for entry in fs::read_dir(shard.path()).map_err(action(&shard.path()))? {
            let entry = entry.map_err(action(&shard.path()))?;
            let name = format!("{first}{}", entry.file_name().to_string_lossy());
            let Ok(id) = name.parse::<BlobId>() else { continue };
            match entry.metadata() {
                Ok(metadata) => take(id, &metadata),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(action(&entry.path())(error)),
            }
        }
    }
    Ok(())
}

/// What a directory takes on disk. What vanishes meanwhile, or can not be read, takes nothing.
pub(crate) fn size_of_tree(path: &Path) -> u64 {
    let (mut rest, mut seen, mut bytes) = (vec![path.to_owned()], HashSet::new(), 0);
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.nlink() < 2
                || metadata.is_dir()
                || seen.insert((metadata.dev(), metadata.ino()))
            {
                bytes += metadata.blocks() * 512;
            }
            if metadata.is_dir() {
                rest.push(entry.path());
            }
        }
    }
    bytes
}

pub(crate) fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
