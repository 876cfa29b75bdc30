//! Giving back the room of what was deleted: snapshots, orphaned heads, whole layers.
//!
//! 1. Each step deletes the keys whose blocks it frees in the same batch, so that progress is what is left: a
//!    reclaim that a crash or the budget interrupts goes on where it was.
//! 2. The head of a layer with entries in this checkpoint's overlay waits for the next one: its keys are changing.
//! 3. Between live snapshots *p* and *n*, what was born after *p* and displaced in an interval before *n* is seen by
//!    no live snapshot: that, and only that, the deletion of the snapshots between them frees.

use std::collections::BTreeSet;

use super::RECLAIM_KEYS_MAX;
use super::edits::Edits;
use super::usage::{layer_key, snapshot_key};
use crate::catalog::{ObjectKey, SnapshotKey};
use crate::error::Result;
use crate::format::head::{self, bits};
use crate::format::{dead, keys};
use crate::map::overlay::Overlay;
use crate::map::store::{Family, malformed};
use crate::map::{Entry, Page};
use crate::units::{Epoch, LayerId, PageIndex};

/// Room to give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// What only these deleted snapshots saw: neighbours with no live snapshot between them.
    Snapshots {
        /// The layer.
        layer: LayerId,
        /// Their epochs, oldest first.
        epochs: Vec<Epoch>,
        /// The newest live snapshot before them, else the layer's origin, else 0.
        older: Epoch,
        /// Whether `older` is a live snapshot of the same layer.
        older_is_live: bool,
        /// The oldest live snapshot after them.
        newer: Option<Epoch>,
        /// Whether the layer has an origin, from which deltas may be asked for.
        cloned: bool,
    },
    /// What only the head of a layer without a volume maps.
    Trim {
        /// The layer.
        layer: LayerId,
        /// Its newest live snapshot.
        newest: Epoch,
        /// The epoch of its origin, else 0.
        origin: Epoch,
        /// Its catalog object after the trim, in JSON.
        object: Vec<u8>,
    },
    /// A layer that nobody sees.
    Drop {
        /// The layer.
        layer: LayerId,
        /// The epoch of its origin, else 0.
        origin: Epoch,
        /// Its snapshots, all deleted.
        snapshots: Vec<SnapshotKey>,
    },
}

impl Reclaim {
    fn layer(&self) -> LayerId {
        match self {
            Reclaim::Snapshots { layer, .. } | Reclaim::Trim { layer, .. } | Reclaim::Drop { layer, .. } => {
                *layer
            }
        }
    }
}

/// Does as much as the budget allows; returns what was completed.
pub(super) fn run(tasks: &[Reclaim], overlay: &Overlay, edits: &mut Edits<'_>) -> Result<Vec<Reclaim>> {
    let mut budget = RECLAIM_KEYS_MAX;
    let mut touched = BTreeSet::new();
    let mut done = Vec::new();
    for task in tasks {
        // One task a layer and checkpoint: the next one must see what this one deleted. Only a snapshot's keys are
        // others than those that the overlay of the same layer changes.
        let changing =
            overlay.layers.contains_key(&task.layer()) && !matches!(task, Reclaim::Snapshots { .. });
        if changing || !touched.insert(task.layer()) || budget == 0 {
            continue;
        }
        let completed = match task {
            Reclaim::Snapshots { .. } => snapshots(task, edits, &mut budget)?,
            Reclaim::Trim { layer, newest, origin, object } => {
                trim(*layer, *newest, *origin, object, edits, &mut budget)?
            }
            Reclaim::Drop { layer, origin, snapshots } => {
                drop_layer(*layer, *origin, snapshots, edits, &mut budget)?
            }
        };
        if completed {
            done.push(task.clone());
        }
    }
    Ok(done)
}

fn spend(budget: &mut u64) -> bool {
    *budget = budget.saturating_sub(1);
    *budget > 0
}

fn free_dead(key: &[u8], value: &[u8], edits: &mut Edits<'_>) -> Result<()> {
    for run in dead::decode(value).map_err(|source| malformed(Family::Dead, key, source))? {
        edits.free_run(run)?;
    }
    edits.batch.delete(Family::Dead, key);
    Ok(())
}

fn snapshots(task: &Reclaim, edits: &mut Edits<'_>, budget: &mut u64) -> Result<bool> {
    let Reclaim::Snapshots { layer, epochs, older, older_is_live, newer, cloned } = task else {
        return Ok(false);
    };
    let Some(&first) = epochs.first() else { return Ok(true) };
    let view = edits.view;
    let end = newer.unwrap_or(Epoch(u32::MAX));
    let first_birth = older.next();
    let mut scan = view.scan(Family::Dead, Some(keys::dead(*layer, end, Epoch(0), PageIndex(0)).to_vec()));
    scan.seek(&keys::dead(*layer, first, first_birth, PageIndex(0)));
    while let Some((key, value)) = scan.item()? {
        let (_, interval, birth, _) =
            keys::read_dead(key).map_err(|source| malformed(Family::Dead, key, source))?;
        if birth < first_birth {
            scan.seek(&keys::dead(*layer, interval, first_birth, PageIndex(0)));
            continue;
        }
        if !spend(budget) {
            return Ok(false);
        }
        free_dead(key, value, edits)?;
        scan.advance();
    }
    if !older_is_live && !forget_intervals(*layer, first, end, *cloned, edits, budget)? {
        return Ok(false);
    }
    for &epoch in epochs {
        let key = SnapshotKey { layer: *layer, epoch };
        edits.batch.delete(Family::Catalog, &snapshot_key(key));
        edits.batch.delete(Family::Catalog, &ObjectKey::Snapshot(key).encode());
    }
    Ok(true)
}

