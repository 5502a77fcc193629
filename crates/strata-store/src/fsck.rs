//! Looking for damage, and mending it: what does not match its name, or is not whole, is removed,
//! so that it is made again when it is needed. Nothing sound is touched.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use strata_cas::{
    Blob, BlobId, BlobStore, LayerId, Link, Links, Named, Record, SnapshotStore, StoreError,
};

use crate::codec::{self, Inline, Named as NamedValue, Place, Pointer, Recent};
use crate::database::{Database, Pair, Table};
use crate::inventory::{Item, item_of};
use crate::layout::{Layout, Part};
use crate::lock::StoreLock;
use crate::sweep::what_of;
use crate::wire::Op;
use crate::{DiskStore, OpenError, OpenOptions, names, remove, snapshots};

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkup {
    /// How many things were looked at, by kind.
    pub checked: BTreeMap<&'static str, u64>,
    /// What is wrong.
    pub damages: Vec<Damage>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What kind of thing: `blob`, `snapshot`, `record`, `name`, `database`.
    pub kind: &'static str,
    /// Which one.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
    /// Whether it was mended.
    pub is_mended: bool,
}

impl DiskStore {
    /// Reads everything in the store and compares it with its name. With `repair`, what is
    /// damaged is removed.
    pub fn check(&self, links: &dyn Links, repair: bool) -> Result<Checkup, StoreError> {
        self.settle()?;
        self.tables.refresh()?;
        let checkup = Checkup::default();
        let (sound, elsewhere) = (HashSet::new(), HashSet::new());
        let mut check = Check { store: self, repair, checkup, sound, elsewhere };
        check.small_blobs()?;
        check.pieces()?;
        check.large_blobs()?;
        check.snapshots()?;
        check.learn_what_is_elsewhere(links)?;
        let records = check.records(links)?;
        check.pointers(&records)?;
        check.slots()?;
        check.names(links)?;
        check.builds()?;
        Ok(check.checkup)
    }
}

/// Mends a database that does not open any more, or fails, as far as that can be done: what it
/// can not give back is forgotten.
///
/// # Errors
///
/// When another process has the database open, or the disk refuses.
pub fn mend_database(
    root: &Path,
    problem: &str,
    options: &OpenOptions<'_>,
) -> Result<Damage, OpenError> {
    let layout = Layout::claim(root)?;
    layout.fill()?;
    let busy = || OpenError::Busy { path: root.to_owned(), waited: options.wait_limit };
    let _lock = StoreLock::take(&layout)?.ok_or_else(busy)?;
    let path = layout.part(Part::Database);
    let damage = |outcome: &str| Damage {
        kind: "database",
        what: path.display().to_string(),
        problem: format!("{problem}; {outcome}"),
        is_mended: true,
    };
    if Database::repair(&layout).is_ok() && Database::open(&layout).is_ok_and(|it| it.is_sound()) {
        return Ok(damage("what it still had is kept"));
    }
    remove::tree(&path).map_err(OpenError::io("remove", &path))?;
    layout.fill()?;
    Database::open(&layout)?;
    Ok(damage("it begins anew, without the names of images"))
}

/// What of each link, or of what it leads to, is missing.
type Seen = HashMap<Link, Option<String>>;

struct Check<'a> {
    store: &'a DiskStore,
    repair: bool,
    checkup: Checkup,
    /// Blobs of which a sound copy was seen.
    sound: HashSet<BlobId>,
    /// What need not be here.
    elsewhere: HashSet<Link>,
}

