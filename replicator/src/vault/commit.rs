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
        for _ in 0..RACES_MAX {
            let mut refusal = None;
            let signed = self.append(&mut |catalog, _| {
                refusal = refuse(catalog, points, &reached);
                if refusal.is_some() {
                    return Ok(None);
                }
                let claim = claim(catalog, &reached);
                Ok(Some(match claim.acquit.is_empty() {
                    false => Action::Acquit { objects: claim.acquit },
                    true => Action::Commit { points: points.to_vec(), group: group.map(str::to_owned) },
                }))
            })?;
            match (refusal, signed) {
                (Some(refusal), _) => return Ok(refusal),
                (None, Some(signed)) if matches!(signed.entry.action, Action::Commit { .. }) => {
                    return Ok(Commit::Done(Box::new(signed)));
                }
                // Acquitted: now the commit. Whoever condemns anew sees neither point nor commit, and waits his time.
                _ => {}
            }
        }
        let detail = "what it reaches was condemned each time that it was acquitted";
        Err(Error::new(Kind::Retry, "commit points", detail))
    }
}

fn claim(catalog: &Catalog, reached: &BTreeSet<Key>) -> Claim {
    Claim::of(reached.iter().map(|key| (key, catalog.standing(key, false))))
}

fn refuse(catalog: &Catalog, points: &[Committed], reached: &BTreeSet<Key>) -> Option<Commit> {
    let is_live = |id: &Digest| catalog.points().contains_key(id);
    if points.iter().all(|point| is_live(&point.id)) {
        return Some(Commit::Present);
    }
    if let Some(parent) = points.iter().filter_map(|point| point.parent).find(|parent| !is_live(parent)) {
        return Some(Commit::ParentGone(parent));
    }
    // A dead name is not used again, whether its object is gone yet or not. Whoever deletes looks at the entries below
    // its own in the same way: of the two, the one that comes second yields.
    let dead = claim(catalog, reached).dead;
    (!dead.is_empty()).then(|| Commit::Deleted(dead.into_iter().collect()))
}
