//! Restores that are stopped by their store or their sink: they end, and say why.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firn_replicator::error::{Error, Kind, Result};
use firn_replicator::format::digest::Digest;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::MemoryStore;
use firn_replicator::store::faults::{Fault, FaultyStore};
use firn_replicator::vault::sink::Sink;

use crate::model::{Random, Target, Volume};
use crate::place::{START_MS, init, open, send};

/// Packs that the point reaches: many more than a restore has threads and fetches under way.
const PACKS: u64 = 40;

/// A vault with a point of so many packs.
fn scattered() -> (Arc<MemoryStore>, Digest) {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, Cipher::None);
    let (mut volume, mut random) = (Volume::new(1, PACKS * 4), Random(31));
    let mut point = None;
    for pack in 0..PACKS {
        volume.write(pack * 4, random.block());
        point = Some(send(&vault, &volume.snapshot()).unwrap().points[0].id);
    }
    (store, point.unwrap())
}

/// A sink that takes a few writes.
struct Full {
    left: AtomicUsize,
    panics: bool,
}

impl Sink for Full {
    fn is_zeroed(&self) -> bool {
        true
    }

    fn write_at(&self, _offset: u64, _data: &[u8]) -> Result<()> {
        let took =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        assert!(took || !self.panics, "the sink panics, as it was told");
        let full = || Error::new(Kind::OutOfSpace, "write restored data", "the sink is full");
        if took { Ok(()) } else { Err(full()) }
    }

    fn zero(&self, _offset: u64, _length: u64) -> Result<()> {
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}

/// Each thread of a restore left at its first error, and whoever handed out work waited for ever for somebody to take
/// it: a restore to a full disk hung without a word.
#[test]
fn a_full_sink_ends_a_restore() {
    let (store, point) = scattered();
    let vault = open(store, Cipher::None).unwrap();
    let reader = vault.open_point(point).unwrap();
    for (panics, kind) in [(false, Kind::OutOfSpace), (true, Kind::Bug)] {
        for writes in [0, 5] {
            let sink = Full { left: AtomicUsize::new(writes), panics };
            let error = reader.restore(&sink, &()).unwrap_err();
            assert_eq!(error.kind(), kind, "after {writes} writes: {error}");
        }
    }
}

/// The same with a store that answers nothing from some request on.
#[test]
fn a_store_that_dies_ends_a_restore() {
    let (store, point) = scattered();
    let store: &'static MemoryStore = Box::leak(Box::new(store.copy()));
    let healthy = Arc::new(FaultyStore::new(store));
    let vault = open(healthy.clone(), Cipher::None).unwrap();
    let bytes = vault.open_point(point).unwrap().point().bytes;
    let opened = healthy.requests().len();
    let _ = vault.open_point(point).unwrap().restore(&Target::new(bytes), &()).unwrap().whole().unwrap();
    let requests = healthy.requests().len();
    assert!(requests - opened > 2 * 40, "each pack is asked for");
    for at in opened..opened + 60 {
        let dying = Arc::new(FaultyStore::failing(store, at, Fault::KillBefore));
        let vault = open(dying, Cipher::None).unwrap();
        let reader = vault.open_point(point).unwrap();
        let error = reader.restore(&Target::new(bytes), &()).unwrap_err();
        assert_eq!(error.kind(), Kind::Retry, "at request {at}: {error}");
    }
}
