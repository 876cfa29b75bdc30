//! What a send rests on: a point of the same volume whose snapshot the source still has.

use std::collections::BTreeSet;

use super::{SendReport, SentPoint};
use crate::error::{Kind, Result};
use crate::format::digest::{Digest, KeyId};
use crate::format::point::Point;
use crate::store::Retention;
use crate::vault::Vault;
use crate::vault::catalog::{Catalog, LivePoint};
use crate::vault::source::{SnapshotId, Source};

/// The point whose changes since are sent.
pub(super) struct Parent {
    pub(super) id: Digest,
    pub(super) point: Point,
    /// Until when everything it reaches is locked.
    pub(super) locked: Option<Retention>,
}

impl Vault {
    /// The newest live point of the source's volume whose snapshot the source still has, under `key` if that is given.
    /// A point is passed by when its object is damaged, a run of it is lost, or its key was destroyed: what is sent on
    /// top of it would be lost with it.
    pub(super) fn parent_of(
        &self,
        catalog: &Catalog,
        source: &dyn Source,
        key: Option<KeyId>,
    ) -> Result<Option<Parent>> {
        let origin = source.origin();
        for live in catalog.points_of(origin.pool, origin.volume).into_iter().rev() {
            if !is_readable(catalog, live) {
                continue;
            }
            let Some(point) = self.sound_point(live)? else { continue };
            let is_parent = key.is_none_or(|key| key == point.key)
                && source.has(SnapshotId::of(&point.source))?
                && self.has_runs(&point)?;
            if is_parent {
                return Ok(Some(Parent { id: live.committed.id, point, locked: live.locked }));
            }
        }
        Ok(None)
    }

    /// The report of an earlier send, when one entry committed points of all these snapshots.
    pub(super) fn sent_before(
        &self,
        catalog: &Catalog,
        sources: &[&dyn Source],
    ) -> Result<Option<SendReport>> {
        let mut points = Vec::new();
        let mut entry = None;
        let mut are_newest = true;
        for source in sources {
            let Some((live, point, is_newest)) = self.point_of(catalog, *source, entry)? else {
                return Ok(None);
            };
            entry = Some(live.number);
            are_newest &= is_newest;
            points.push(SentPoint::of(live.committed.id, &point));
        }
        if are_newest {
            // The send that committed them may have been cut before it came to this.
            self.settle_holds(sources)?;
        }
        Ok(entry.map(|entry| SendReport { points, entry, was_there: true }))
    }

    /// The live point of the source's snapshot (committed by `entry`, if that is given), and whether it is the newest
    /// of its volume.
    fn point_of<'c>(
        &self,
        catalog: &'c Catalog,
        source: &dyn Source,
        entry: Option<u64>,
    ) -> Result<Option<(&'c LivePoint, Point, bool)>> {
        let origin = source.origin();
        let points = catalog.points_of(origin.pool, origin.volume);
        let newest = points.last().map(|live| live.committed.id);
        for live in points.into_iter().rev() {
            let committed = &live.committed;
            // The log knows the time of the snapshot, the point alone knows which one it is.
            let is_other = committed.created_ms != origin.created_ms
                || entry.is_some_and(|entry| entry != live.number)
                || !is_readable(catalog, live);
            if is_other {
                continue;
            }
            let Some(point) = self.sound_point(live)? else { continue };
            if SnapshotId::of(&point.source) == SnapshotId::of(origin) {
                return Ok(Some((live, point, newest == Some(committed.id))));
            }
        }
        Ok(None)
    }

    /// Whether the store has all of the point's runs, in their full length.
    fn has_runs(&self, point: &Point) -> Result<bool> {
        for run in &point.runs {
            let found = self.store().head(&run.key())?;
            if found.is_none_or(|found| found.bytes != run.shape.stored_bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives points that were in the vault before the date that is asked for now, where theirs is earlier.
    pub(super) fn retain_sent(&self, catalog: &Catalog, report: &SendReport, until_ms: u64) -> Result<()> {
        let is_earlier =
            |id: &Digest| catalog.points().get(id).is_some_and(|live| live.retain_until_ms < Some(until_ms));
        let earlier: BTreeSet<Digest> =
            report.points.iter().map(|point| point.id).filter(is_earlier).collect();
        if earlier.is_empty() { Ok(()) } else { self.retain(&earlier, until_ms) }
    }

    /// The point's object; nothing when it is damaged.
    fn sound_point(&self, live: &LivePoint) -> Result<Option<Point>> {
        match self.read_point(live.committed.id) {
            Ok(point) => Ok(Some(point)),
            Err(error) if error.kind() == Kind::Damaged => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Holds the snapshots on their sources, and lets go what was held of the volumes before.
    pub(super) fn settle_holds(&self, sources: &[&dyn Source]) -> Result<()> {
        let reason = self.hold_reason();
        for source in sources {
            source.hold(&reason)?;
            source.release_others(&reason)?;
        }
        Ok(())
    }
}

/// Whether the key that the point is under was not destroyed.
fn is_readable(catalog: &Catalog, live: &LivePoint) -> bool {
    catalog.keys().get(&live.committed.key).is_none_or(|key| key.destroyed_ms.is_none())
}
