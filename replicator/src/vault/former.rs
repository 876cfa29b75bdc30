//! Points that left the vault and must stay readable all the same.
//!
//! The log can't see what a point holds, and an entry's time is what its writer says. So whoever stole a signing key can
//! let a protected point go on as one with other content, or let it be pruned by an entry that is dated ahead. What such
//! a point needs is not given back before its time:
//!
//! 1. A point that leaves, pruned or because another one goes on for it, is a *former* point from then on, with the date
//!    and the holds that it had.
//! 2. It stands while its date is ahead, by the store's clock and no entry's, or a hold that it had was not released.
//! 3. A hold ends for a former point when it is released from the point that stands in its place. Nothing else that
//!    becomes of that one (a later date, another hold, a prune) changes what is former.
//!
//! By the times of entries no former point stands unless the point in its place must stay too. So what is void does not
//! depend on former points, and older readers see the same vault.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, Hold, LivePoint, protection};
use super::points::{absent, is_prefix};
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, KeyId};
use crate::store::Retention;

/// A point that left the vault with a date or with holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerPoint {
    /// What it is called.
    pub id: Digest,
    /// Its data key.
    pub key: KeyId,
    /// The entry by which it left.
    pub left: u64,
    /// The point that took its place; nothing when it was pruned.
    pub successor: Option<Digest>,
    /// Until when it must stay, in ms since 1970.
    pub retain_until_ms: Option<u64>,
    /// Until when, and how, everything it reaches is locked in the store.
    pub locked: Option<Retention>,
    /// What holds it still, by name.
    pub holds: BTreeMap<String, Hold>,
}

impl FormerPoint {
    /// Why it stands at the time `now_ms`, by the store's clock, in words; nothing when it does not.
    pub fn protection(&self, now_ms: u64) -> Option<String> {
        protection(&self.holds, self.retain_until_ms, now_ms)
    }

    /// How it left, in words.
    pub fn departure(&self) -> String {
        match self.successor {
            Some(successor) => format!("point {} took its place by entry {}", successor.short(), self.left),
            None => format!("it was pruned by entry {}", self.left),
        }
    }

    /// Whether the store holds what it needs.
    pub(super) fn is_held(&self) -> bool {
        self.holds.values().any(|hold| hold.locked)
    }
}

impl Catalog {
    /// All former points, by the entries by which they left.
    pub fn former(&self) -> Vec<&FormerPoint> {
        let mut former: Vec<&FormerPoint> = self.former.values().flatten().collect();
        former.sort_by_key(|former| (former.left, former.id));
        former
    }

    /// The former points that stand at `now_ms`, by the store's clock; those too that are in the vault again.
    pub fn standing_former(&self, now_ms: u64) -> impl Iterator<Item = &FormerPoint> {
        let stands = move |former: &&FormerPoint| former.protection(now_ms).is_some();
        self.former.values().flatten().filter(stands)
    }

    /// The former points in whose place `id` stands.
    pub(super) fn former_of(&self, id: Digest) -> &[FormerPoint] {
        self.former.get(&id).map_or(&[], |former| former)
    }

    /// The former point whose identity begins with `digits`, the last one to leave of those with the same.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none; [`Kind::Invalid`] when there are several.
    pub fn choose_former(&self, digits: &str) -> Result<&FormerPoint> {
        let mut former = self.former();
        former.retain(|former| is_prefix(digits) && former.id.to_string().starts_with(digits));
        let ids: BTreeSet<Digest> = former.iter().map(|former| former.id).collect();
        if ids.len() > 1 {
            let detail = format!("several former points begin with {digits}");
            return Err(Error::new(Kind::Invalid, "find point", detail).hint("give more digits"));
        }
        former.last().copied().ok_or_else(|| {
            absent(digits).hint("`firn vault points --former` lists those that left and are kept")
        })
    }

    /// Lets a point leave, and notes what stands in its place.
    pub(super) fn leave(&mut self, id: Digest, successor: Option<Digest>, entry: u64) -> Option<LivePoint> {
        let live = self.points.remove(&id)?;
        // Those in whose place it stood are in the hands of its successor. When it was pruned, it had no holds.
        let mut former = self.former.remove(&id).unwrap_or_default();
        if live.retain_until_ms.is_some() || !live.holds.is_empty() {
            former.reserve_exact(1);
            former.push(FormerPoint {
                id,
                key: live.committed.key,
                left: entry,
                successor,
                retain_until_ms: live.retain_until_ms,
                locked: live.locked,
                holds: live.holds.clone(),
            });
        }
        if !former.is_empty() {
            // Most are alone, and there may be as many as points were ever pruned.
            let there = self.former.entry(successor.unwrap_or(id)).or_default();
            there.reserve_exact(former.len());
            there.append(&mut former);
        }
        Some(live)
    }

    /// Takes a hold from all in whose place `id` stands.
    pub(super) fn release_former(&mut self, id: Digest, reason: &str) {
        for former in self.former.get_mut(&id).into_iter().flatten() {
            former.holds.remove(reason);
        }
    }
}
