//! When a checkpoint is made, what it freezes, and what its end sets free.
//!
//! *idle* -(due: `begin_checkpoint_when_due`)-> *frozen, flushing* -(durable: `write_frozen`)-> *writing* (a worker)
//! -(`checkpointed`)-> *retired* (cached pages are brought up to it, some each turn) -(`sweep_retired`)-> *idle*.
//! A failed write leaves it *frozen*; it is tried again every second.

use std::sync::Arc;

use super::flush::Waiter;
use super::{Core, Owner, Response};
use crate::catalog::{Catalog, Head, Layer, ObjectKey, SnapshotState};
use crate::checkpoint::{FrozenLayer, Outcome, Reclaim, Work};
use crate::error::{Error, Kind, Result};
use crate::journal::{Position, RECOVERY_BLOCKS};
use crate::map::cache::View;
use crate::map::overlay::Overlay;
use crate::map::resolve::Found;
use crate::map::store::CheckpointState;
use crate::units::{Epoch, LayerId, PageIndex};

/// Cached pages looked at in one turn after a checkpoint.
const SWEEP_PAGES: usize = 512;
/// Time between attempts to write a checkpoint that failed, in ms.
const RETRY_MS: u64 = 1_000;

/// The overlay of a finished checkpoint, needed until the cache was brought up to it.
pub(super) struct Retired {
    pub(super) overlay: Arc<Overlay>,
    swept: usize,
}

/// Work for another thread.
pub enum WorkItem {
    /// Read a map page.
    Load {
        /// The view.
        view: View,
        /// The page.
        page: PageIndex,
        /// The view's layer and the origins beneath.
        chain: Vec<(LayerId, Option<Epoch>)>,
        /// The checkpoint that was the last one.
        generation: u64,
    },
    /// Write a checkpoint.
    Checkpoint(Arc<Work>),
    /// Let go of memory; nothing comes back.
    Drop(Arc<Overlay>),
}

/// What another thread did.
pub enum WorkDone {
    /// A map page was read.
    Loaded {
        /// The view.
        view: View,
        /// The page.
        page: PageIndex,
        /// As it was asked.
        chain: Vec<(LayerId, Option<Epoch>)>,
        /// As it was asked.
        generation: u64,
        /// The page.
        result: Result<Found>,
    },
    /// A checkpoint was written, or not.
    Checkpointed(Result<Outcome>),
}

/// The state of checkpoints.
pub(super) struct Checkpoints {
    started: u64,
    completed: u64,
    /// A checkpoint up to this number was asked for.
    wanted: u64,
    last_ms: u64,
    /// The pool's epoch at the last one.
    epoch: Epoch,
    /// Where the last one that was begun ends in the journal.
    position: Option<Position>,
    work: Option<Arc<Work>>,
    waiters: Vec<(u64, Owner)>,
    failure: Option<(Error, u64)>,
    writing: bool,
    /// Something changed since the last one, besides the overlay.
    catalog_changed: bool,
    /// The one that is being made takes such a change along.
    takes_catalog: bool,
}

impl Checkpoints {
    pub(super) fn new(epoch: Epoch, wanted: bool) -> Self {
        Self {
            started: 0,
            completed: 0,
            wanted: u64::from(wanted),
            last_ms: 0,
            epoch,
            position: None,
            work: None,
            waiters: Vec::new(),
            failure: None,
            writing: false,
            catalog_changed: true,
            takes_catalog: false,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.completed
    }

    pub(super) fn started(&self) -> u64 {
        self.started
    }

    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref().map(|(error, _)| error)
    }

    pub(super) fn force_up_to(&mut self, number: u64) {
        self.wanted = self.wanted.max(number);
    }

    /// Whether the store's catalog is that of now.
    pub(super) fn has_catalog(&self) -> bool {
        !self.catalog_changed && !self.takes_catalog
    }

    /// The catalog changed.
    pub(super) fn note_change(&mut self) {
        self.catalog_changed = true;
    }

    pub(super) fn take_waiters(&mut self) -> Vec<Owner> {
        self.waiters.drain(..).map(|(_, owner)| owner).collect()
    }
}

impl Core {
    pub(super) fn submit_checkpoint(&mut self, owner: Owner) {
        if let Some(error) = self.failed.clone() {
            return self.complete(owner, Err(error));
        }
        let number = self.checkpoints.started + 1;
        self.checkpoints.force_up_to(number);
        self.checkpoints.waiters.push((number, owner));
    }

    fn checkpoint_is_due(&self) -> bool {
        let (used, ring) = (self.journal.used_blocks(), self.journal.ring_blocks());
        let journal_is_full = used * 100 >= ring * self.options.checkpoint_journal_percent
            || used + RECOVERY_BLOCKS + 2 >= ring;
        let waiting = self.active.superseded_blocks * 20 >= self.space.blocks();
        let changed = !self.active.is_empty() || self.journal.next_lsn() > self.durable;
        let age_ms = self.now_ms.saturating_sub(self.checkpoints.last_ms);
        let late = age_ms >= self.options.checkpoint_interval_ms;
        self.checkpoints.wanted > self.checkpoints.started
            || journal_is_full
            || waiting
            || self.active.bytes >= self.options.overlay_bytes
            || self.catalog.has_reclaims() && age_ms >= self.options.reclaim_interval_ms
            || late && (changed || self.checkpoints.catalog_changed)
    }

