//! What points reach: every object without which they can't be restored.
//!
//! 1. It is known only when the point and all its runs were read; otherwise the error says which object could not be.
//! 2. The runs of a point whose data key was destroyed can't be read. Its packs are told by the key in their headers.

use std::collections::BTreeSet;

use super::damage::Judge;
use super::hidden::uncovering;
use super::run::{Run, RunKeys};
use super::{Vault, bounded};
use crate::error::{Error, Kind, Result};
use crate::format::container::{HEADER_BYTES, Header};
use crate::format::digest::{Digest, KeyId};
use crate::format::name;
use crate::format::point::{Point, RunRef};
use crate::store::Key;

/// What points reach, gathered point by point.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    points: BTreeSet<Digest>,
    objects: BTreeSet<Key>,
    destroyed: BTreeSet<KeyId>,
}

impl Reach {
    /// The objects: points, runs and packs.
    pub fn objects(&self) -> &BTreeSet<Key> {
        &self.objects
    }

    /// Whether a point of `key` was gathered that can never be read again.
    pub fn has_destroyed(&self) -> bool {
        !self.destroyed.is_empty()
    }

    /// Adds what a point reaches, unless it was added before.
    ///
    /// # Errors
    /// [`Kind::Damaged`], naming the object, when it or a run of it is missing or damaged; [`Kind::Invalid`] when the
    /// vault is locked; what the store said. What it reaches is then not known.
    pub fn add(&mut self, vault: &Vault, id: Digest) -> Result<()> {
        if self.points.contains(&id) {
            return Ok(());
        }
        let point = vault.read_point(id)?;
        let is_destroyed =
            vault.catalog().keys().get(&point.key).is_some_and(|key| key.destroyed_ms.is_some());
        for run in &point.runs {
            if self.objects.contains(&run.key()) {
                continue;
            }
            match is_destroyed {
                true => drop(self.destroyed.insert(point.key)),
                false => {
                    let opened = vault.open_run(&point, run)?;
                    self.objects.extend(opened.packs().map(|pack| pack.name.key()));
                }
            }
            self.objects.insert(run.key());
        }
        self.objects.insert(name::point(id));
        self.points.insert(id);
        Ok(())
    }

    /// Whether one of the points reaches `key`.
    ///
    /// # Errors
    /// What the store said, when the object had to be looked at.
    pub fn contains(&self, vault: &Vault, key: &Key) -> Result<bool> {
        if self.objects.contains(key) || self.destroyed.is_empty() || name::PackName::of(key).is_none() {
            return Ok(self.objects.contains(key));
        }
        let bytes = match vault.store().get_range(key, 0, HEADER_BYTES) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            bytes => bytes?,
        };
        // What is no pack any more is kept: nobody knows whose it was.
        let header = bytes.first_chunk().map(Header::decode);
        Ok(!matches!(header, Some(Ok(header)) if !self.destroyed.contains(&header.key)))
    }
}

impl Vault {
    /// What all points reach that are live in the catalog as it was last read.
    ///
    /// # Errors
    /// As [`Reach::add`].
    pub fn reach(&self) -> Result<Reach> {
        let mut reach = Reach::default();
        self.catalog().points().keys().try_for_each(|id| reach.add(self, *id))?;
        Ok(reach)
    }

    /// What one point reaches, and what opens it: settings, slots and its data key. All of it is locked with it.
    ///
    /// # Errors
    /// As [`Reach::add`].
    pub fn needed_by(&self, id: Digest) -> Result<BTreeSet<Key>> {
        let catalog = self.catalog();
        let committed = &catalog.point(id)?.committed;
        let (id, key) = (committed.id, committed.key);
        let mut reach = Reach::default();
        reach.add(self, id)?;
        if reach.has_destroyed() {
            let detail = format!("point {id} can't be read any more: its data key was destroyed");
            return Err(Error::new(Kind::Conflict, "find what a point needs", detail));
        }
        let mut needed = reach.objects;
        needed.extend(self.openers(key));
        Ok(needed)
    }

    /// What opens a point under data key `key`: settings, the key, and all slots.
    pub(super) fn openers(&self, key: KeyId) -> BTreeSet<Key> {
        let mut openers = BTreeSet::from([name::settings()]);
        if key != KeyId::default() {
            openers.insert(name::slot(key));
            openers.extend(self.catalog().slots().keys().map(|slot| name::slot(*slot)));
        }
        openers
    }

    /// Reads a point.
    ///
    /// # Errors
    /// [`Kind::Damaged`], naming the object, when it is missing or not what was written; what the store said.
    pub fn read_point(&self, id: Digest) -> Result<Point> {
        let key = name::point(id);
        let store = self.store.as_ref();
        let read = || Point::decode(id, &bounded::get(store, &key, bounded::POINT_BYTES_MAX)?);
        uncovering(store, &key, read).map_err(|error| named(&key, error))
    }

    /// A run of a point, with its list of packs.
    pub(super) fn open_run(&self, point: &Point, run: &RunRef) -> Result<Run> {
        let keys = RunKeys::of(point, self.frame_keys(point.key)?);
        Run::open(self.store.as_ref(), run, &keys, Judge::Refuse)
    }
}

/// The same error about the object `key`; one that is missing is damage.
fn named(key: &Key, error: Error) -> Error {
    match error.kind() {
        Kind::NotFound => Error::new(Kind::Damaged, "read object", format!("{key} is missing")),
        Kind::Damaged | Kind::Invalid => {
            Error::new(error.kind(), "read object", key.to_string()).source(error)
        }
        _ => error,
    }
}
