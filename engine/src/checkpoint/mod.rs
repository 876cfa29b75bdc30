//! A checkpoint: what the journal says moves into RocksDB, in one batch.
//!
//! 1. Everything in the batch is durable on the device before the batch is written (the caller flushed it), so
//!    RocksDB never knows of a write that a crash could lose (I2).
//! 2. The persisted bitmap holds exactly the blocks that persisted heads and dead entries map.
//! 3. A displaced block is kept while a live snapshot *s* sees it, birth <= s < the epoch it was displaced in;
//!    else it is freed, and only its own layer frees it: an entry not born after the layer's origin is the origin's.
//! 4. A batch is made of the store that it is written to, and holds the state of its checkpoint, which no other has:
//!    the store itself tells whether a checkpoint is in it.
//! 5. What is freed may be allocated again only after this batch is durable (I5): the caller does so.

mod edits;
mod merge;
mod reclaim;
mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use reclaim::Reclaim;
pub use usage::{layer_usage, snapshot_usage};

use crate::catalog::{ObjectKey, SnapshotKey};
use crate::error::{Error, Kind, Result};
use crate::format::dead::PhysicalRun;
use crate::map::overlay::Overlay;
use crate::map::store::{Batch, CheckpointState, Family, MapStore, StoreView};
use crate::units::{Epoch, LayerId};

/// What a checkpoint must know of a layer that was written to.
#[derive(Clone, Debug, Default)]
pub struct FrozenLayer {
    /// Its origins, nearest first.
    pub origins: Vec<(LayerId, Option<Epoch>)>,
    /// Epochs of its live snapshots, oldest first.
    pub live: Vec<Epoch>,
    /// Epochs at which intervals begin that its changes in the overlay may belong to, oldest first. Deleted snapshots
    /// count, so that an interval's records are never newer than those of a later interval.
    pub points: Vec<Epoch>,
}

impl FrozenLayer {
    /// Entries born in this epoch or before belong to the origin.
    pub fn origin_epoch(&self) -> Epoch {
        self.origins.first().and_then(|(_, at)| *at).unwrap_or(Epoch(0))
    }

    /// The newest live snapshot before `epoch`.
    pub fn live_before(&self, epoch: Epoch) -> Option<Epoch> {
        newest_before(&self.live, epoch)
    }

    /// The interval that a change made in `epoch` belongs to; `None` when no snapshot and no origin is there to
    /// tell it from.
    pub fn interval(&self, epoch: Epoch) -> Option<Epoch> {
        let told_from = self.live_before(epoch).is_some() || !self.origins.is_empty();
        newest_before(&self.points, epoch).filter(|_| told_from)
    }
}

fn newest_before(epochs: &[Epoch], epoch: Epoch) -> Option<Epoch> {
    epochs.partition_point(|&point| point < epoch).checked_sub(1).map(|at| epochs[at])
}

/// Everything a checkpoint works on, frozen at one LSN.
#[derive(Clone, Debug)]
pub struct Work {
    /// What was written since the checkpoint before.
    pub overlay: Arc<Overlay>,
    /// Of every layer in the overlay, and of those with new snapshots.
    pub layers: BTreeMap<LayerId, FrozenLayer>,
    /// Snapshots taken since the checkpoint before.
    pub fresh: Vec<SnapshotKey>,
    /// Catalog objects to set or delete.
    pub objects: Vec<(ObjectKey, Option<Vec<u8>>)>,
    /// Room to give back, oldest snapshot of a layer first.
    pub reclaim: Vec<Reclaim>,
    /// Where the journal stands after it.
    pub state: CheckpointState,
    /// What it does, once it was merged. It is merged again only while the store does not hold it: merging once more
    /// would lay the overlay over its own result.
    pub merged: Arc<Mutex<Option<Outcome>>>,
}

/// What a checkpoint did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Blocks that nothing maps any more.
    pub freed: Vec<PhysicalRun>,
    /// Reclaims that were completed; the others go on at the next checkpoint.
    pub reclaimed: Vec<Reclaim>,
    /// Bytes of the batch.
    pub batch_bytes: u64,
}

/// Keys that reclaiming may touch in one checkpoint, so that a batch stays small.
pub const RECLAIM_KEYS_MAX: u64 = 100_000;

/// Does a checkpoint; durable on return.
///
/// # Errors
/// What RocksDB said; [`Kind::Damaged`] when the map contradicts itself. The same work can then be done again, also
/// after the store was opened anew.
pub fn run(store: &MapStore, work: &Work) -> Result<Outcome> {
    let outcome = write(store, work)?;
    store.flush()?;
    Ok(outcome)
}

/// Brings a checkpoint into the store, whose flush then makes it durable. Whether an earlier attempt did is what the
/// store says: each checkpoint has a state that none before it had. So a batch that a failed write, a failed flush or
/// an opening anew has left there is only flushed, and one that they lost is made again.
///
/// # Errors
/// As [`run`].
pub(crate) fn write(store: &MapStore, work: &Work) -> Result<Outcome> {
    // Nothing that can panic leaves it half written.
    let mut merged = work.merged.lock().unwrap_or_else(PoisonError::into_inner);
    if store.state()? == work.state {
        let lost = || Error::new(Kind::Bug, "write checkpoint", "the store holds one that was never merged");
        return merged.clone().ok_or_else(lost);
    }
    // Merging takes long, and what it made before needs about as much room as it will now.
    store.check_room(merged.as_ref().map_or(0, |before| before.batch_bytes))?;
    let view = store.view();
    let (batch, outcome) = merge(store, &view, work)?;
    *merged = Some(outcome.clone());
    store.write(batch, &work.state)?;
    Ok(outcome)
}

/// The batch of a checkpoint over what the store holds, and what it will have done.
fn merge<'a>(store: &'a MapStore, view: &'a StoreView<'a>, work: &Work) -> Result<(Batch<'a>, Outcome)> {
    let mut edits = edits::Edits::new(store, view);
    let mut usage = usage::Usage::default();
    for (&layer, pages) in &work.overlay.layers {
        let frozen = work.layers.get(&layer).cloned().unwrap_or_default();
        merge::Merge::new(layer, &frozen, &work.overlay, &mut edits, &mut usage).run(pages)?;
    }
    usage.write(work, &mut edits)?;
    for (key, json) in &work.objects {
        match json {
            Some(json) => edits.batch.put(Family::Catalog, &key.encode(), json),
            None => edits.batch.delete(Family::Catalog, &key.encode()),
        }
    }
    let reclaimed = reclaim::run(&work.reclaim, &work.overlay, &mut edits)?;
    let (batch, freed) = edits.finish();
    let batch_bytes = batch.bytes() as u64;
    Ok((batch, Outcome { freed, reclaimed, batch_bytes }))
}