    pub(super) fn begin_checkpoint_when_due(&mut self) {
        if self.failed.is_some() {
            return;
        }
        if let Some((_, retry_at)) = &self.checkpoints.failure {
            if self.now_ms >= *retry_at && !self.checkpoints.writing && self.checkpoints.work.is_some() {
                self.write_frozen();
            }
            return;
        }
        if self.frozen.is_none()
            && self.retired.is_none()
            && self.checkpoint_is_due()
            && let Some(position) = self.position_of_its_own()
        {
            self.freeze(position);
        }
    }

    /// Where the journal ends, after the end of every earlier checkpoint (checkpoint invariant 4): one that has
    /// nothing to take but room to give back follows an empty block. `None` while the tail has no room for that.
    fn position_of_its_own(&mut self) -> Option<Position> {
        self.journal.seal(self.durable, &self.tail);
        if self.checkpoints.position == Some(self.journal.position()) {
            self.journal.beacon(self.catalog.epoch(), self.durable, &self.tail);
        }
        Some(self.journal.position()).filter(|&position| self.checkpoints.position != Some(position))
    }

    fn freeze(&mut self, position: Position) {
        let overlay = Arc::new(std::mem::take(&mut self.active));
        let named = self.catalog.dirty().filter_map(|key| match key {
            ObjectKey::Layer(layer) => Some(layer),
            _ => None,
        });
        let layers = overlay
            .layers
            .keys()
            .copied()
            .chain(named)
            .filter(|layer| self.catalog.layers.contains_key(layer))
            .map(|layer| (layer, freeze_layer(&self.catalog, layer)))
            .collect();
        self.catalog.prune_points();
        let objects = self.catalog.take_dirty();
        let fresh = objects
            .iter()
            .filter_map(|(key, json)| match key {
                ObjectKey::Snapshot(key) if key.epoch >= self.checkpoints.epoch && json.is_some() => {
                    Some(*key)
                }
                _ => None,
            })
            .collect();
        let state = CheckpointState {
            pool_id: self.pool_id.to_string(),
            incarnation: self.incarnation,
            next_lsn: position.next_lsn,
            next_sequence: position.next_sequence,
            previous: position.previous,
            epoch: self.catalog.epoch(),
            next_id: self.catalog.next_id,
            next_layer: self.catalog.next_layer,
        };
        let reclaim = self.catalog.reclaims();
        self.checkpoints.started += 1;
        self.checkpoints.last_ms = self.now_ms;
        self.checkpoints.position = Some(position);
        self.checkpoints.takes_catalog = std::mem::take(&mut self.checkpoints.catalog_changed);
        self.frozen = Some(overlay.clone());
        self.checkpoints.work =
            Some(Arc::new(Work { overlay, layers, fresh, objects, reclaim, state, merged: Arc::default() }));
        // RocksDB must never know of a write that a crash could take back (checkpoint invariant 1).
        self.flush_for(Waiter::Checkpoint);
    }

    pub(super) fn write_frozen(&mut self) {
        if let Some(work) = self.checkpoints.work.clone() {
            self.checkpoints.writing = true;
            self.work.push(WorkItem::Checkpoint(work));
        }
    }

    /// Another thread did its work.
    pub fn work_done(&mut self, done: WorkDone) {
        match done {
            WorkDone::Loaded { view, page, chain, generation, result } => {
                self.page_loaded(view, page, generation, &chain, result);
            }
            WorkDone::Checkpointed(Ok(outcome)) => self.checkpointed(outcome),
            WorkDone::Checkpointed(Err(error)) => self.checkpoint_failed(error),
        }
    }

    fn checkpoint_failed(&mut self, error: Error) {
        self.checkpoints.writing = false;
        self.statistics.failed_checkpoints += 1;
        if error.kind() == Kind::Damaged {
            return self.fail("a checkpoint", std::io::Error::other(error));
        }
        self.checkpoints.failure = Some((error.clone(), self.now_ms + RETRY_MS));
        for owner in self.checkpoints.take_waiters() {
            self.complete(owner, Err(error.clone()));
        }
    }

