//! Copying forward: what lives of packs that are mostly dead, or locked too short, goes into new packs, and the points
//! that reach it go on as others, which reach the new ones ([ADR 35](../../../../docs/adr/0035-copying-forward.md)).
//!
//! 1. Order: packs, runs, points, locks, holds, and then the entry by which the new points stand for the old. Before
//!    the entry nothing of it counts; after it nothing of the old points is needed by them.
//! 2. The entry is decided by the log's end: a point that left, was held or got a date since is left where it is.
//! 3. Names come from contents: who was killed and begins again finds what it had written.
//! 4. What held points need is held before the entry. What they needed before is let go when the hold is released, and
//!    not earlier, for another hold may have come to need it.

mod copy;
mod leaving;
mod relocate;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) use self::leaving::{BLOCKS_MAX, Leaving};
use super::Vault;
use super::catalog::{Catalog, LivePoint};
use super::commit::Reaching;
use super::layer::What;
use super::lock::{hold_objects, lock_objects};
use super::reach::Reach;
use super::run::RunKeys;
use crate::error::Result;
use crate::format::digest::Digest;
use crate::format::entry::{Action, Committed, Forwarded};
use crate::format::name::{self, Class};
use crate::format::pack_list::PackRef;
use crate::format::point::Point;
use crate::policy::{class, lock};
use crate::store::{Key, Retention};

/// Points in an entry at most, which keeps it well below its bound.
const POINTS_MAX: usize = 1000;

/// Where what is copied goes.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) class: Class,
    pub(super) period: u32,
    /// What the log said when it was begun: names that were deleted are passed by.
    pub(super) catalog: &'a Arc<Catalog>,
}

/// The packs to which living blocks were copied, in the order of their numbers.
#[derive(Debug)]
struct Moved {
    packs: Vec<PackRef>,
    /// The number of each one's first block.
    starts: Vec<u64>,
}

impl Moved {
    fn new(packs: Vec<PackRef>) -> Self {
        let mut next = 0;
        let start = |pack: &PackRef| {
            next += u64::from(pack.blocks);
            next - u64::from(pack.blocks)
        };
        Self { starts: packs.iter().map(start).collect(), packs }
    }

    /// Where the block of this number lies, and how many that follow lie behind it, itself included.
    fn place(&self, number: u64) -> (What, u32) {
        let index = self.starts.partition_point(|start| *start <= number) - 1;
        let position = u32::try_from(number - self.starts[index]).expect("packs have u32 positions");
        let pack = u32::try_from(index).expect("fewer packs than blocks");
        (What::Stored { pack, position }, self.packs[index].blocks - position)
    }
}

/// What became of points that were to go on as others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarding {
    /// Points that did.
    pub(super) points: u64,
    /// Bytes that were written for it, packs and runs.
    pub(super) stored_bytes: u64,
}

/// A point on its way.
struct Mover {
    forwarded: Forwarded,
    /// Whether what the new one reaches was locked as the entry says; it need not be once that has ended.
    is_locked: bool,
    is_held: bool,
}

