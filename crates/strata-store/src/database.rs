//! RocksDB: its tables, how it is opened and when it is on disk. What the tables' values mean is
//! in `codec`; nothing else in the crate knows RocksDB.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    Direction, ErrorKind, FlushOptions, InfoLogger, IteratorMode, LogLevel, Options, PrefixRange,
    ReadOptions, SliceTransform, WriteBatch,
};
use serde::{Deserialize, Serialize};
use strata_cas::StoreError;

use crate::OpenError;
use crate::codec::{self, Recent, RecentEntry};
use crate::layout::{Layout, Part};
use crate::memory::Memory;
use crate::open::hold;
use crate::wire::{Op, WirePair};

/// What this version reads and writes.
const KNOWN: &str = "tables of version 1";

/// A page of a listing holds about so much.
const PAGE_BYTES: usize = 1 << 20;

/// How many records of a slot are remembered: enough to find the nearest one for a miss's
/// reason. They are one value, so that reading them is one look-up and nothing piles up.
const REMEMBERED: usize = 8;

/// Blobs from this size on leave the sorted tables for files of their own when they are flushed,
/// so that compaction moves their names and not their bytes.
const SEPARATE_FROM_BYTES: u64 = 1 << 10;

/// How many of the database's files are kept open. A quarter of them is opened at the start.
const OPEN_FILES: i32 = 256;

/// How much a table holds in memory before it is flushed. Small enough that closing, which
/// flushes the rest, takes tens of milliseconds at most.
const MEMORY_BYTES: usize = 16 << 20;

/// How much of what was read from files stays in memory, for all tables together. RocksDB's
/// default is a cache of this size for each, and of a kind that is dear to make.
const BLOCK_CACHE_BYTES: usize = 32 << 20;

/// How much is remembered of names that were looked up, and of sizes of small blobs.
const NAMES_BYTES: usize = 32 << 20;
const SIZES_BYTES: usize = 16 << 20;

/// The tables, each a column family with its format's version in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Table {
    /// Blob id → `Inline`.
    Blobs,
    /// Blob id → `Chunked`.
    Chunked,
    /// Blob id, layer id → `Place`.
    Places,
    /// `RecordKey` → `Pointer`; `r`, id of a record's bytes → `Record`.
    Records,
    /// BLAKE3 of a slot → `Recent`.
    Slots,
    /// Layer id → `Committed`.
    Snapshots,
    /// Table, NUL, name → `Named`.
    Names,
}

impl Table {
    const ALL: [Self; 7] = [
        Self::Blobs,
        Self::Chunked,
        Self::Places,
        Self::Records,
        Self::Slots,
        Self::Snapshots,
        Self::Names,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Blobs => "blobs-1",
            Self::Chunked => "chunked-1",
            Self::Places => "places-1",
            Self::Records => "records-1",
            Self::Slots => "slots-1",
            Self::Snapshots => "snapshots-1",
            Self::Names => "names-1",
        }
    }

    /// `blocks` holds what was read of all tables' files. RocksDB's own options make a cache of
    /// 32 MB each time that they are asked for, so these are a copy.
    fn options(self, access: Access, plain: &Options, blocks: &Cache) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(blocks);
        // Ten bits a key: a look-up of what is not there costs a tenth of one that reads a block.
        table.set_bloom_filter(10.0, false);
        // Those filters are read when they are needed first, and not when the table is opened: of
        // a million blobs they and the indexes have megabytes.
        table.set_cache_index_and_filter_blocks(true);
        let mut options = plain.clone();
        options.set_write_buffer_size(MEMORY_BYTES);
        options.set_compression_type(DBCompressionType::Lz4);
        match self {
            Self::Blobs => {
                options.set_enable_blob_files(true);
                options.set_min_blob_size(SEPARATE_FROM_BYTES);
                options.set_blob_compression_type(DBCompressionType::Lz4);
                options.set_enable_blob_gc(true);
                // A COPY of many files fills memory faster than one thread empties it.
                options.set_max_write_buffer_number(4);
            }
            Self::Places => {
                options.set_prefix_extractor(SliceTransform::create_fixed_prefix(32));
                if access == Access::Write {
                    options.set_memtable_prefix_bloom_ratio(0.05);
                }
                table.set_whole_key_filtering(false);
            }
            Self::Chunked | Self::Records | Self::Slots | Self::Snapshots | Self::Names => {}
        }
        options.set_block_based_table_factory(&table);
        options
    }
}