/// No snapshot is left that could ask for the undo records of these intervals, nor, without an origin, for what
/// changed in them.
fn forget_intervals(
    layer: LayerId,
    first: Epoch,
    end: Epoch,
    cloned: bool,
    edits: &mut Edits<'_>,
    budget: &mut u64,
) -> Result<bool> {
    let view = edits.view;
    let from = keys::changed(layer, first, PageIndex(0));
    let to = keys::changed(layer, end, PageIndex(0));
    let mut finished = true;
    view.each(Family::Changed, &from, &to, |key, _| {
        let (layer, interval, page) =
            keys::read_changed(key).map_err(|source| malformed(Family::Changed, key, source))?;
        edits.batch.delete(Family::History, &keys::history(layer, page, interval));
        if !cloned {
            edits.batch.delete(Family::Changed, key);
            finished = spend(budget);
        }
        Ok(finished)
    })?;
    Ok(finished)
}

/// Frees what the head maps beyond what the newest live snapshot sees. Such blocks were written after it, so the
/// changed index names their pages.
fn trim(
    layer: LayerId,
    newest: Epoch,
    origin: Epoch,
    object: &[u8],
    edits: &mut Edits<'_>,
    budget: &mut u64,
) -> Result<bool> {
    let view = edits.view;
    let from = keys::changed(layer, newest, PageIndex(0));
    let to = keys::changed(layer, Epoch(u32::MAX), PageIndex(0));
    let mut trimmed = BTreeSet::new();
    let mut finished = true;
    view.each(Family::Changed, &from, &to, |key, _| {
        let (_, _, page) =
            keys::read_changed(key).map_err(|source| malformed(Family::Changed, key, source))?;
        edits.batch.delete(Family::Changed, key);
        if trimmed.insert(page)
            && let Some(mut head) = view.head_page(layer, page)?
        {
            for slot in bits(head.page.mapped()) {
                let entry = head.page.0[slot];
                if entry.birth > newest && entry.birth > origin {
                    edits.free(entry.physical)?;
                    head.page.0[slot] = Entry::HOLE;
                }
            }
            edits.batch.put(Family::Head, &keys::head(layer, page), &head::encode(&head));
        }
        finished = spend(budget);
        Ok(finished)
    })?;
    if finished {
        edits.batch.put(Family::Catalog, &ObjectKey::Layer(layer).encode(), object);
    }
    Ok(finished)
}

fn owned(page: &Page, origin: Epoch) -> impl Iterator<Item = Entry> {
    page.0.iter().filter(move |entry| !entry.is_hole() && entry.birth > origin).copied()
}

fn drop_layer(
    layer: LayerId,
    origin: Epoch,
    snapshots: &[SnapshotKey],
    edits: &mut Edits<'_>,
    budget: &mut u64,
) -> Result<bool> {
    let view = edits.view;
    let next = LayerId(layer.0 + 1);
    let mut finished = true;
    let [start, end] = [layer, next].map(|layer| keys::head(layer, PageIndex(0)));
    view.each(Family::Head, &start, &end, |key, value| {
        let head = head::decode(value).map_err(|source| malformed(Family::Head, key, source))?;
        owned(&head.page, origin).try_for_each(|entry| edits.free(entry.physical))?;
        edits.batch.delete(Family::Head, key);
        finished = spend(budget);
        Ok(finished)
    })?;
    if !finished {
        return Ok(false);
    }
    let [start, end] = [layer, next].map(|layer| keys::dead(layer, Epoch(0), Epoch(0), PageIndex(0)));
    view.each(Family::Dead, &start, &end, |key, value| {
        free_dead(key, value, edits)?;
        finished = spend(budget);
        Ok(finished)
    })?;
    if !finished {
        return Ok(false);
    }
    let [start, end] = [layer, next].map(|layer| keys::history(layer, PageIndex(0), Epoch(0)));
    edits.batch.delete_range(Family::History, &start, &end);
    edits.batch.delete_range(Family::Changed, &start, &end);
    for key in snapshots {
        edits.batch.delete(Family::Catalog, &snapshot_key(*key));
        edits.batch.delete(Family::Catalog, &ObjectKey::Snapshot(*key).encode());
    }
    edits.batch.delete(Family::Catalog, &layer_key(layer));
    edits.batch.delete(Family::Catalog, &ObjectKey::Layer(layer).encode());
    Ok(true)
}
