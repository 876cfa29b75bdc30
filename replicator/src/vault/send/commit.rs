//! The end of a send: points, locks, holds, and the entry by which the points count.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::upload::Uploaded;
use super::{SendOptions, SendReport, SentPoint};
use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;
use crate::format::entry::Committed;
use crate::format::name;
use crate::format::point::{Point, RunRef};
use crate::policy::class;
use crate::store::{Key, LockMode, Retention};
use crate::vault::Vault;
use crate::vault::catalog::Catalog;
use crate::vault::commit::Commit;
use crate::vault::damage::Judge;
use crate::vault::forward::Place;
use crate::vault::lock::lock_objects;
use crate::vault::map::Map;
use crate::vault::run::RunKeys;
use crate::vault::source::Source;

impl Vault {
    /// Writes the points and their entry. Nothing when something that they rest on left the vault meanwhile.
    pub(super) fn commit_sent(
        &self,
        sources: &[&dyn Source],
        catalog: &Arc<Catalog>,
        uploaded: &mut [Uploaded],
        options: &SendOptions,
    ) -> Result<Option<SendReport>> {
        let mut committed = Vec::with_capacity(uploaded.len());
        for uploaded in &mut *uploaded {
            self.promote_sent(catalog, uploaded)?;
            let bytes = uploaded.point.encode();
            let id = Digest::of(&bytes);
            self.store().put_if_absent(&name::point(id), &bytes)?;
            let locked = self.lock_sent(id, uploaded)?;
            committed.push(entry_of(id, &uploaded.point, locked));
        }
        let reason = self.hold_reason();
        sources.iter().try_for_each(|source| source.hold(&reason))?;
        // What is shared with a parent needs no look while the parent lives.
        let objects = uploaded.iter().flat_map(|uploaded| &uploaded.objects).cloned().collect();
        let entry = match self.commit(&committed, options.group.as_deref(), &objects)? {
            Commit::Done(signed) => signed.entry.number,
            Commit::Present => self.keep_present(&committed)?,
            Commit::Deleted(_) | Commit::ParentGone(_) => return Ok(None),
        };
        self.settle_holds(sources)?;
        let point =
            |(committed, uploaded): (&Committed, &mut Uploaded)| SentPoint::of(committed.id, &uploaded.point);
        let points = committed.iter().zip(uploaded).map(point).collect();
        Ok(Some(SendReport { points, entry, was_there: false }))
    }

    /// Sees to it that points which were in the vault before they were committed stay as long as they should, and says
    /// by which entry they are there. It is this send's own when its reply was lost; else nobody knows what it says.
    fn keep_present(&self, committed: &[Committed]) -> Result<u64> {
        let mut entry = 0;
        for ours in committed {
            let live = self.catalog().point(ours.id)?.clone();
            let there = &live.committed;
            if (there.pool, there.volume, there.key) != (ours.pool, ours.volume, ours.key) {
                let detail = format!(
                    "entry {} says other things of point {} than the point itself",
                    live.number, ours.id
                );
                return Err(Error::new(Kind::Damaged, "commit points", detail).hint(
                    "somebody who may sign broke the rules: `firn vault check` and `firn vault keys list`",
                ));
            }
            if let Some(until_ms) =
                ours.retain_until_ms.filter(|until_ms| live.retain_until_ms < Some(*until_ms))
            {
                self.retain(&BTreeSet::from([ours.id]), until_ms)?;
            }
            entry = entry.max(live.number);
        }
        Ok(entry)
    }