/// The table that every database has.
const DEFAULT_TABLE: &str = "default";

/// What a database is opened for. Nothing is added to one that is only read, so what would be
/// prepared for that is left out: it costs more than most of what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// The options that make opening cheap: every build opens the store, most of them for a few
/// look-ups. RocksDB's defaults suit a server that is opened once.
fn open_options(plain: &Options) -> Options {
    let mut options = plain.clone();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // By default sixteen threads are started only to open table files.
    options.set_max_file_opening_threads(1);
    // One cache for all of them: by default it is cut into 64 parts of some files each, so that
    // two files that share a part are opened again, filters and all, for every look-up.
    options.set_table_cache_num_shard_bits(0);
    options.set_max_open_files(OPEN_FILES);
    options.set_skip_stats_update_on_db_open(true);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_max_background_jobs(1);
    options.set_manifest_preallocation_size(64 << 10);
    options.set_max_total_wal_size(64 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // A log file for each opening tells nobody anything; failures come back as errors.
    options.set_keep_log_file_num(1);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options
}

/// A key, its value and the value's size; the value is empty where only sizes were asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: Box<[u8]>,
    pub(crate) value: Box<[u8]>,
    pub(crate) size: u64,
}

impl From<Pair> for WirePair<'static> {
    fn from(pair: Pair) -> Self {
        let Pair { key, value, size } = pair;
        Self { key: Vec::from(key).into(), value: Vec::from(value).into(), size }
    }
}

impl From<WirePair<'_>> for Pair {
    fn from(pair: WirePair<'_>) -> Self {
        let WirePair { key, value, size } = pair;
        Self { key: key.into_owned().into(), value: value.into_owned().into(), size }
    }
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Database {
    layout: Layout,
    /// None after a failed write, until it opens again, and at the end.
    rocks: RwLock<Option<DB>>,
    is_closed: AtomicBool,
    /// Held while a slot's list is read, changed and written.
    slots: Mutex<()>,
    /// None where others may write.
    lately: Option<Box<Lately>>,
}

/// What was looked up lately.
#[derive(Debug)]
struct Lately {
    names: Memory<Box<[u8]>>,
    /// Of the values of small blobs.
    sizes: Memory<u64>,
}

impl Lately {
    fn new() -> Self {
        Self { names: Memory::new(NAMES_BYTES), sizes: Memory::new(SIZES_BYTES) }
    }

    /// Says what was changed, before anybody is told that it was.
    fn forget(&self, ops: &[Op<'_>]) {
        for op in ops {
            let (Op::Put { table, key, .. } | Op::Delete { table, key }) = op else { continue };
            match table {
                Table::Names => self.names.forget(key),
                Table::Blobs => self.sizes.forget(key),
                _ => {}
            }
        }
    }

    fn forget_all(&self) {
        self.names.forget_all();
        self.sizes.forget_all();
    }
}

impl Database {
    /// Opens or makes it. The store's lock must be held.
    pub(crate) fn open(layout: &Layout) -> Result<Self, OpenError> {
        Ok(Self::with(layout, open_rocks(layout)?, Some(Box::new(Lately::new()))))
    }