impl Vault {
    /// Lets `points`, all under one key, leave the packs. With `locked` they and all they reach are kept and locked that
    /// long from then on. A point that changed meanwhile, or was deleted under another's hands, stays what it is.
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`relocate`](Self::relocate); [`Kind::Damaged`](crate::error::Kind::Damaged) also
    /// when something left the vault meanwhile.
    pub(super) fn forward(
        &self,
        place: &Place<'_>,
        points: &[(Digest, Point)],
        leaving: &Leaving,
        locked: Option<Retention>,
    ) -> Result<Forwarding> {
        let Some((_, first)) = points.first() else { return Ok(Forwarding::default()) };
        let keys = RunKeys::of(first, self.frame_keys(first.key)?);
        let maps: Vec<_> = points.iter().map(|(_, point)| &point.runs[..]).collect();
        let relocated = self.relocate(place, &keys, &maps, leaving)?;
        self.lock_class(place, &relocated.packs, locked)?;
        let mut movers = Vec::new();
        for (from, point) in points {
            if let Some(runs) = relocated.runs_of(&point.runs) {
                let live = place.catalog.point(*from)?;
                movers.push(self.mover(place.catalog, live, Point { runs, ..point.clone() }, locked)?);
            }
        }
        let mut done = Forwarding { points: 0, stored_bytes: relocated.stored_bytes() };
        for movers in movers.chunks(POINTS_MAX) {
            done.points += self.append_forward(movers, &relocated.objects())?;
        }
        Ok(done)
    }

    /// Locks the packs until the date of their class, in a vault that locks.
    fn lock_class(&self, place: &Place<'_>, packs: &[PackRef], locked: Option<Retention>) -> Result<()> {
        let until_ms = class::lock_until_ms(&place.class, place.period)?;
        let Some((locked, until_ms)) = locked.zip(until_ms) else { return Ok(()) };
        let packs = packs.iter().map(|pack| pack.name.key()).collect();
        lock_objects(self.store().as_ref(), &packs, Retention { until_ms, ..locked })
    }

    /// Writes the new point, and locks and holds what it reaches as the old one is.
    fn mover(
        &self,
        catalog: &Catalog,
        live: &LivePoint,
        mut point: Point,
        locked: Option<Retention>,
    ) -> Result<Mover> {
        let store = self.store().as_ref();
        point.retain_until_ms = live.retain_until_ms.max(locked.map(|locked| locked.until_ms));
        let locked = locked.map_or(live.locked, |wanted| lock::raise(live.locked, wanted).or(live.locked));
        let is_taken =
            |id: Digest| catalog.points().contains_key(&id) || catalog.is_deleted(&name::point(id));
        let mut bytes = point.encode();
        // Under a name that is used up nothing comes back: the same point at another time has another.
        while is_taken(Digest::of(&bytes)) {
            point.time_ms += 1;
            bytes = point.encode();
        }
        let id = Digest::of(&bytes);
        store.put_if_absent(&name::point(id), &bytes)?;
        let mut reach = Reach::default();
        reach.add(self, id)?;
        let mut needed = reach.objects().clone();
        needed.extend(self.openers(point.key));
        let now_ms = store.clock_ms()?;
        let lasting = locked.filter(|locked| self.settings().lock.is_some() && locked.until_ms > now_ms);
        if let Some(lasting) = lasting {
            lock_objects(store, &needed, lasting)?;
        }
        let is_locked = lasting.is_some() || self.settings().lock.is_none();
        let is_held = is_held(live);
        if is_held {
            hold_objects(store, &needed, true)?;
        }
        let to = Committed { id, retain_until_ms: point.retain_until_ms, locked, ..live.committed.clone() };
        Ok(Mover { forwarded: Forwarded { from: live.committed.id, to }, is_locked, is_held })
    }

    /// Writes the entry for those that are still as they were, and says how many these are.
    fn append_forward(&self, movers: &[Mover], objects: &BTreeSet<Key>) -> Result<u64> {
        let mut reached = objects.clone();
        reached.extend(movers.iter().map(|mover| name::point(mover.forwarded.to.id)));
        let mut moved: Vec<&Mover> = Vec::new();
        let mut released = Vec::new();
        let reaching = self.append_reaching(&reached, &mut |catalog, clock_ms| {
            moved = movers.iter().filter(|mover| mover.fits(catalog, clock_ms)).collect();
            let is_released = |mover: &&&Mover| mover.is_held && !mover.is_held_in(catalog);
            released = moved.iter().filter(is_released).map(|mover| mover.forwarded.to.id).collect();
            let points: Vec<Forwarded> = moved.iter().map(|mover| mover.forwarded.clone()).collect();
            Ok((!points.is_empty()).then_some(Action::Forward { points }))
        })?;
        match reaching {
            Reaching::Done(_) => {
                released.into_iter().try_for_each(|id| self.let_go(id))?;
                Ok(moved.len() as u64)
            }
            // What is written is found again, or reclaimed.
            Reaching::Deleted(_) | Reaching::Nothing => Ok(0),
        }
    }
}

impl Mover {
    /// Whether the point may still go on so, by what the log says now.
    fn fits(&self, catalog: &Catalog, clock_ms: u64) -> bool {
        let points = vec![self.forwarded.clone()];
        let is_allowed = catalog.objection(&Action::Forward { points }, clock_ms).is_none();
        let has_ended = self.forwarded.to.locked.is_none_or(|locked| locked.until_ms <= clock_ms);
        is_allowed && (self.is_locked || has_ended) && (self.is_held || !self.is_held_in(catalog))
    }

    fn is_held_in(&self, catalog: &Catalog) -> bool {
        catalog.points().get(&self.forwarded.from).is_some_and(is_held)
    }
}

/// Whether the store holds what the point needs.
fn is_held(live: &LivePoint) -> bool {
    live.holds.values().any(|hold| hold.locked)
}