impl Check<'_> {
    fn looked_at(&mut self, kind: &'static str, count: usize) {
        *self.checkup.checked.entry(kind).or_default() += count as u64;
    }

    fn damaged(&mut self, kind: &'static str, what: String, problem: impl Into<String>) {
        let (problem, is_mended) = (problem.into(), self.repair);
        self.checkup.damages.push(Damage { kind, what, problem, is_mended });
    }

    fn forget(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        if self.repair { self.store.tables.delete(table, key) } else { Ok(()) }
    }

    /// Shows all of a table.
    fn each(
        &mut self,
        table: Table,
        mut look: impl FnMut(&mut Self, &Pair) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let store = self.store;
        let mut result = Ok(());
        let mut take = |pairs: Vec<Pair>| {
            for pair in pairs {
                if result.is_ok() {
                    result = look(self, &pair);
                }
            }
        };
        store.tables.pages(table, b"", false, &mut take)?;
        result
    }

    fn small_blobs(&mut self) -> Result<(), StoreError> {
        self.each(Table::Blobs, |check, pair| {
            check.looked_at("blobs", 1);
            let id = <[u8; 32]>::try_from(&pair.key[..]).map(BlobId::from_bytes);
            let value = codec::decode::<Inline<'_>>(&pair.value);
            match (id, value) {
                (Ok(id), Some(value)) if BlobId::of(value.bytes) == id => {
                    check.sound.insert(id);
                    return Ok(());
                }
                (Ok(id), _) => {
                    check.damaged("blob", id.to_string(), "its bytes do not match its name");
                }
                (Err(_), _) => {
                    check.damaged("blob", format!("{:?}", pair.key), "it has no name");
                }
            }
            check.forget(Table::Blobs, &pair.key)
        })
    }

    /// After the pieces themselves.
    fn pieces(&mut self) -> Result<(), StoreError> {
        self.each(Table::Chunked, |check, pair| {
            check.looked_at("blobs", 1);
            let id = <[u8; 32]>::try_from(&pair.key[..]).map(BlobId::from_bytes);
            if let Ok(id) = id
                && check.store.get_chunked(&id)?.is_some()
            {
                check.sound.insert(id);
                return Ok(());
            }
            let what = id.map_or_else(|_| format!("{:?}", pair.key), |id| id.to_string());
            check.damaged("blob", what, "one of its pieces is damaged or gone");
            check.forget(Table::Chunked, &pair.key)
        })
    }

    fn large_blobs(&mut self) -> Result<(), StoreError> {
        let blobs = self.store.layout.part(Part::Blobs);
        let action = |path: &Path| StoreError::io(format!("read `{}`", path.display()));
        for shard in fs::read_dir(&blobs).map_err(action(&blobs))? {
            let shard = shard.map_err(action(&blobs))?;
            let first = shard.file_name().to_string_lossy().into_owned();
            for entry in fs::read_dir(shard.path()).map_err(action(&shard.path()))? {
                let path = entry.map_err(action(&shard.path()))?.path();
                let rest = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.looked_at("blobs", 1);
                let problem = match format!("{first}{rest}").parse::<BlobId>() {
                    Err(_) => "its name is no blob's".to_owned(),
                    Ok(id) => match self.store.files.open(&id)? {
                        None => "it is not a file".to_owned(),
                        Some(blob) => match read_whole(blob, id) {
                            Ok(()) => {
                                self.sound.insert(id);
                                continue;
                            }
                            Err(error) => error.to_string(),
                        },
                    },
                };
                self.damaged("blob", path.display().to_string(), problem);
                if self.repair {
                    let action = format!("remove `{}`", path.display());
                    fs::remove_file(&path).map_err(StoreError::io(action))?;
                }
            }
        }
        Ok(())
    }

    fn snapshots(&mut self) -> Result<(), StoreError> {
        let mut places: HashMap<LayerId, Vec<(BlobId, Option<Place>)>> = HashMap::new();
        self.each(Table::Places, |_, pair| {
            let blob = pair.key.get(..32).and_then(|id| <[u8; 32]>::try_from(id).ok());
            if let (Some(blob), Some(layer)) = (blob, snapshots::layer_of(&pair.key)) {
                let place = codec::decode(&pair.value);
                places.entry(layer).or_default().push((BlobId::from_bytes(blob), place));
            }
            Ok(())
        })?;
        for pair in self.store.tables.list(Table::Snapshots, b"")? {
            self.looked_at("snapshots", 1);
            let Ok(layer) = <[u8; 32]>::try_from(&pair.key[..]) else { continue };
            let layer = LayerId::from_bytes(layer);
            let places = places.remove(&layer).unwrap_or_default();
            match self.snapshot_problem(&layer, &places)? {
                None => self.sound.extend(places.iter().map(|(blob, _)| *blob)),
                Some(problem) => {
                    let what = self.store.layout.snapshot(&layer).display().to_string();
                    self.damaged("snapshot", what, problem);
                    if self.repair {
                        self.store.drop_snapshot(&layer)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn snapshot_problem(
        &self,
        layer: &LayerId,
        places: &[(BlobId, Option<Place>)],
    ) -> Result<Option<String>, StoreError> {
        if self.store.snapshot(layer)?.is_none() {
            return Ok(Some("its directory is gone".to_owned()));
        }
        for (blob, place) in places {
            let Some(place) = place else {
                return Ok(Some(format!("nobody knows where it has blob {blob}")));
            };
            let problem = match self.store.open_place(layer, place) {
                Ok(Some(found)) => read_whole(found, *blob).err().map(|error| error.to_string()),
                Ok(None) => Some("it is gone, or has another size".to_owned()),
                // It belongs to another user of the namespace that made it.
                Err(StoreError::Io { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem {
                return Ok(Some(format!("`{}`: {problem}", place.path)));
            }
        }
        self.store.differs_from_layer(layer)
    }

    /// The records that are whole, with all that they lead to.
    fn learn_what_is_elsewhere(&mut self, links: &dyn Links) -> Result<(), StoreError> {
        self.each(Table::Names, |check, pair| {
            if let Some((table, name)) = names::split(&pair.key)
                && let Some(value) = codec::decode::<NamedValue<'_>>(&pair.value)
            {
                check.elsewhere.extend(links.elsewhere(&table, &name, value.value));
            }
            Ok(())
        })
    }

    fn records(&mut self, links: &dyn Links) -> Result<HashSet<BlobId>, StoreError> {
        let mut whole = HashSet::new();
        let mut seen = Seen::new();
        self.each(Table::Records, |check, pair| {
            let Some((b'r', id)) = pair.key.split_first() else { return Ok(()) };
            let Ok(id) = <[u8; 32]>::try_from(id) else { return Ok(()) };
            let id = BlobId::from_bytes(id);
            check.looked_at("records", 1);
            let right = BlobId::of(&pair.value) == id;
            let record = codec::decode::<Record>(&pair.value).filter(|_| right);
            let problem = match &record {
                None => Some("its bytes do not match its name".to_owned()),
                Some(record) => {
                    let mut all = links.of_record(record);
                    all.push(Link::Tree(record.tree));
                    check.missing(&all, &mut seen)?.map(|missing| format!("{missing} is missing"))
                }
            };
            let Some(problem) = problem else {
                whole.insert(id);
                return Ok(());
            };
            check.damaged("record", what_of(&Item::Record(id)), problem);
            check.forget(Table::Records, &pair.key)
        })?;
        Ok(whole)
    }

    /// What of these, and of what they lead to, is not there.
    fn missing(&self, links: &[Link], seen: &mut Seen) -> Result<Option<String>, StoreError> {
        for link in links {
            let missing = match seen.get(link) {
                Some(known) => known.clone(),
                None => {
                    // As deep as paths are: each step down is a directory.
                    let missing = match self.below(link)? {
                        None => Some(what_of(&item_of(link).0)),
                        Some(below) => self.missing(&below, seen)?,
                    };
                    seen.insert(link.clone(), missing.clone());
                    missing
                }
            };
            if missing.is_some() {
                return Ok(missing);
            }
        }
        Ok(None)
    }

    /// What a link leads to; `None` when it leads nowhere.
    fn below(&self, link: &Link) -> Result<Option<Vec<Link>>, StoreError> {
        Ok(match link {
            Link::Blob(id) => self.is_there(id)?.then(Vec::new),
            Link::Tree(id) => self.store.trees_below(id)?,
            // Its files are fetched when somebody asks for them.
            Link::Layer(id) if self.elsewhere.contains(link) => {
                self.is_there(&id.blob())?.then(Vec::new)
            }
            Link::Layer(id) => self
                .store
                .layer(id)?
                .map(|layer| layer.blobs().map(|(blob, _)| Link::Blob(blob)).collect()),
            // What came from a registry can be fetched again.
            Link::Name { .. } => Some(Vec::new()),
        })
    }

    fn is_there(&self, id: &BlobId) -> Result<bool, StoreError> {
        // A sound copy was seen; or one that only another user may read.
        Ok(self.sound.contains(id) || self.store.has(id)?)
    }

    fn pointers(&mut self, records: &HashSet<BlobId>) -> Result<(), StoreError> {
        self.each(Table::Records, |check, pair| {
            if pair.key.first() == Some(&b'r') {
                return Ok(());
            }
            let pointer = codec::decode::<Pointer>(&pair.value);
            if pointer.is_some_and(|pointer| records.contains(&pointer.record)) {
                return Ok(());
            }
            // Whoever dropped the record was interrupted, or it was damaged: a miss either way.
            if pointer.is_none() {
                check.damaged("record", format!("key {:02x?}", pair.key), "it leads nowhere");
            }
            check.forget(Table::Records, &pair.key)
        })
    }

    fn slots(&mut self) -> Result<(), StoreError> {
        self.each(Table::Slots, |check, pair| {
            if codec::decode::<Recent>(&pair.value).is_some() {
                return Ok(());
            }
            let what = format!("slot {:02x?}", pair.key);
            check.damaged("record", what, "its list of records is damaged");
            check.forget(Table::Slots, &pair.key)
        })
    }

    fn names(&mut self, links_of: &dyn Links) -> Result<(), StoreError> {
        let mut known: HashMap<(String, String), Option<Vec<Link>>> = HashMap::new();
        self.each(Table::Names, |check, pair| {
            check.looked_at("names", 1);
            let Some((table, name)) = names::split(&pair.key) else {
                check.damaged("name", format!("{:?}", pair.key), "it is no text");
                return check.forget(Table::Names, &pair.key);
            };
            let Some(value) = codec::decode::<NamedValue<'_>>(&pair.value) else {
                check.damaged("name", format!("{name} in {table}"), "its value is damaged");
                return check.forget(Table::Names, &pair.key);
            };
            let links = match links_of.of_name(&table, &name, value.value) {
                Named::Root(links) | Named::Derived(links) => links,
                Named::Cached(_) => Vec::new(),
            };
            known.insert((table, name), Some(links));
            Ok(())
        })?;
        let mut seen = Seen::new();
        // From those that lead to others, until nothing changes any more.
        loop {
            let mut broken = Vec::new();
            for ((table, name), links) in &known {
                let Some(links) = links else { continue };
                let is_gone = |link: &&Link| match link {
                    Link::Name { table, name } => {
                        let known = known.get(&(table.clone(), name.clone()));
                        known.is_none_or(Option::is_none)
                            && !links_of.is_optional(table)
                            && !self.elsewhere.contains(*link)
                    }
                    _ => false,
                };
                let others = links.iter().filter(|link| !matches!(link, Link::Name { .. }));
                let missing = match links.iter().find(is_gone) {
                    Some(link) => Some(what_of(&item_of(link).0)),
                    None => self.missing(&others.cloned().collect::<Vec<_>>(), &mut seen)?,
                };
                broken.extend(missing.map(|missing| (table.clone(), name.clone(), missing)));
            }
            if broken.is_empty() {
                return Ok(());
            }
            for (table, name, missing) in broken {
                self.damaged("name", format!("{name} in {table}"), format!("{missing} is missing"));
                self.forget(Table::Names, &names::key(&table, &name)?)?;
                known.insert((table, name), None);
            }
        }
    }

    fn builds(&mut self) -> Result<(), StoreError> {
        let directory = self.store.layout.part(Part::Builds);
        let action = || StoreError::io(format!("read `{}`", directory.display()));
        for entry in fs::read_dir(&directory).map_err(action())? {
            let path = entry.map_err(action())?.path();
            if crate::builds::is_whole(&path) {
                continue;
            }
            self.damaged("build", path.display().to_string(), "what it has used is damaged");
            if self.repair {
                let action = format!("remove `{}`", path.display());
                fs::remove_file(&path).map_err(StoreError::io(action))?;
            }
        }
        Ok(())
    }
}

fn read_whole(blob: Blob, id: BlobId) -> io::Result<()> {
    io::copy(&mut blob.reader(id), &mut io::sink()).map(drop)
}

impl DiskStore {
    /// Forgets a snapshot and removes it. Its places are forgotten when they are looked for.
    pub(crate) fn drop_snapshot(&self, layer: &LayerId) -> Result<(), StoreError> {
        let _one = self.hold_snapshot(layer)?;
        self.tables.apply(vec![Op::delete(Table::Snapshots, layer.as_bytes().to_vec())], true)?;
        let directory = self.layout.snapshot(layer);
        let to = self.lease.staging()?.join(format!("damaged-{}", &layer.to_string()[..32]));
        match fs::rename(&directory, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            moved => moved.map_err(StoreError::io(format!("move `{}`", directory.display())))?,
        }
        remove::tree(&to).map_err(StoreError::io(format!("remove `{}`", to.display())))
    }
}
