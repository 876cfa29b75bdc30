//! The map's home: a RocksDB with six column families, written only by checkpoints.
//!
//! 1. A checkpoint is one write batch without a log, then an atomic flush of every column family: RocksDB holds
//!    all of it or none, whatever moment the machine stops at.
//! 2. A checkpoint is durable when `flush` has returned, and nothing else makes it so: closing the store flushes
//!    nothing.
//! 3. Nothing here runs on a reactor thread.
//! 4. RocksDB is asked to write only what the file system has room for. After a write or flush that failed all the
//!    same the store takes no other: RocksDB does not get over each of them. It is opened anew (`map::home`), and
//!    then holds the checkpoint under way or does not hold it, as after a crash.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Env, FlushOptions,
    Options, WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::format::Malformed;
use crate::sys::free_bytes;
use crate::units::{Epoch, LayerId, Lsn};

pub use super::view::{Scan, StoreView};

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Map pages of every layer's head.
    Head,
    /// Undo records.
    History,
    /// What changed in each interval between snapshots.
    Changed,
    /// Blocks that only snapshots map.
    Dead,
    /// The allocation bitmap.
    Space,
    /// The catalog, the checkpoint's place, usage counters.
    Catalog,
}

/// Every column family.
pub const FAMILIES: [Family; 6] =
    [Family::Head, Family::History, Family::Changed, Family::Dead, Family::Space, Family::Catalog];

impl Family {
    fn name(self) -> &'static str {
        match self {
            Family::Head => "head",
            Family::History => "history",
            Family::Changed => "changed",
            Family::Dead => "dead",
            Family::Space => "space",
            Family::Catalog => "catalog",
        }
    }
}

/// Where the checkpoint stands: what RocksDB holds is the journal up to here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// The pool, in hexadecimal.
    pub pool_id: String,
    /// The open of the pool that made the checkpoint.
    pub incarnation: u64,
    /// The first record that is not in it.
    pub next_lsn: Lsn,
    /// The journal block that this record stands in, or would.
    pub next_sequence: u64,
    /// The checksum of the journal block before that one.
    pub previous: u32,
    /// The pool's epoch at this point.
    pub epoch: Epoch,
    /// The id that the next volume or group gets.
    pub next_id: u64,
    /// The id that the next layer gets.
    pub next_layer: LayerId,
}

pub(super) const STATE_KEY: &[u8] = b"!checkpoint";

/// How RocksDB is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// Bytes of the cache of its blocks.
    pub cache_bytes: usize,
    /// Bytes of writes that it may hold in memory.
    pub write_buffer_bytes: usize,
    /// Another home than the file system (simulation: memory).
    pub environment: Option<Env>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, write_buffer_bytes: 32 << 20, environment: None }
    }
}

/// The open RocksDB.
pub struct MapStore {
    db: DB,
    cache: Cache,
    /// Bytes of batches written since the store was opened.
    written: AtomicU64,
    /// The part of it that is flushed.
    flushed: AtomicU64,
    /// Where its files are; `None` in memory.
    directory: Option<PathBuf>,
    /// Whether it takes writes (rule 4).
    writable: AtomicBool,
    /// Whether walks are to let go of it.
    recalled: AtomicBool,
}

/// Room that a flush must leave for RocksDB's manifest and log, in bytes.
const SPARE_BYTES: u64 = 4 << 20;

pub(super) fn damaged(operation: &'static str, source: rocksdb::Error) -> Error {
    let kind = match source.kind() {
        rocksdb::ErrorKind::Corruption | rocksdb::ErrorKind::InvalidArgument => Kind::Damaged,
        rocksdb::ErrorKind::IOError if source.as_ref().contains("No space left") => Kind::OutOfSpace,
        rocksdb::ErrorKind::Busy | rocksdb::ErrorKind::TryAgain => Kind::Retry,
        _ => Kind::Unavailable,
    };
    Error::new(kind, operation, "metadata store").source(source)
}

/// The error of a value that does not follow the format.
pub fn malformed(family: Family, key: &[u8], source: Malformed) -> Error {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Error::new(Kind::Damaged, "read map", format!("{} key {key}", family.name())).source(source)
}

