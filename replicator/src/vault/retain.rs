//! Dates until which points must be kept. A date only ever moves later.
//!
//! 1. In a vault that locks, everything a point needs is locked until its date before the entry says so.
//! 2. A pack of which the points see less than 70 % is not locked longer: what lives of it is copied forward.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::catalog::Catalog;
use super::forward::{BLOCKS_MAX, Leaving, Place};
use super::lock::lock_objects;
use super::run::RunKeys;
use super::{RACES_MAX, Vault, workers};
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, KeyId};
use crate::format::entry::Action;
use crate::format::name::PackName;
use crate::format::pack_list::PackRef;
use crate::format::point::{Point, RunRef};
use crate::policy::class::{self, Promotion, promotion};
use crate::policy::lock::{self, move_date};
use crate::store::{Key, Retention};

/// How often it is begun anew because something left the vault meanwhile.
const TRIES: usize = 8;

impl Vault {
    /// Keeps `points` at least until a date, in ms since 1970 by the store's clock. In a vault that locks, everything
    /// they need is locked until then before the entry says so; a date that they have already is locked anew. Points
    /// that see too little of a pack go on as others, which the old identities mean from then on.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when a point is not in the vault; [`Kind::Conflict`] when one has a later date; as
    /// [`append`](Self::append). After an error objects may be locked already.
    pub fn retain(&self, points: &BTreeSet<Digest>, until_ms: u64) -> Result<()> {
        let mut tries = 0;
        for _ in 0..RACES_MAX {
            let catalog = self.refresh()?;
            match self.try_retain(&catalog, points, until_ms) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if tries < TRIES && self.has_moved(&catalog, &error)? => tries += 1,
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Retry, "retain points", "they changed each time that they were looked at"))
    }

    /// Whether it is done. It is not when points were copied forward, or others did that meanwhile.
    fn try_retain(&self, catalog: &Arc<Catalog>, points: &BTreeSet<Digest>, until_ms: u64) -> Result<bool> {
        let mut current = BTreeSet::new();
        for id in points {
            let live = catalog.point(*id)?;
            move_date(live.retain_until_ms, until_ms)?;
            current.insert(live.committed.id);
        }
        let mode = self.settings.lock;
        if let Some(mode) = mode {
            let wanted = Retention { mode, until_ms };
            if self.promote(catalog, &current, wanted)? {
                return Ok(false);
            }
            let needed = self.needed_by_all(current.iter().copied(), [])?;
            lock_objects(self.store.as_ref(), &needed, wanted)?;
        }
        let mut has_moved = false;
        let appended = self.append(&mut |catalog, _| {
            has_moved = current.iter().any(|id| catalog.current(*id) != *id);
            if has_moved {
                return Ok(None);
            }
            let mut later = Vec::new();
            for id in &current {
                later.extend(move_date(catalog.point(*id)?.retain_until_ms, until_ms)?.map(|_| *id));
            }
            let retain = |points| Action::Retain { points, until_ms, locked: mode };
            Ok((!later.is_empty()).then(|| retain(later)))
        })?;
        if appended.is_none() && !has_moved {
            // What the store lost of its locks since then comes back.
            self.lock_foundation(&self.catalog())?;
        }
        Ok(!has_moved)
    }

    /// Locks the packs of `points` that are worth it, and copies forward what lives of the others. Whether there were
    /// some: points have other names then, and there may be more.
    fn promote(&self, catalog: &Arc<Catalog>, points: &BTreeSet<Digest>, wanted: Retention) -> Result<bool> {
        let now_ms = self.store.clock_ms()?;
        if wanted.until_ms <= now_ms {
            return Ok(false);
        }
        let mut by_key = BTreeMap::<KeyId, Vec<(Digest, Point)>>::new();
        for id in points {
            let point = self.read_point(*id)?;
            by_key.entry(point.key).or_default().push((*id, point));
        }
        // Beyond what a class can be everything is locked longer, as it is.
        let Ok(class) = class::for_date(now_ms, Some(wanted.until_ms)) else { return Ok(false) };
        let place = Place { class, period: class::period(now_ms), catalog };
        for points in by_key.values() {
            let maps: Vec<&[RunRef]> = points.iter().map(|(_, point)| &point.runs[..]).collect();
            let keys = RunKeys::of(&points[0].1, self.frame_keys(points[0].1.key)?);
            if let Some(leaving) = self.too_dead(&keys, &maps, &BTreeSet::new(), wanted)? {
                self.forward(&place, points, &leaving, Some(wanted))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Packs of `maps`, without `new`, that are locked too short for `wanted` and of which the maps see too little to
    /// lock them longer; nothing when there is none. Those that are worth it are locked.
    pub(super) fn too_dead(
        &self,
        keys: &RunKeys,
        maps: &[&[RunRef]],
        new: &BTreeSet<Key>,
        wanted: Retention,
    ) -> Result<Option<Leaving>> {
        let store = self.store.as_ref();
        let short = self.locked_too_short(keys, maps, new, wanted)?;
        for packs in parts(short) {
            let mut leaving = Leaving::new(packs)?;
            maps.iter().try_for_each(|runs| leaving.mark(store, runs, keys))?;
            let mut worth = BTreeSet::new();
            leaving.decide(|pack, live_blocks| {
                // How long it is locked was asked: too short.
                match promotion(pack.blocks, live_blocks, None, wanted.until_ms) {
                    Promotion::CopyForward => true,
                    Promotion::Enough | Promotion::Extend => {
                        worth.insert(pack.name.key());
                        false
                    }
                }
            });
            lock_objects(store, &worth, wanted)?;
            if !leaving.is_empty() {
                return Ok(Some(leaving));
            }
        }
        Ok(None)
    }

    fn locked_too_short(
        &self,
        keys: &RunKeys,
        maps: &[&[RunRef]],
        new: &BTreeSet<Key>,
        wanted: Retention,
    ) -> Result<Vec<PackRef>> {
        let mut packs = BTreeMap::<PackName, PackRef>::new();
        let mut seen = BTreeSet::new();
        for run in maps.iter().copied().flatten().filter(|run| seen.insert(run.key())) {
            let opened = super::run::Run::open(self.store.as_ref(), run, keys, super::damage::Judge::Refuse)?;
            let old = opened.packs().filter(|pack| !new.contains(&pack.name.key()));
            packs.extend(old.map(|pack| (pack.name.clone(), pack.clone())));
        }
        let packs: Vec<PackRef> = packs.into_values().collect();
        let short = Mutex::new(Vec::new());
        workers::each(&packs, |pack| {
            if lock::raise(self.store.retention(&pack.name.key())?, wanted).is_some() {
                short.lock().unwrap_or_else(PoisonError::into_inner).push(pack.clone());
            }
            Ok(())
        })?;
        let mut short = short.into_inner().unwrap_or_else(PoisonError::into_inner);
        short.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(short)
    }
}

/// As many packs at a time as are looked at at once, and never none.
pub(super) fn parts(packs: Vec<PackRef>) -> Vec<Vec<PackRef>> {
    let mut parts = Vec::<Vec<PackRef>>::new();
    let mut blocks = 0;
    for pack in packs {
        blocks += u64::from(pack.blocks);
        match parts.last_mut() {
            Some(part) if blocks <= BLOCKS_MAX => part.push(pack),
            _ => {
                blocks = u64::from(pack.blocks);
                parts.push(vec![pack]);
            }
        }
    }
    parts
}
