//! RocksDB: its tables, how it is opened and when it is on disk. What the tables' values mean is
//! in `codec`; nothing else in the crate knows RocksDB.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBPinnableSlice, ErrorKind, FlushOptions, InfoLogger, IteratorMode, LogLevel, Options,
    PrefixRange, ReadOptions, SliceTransform, WriteBatch,
};
use strata_cas::StoreError;

use crate::OpenError;
use crate::layout::{Layout, Part};

/// Blobs from this size on leave the sorted tables for files of their own when they are flushed,
/// so that compaction moves their names and not their bytes.
const SEPARATE_FROM_BYTES: u64 = 1 << 10;

/// How much a table holds in memory before it is flushed. Small enough that closing, which
/// flushes the rest, takes tens of milliseconds at most.
const MEMORY_BYTES: usize = 16 << 20;

/// The tables, each a column family with its format's version in its name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Table {
    /// Blob id → `Inline`.
    Blobs,
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
    const ALL: [Self; 6] =
        [Self::Blobs, Self::Places, Self::Records, Self::Slots, Self::Snapshots, Self::Names];

    const fn name(self) -> &'static str {
        match self {
            Self::Blobs => "blobs-1",
            Self::Places => "places-1",
            Self::Records => "records-1",
            Self::Slots => "slots-1",
            Self::Snapshots => "snapshots-1",
            Self::Names => "names-1",
        }
    }

    fn options(self) -> Options {
        let mut table = BlockBasedOptions::default();
        // Ten bits a key: a look-up of what is not there costs a tenth of one that reads a block.
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
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
                options.set_memtable_prefix_bloom_ratio(0.05);
                table.set_whole_key_filtering(false);
            }
            Self::Records | Self::Slots | Self::Snapshots | Self::Names => {}
        }
        options.set_block_based_table_factory(&table);
        options
    }
}

/// The options that make opening cheap: every build opens the store, most of them for a few
/// look-ups. RocksDB's defaults suit a server that is opened once.
fn open_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // By default sixteen threads are started only to open table files.
    options.set_max_file_opening_threads(1);
    options.set_max_open_files(64);
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

/// Changes that become visible, and durable, together.
pub(crate) struct Batch<'a> {
    database: &'a Database,
    writes: WriteBatch,
}

impl Batch<'_> {
    /// Sets a key.
    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.writes.put_cf(self.database.handle(table), key, value);
    }

    /// Applies the changes. They survive this process; [`Database::sync`] makes them survive a
    /// power cut.
    pub(crate) fn write(self) -> Result<(), StoreError> {
        self.database.rocks.write(self.writes).map_err(failed("write"))
    }
}

/// A key and its value.
pub(crate) type Pair = (Box<[u8]>, Box<[u8]>);

/// The open database.
#[derive(Debug)]
pub(crate) struct Database {
    rocks: DB,
}

impl Database {
    /// Opens or makes it. The store's lock must be held.
    pub(crate) fn open(layout: &Layout) -> Result<Self, OpenError> {
        let path = layout.part(Part::Database);
        let tables =
            Table::ALL.map(|table| ColumnFamilyDescriptor::new(table.name(), table.options()));
        let rocks = DB::open_cf_descriptors(&open_options(), &path, tables)
            .map_err(|error| open_error(layout, &path, &error))?;
        Ok(Self { rocks })
    }

    fn handle(&self, table: Table) -> &ColumnFamily {
        self.rocks.cf_handle(table.name()).expect("every table was opened")
    }

    /// The bytes under a key. What RocksDB finds damaged is not there.
    pub(crate) fn get(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        match self.rocks.get_pinned_cf(self.handle(table), key) {
            Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
            found => found.map_err(failed("read")),
        }
    }

    /// All keys that begin with `prefix`, which must be at least 32 bytes in
    /// [`Table::Places`], with their values and in order.
    pub(crate) fn list(&self, table: Table, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(PrefixRange(prefix));
        if matches!(table, Table::Places) {
            options.set_prefix_same_as_start(true);
        }
        let found = self.rocks.iterator_cf_opt(self.handle(table), options, IteratorMode::Start);
        found.collect::<Result<_, _>>().map_err(failed("list"))
    }

    /// An empty batch.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { database: self, writes: WriteBatch::default() }
    }

    /// Sets one key, as a batch of one.
    pub(crate) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.rocks.put_cf(self.handle(table), key, value).map_err(failed("write"))
    }

    /// Forgets one key.
    pub(crate) fn delete(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.rocks.delete_cf(self.handle(table), key).map_err(failed("forget"))
    }

    /// Makes all that was written so far survive a power cut.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.rocks.flush_wal(true).map_err(failed("sync"))
    }

    /// Writes out what is in memory, so that the next process need not replay the log.
    pub(crate) fn finish(&self) {
        let tables = Table::ALL.map(|table| self.handle(table));
        // All of it is in the log already: a failure costs the next opening some time.
        drop(self.rocks.flush_cfs_opt(&tables.each_ref(), &FlushOptions::default()));
        self.rocks.cancel_all_background_work(false);
    }
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
            let known = "tables of version 1";
            OpenError::OtherVersion { path: layout.root().to_owned(), found, known }
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