    /// Opens what is there, for reading. Writing fails.
    pub(crate) fn open_to_read(layout: &Layout) -> Result<Self, OpenError> {
        let path = layout.part(Part::Database);
        let (mut options, tables) = options(Access::Read);
        options.create_if_missing(false);
        let names = DB::list_cf(&options, &path);
        let names = names.map_err(|error| open_error(layout, &path, &error))?;
        let is_known = |name: &String| {
            name == DEFAULT_TABLE || Table::ALL.iter().any(|table| table.name() == name)
        };
        if let Some(found) = names.iter().find(|name| !is_known(name)) {
            let (path, found) = (layout.root().to_owned(), found.clone());
            return Err(OpenError::OtherVersion { path, found, known: KNOWN });
        }
        let rocks = DB::open_cf_descriptors_read_only(&options, &path, tables, false)
            .map_err(|error| open_error(layout, &path, &error))?;
        Ok(Self::with(layout, rocks, None))
    }

    /// Whether all of it can be read.
    pub(crate) fn is_sound(&self) -> bool {
        let read = |table| {
            self.read(|rocks| {
                let options = ReadOptions::default();
                let mut all =
                    rocks.iterator_cf_opt(handle(rocks, table), options, IteratorMode::Start);
                all.try_for_each(|found| found.map(drop).map_err(failed("read")))
            })
        };
        Table::ALL.into_iter().all(|table| read(table).is_ok())
    }

    /// Makes of a database that does not open what can be made of its files. The store's lock
    /// must be held.
    pub(crate) fn repair(layout: &Layout) -> Result<(), StoreError> {
        let (mut options, _) = options(Access::Write);
        options.create_missing_column_families(true);
        DB::repair(&options, layout.part(Part::Database)).map_err(failed("repair"))
    }

    fn with(layout: &Layout, rocks: DB, lately: Option<Box<Lately>>) -> Self {
        Self {
            layout: layout.clone(),
            rocks: RwLock::new(Some(rocks)),
            is_closed: AtomicBool::new(false),
            slots: Mutex::default(),
            lately,
        }
    }

    /// The database, opened again if a write has failed.
    fn rocks(&self) -> Result<RwLockReadGuard<'_, Option<DB>>, StoreError> {
        loop {
            let rocks = self.rocks.read().unwrap_or_else(PoisonError::into_inner);
            if rocks.is_some() {
                return Ok(rocks);
            }
            drop(rocks);
            let mut rocks = self.rocks.write().unwrap_or_else(PoisonError::into_inner);
            if self.is_closed.load(Ordering::SeqCst) {
                let message = "it is closed".to_owned();
                return Err(StoreError::Database { action: "open again", message });
            }
            if rocks.is_none() {
                let opened = open_rocks(&self.layout).map_err(|error| StoreError::Database {
                    action: "open again",
                    message: error.to_string(),
                })?;
                *rocks = Some(opened);
            }
        }
    }

    fn read<T>(&self, work: impl FnOnce(&DB) -> Result<T, StoreError>) -> Result<T, StoreError> {
        work(self.rocks()?.as_ref().expect("it was opened"))
    }

    /// After a failed write, such as one on a full disk, RocksDB refuses all that follow. What
    /// it had acknowledged is in its log: it is closed here, and opened when it is needed next.
    fn write<T>(&self, work: impl FnOnce(&DB) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let done = self.read(work);
        if done.is_err() {
            *self.rocks.write().unwrap_or_else(PoisonError::into_inner) = None;
            // What of it was written is seen when it is open again.
            self.lately.iter().for_each(|lately| lately.forget_all());
        }
        done
    }