    /// Locks everything that a point reaches, and what opens it, at least until its date, in a vault that locks. What
    /// its parent reaches is looked at only when the parent is not locked as long.
    fn lock_sent(&self, id: Digest, uploaded: &Uploaded) -> Result<Option<Retention>> {
        let Uploaded { point, parent, objects, keys, .. } = uploaded;
        let Some(lock) = self.lock_of(uploaded)? else { return Ok(None) };
        let mut reached: BTreeSet<Key> = objects.iter().cloned().chain([name::point(id)]).collect();
        let below = self.locked_below(uploaded);
        if parent.is_some() && below.is_none() {
            reached.extend(self.reached_by(&point.runs, keys)?);
        }
        reached.extend(self.openers(point.key));
        lock_objects(self.store().as_ref(), &reached, lock)?;
        // All of it is locked at least as long as what is locked the shortest.
        Ok(Some(below.filter(|below| below.until_ms < lock.until_ms).unwrap_or(lock)))
    }

    /// Copies forward what the point sees of packs that its parent left locked too short, where that is too little to
    /// lock them longer.
    fn promote_sent(&self, catalog: &Arc<Catalog>, uploaded: &mut Uploaded) -> Result<()> {
        let Some(lock) = self.lock_of(uploaded)? else { return Ok(()) };
        if uploaded.parent.is_none() || self.locked_below(uploaded).is_some() {
            return Ok(());
        }
        let place = Place { class: uploaded.class.clone(), period: uploaded.period, catalog };
        let mut new: BTreeSet<Key> = uploaded.objects.iter().cloned().collect();
        while let Some(leaving) = self.too_dead(&uploaded.keys, &[&uploaded.point.runs], &new, lock)? {
            let relocated = self.relocate(&place, &uploaded.keys, &[&uploaded.point.runs], &leaving)?;
            let Some(runs) = relocated.runs_of(&uploaded.point.runs) else { return Ok(()) };
            uploaded.point.runs = runs;
            uploaded.point.sent.stored_bytes += relocated.stored_bytes();
            new.append(&mut relocated.objects());
            uploaded.objects = new.iter().cloned().collect();
        }
        Ok(())
    }

    /// How what a point reaches is to be locked; nothing where it is not.
    fn lock_of(&self, uploaded: &Uploaded) -> Result<Option<Retention>> {
        let (Some(mode), Some(wanted_ms)) = (self.settings().lock, uploaded.point.retain_until_ms) else {
            return Ok(None);
        };
        // One date for a class and period, so that the next points of the period need no other.
        let class_ms = class::lock_until_ms(&uploaded.class, uploaded.period)?;
        Ok(Some(Retention { mode, until_ms: class_ms.unwrap_or(wanted_ms).max(wanted_ms) }))
    }

    /// How what the parent reaches is locked, if that is enough for the point.
    fn locked_below(&self, uploaded: &Uploaded) -> Option<Retention> {
        let (mode, wanted_ms) = (self.settings().lock?, uploaded.point.retain_until_ms?);
        let lasts = |below: &Retention| {
            below.until_ms >= wanted_ms && (below.mode == LockMode::Compliance || below.mode == mode)
        };
        uploaded.parent.as_ref().and_then(|parent| parent.locked).filter(lasts)
    }

    /// The names of `runs` and of all packs in their lists.
    fn reached_by(&self, runs: &[RunRef], keys: &RunKeys) -> Result<BTreeSet<Key>> {
        let map = Map::open(self.store().as_ref(), runs, keys, Judge::Refuse)?;
        let packs = map.pack_lists().into_iter().flatten().map(|pack| pack.name.key());
        Ok(packs.chain(runs.iter().map(RunRef::key)).collect())
    }
}

fn entry_of(id: Digest, point: &Point, locked: Option<Retention>) -> Committed {
    Committed {
        id,
        pool: point.source.pool,
        volume: point.source.volume,
        name: point.source.name.clone(),
        snapshot: point.source.snapshot.clone(),
        created_ms: point.source.created_ms,
        bytes: point.bytes,
        changed_bytes: point.sent.changed_bytes,
        stored_bytes: point.sent.stored_bytes,
        parent: point.parent,
        key: point.key,
        retain_until_ms: point.retain_until_ms,
        locked,
    }
}
