//! Clearing out: what goes first, until there is room enough.
//!
//! What nothing leads to goes first. Then what the latest build of its project did not use, the
//! oldest first; then copies that are made again from what stays; then cache mounts that nobody
//! uses, from the one that was used longest ago; then, project by project, from the one whose next
//! build is farthest off, what is cheapest to do again for the bytes that it takes. A sweep goes in
//! small pieces, between which builds go on, and never touches what a running process has noted
//! that it uses.

mod order;

use std::collections::HashSet;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use strata_cas::{
    Blob, BlobId, BlobStore, Directory, Layer, LayerId, Link, Links, StoreError, TreeId,
};

use crate::codec::{self, Place};
use crate::database::{Pair, Table};
use crate::gate::Gate;
use crate::held::{HeldFile, Taken};
use crate::inventory::{Entry, Inventory, Item, Role, item_of, size_of_tree};
use crate::layout::Part;
use crate::lease::{self, Used};
use crate::notes::Notes;
use crate::wire::Op;
use crate::{DiskStore, names, records, remove, snapshots, sync};

use order::{Candidate, Target};

/// So many items are removed with the gate closed.
const PIECE: usize = 64;

/// Enough of a blob to tell what it is.
const HEAD_BYTES: u64 = 64;

/// What may be removed, and how much.
#[derive(Debug, Clone, Default)]
pub struct SweepRequest {
    /// Also what the latest builds of their projects use, up to what named images need.
    pub all: bool,
    /// Only what this project has left.
    pub project: Option<String>,
    /// Only what was made before this, in seconds since 1970.
    pub until: Option<u64>,
    /// Only of these kinds; empty for all.
    pub kinds: Vec<Kind>,
    /// Stops when the store takes no more than this many bytes.
    pub keep_bytes: Option<u64>,
    /// Removes nothing, and says what would be removed.
    pub dry_run: bool,
}

/// What can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// What a step gave.
    Record,
    /// A layer made visible for commands.
    Snapshot,
    /// A name that is made again: an image without a name, a compressed layer.
    Derived,
    /// What nothing leads to.
    Leftover,
    /// What commands keep from build to build.
    CacheMount,
    /// What steps have printed.
    Log,
}

/// Why something is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nothing leads to it.
    NothingNeedsIt,
    /// The latest build of its project did without it.
    NotInLatestBuild,
    /// It is a copy, made again when it is needed.
    Copy,
    /// Room was needed; it is a cache that nobody uses at this moment.
    NotInUse {
        /// When it was last asked for, in seconds since 1970.
        last_used: u64,
    },
    /// Room was needed; of all projects, the next build of this one is farthest off.
    LeastLikely {
        /// When that build is expected, in seconds since 1970.
        next_build: u64,
    },
    /// It was asked for.
    Asked,
}

/// Something that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// What it is.
    pub kind: Kind,
    /// Its name for people.
    pub what: String,
    /// The project, where it has one.
    pub project: Option<String>,
    /// What became free with it, in bytes.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
}

/// What a sweep has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// In the order in which it went.
    pub removed: Vec<Removed>,
    /// What the store took before, in bytes.
    pub before_bytes: u64,
    /// Another process sweeps at this moment: nothing was done.
    pub is_busy: bool,
}

impl Swept {
    /// What became free, in bytes.
    pub fn freed_bytes(&self) -> u64 {
        self.removed.iter().map(|removed| removed.bytes).sum()
    }
}

