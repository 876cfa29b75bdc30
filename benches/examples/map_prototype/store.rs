//! RocksDB as every format uses it: column families, one batch and one atomic flush per checkpoint, no WAL.

use std::path::Path;

use anyhow::{Context as _, Result};
use rocksdb::statistics::Ticker;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBCompressionType, DBPinnableSlice, DBRawIterator, FlushOptions, Options,
    ReadOptions, SliceTransform, WaitForCompactOptions, WriteBatch, WriteOptions, properties,
};

/// How one column family is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) is_compressed: bool,
    pub(crate) block_bytes: usize,
    pub(crate) filter: Filter,
    /// Files in level 0 that start a compaction.
    pub(crate) level0_files: i32,
}

/// Which Bloom filter a family has, of 10 bits a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    None,
    WholeKey,
    /// Of layer and page, the first 10 bytes.
    Prefix,
}

/// What flush and compaction wrote.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) flush_bytes: u64,
    pub(crate) compaction_bytes: u64,
}

pub(crate) struct Store {
    db: DB,
    options: Options,
    families: Vec<Family>,
}

impl Store {
    pub(crate) fn create(path: &Path, families: &[Family]) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_max_background_jobs(2);
        options.enable_statistics();
        let cache = Cache::new_lru_cache(1 << 30);
        let descriptors =
            families.iter().map(|f| ColumnFamilyDescriptor::new(f.name, family_options(f, &cache)));
        let db = DB::open_cf_descriptors(&options, path, descriptors)?;
        Ok(Self { db, options, families: families.to_vec() })
    }

    pub(crate) fn families(&self) -> &[Family] {
        &self.families
    }

    pub(crate) fn family(&self, name: &str) -> Result<&ColumnFamily> {
        self.db.cf_handle(name).context("no such column family")
    }

    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        Ok(self.db.get_pinned_cf(self.family(family)?, key)?)
    }

    /// Values of `keys`, which rise.
    pub(crate) fn get_sorted(
        &self,
        family: &str,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<DBPinnableSlice<'_>>>> {
        let values = self.db.batched_multi_get_cf(self.family(family)?, keys, true);
        Ok(values.into_iter().collect::<Result<_, _>>()?)
    }

    /// An iterator that ends before `end`, not yet placed.
    pub(crate) fn iterate(&self, family: &str, end: Vec<u8>) -> Result<DBRawIterator<'_>> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_iterate_upper_bound(end);
        Ok(self.db.raw_iterator_cf_opt(self.family(family)?, options))
    }

    /// The same within one layer and page, so that a prefix filter may spare it files.
    pub(crate) fn iterate_prefix(&self, family: &str, end: Vec<u8>) -> Result<DBRawIterator<'_>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        Ok(self.db.raw_iterator_cf_opt(self.family(family)?, options))
    }

    /// One checkpoint: durable on return.
    pub(crate) fn commit(&self, batch: WriteBatch) -> Result<()> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options)?;
        let families = self.families.iter().map(|f| self.family(f.name)).collect::<Result<Vec<_>>>()?;
        self.db.flush_cfs_opt(&families, &FlushOptions::default())?;
        Ok(())
    }

    /// Waits until RocksDB has no compaction left that it would do by itself.
    pub(crate) fn settle(&self) -> Result<()> {
        Ok(self.db.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    pub(crate) fn compact_fully(&self) -> Result<()> {
        // Forced, or files that were only moved down would keep their sequence numbers, which cost 3 to 5 bytes a key.
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for family in &self.families {
            let family = self.family(family.name)?;
            self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
        }
        self.settle()
    }

    pub(crate) fn family_bytes(&self, name: &str) -> Result<u64> {
        let size = self.db.property_int_value_cf(self.family(name)?, properties::LIVE_SST_FILES_SIZE)?;
        size.context("no size property")
    }

    pub(crate) fn bytes(&self) -> Result<u64> {
        self.families.iter().map(|family| self.family_bytes(family.name)).sum()
    }

    pub(crate) fn written(&self) -> Written {
        Written {
            flush_bytes: self.options.get_ticker_count(Ticker::FlushWriteBytes),
            compaction_bytes: self.options.get_ticker_count(Ticker::CompactWriteBytes),
        }
    }

    /// Flush and compaction of one family, in GB as RocksDB rounds it.
    pub(crate) fn family_written_gb(&self, name: &str) -> Result<f64> {
        let text = self.db.property_value_cf(self.family(name)?, "rocksdb.cfstats-no-file-histogram")?;
        let text = text.context("no cfstats")?;
        let (_, after) = text.split_once("Cumulative compaction: ").context("no cumulative compaction")?;
        let (figure, _) = after.split_once(" GB write").context("no figure")?;
        Ok(figure.trim().parse()?)
    }
}

fn family_options(family: &Family, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(family.block_bytes);
    if family.filter != Filter::None {
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(family.filter == Filter::WholeKey);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    let compression = if family.is_compressed { DBCompressionType::Lz4 } else { DBCompressionType::None };
    options.set_compression_type(compression);
    options.set_level_zero_file_num_compaction_trigger(family.level0_files);
    if family.filter == Filter::Prefix {
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(10));
    }
    options
}