    /// The bytes under a key. What RocksDB finds damaged is not there.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|rocks| get(rocks, table, key))
    }

    /// Shows the bytes under a key, where they lie.
    pub(crate) fn see<T>(
        &self,
        table: Table,
        key: &[u8],
        see: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StoreError> {
        self.read(|rocks| match rocks.get_pinned_cf(handle(rocks, table), key) {
            Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
            found => Ok(found.map_err(failed("read"))?.map(|value| see(&value))),
        })
    }

    /// The same for a name, which may be in memory.
    pub(crate) fn see_name<T>(
        &self,
        key: &[u8],
        see: impl Fn(&[u8]) -> T,
    ) -> Result<Option<T>, StoreError> {
        let Some(lately) = &self.lately else { return self.see(Table::Names, key, see) };
        match lately.names.see(key, |found| found.map(|value| see(value))) {
            Ok(known) => Ok(known),
            Err(moment) => {
                let both = |value: &[u8]| (see(value), Box::<[u8]>::from(value));
                let (seen, value) = self.see(Table::Names, key, both)?.unzip();
                lately.names.keep(key, value, moment);
                Ok(seen)
            }
        }
    }

    /// Measures a small blob's value, whose measure may be in memory.
    pub(crate) fn measure(
        &self,
        key: &[u8],
        measure: impl Fn(&[u8]) -> Option<u64>,
    ) -> Result<Option<u64>, StoreError> {
        let known = |lately: &Lately| lately.sizes.see(key, |found| found.copied());
        let moment = match self.lately.as_deref().map(known) {
            Some(Ok(known)) => return Ok(known),
            Some(Err(moment)) => Some(moment),
            None => None,
        };
        let size = self.see(Table::Blobs, key, measure)?.flatten();
        // What is not there is looked for in other places as well: nothing is won.
        if let (Some(lately), Some(moment), Some(size)) = (&self.lately, moment, size) {
            lately.sizes.keep(key, Some(size), moment);
        }
        Ok(size)
    }

    /// As many of the keys that begin with `prefix` and come after `after` as fit on a page, in
    /// order, and whether there are more. A prefix in [`Table::Places`] must be empty or have at
    /// least 32 bytes.
    pub(crate) fn page(
        &self,
        table: Table,
        prefix: &[u8],
        after: &[u8],
        sizes: bool,
    ) -> Result<(Vec<Pair>, bool), StoreError> {
        self.read(|rocks| {
            let mut options = ReadOptions::default();
            options.set_iterate_range(PrefixRange(prefix));
            if matches!(table, Table::Places) {
                options.set_prefix_same_as_start(!prefix.is_empty());
                options.set_total_order_seek(prefix.is_empty());
            }
            let mode = if after.is_empty() {
                IteratorMode::Start
            } else {
                IteratorMode::From(after, Direction::Forward)
            };
            let (mut pairs, mut bytes) = (Vec::new(), 0);
            for found in rocks.iterator_cf_opt(handle(rocks, table), options, mode) {
                let (key, value) = found.map_err(failed("list"))?;
                if !key.starts_with(prefix) || &key[..] == after {
                    continue;
                }
                if bytes >= PAGE_BYTES {
                    return Ok((pairs, true));
                }
                let size = value.len() as u64;
                let value = if sizes { Box::default() } else { value };
                bytes += key.len() + value.len();
                pairs.push(Pair { key, value, size });
            }
            Ok((pairs, false))
        })
    }

    /// Makes changes visible together. They survive this process, and with `sync` they and all
    /// before them survive a power cut.
    pub(crate) fn apply(&self, ops: &[Op<'_>], sync: bool) -> Result<(), StoreError> {
        let remembers = ops.iter().any(|op| matches!(op, Op::Remember { .. }));
        let _order = remembers.then(|| hold(&self.slots));
        self.write(|rocks| {
            let mut batch = WriteBatch::default();
            for op in ops {
                add(rocks, &mut batch, op)?;
            }
            if !batch.is_empty() {
                rocks.write(batch).map_err(failed("write"))?;
            }
            self.lately.iter().for_each(|lately| lately.forget(ops));
            if sync { rocks.flush_wal(true).map_err(failed("sync")) } else { Ok(()) }
        })
    }

    /// Gives the room of what was forgotten back to the file system.
    pub(crate) fn compact(&self) -> Result<(), StoreError> {
        self.write(|rocks| {
            for table in Table::ALL {
                let handle = handle(rocks, table);
                rocks.flush_cf(handle).map_err(failed("flush"))?;
                rocks.compact_range_cf(handle, None::<&[u8]>, None::<&[u8]>);
            }
            Ok(())
        })
    }

    /// Writes out what is in memory, so that the next process need not replay the log, and
    /// closes the database for all that refer to it.
    pub(crate) fn finish(&self) {
        let mut rocks = self.rocks.write().unwrap_or_else(PoisonError::into_inner);
        self.is_closed.store(true, Ordering::SeqCst);
        if let Some(rocks) = rocks.take() {
            let tables = Table::ALL.map(|table| handle(&rocks, table));
            // All of it is in the log already: a failure costs the next opening some time.
            drop(rocks.flush_cfs_opt(&tables.each_ref(), &FlushOptions::default()));
            rocks.cancel_all_background_work(false);
        }
    }
}

/// The options of the database and those of its tables.
fn options(access: Access) -> (Options, Vec<ColumnFamilyDescriptor>) {
    let blocks = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let mut plain = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&blocks);
    plain.set_block_based_table_factory(&table);
    let tables =
        Table::ALL.iter().map(|table| (table.name(), table.options(access, &plain, &blocks)));
    // RocksDB has a table of its own, too, which stays empty.
    let all = tables.chain([(DEFAULT_TABLE, plain.clone())]);
    let all = all.map(|(name, options)| ColumnFamilyDescriptor::new(name, options)).collect();
    (open_options(&plain), all)
}

