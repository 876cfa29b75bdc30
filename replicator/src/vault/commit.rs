//! Points come into the vault: the entry that a send ends with.
//!
//! 1. A commit never reaches an object that a `delete` entry below it names, nor one that is condemned: an `acquit`
//!    entry goes before it.
//! 2. What it shares with its parents needs no look as long as they live: while they did, nobody could condemn it.

use std::collections::BTreeSet;

use super::catalog::Catalog;
use super::{RACES_MAX, Vault};
use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;
use crate::format::entry::{Action, Committed, Signed};
use crate::format::name;
use crate::policy::claim::Claim;
use crate::store::Key;

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The points are in the vault.
    Done(Box<Signed>),
    /// They were in the vault before.
    Present,
    /// Nothing was committed: a `delete` entry names these objects, which the points reach. They may go at any time,
    /// whether they are still there or not; what is in them goes up again under other names.
    Deleted(BTreeSet<Key>),
    /// Nothing was committed: this parent has left the vault, and what the points share with it may go at any time.
    ParentGone(Digest),
}

/// What became of an entry by which points come to reach objects.
pub(super) enum Reaching {
    /// It is in the log.
    Done(Box<Signed>),
    /// It is not: a `delete` entry names these objects.
    Deleted(BTreeSet<Key>),
    /// It is not wanted any more.
    Nothing,
}

impl Vault {
    /// Commits points, all of them or none. `objects` holds the names of all that they reach and their parents don't:
    /// runs and packs. Everything is in the store, and locked as the points say.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn commit(
        &self,
        points: &[Committed],
        group: Option<&str>,
        objects: &BTreeSet<Key>,
    ) -> Result<Commit> {
        let mut reached = objects.clone();
        reached.extend(points.iter().map(|point| name::point(point.id)));
        let mut refusal = None;
        let reaching = self.append_reaching(&reached, &mut |catalog, _| {
            refusal = refuse(catalog, points);
            let commit = || Action::Commit { points: points.to_vec(), group: group.map(str::to_owned) };
            Ok(refusal.is_none().then(commit))
        })?;
        match (reaching, refusal) {
            (Reaching::Done(signed), _) => Ok(Commit::Done(signed)),
            (Reaching::Deleted(objects), _) => Ok(Commit::Deleted(objects)),
            (Reaching::Nothing, Some(refusal)) => Ok(refusal),
            (Reaching::Nothing, None) => Err(Error::new(Kind::Bug, "commit points", "nobody refused it")),
        }
    }

    /// Adds the entry that `decide` gives, by which points come to reach `reached`, unless one of these was deleted. An
    /// entry that acquits those that are condemned goes before it.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub(super) fn append_reaching(
        &self,
        reached: &BTreeSet<Key>,
        decide: &mut dyn FnMut(&Catalog, u64) -> Result<Option<Action>>,
    ) -> Result<Reaching> {
        for _ in 0..RACES_MAX {
            let mut dead = BTreeSet::new();
            let signed = self.append(&mut |catalog, clock_ms| {
                dead.clear();
                let Some(action) = decide(catalog, clock_ms)? else { return Ok(None) };
                let claim = claim(catalog, reached);
                // A dead name is not used again, whether its object is gone yet or not. Whoever deletes looks at the
                // entries below its own in the same way: of the two, the one that comes second yields.
                dead.extend(claim.dead);
                let is_free = claim.acquit.is_empty();
                let action = if is_free { action } else { Action::Acquit { objects: claim.acquit } };
                Ok(dead.is_empty().then_some(action))
            })?;
            match signed {
                None if dead.is_empty() => return Ok(Reaching::Nothing),
                None => return Ok(Reaching::Deleted(dead)),
                // Acquitted: now the entry. Whoever condemns anew sees neither of them, and waits his time.
                Some(signed) if matches!(signed.entry.action, Action::Acquit { .. }) => {}
                Some(signed) => return Ok(Reaching::Done(Box::new(signed))),
            }
        }
        let detail = "what it reaches was condemned each time that it was acquitted";
        Err(Error::new(Kind::Retry, "commit points", detail))
    }
}

fn claim(catalog: &Catalog, reached: &BTreeSet<Key>) -> Claim {
    Claim::of(reached.iter().map(|key| (key, catalog.standing(key, false))))
}

fn refuse(catalog: &Catalog, points: &[Committed]) -> Option<Commit> {
    let is_live = |id: &Digest| catalog.points().contains_key(id);
    if points.iter().all(|point| is_live(&point.id)) {
        return Some(Commit::Present);
    }
    points.iter().filter_map(|point| point.parent).find(|parent| !is_live(parent)).map(Commit::ParentGone)
}
