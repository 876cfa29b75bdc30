//! Points come into the vault: the entry that a send ends with.

use std::collections::BTreeSet;

use super::Vault;
use crate::error::Result;
use crate::format::entry::{Action, Committed, Signed};
use crate::format::name;
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
}

impl Vault {
    /// Commits points, all of them or none. `reached` holds the names of all objects that they reach: every run, every
    /// pack that a run's extents point into, and data keys. The objects are in the store, and locked as the points say.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn commit(
        &self,
        points: &[Committed],
        group: Option<&str>,
        reached: &BTreeSet<Key>,
    ) -> Result<Commit> {
        let own: Vec<Key> = points.iter().map(|point| name::point(point.id)).collect();
        let (mut present, mut deleted) = (false, BTreeSet::new());
        let signed = self.append(&mut |catalog, _| {
            present = points.iter().all(|point| catalog.points().contains_key(&point.id));
            // A name that was deleted once is not used again, whether its object is gone yet or not. Whoever deletes
            // looks at the entries below its own in the same way: of the two, the one that comes second yields.
            let names = reached.iter().chain(&own).filter(|key| catalog.is_deleted(key));
            deleted = names.cloned().collect();
            let commit = || Action::Commit { points: points.to_vec(), group: group.map(str::to_owned) };
            Ok((!present && deleted.is_empty()).then(commit))
        })?;
        Ok(match signed {
            Some(signed) => Commit::Done(Box::new(signed)),
            None if present => Commit::Present,
            None => Commit::Deleted(deleted),
        })
    }
}