impl DiskStore {
    /// Removes what a request asks for, in the order that costs least. `links` knows what is in
    /// the values that the store keeps for others.
    pub fn sweep(&self, request: &SweepRequest, links: &dyn Links) -> Result<Swept, StoreError> {
        let claim = self.layout.part(Part::Claims).join(lease::SWEEP);
        let action = || StoreError::io(format!("claim `{}`", claim.display()));
        let _claim = match HeldFile::take(&claim).map_err(action())? {
            Taken::Ours(held) => held,
            Taken::Theirs(_) => return Ok(Swept { is_busy: true, ..Swept::default() }),
        };
        let mut notes = Notes::new(&self.layout);
        // Leases that ended during an earlier sweep.
        lease::clean_leases(&self.layout).map_err(action())?;
        // Noted before stock is taken: counted after it, with what is noted meanwhile.
        let stock = self.take_stock(links)?;
        let before_bytes = stock.total_bytes();
        let goal_bytes = request.keep_bytes.map(|keep| before_bytes.saturating_sub(keep));
        let mut sweep = Sweep {
            store: self,
            links,
            pinned: HashSet::new(),
            notes: &mut notes,
            stock,
            moved: Vec::new(),
            is_dry: request.dry_run,
        };
        sweep.heed_notes()?;
        let mut removed = sweep.run(request, goal_bytes)?;
        removed.extend(self.sweep_logs(request)?);
        if !request.dry_run && !removed.is_empty() {
            self.tables.compact()?;
        }
        Ok(Swept { removed, before_bytes, is_busy: false })
    }
}

impl DiskStore {
    /// What steps have printed goes when everything goes, or when it is asked for.
    fn sweep_logs(&self, request: &SweepRequest) -> Result<Vec<Removed>, StoreError> {
        let is_asked = request.kinds.contains(&Kind::Log)
            || (request.all && request.kinds.is_empty() && request.keep_bytes.is_none());
        if !is_asked || request.project.is_some() {
            return Ok(Vec::new());
        }
        let directory = self.layout.part(Part::Logs);
        let action = |path: &Path| StoreError::io(format!("remove `{}`", path.display()));
        let mut removed = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(action(&directory))? {
            let path = entry.map_err(action(&directory))?.path();
            let metadata = std::fs::symlink_metadata(&path).map_err(action(&path))?;
            let is_old = request
                .until
                .is_none_or(|until| u64::try_from(metadata.mtime()).unwrap_or_default() < until);
            if !metadata.is_file() || !is_old {
                continue;
            }
            if !request.dry_run {
                std::fs::remove_file(&path).map_err(action(&path))?;
            }
            let what = format!("log {}", path.file_stem().unwrap_or_default().to_string_lossy());
            let (bytes, reason) = (metadata.blocks() * 512, Reason::Asked);
            removed.push(Removed { kind: Kind::Log, what, project: None, bytes, reason });
        }
        Ok(removed)
    }
}

struct Sweep<'a> {
    store: &'a DiskStore,
    links: &'a dyn Links,
    stock: Inventory,
    pinned: HashSet<Item>,
    notes: &'a mut Notes,
    /// Snapshots that are out of the way and not yet deleted.
    moved: Vec<PathBuf>,
    is_dry: bool,
}