impl MapStore {
    /// Opens the RocksDB in `path`, or creates it when `create` says so.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none, [`Kind::Damaged`], [`Kind::Unavailable`] with what RocksDB said.
    pub fn open(path: &Path, create: bool, options: &StoreOptions) -> Result<Self> {
        if !create && options.environment.is_none() && !path.join("CURRENT").exists() {
            return Err(Error::new(
                Kind::NotFound,
                "open metadata",
                format!("no metadata in {}", path.display()),
            )
            .hint("the metadata directory belongs to the pool: give its path, or restore it with the pool"));
        }
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let mut database = Self::database_options(options)?;
        database.create_if_missing(create);
        database.create_missing_column_families(create);
        database.set_error_if_exists(create);
        let families = Self::families(&cache, options);
        let db = DB::open_cf_descriptors(&database, path, families);
        let db = db.map_err(|error| damaged("open metadata", error))?;
        Ok(Self::new(db, cache, path, options, true))
    }

    /// Opens the RocksDB in `path` without writing anything there, for reading only: it takes no batch.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_read_only(path: &Path, options: &StoreOptions) -> Result<Self> {
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let database = Self::database_options(options)?;
        let families = Self::families(&cache, options);
        let db = DB::open_cf_descriptors_read_only(&database, path, families, false);
        let db = db.map_err(|error| damaged("open metadata", error))?;
        Ok(Self::new(db, cache, path, options, false))
    }

    fn new(db: DB, cache: Cache, path: &Path, options: &StoreOptions, writable: bool) -> Self {
        let directory = options.environment.is_none().then(|| path.to_owned());
        Self {
            db,
            cache,
            written: 0.into(),
            flushed: 0.into(),
            directory,
            writable: writable.into(),
            recalled: false.into(),
        }
    }

    fn database_options(options: &StoreOptions) -> Result<Options> {
        // The bindings have no call for it.
        let mut database = Options::default()
            .get_options_from_string("avoid_flush_during_shutdown=true")
            .map_err(|error| damaged("open metadata", error))?;
        database.set_atomic_flush(true);
        database.set_paranoid_checks(true);
        database.set_max_background_jobs(2);
        database.set_max_open_files(512);
        database.set_keep_log_file_num(4);
        database.set_max_log_file_size(4 << 20);
        database.set_max_manifest_file_size(16 << 20);
        database.set_bytes_per_sync(1 << 20);
        if let Some(environment) = &options.environment {
            database.set_env(environment);
        }
        Ok(database)
    }

    fn families(cache: &Cache, options: &StoreOptions) -> Vec<ColumnFamilyDescriptor> {
        let mut default = Options::default();
        default.set_write_buffer_size(1 << 20);
        let ours = FAMILIES.into_iter().map(|family| {
            ColumnFamilyDescriptor::new(family.name(), Self::family_options(family, cache, options))
        });
        ours.chain([ColumnFamilyDescriptor::new("default", default)]).collect()
    }

    fn family_options(family: Family, cache: &Cache, options: &StoreOptions) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_block_size(if family == Family::Head { 4 << 10 } else { 16 << 10 });
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_format_version(5);
        // A checkpoint asks for records that are mostly not there yet; a scan passes a filter by.
        if matches!(family, Family::Head | Family::History | Family::Changed | Family::Dead) {
            table.set_bloom_filter(10.0, false);
        }
        let mut family_options = Options::default();
        family_options.set_block_based_table_factory(&table);
        family_options.set_compression_type(DBCompressionType::Lz4);
        if family == Family::Head {
            // Head pages are rewritten whole: fewer compactions of level 0 save nearly half of what they write.
            family_options.set_level_zero_file_num_compaction_trigger(4);
        }
        family_options.set_write_buffer_size(options.write_buffer_bytes);
        family_options.set_max_write_buffer_number(3);
        family_options.set_level_compaction_dynamic_level_bytes(true);
        family_options
    }

    pub(super) fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("every column family was opened with the store")
    }

    /// The store as it is now, whatever checkpoints do later.
    pub fn view(&self) -> StoreView<'_> {
        StoreView::new(self, self.db.snapshot(), false)
    }

    /// As [`view`](Self::view), for a walk: its reads fail ([`Kind::Retry`]) once the store is recalled.
    pub(super) fn walk(&self) -> StoreView<'_> {
        StoreView::new(self, self.db.snapshot(), true)
    }

    /// Whether walks are to let go of it.
    pub(super) fn is_recalled(&self) -> bool {
        self.recalled.load(Ordering::Relaxed)
    }

    /// Has walks let go of the store, or no longer.
    pub(super) fn recall(&self, recalled: bool) {
        self.recalled.store(recalled, Ordering::Relaxed);
    }

    /// Whether it takes batches: it was opened for writing, and none has failed (rule 4).
    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch { store: self, batch: WriteBatch::default() }
    }

    /// Where the last checkpoint stands.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when there is none or it is not readable.
    pub fn state(&self) -> Result<CheckpointState> {
        self.view().state()
    }

    /// Writes a checkpoint; durable on return.
    ///
    /// # Errors
    /// As [`write`](Self::write) and [`flush`](Self::flush).
    pub fn commit(&self, batch: Batch<'_>, state: &CheckpointState) -> Result<()> {
        self.write(batch, state)?;
        self.flush()
    }

    /// Writes a checkpoint to memory, where every later view sees it; `flush` makes it durable.
    ///
    /// # Errors
    /// [`Kind::OutOfSpace`] when the file system has no room for it, and the store is as it was; else what RocksDB
    /// said, and the store must be opened anew.
    pub fn write(&self, batch: Batch<'_>, state: &CheckpointState) -> Result<()> {
        let mut batch = batch;
        let json = serde_json::to_vec(state).map_err(|source| {
            Error::new(Kind::Bug, "write checkpoint", "state does not fit JSON").source(source)
        })?;
        batch.put(Family::Catalog, STATE_KEY, &json);
        let bytes = batch.bytes() as u64;
        self.check_writable()?;
        self.check_room(bytes)?;
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch.batch, &options).map_err(|error| self.failed(error))?;
        self.written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// A write or flush failed (rule 4).
    fn failed(&self, source: rocksdb::Error) -> Error {
        self.give_up();
        damaged("write checkpoint", source)
    }

    /// From now on it takes no batch until it was opened anew.
    pub(crate) fn give_up(&self) {
        self.writable.store(false, Ordering::Relaxed);
    }

    fn check_writable(&self) -> Result<()> {
        if self.is_writable() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Unavailable,
            "write checkpoint",
            "the metadata store must be opened again first",
        ))
    }

    /// Whether the file system has room for what is not flushed yet and `bytes` more (rule 4).
    ///
    /// # Errors
    /// [`Kind::OutOfSpace`] when it has not; what the operating system said.
    pub fn check_room(&self, bytes: u64) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let failed = |source| Error::io("look for room", directory.display(), source);
        let free = free_bytes(directory).map_err(failed)?;
        let needed = self.unflushed_bytes() + bytes + SPARE_BYTES;
        if free >= needed {
            return Ok(());
        }
        let detail = format!("{} has {free} bytes free, and {needed} are needed", directory.display());
        Err(Error::new(Kind::OutOfSpace, "write checkpoint", detail)
            .hint("free space on the file system of the metadata directory"))
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// [`Kind::OutOfSpace`] when the file system has no room for it: what was written stays in memory, flush again.
    /// Else what RocksDB said, and the store must be opened anew.
    pub fn flush(&self) -> Result<()> {
        self.check_writable()?;
        self.check_room(0)?;
        let written = self.written.load(Ordering::Relaxed);
        let families: Vec<_> = FAMILIES.iter().map(|&family| self.family(family)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(|error| self.failed(error))?;
        self.flushed.store(written, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes that the keys and values take on disk.
    pub fn disk_bytes(&self) -> u64 {
        let property =
            |family| self.db.property_int_value_cf(self.family(family), "rocksdb.total-sst-files-size");
        FAMILIES.iter().filter_map(|&family| property(family).ok().flatten()).sum()
    }

    /// Bytes that RocksDB takes in memory: block cache, memtables, tables' indexes.
    pub fn memory_bytes(&self) -> u64 {
        let property = |family, name| self.db.property_int_value_cf(self.family(family), name).ok().flatten();
        let rest: u64 = FAMILIES
            .iter()
            .flat_map(|&family| {
                [
                    property(family, "rocksdb.cur-size-all-mem-tables"),
                    property(family, "rocksdb.estimate-table-readers-mem"),
                ]
            })
            .flatten()
            .sum();
        rest + self.cache.get_usage() as u64
    }

    /// Bytes of batches that are not flushed: closing the store loses them.
    pub fn unflushed_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed) - self.flushed.load(Ordering::Relaxed)
    }
}

/// What a checkpoint will change.
pub struct Batch<'a> {
    store: &'a MapStore,
    batch: WriteBatch,
}

impl Batch<'_> {
    /// Sets a key.
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.store.family(family), key, value);
    }

    /// Takes a key away.
    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.batch.delete_cf(self.store.family(family), key);
    }

    /// Takes away every key from `start` to before `end`.
    pub fn delete_range(&mut self, family: Family, start: &[u8], end: &[u8]) {
        self.batch.delete_range_cf(self.store.family(family), start, end);
    }

    /// Bytes in the batch.
    pub fn bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }
}