    fn checkpointed(&mut self, outcome: Outcome) {
        let (Some(work), Some(overlay)) = (self.checkpoints.work.take(), self.frozen.take()) else { return };
        self.statistics.checkpoints += 1;
        self.statistics.checkpoint_bytes += outcome.batch_bytes;
        self.checkpoints.writing = false;
        self.checkpoints.failure = None;
        self.checkpoints.takes_catalog = false;
        self.checkpoints.completed += 1;
        self.checkpoints.epoch = work.state.epoch;
        self.journal.trim(work.state.next_sequence);
        for reclaim in &outcome.reclaimed {
            self.finish_reclaim(reclaim);
        }
        let mut freed = outcome.freed;
        freed.extend_from_slice(&overlay.superseded);
        self.free_later(freed);
        self.retired = Some(Retired { overlay, swept: 0 });
        let completed = self.checkpoints.completed;
        let (ready, waiting) = std::mem::take(&mut self.checkpoints.waiters)
            .into_iter()
            .partition(|(number, _)| *number <= completed);
        self.checkpoints.waiters = waiting;
        for (_, owner) in ready {
            self.complete(owner, Ok(Response::Done(work.state.next_lsn)));
        }
    }

    fn finish_reclaim(&mut self, reclaim: &Reclaim) {
        match reclaim {
            Reclaim::Snapshots { layer, epochs, .. } => {
                epochs.iter().for_each(|&epoch| {
                    self.catalog.reclaimed(crate::catalog::SnapshotKey { layer: *layer, epoch })
                });
            }
            Reclaim::Trim { layer, newest, .. } => self.catalog.trimmed(*layer, *newest),
            Reclaim::Drop { layer, .. } => {
                self.catalog.dropped(*layer);
                self.cache.forget(*layer);
                if let Some(retired) = &mut self.retired {
                    retired.swept = 0;
                }
            }
        }
        self.checkpoints.catalog_changed = true;
    }

    /// Brings some cached pages up to the finished checkpoint; when all are, its overlay can go.
    pub(super) fn sweep_retired(&mut self) {
        let Some(retired) = &mut self.retired else { return };
        let overlay = &retired.overlay;
        let ended = self.cache.sweep(&mut retired.swept, SWEEP_PAGES, |view, page, content| {
            if view.at.is_none() {
                overlay.apply(view.layer, page, None, content);
            }
        });
        if ended && let Some(retired) = self.retired.take() {
            self.work.push(WorkItem::Drop(retired.overlay));
        }
    }

    /// Whether a checkpoint is being made.
    pub fn is_checkpointing(&self) -> bool {
        self.frozen.is_some() || self.retired.is_some() || self.checkpoints.wanted > self.checkpoints.started
    }
}

/// What a checkpoint must know of a layer.
pub(crate) fn freeze_layer(catalog: &Catalog, layer: LayerId) -> FrozenLayer {
    let origins = catalog.chain(layer, None).split_off(1);
    let points = catalog.layers.get(&layer).map(|layer| layer.points.clone()).unwrap_or_default();
    FrozenLayer { origins, live: catalog.live_epochs(layer), points }
}

impl Catalog {
    /// Whether something deleted still takes room.
    pub fn has_reclaims(&self) -> bool {
        !self.reclaiming.is_empty()
    }

    /// What can be given back now, a few tasks a layer, oldest snapshots first.
    pub(crate) fn reclaims(&mut self) -> Vec<Reclaim> {
        let mut tasks = Vec::new();
        let mut idle = Vec::new();
        for &id in &self.reclaiming {
            let before = tasks.len();
            if let Some(layer) = self.layers.get(&id) {
                self.reclaims_of(layer, &mut tasks);
            }
            if tasks.len() == before {
                idle.push(id);
            }
        }
        idle.iter().for_each(|id| _ = self.reclaiming.remove(id));
        tasks
    }

    fn reclaims_of(&self, layer: &Layer, tasks: &mut Vec<Reclaim>) {
        let live = self.live_epochs(layer.id);
        let origin = layer.origin.map_or(Epoch(0), |origin| origin.epoch);
        if layer.head != Head::Live && live.is_empty() {
            let snapshots = self.snapshots_on(layer.id).map(|snapshot| snapshot.key).collect();
            return tasks.push(Reclaim::Drop { layer: layer.id, origin, snapshots });
        }
        let gone: Vec<Epoch> = self
            .snapshots_on(layer.id)
            .filter(|snapshot| snapshot.state == SnapshotState::Reclaiming)
            .map(|snapshot| snapshot.key.epoch)
            .collect();
        if let Some(&first) = gone.first() {
            let before = live.partition_point(|&epoch| epoch < first);
            let newer = live.get(before).copied();
            let older = before.checked_sub(1).map(|at| live[at]);
            let epochs =
                gone.into_iter().take_while(|&epoch| newer.is_none_or(|newer| epoch < newer)).collect();
            tasks.push(Reclaim::Snapshots {
                layer: layer.id,
                epochs,
                older: older.unwrap_or(origin),
                older_is_live: older.is_some(),
                newer,
                cloned: layer.origin.is_some(),
            });
        } else if let (Head::Orphaned, Some(&newest)) = (layer.head, live.last()) {
            let trimmed = Layer { head: Head::Trimmed, ..layer.clone() };
            let object = serde_json::to_vec(&trimmed)
                .expect("catalog objects are plain data, which JSON always holds");
            tasks.push(Reclaim::Trim { layer: layer.id, newest, origin, object });
        }
    }
}