impl Sweep<'_> {
    fn run(
        &mut self,
        request: &SweepRequest,
        goal_bytes: Option<u64>,
    ) -> Result<Vec<Removed>, StoreError> {
        let mut removed = Vec::new();
        let mut freed = 0;
        let is_enough = |freed: u64| goal_bytes.is_some_and(|goal| freed >= goal);
        for candidate in self.candidates(request)? {
            if is_enough(freed) {
                break;
            }
            let bytes = match &candidate.target {
                Target::Cache(key) => self.remove_cache(key)?,
                target => self.remove(target)?,
            };
            let Some(bytes) = bytes else { continue };
            freed += bytes;
            let Candidate { kind, what, project, reason, .. } = candidate;
            removed.push(Removed { kind, what, project, bytes, reason });
        }
        removed.extend(self.remove_dangling(request)?);
        Ok(removed)
    }

    /// Removes a cache that nobody uses; says what became free.
    fn remove_cache(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let directory = self.store.layout.part(Part::Caches);
        let bytes = size_of_tree(&directory.join(key));
        let is_gone = self.is_dry || self.links.remove_cache(&directory, key)?;
        Ok(is_gone.then_some(bytes))
    }

    /// Names that can be made again, of what is gone now.
    fn remove_dangling(&mut self, request: &SweepRequest) -> Result<Vec<Removed>, StoreError> {
        if !request.kinds.is_empty() && !request.kinds.contains(&Kind::Derived) {
            return Ok(Vec::new());
        }
        let dangling = self.stock.names.iter().filter(|((table, name), known)| {
            let item = Item::Name(table.clone(), name.clone());
            let is_unused = self.stock.items.get(&item).is_some_and(|entry| entry.uses == 0);
            let is_gone = |link: &Link| !self.stock.items.contains_key(&item_of(link).0);
            let may_go = !known.is_root && !known.may_dangle && is_unused;
            may_go && known.links.iter().any(is_gone)
        });
        let mut names: Vec<(String, String)> = dangling.map(|(name, _)| name.clone()).collect();
        names.sort();
        let mut removed = Vec::new();
        for (table, name) in names {
            let item = Item::Name(table, name);
            let Some(bytes) = self.remove(&Target::Item(item.clone()))? else { continue };
            let (what, reason) = (what_of(&item), Reason::NothingNeedsIt);
            removed.push(Removed { kind: Kind::Derived, what, project: None, bytes, reason });
        }
        Ok(removed)
    }

    /// Removes something with all that only it leads to; says what became free, or `None` where
    /// somebody uses it.
    fn remove(&mut self, target: &Target) -> Result<Option<u64>, StoreError> {
        let mut rest = vec![target.clone()];
        let mut freed = None;
        while !rest.is_empty() {
            let piece: Vec<Target> = rest.split_off(rest.len().saturating_sub(PIECE));
            self.rescue(&piece)?;
            let gate = if self.is_dry { None } else { Some(Gate::close(&self.store.layout)?) };
            self.heed_notes()?;
            let mut ops = Vec::new();
            for target in piece {
                if let Some(bytes) = self.take_out(&target, &mut ops, &mut rest)? {
                    freed = Some(freed.unwrap_or(0) + bytes);
                }
            }
            if !self.is_dry {
                self.store.tables.apply(ops, false)?;
            }
            drop(gate);
            for path in std::mem::take(&mut self.moved) {
                let action = format!("remove `{}`", path.display());
                remove::tree(&path).map_err(StoreError::io(action))?;
            }
        }
        Ok(freed)
    }

    /// Counts what running processes have noted as used.
    fn heed_notes(&mut self) -> Result<(), StoreError> {
        for used in self.notes.read()? {
            match used {
                Used::Key(key) => {
                    if let Some(id) = self.stock.by_key.get(&key) {
                        self.pinned.insert(Item::Record(*id));
                    }
                }
                Used::Snapshot(layer) => {
                    self.pinned.insert(Item::Snapshot(layer));
                }
                Used::Blob(id) => {
                    if self.pinned.insert(Item::Blob(id)) {
                        let link = self.link_of(&id)?;
                        self.stock.count(self.store, vec![link])?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What a blob is whose role nobody has told.
    fn link_of(&self, id: &BlobId) -> Result<Link, StoreError> {
        let head = match self.store.open(id)? {
            Some(Blob::Bytes(bytes)) => bytes,
            Some(Blob::File { file, .. }) => {
                let mut head = Vec::new();
                let read = file.take(HEAD_BYTES).read_to_end(&mut head);
                read.map_err(StoreError::io(format!("read blob {id}")))?;
                head
            }
            None => return Ok(Link::Blob(*id)),
        };
        Ok(if Directory::is_begun_by(&head) {
            Link::Tree(TreeId::from(*id))
        } else if Layer::is_begun_by(&head) {
            Link::Layer(LayerId::from(*id))
        } else {
            Link::Blob(*id)
        })
    }

    /// Takes one thing out, with the gate closed; what nothing leads to after that comes to
    /// `rest`. `None` when it stays.
    fn take_out(
        &mut self,
        target: &Target,
        ops: &mut Vec<Op<'static>>,
        rest: &mut Vec<Target>,
    ) -> Result<Option<u64>, StoreError> {
        match target {
            Target::Record(id) => self.take_out_record(id, ops, rest),
            Target::Item(item) => self.take_out_item(item, ops, rest),
            // Goes by its own lock, not by the gate.
            Target::Cache(_) => Ok(None),
        }
    }

    fn take_out_record(
        &mut self,
        id: &BlobId,
        ops: &mut Vec<Op<'static>>,
        rest: &mut Vec<Target>,
    ) -> Result<Option<u64>, StoreError> {
        if self.pinned.contains(&Item::Record(*id)) {
            return Ok(None);
        }
        let links = self.stock.links_of_record(id, self.links);
        let Some(known) = self.stock.records.remove(id) else { return Ok(None) };
        for key in &known.keys {
            self.stock.by_key.remove(key);
            ops.push(Op::delete(Table::Records, key.to_bytes().to_vec()));
        }
        ops.push(Op::delete(Table::Records, records::record_key(id).to_vec()));
        let entry = self.stock.items.remove(&Item::Record(*id));
        self.uncount(links, rest);
        Ok(Some(entry.map_or(0, |entry| entry.bytes)))
    }

    fn take_out_item(
        &mut self,
        item: &Item,
        ops: &mut Vec<Op<'static>>,
        rest: &mut Vec<Target>,
    ) -> Result<Option<u64>, StoreError> {
        let Some(entry) = self.stock.items.get(item) else { return Ok(None) };
        let is_used = entry.uses > 0 || self.pinned.contains(item);
        if is_used || self.is_way_to_used(item) || self.is_needed_snapshot(item)? {
            return Ok(None);
        }
        let (bytes, entry) = (entry.bytes, entry.clone());
        let below = self.links_below(item, &entry)?;
        match item {
            Item::Record(_) => return Ok(None),
            Item::Blob(id) => {
                ops.push(Op::delete(Table::Blobs, id.as_bytes().to_vec()));
                ops.push(Op::delete(Table::Chunked, id.as_bytes().to_vec()));
                if !self.is_dry {
                    self.store.files.forget(id)?;
                }
                let snapshot = Item::Snapshot(LayerId::from(*id));
                if self.stock.items.contains_key(&snapshot) {
                    rest.push(Target::Item(snapshot));
                }
            }
            Item::Snapshot(layer) => self.take_out_snapshot(layer, ops)?,
            Item::Name(table, name) => {
                ops.push(Op::delete(Table::Names, names::key(table, name)?));
                self.stock.names.remove(&(table.clone(), name.clone()));
            }
        }
        self.stock.items.remove(item);
        self.uncount(below, rest);
        Ok(Some(bytes))
    }

    /// What a blob or a name leads to, so far as it was counted through it.
    fn links_below(&self, item: &Item, entry: &Entry) -> Result<Vec<Link>, StoreError> {
        let link = match (item, entry.role) {
            (Item::Blob(id), Role::Tree) => Link::Tree(TreeId::from(*id)),
            (Item::Blob(id), Role::Layer) => Link::Layer(LayerId::from(*id)),
            // Not counted so far: it was kept for a name's sake.
            (Item::Blob(id), Role::Left) => self.link_of(id)?,
            (Item::Name(table, name), _) => Link::Name { table: table.clone(), name: name.clone() },
            _ => return Ok(Vec::new()),
        };
        let mut below = self.stock.below(self.store, &link)?;
        if !entry.is_open {
            // Nothing was counted through it, and still it is what has kept the unused ones.
            let is_unused =
                |item: &Item| self.stock.items.get(item).is_some_and(|entry| entry.uses == 0);
            below.retain(|link| is_unused(&item_of(link).0));
        }
        Ok(below)
    }

    /// A name that can be made again stays while a running process has noted a blob that it leads
    /// to: by it the blob is found. One that leads to something that is gone leads nowhere.
    fn is_way_to_used(&self, item: &Item) -> bool {
        let Item::Name(table, name) = item else { return false };
        let Some(known) = self.stock.names.get(&(table.clone(), name.clone())) else {
            return false;
        };
        let items = || known.links.iter().map(|link| item_of(link).0);
        items().any(|item| self.pinned.contains(&item))
            && items().all(|item| self.stock.items.contains_key(&item))
    }

    /// A snapshot is needed while it has the only copy of what something else needs.
    fn is_needed_snapshot(&self, item: &Item) -> Result<bool, StoreError> {
        let Item::Snapshot(layer) = item else { return Ok(false) };
        if self.is_dry {
            return Ok(false);
        }
        for blob in self.stock.places.get(layer).into_iter().flatten() {
            if self.is_used(blob) && !self.has_another_home(blob, layer)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_used(&self, blob: &BlobId) -> bool {
        let item = Item::Blob(*blob);
        let uses = self.stock.items.get(&item).map_or(0, |entry| entry.uses);
        uses > 0 || self.pinned.contains(&item)
    }

    fn has_another_home(&self, blob: &BlobId, layer: &LayerId) -> Result<bool, StoreError> {
        let store = self.store;
        if store.files.has(blob)? || store.tables.get(Table::Blobs, blob.as_bytes())?.is_some() {
            return Ok(true);
        }
        for Pair { key, value, .. } in store.tables.list(Table::Places, blob.as_bytes())? {
            let Some(other) = snapshots::layer_of(&key).filter(|other| other != layer) else {
                continue;
            };
            let Some(place) = codec::decode::<Place>(&value) else { continue };
            if store.open_place(&other, &place)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives what only these snapshots have, and others need, a file of its own: a second name
    /// for the same bytes.
    fn rescue(&self, piece: &[Target]) -> Result<(), StoreError> {
        if self.is_dry {
            return Ok(());
        }
        let mut shards = Vec::new();
        for target in piece {
            let Target::Item(Item::Snapshot(layer)) = target else { continue };
            for blob in self.stock.places.get(layer).into_iter().flatten() {
                if !self.is_used(blob) || self.has_another_home(blob, layer)? {
                    continue;
                }
                let key = snapshots::place_key(blob, layer);
                let Some(value) = self.store.tables.get(Table::Places, &key)? else { continue };
                let Some(place) = codec::decode::<Place>(&value) else { continue };
                let from = self.store.snapshot_file(layer, &place);
                // One that resists keeps its snapshot.
                if self.store.files.link(blob, &from).is_ok() {
                    shards.push(self.store.layout.shard(blob));
                }
            }
        }
        shards.sort();
        shards.dedup();
        sync::paths(&shards, self.store.layout.root())
    }

    fn take_out_snapshot(
        &mut self,
        layer: &LayerId,
        ops: &mut Vec<Op<'static>>,
    ) -> Result<(), StoreError> {
        ops.push(Op::delete(Table::Snapshots, layer.as_bytes().to_vec()));
        for blob in self.stock.places.remove(layer).unwrap_or_default() {
            ops.push(Op::delete(Table::Places, snapshots::place_key(&blob, layer).to_vec()));
        }
        if self.is_dry {
            return Ok(());
        }
        let from = self.store.layout.snapshot(layer);
        let name = from.file_name().unwrap_or_default().to_owned();
        let to = self.store.lease.staging()?.join(name);
        match std::fs::rename(&from, &to) {
            Ok(()) => self.moved.push(to),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(StoreError::io(format!("move `{}` away", from.display()))(error));
            }
        }
        Ok(())
    }

    fn uncount(&mut self, links: Vec<Link>, rest: &mut Vec<Target>) {
        for link in links {
            let (item, _) = item_of(&link);
            let Some(entry) = self.stock.items.get_mut(&item) else { continue };
            entry.uses = entry.uses.saturating_sub(1);
            if entry.uses == 0 {
                rest.push(Target::Item(item));
            }
        }
    }
}

/// What people call an item.
pub(crate) fn what_of(item: &Item) -> String {
    match item {
        Item::Record(id) => format!("record {}", short(id)),
        Item::Blob(id) => format!("blob {}", short(id)),
        Item::Snapshot(layer) => format!("snapshot {}", short(&layer.blob())),
        Item::Name(table, name) => format!("{name} in {table}"),
    }
}

fn short(id: &BlobId) -> String {
    id.to_string()[..12].to_owned()
}