fn open_rocks(layout: &Layout) -> Result<DB, OpenError> {
    let path = layout.part(Part::Database);
    let (options, tables) = options(Access::Write);
    DB::open_cf_descriptors(&options, &path, tables)
        .map_err(|error| open_error(layout, &path, &error))
}

fn handle(rocks: &DB, table: Table) -> &ColumnFamily {
    rocks.cf_handle(table.name()).expect("every table was opened")
}

fn get(rocks: &DB, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    match rocks.get_cf(handle(rocks, table), key) {
        Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
        found => found.map_err(failed("read")),
    }
}

fn add(rocks: &DB, batch: &mut WriteBatch, op: &Op<'_>) -> Result<(), StoreError> {
    match op {
        Op::Put { table, key, value } => {
            // Those of a snapshot come by the ten thousand, once, when it is made.
            let is_new = matches!(table, Table::Places);
            if is_new || get(rocks, *table, key)?.as_deref() != Some(&value[..]) {
                batch.put_cf(handle(rocks, *table), key, value);
            }
        }
        Op::Delete { table, key } => batch.delete_cf(handle(rocks, *table), key),
        Op::Remember { slot, definition, record } => {
            let kept = get(rocks, Table::Slots, slot)?;
            let mut recent: Recent =
                kept.and_then(|value| codec::decode(&value)).unwrap_or_default();
            recent.entries.retain(|entry| entry.definition != *definition);
            recent.entries.insert(0, RecentEntry { definition: *definition, record: *record });
            recent.entries.truncate(REMEMBERED);
            batch.put_cf(handle(rocks, Table::Slots), slot, codec::encode(&recent)?);
        }
    }
    Ok(())
}

fn failed(action: &'static str) -> impl FnOnce(rocksdb::Error) -> StoreError {
    move |error| StoreError::Database { action, message: error.into_string() }
}

fn open_error(layout: &Layout, path: &Path, error: &rocksdb::Error) -> OpenError {
    let (path, message) = (path.to_owned(), error.to_string());
    match error.kind() {
        // RocksDB's words for tables that were not asked for: "Column families not opened: x-2".
        ErrorKind::InvalidArgument if message.contains("not opened") => {
            let found = message.rsplit(": ").next().unwrap_or_default().to_owned();
            OpenError::OtherVersion { path: layout.root().to_owned(), found, known: KNOWN }
        }
        ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotFound => {
            OpenError::Damaged { path, message }
        }
        // Files that the database knows of and that are gone come as I/O errors.
        ErrorKind::IOError if message.contains("No such file") => {
            OpenError::Damaged { path, message }
        }
        _ => OpenError::Database { path, message },
    }
}
