//! Prune: points that a policy no longer keeps leave the vault. Their objects stay until reclaim.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Vault;
use super::catalog::{Catalog, LivePoint};
use crate::error::Result;
use crate::format::digest::Digest;
use crate::format::entry::{Action, Pruned};
use crate::policy::{Candidate, Keep};

/// Points in an entry at most, which keeps it well below its bound.
const POINTS_MAX: usize = 10_000;

/// Decisions in the order in which their points were committed.
type Decisions = BTreeMap<(u64, Digest), Decision>;

/// What became of a point, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The point.
    pub point: Digest,
    /// Its volume's name.
    pub volume: String,
    /// Its snapshot's name.
    pub snapshot: String,
    /// When it was committed, in ms since 1970.
    pub time_ms: u64,
    /// Whether it stays.
    pub kept: bool,
    /// All reasons, in words.
    pub reasons: String,
}

/// What a policy says of points.
///
/// 1. It is decided over all live points, whichever are meant: what keeps one point of a consistency group keeps all.
/// 2. Points that were committed together go together: who means one of them means all.
/// 3. Points are looked at as they are now, again for every entry that somebody else puts in between; holds and dates
///    that came last count.
impl Vault {
    /// What [`prune`](Self::prune) would do now.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh).
    pub fn plan_prune(&self, keep: &Keep, is_meant: &dyn Fn(&LivePoint) -> bool) -> Result<Vec<Decision>> {
        let catalog = self.refresh()?;
        Ok(decide(&catalog, keep, is_meant, self.store.clock_ms()?).into_values().collect())
    }

    /// Removes from the vault the points that `keep` does not keep, of those that `is_meant` or were committed together
    /// with one that is. Returns what became of each, oldest first.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn prune(&self, keep: &Keep, is_meant: &dyn Fn(&LivePoint) -> bool) -> Result<Vec<Decision>> {
        let mut decisions = Decisions::new();
        loop {
            let (mut latest, mut count) = (Decisions::new(), 0);
            self.append(&mut |catalog, clock_ms| {
                latest = decide(catalog, keep, is_meant, clock_ms);
                let expired = latest.values().filter(|decision| !decision.kept).take(POINTS_MAX);
                let pruned =
                    |decision: &Decision| Pruned { id: decision.point, reason: decision.reasons.clone() };
                let points: Vec<Pruned> = expired.map(pruned).collect();
                count = points.len();
                Ok((!points.is_empty()).then_some(Action::Prune { points }))
            })?;
            decisions.append(&mut latest);
            if count < POINTS_MAX {
                return Ok(decisions.into_values().collect());
            }
        }
    }

    /// Removes single points from the vault.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) for one that is not there,
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) for one that is held or retained; as [`append`](Self::append).
    pub fn remove_points(&self, points: &[Digest], reason: &str) -> Result<()> {
        let pruned = |id: Digest| Pruned { id, reason: reason.to_owned() };
        for part in points.chunks(POINTS_MAX) {
            self.append(&mut |catalog, _| {
                let current = part.iter().map(|id| catalog.point(*id).map(|live| live.committed.id));
                let ids = current.collect::<Result<BTreeSet<Digest>>>()?;
                Ok(Some(Action::Prune { points: ids.into_iter().map(pruned).collect() }))
            })?;
        }
        Ok(())
    }
}

fn decide(catalog: &Catalog, keep: &Keep, is_meant: &dyn Fn(&LivePoint) -> bool, clock_ms: u64) -> Decisions {
    let mut points: Vec<&LivePoint> = catalog.points().values().collect();
    points.sort_by_key(|live| (live.number, live.committed.id));
    let meant: BTreeSet<u64> = points.iter().filter(|live| is_meant(live)).map(|live| live.number).collect();
    let candidates: Vec<Candidate> = points.iter().map(|live| live.candidate()).collect();
    let verdicts = keep.decide(&candidates, clock_ms);
    let decision = |(live, verdict): (&LivePoint, crate::policy::Verdict)| {
        let decision = Decision {
            point: live.committed.id,
            volume: live.committed.name.clone(),
            snapshot: live.committed.snapshot.clone(),
            time_ms: live.time_ms,
            kept: verdict.is_kept(),
            reasons: verdict.reasons(),
        };
        ((live.number, live.committed.id), decision)
    };
    let ruled = points.into_iter().zip(verdicts);
    ruled.filter(|(live, _)| meant.contains(&live.number)).map(decision).collect()
}
