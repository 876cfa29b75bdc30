//! The map's home: a RocksDB with six column families, written only by checkpoints.
//!
//! 1. A checkpoint is one write batch without a log, then an atomic flush of every column family: RocksDB holds
//!    all of it or none, whatever moment the machine stops at.
//! 2. A checkpoint is durable when `flush` has returned; one that could not be flushed is flushed again, never
//!    merged again.
//! 3. Nothing here runs on a reactor thread.
//! 4. RocksDB is asked to write only what the file system has room for: it does not get over every write that did
//!    not fit, and then refuses all others until it is opened again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIteratorWithThreadMode, Env, FlushOptions, Options, ReadOptions, WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::format::Malformed;
use crate::sys::free_bytes;
use crate::units::{Epoch, LayerId, Lsn};

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

const STATE_KEY: &[u8] = b"!checkpoint";

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
}

/// Room that a flush must leave for RocksDB's manifest and log, in bytes.
const SPARE_BYTES: u64 = 4 << 20;

fn damaged(operation: &'static str, source: rocksdb::Error) -> Error {
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
        let mut database = Options::default();
        database.create_if_missing(create);
        database.create_missing_column_families(create);
        database.set_error_if_exists(create);
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
        let families = FAMILIES.map(|family| {
            ColumnFamilyDescriptor::new(family.name(), Self::family_options(family, &cache, options))
        });
        let mut default = Options::default();
        default.set_write_buffer_size(1 << 20);
        let all = families.into_iter().chain([ColumnFamilyDescriptor::new("default", default)]);
        let db =
            DB::open_cf_descriptors(&database, path, all).map_err(|error| damaged("open metadata", error))?;
        let directory = options.environment.is_none().then(|| path.to_owned());
        Ok(Self { db, cache, written: 0.into(), flushed: 0.into(), directory })
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

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("every column family was opened with the store")
    }

    /// The store as it is now, whatever checkpoints do later.
    pub fn view(&self) -> StoreView<'_> {
        StoreView { store: self, snapshot: self.db.snapshot() }
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
    /// [`Kind::OutOfSpace`] when an earlier flush found the file system full and RocksDB has not recovered, else
    /// what RocksDB said. The store is then as it was.
    pub fn write(&self, batch: Batch<'_>, state: &CheckpointState) -> Result<()> {
        let mut batch = batch;
        let json = serde_json::to_vec(state).map_err(|source| {
            Error::new(Kind::Bug, "write checkpoint", "state does not fit JSON").source(source)
        })?;
        batch.put(Family::Catalog, STATE_KEY, &json);
        let bytes = batch.bytes() as u64;
        self.check_room(bytes)?;
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch.batch, &options).map_err(|error| damaged("write checkpoint", error))?;
        self.written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the file system has room for what is not flushed yet and `bytes` more (rule 4).
    fn check_room(&self, bytes: u64) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let failed = |source| Error::io("look for room", directory.display(), source);
        let free = free_bytes(directory).map_err(failed)?;
        let unflushed = self.written_bytes() - self.flushed.load(Ordering::Relaxed);
        let needed = unflushed + bytes + SPARE_BYTES;
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
    /// [`Kind::OutOfSpace`] when the file system is full, else what RocksDB said. What was written stays in memory;
    /// flush again.
    pub fn flush(&self) -> Result<()> {
        self.check_room(0)?;
        let written = self.written_bytes();
        let families: Vec<_> = FAMILIES.iter().map(|&family| self.family(family)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(|error| damaged("write checkpoint", error))?;
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

    /// Bytes of batches written since the store was opened, before compaction.
    pub fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// The store at one moment: every read through it sees the same checkpoint.
pub struct StoreView<'a> {
    store: &'a MapStore,
    snapshot: rocksdb::Snapshot<'a>,
}

impl StoreView<'_> {
    /// Where its checkpoint stands.
    ///
    /// # Errors
    /// As [`MapStore::state`].
    pub fn state(&self) -> Result<CheckpointState> {
        let json = self.get(Family::Catalog, STATE_KEY)?;
        let json = json.ok_or_else(|| Error::new(Kind::Damaged, "open metadata", "holds no checkpoint"))?;
        serde_json::from_slice(&json).map_err(|source| {
            Error::new(Kind::Damaged, "open metadata", "the checkpoint's place is not readable")
                .source(source)
        })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// What RocksDB said.
    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<rocksdb::DBPinnableSlice<'_>>> {
        self.snapshot
            .get_pinned_cf(self.store.family(family), key)
            .map_err(|error| damaged("read map", error))
    }

    /// Walks a family in key order, to before `end` when given; the caller seeks.
    pub fn scan(&self, family: Family, end: Option<Vec<u8>>) -> Scan<'_> {
        let mut options = ReadOptions::default();
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        options.set_total_order_seek(true);
        Scan { raw: self.snapshot.raw_iterator_cf_opt(self.store.family(family), options) }
    }

    /// Walks the keys of a family from `start` to before `end`, calling `visit` until it says stop (`false`).
    ///
    /// # Errors
    /// What RocksDB or `visit` said.
    pub fn each(
        &self,
        family: Family,
        start: &[u8],
        end: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut scan = self.scan(family, Some(end.to_vec()));
        scan.seek(start);
        while let Some((key, value)) = scan.item()? {
            if !visit(key, value)? {
                break;
            }
            scan.advance();
        }
        Ok(())
    }
}

/// Walks a column family in key order.
pub struct Scan<'a> {
    raw: DBRawIteratorWithThreadMode<'a, DB>,
}

impl Scan<'_> {
    /// Goes to the first key that is not below `key`.
    pub fn seek(&mut self, key: &[u8]) {
        self.raw.seek(key);
    }

    /// Goes to the next key.
    pub fn advance(&mut self) {
        self.raw.next();
    }

    /// The key and value here, or `None` at the end.
    ///
    /// # Errors
    /// What RocksDB said, when the end was not reached but reading failed.
    pub fn item(&self) -> Result<Option<(&[u8], &[u8])>> {
        match self.raw.item() {
            Some(item) => Ok(Some(item)),
            None => self.raw.status().map(|()| None).map_err(|error| damaged("read map", error)),
        }
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
