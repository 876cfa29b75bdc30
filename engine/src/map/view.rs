//! The store at one moment, and walks through it.

use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions};

use super::store::{CheckpointState, Family, MapStore, STATE_KEY, damaged};
use crate::error::{Error, Kind, Result};

/// The store at one moment: every read through it sees the same checkpoint.
pub struct StoreView<'a> {
    store: &'a MapStore,
    snapshot: rocksdb::Snapshot<'a>,
    /// Whether its reads fail once the store is recalled.
    lets_go: bool,
    /// Whether one has.
    interrupted: AtomicBool,
}

impl<'a> StoreView<'a> {
    pub(super) fn new(store: &'a MapStore, snapshot: rocksdb::Snapshot<'a>, lets_go: bool) -> Self {
        Self { store, snapshot, lets_go, interrupted: AtomicBool::new(false) }
    }

    /// Whether a read failed because the store was recalled.
    pub(super) fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn check_recall(&self) -> Result<()> {
        if !(self.lets_go && self.store.is_recalled()) {
            return Ok(());
        }
        self.interrupted.store(true, Ordering::Relaxed);
        Err(Error::new(Kind::Retry, "read map", "the metadata store is being opened again"))
    }

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
        self.check_recall()?;
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
        Scan { view: self, raw: self.snapshot.raw_iterator_cf_opt(self.store.family(family), options) }
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
    view: &'a StoreView<'a>,
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
        self.view.check_recall()?;
        match self.raw.item() {
            Some(item) => Ok(Some(item)),
            None => self.raw.status().map(|()| None).map_err(|error| damaged("read map", error)),
        }
    }
}
