//! What points reach: every object without which they can't be restored.
//!
//! 1. It is known only when the point and all its runs were read; otherwise the error says which object could not be.
//!    Of a former point what was given back is passed by: a reclaim deleted it while the point did not stand, by a clock
//!    that was ahead or a firn that knew no former points. Nobody else could: who may write may not delete.
//! 2. The runs of a point whose data key was destroyed can't be read. Its packs are told by the key in their headers.
//! 3. Only a run that was opened is not opened again, and only for what names it in the same way, under the same key:
//!    what one point says of a run that it shares is not what another one reaches.
//! 4. Whoever asks about many points asks one [`Reach`]: each point and each run is read once, however many share it.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use super::catalog::Catalog;
use super::damage::Judge;
use super::former::FormerPoint;
use super::hidden::uncovering;
use super::run::{Run, RunKeys};
use super::{Vault, bounded};
use crate::error::{Error, Kind, Result};
use crate::format::container::{HEADER_BYTES, Header};
use crate::format::digest::{Digest, KeyId, VaultId};
use crate::format::name;
use crate::format::point::{Point, RunRef};
use crate::store::Key;

/// What points reach, gathered point by point.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    points: BTreeSet<Digest>,
    objects: BTreeSet<Key>,
    /// Runs whose packs are among the objects.
    opened: FxHashSet<NamedRun>,
    destroyed: BTreeSet<KeyId>,
}

/// A run as a point names it, with what that point says opens it. What is known of it is known for all points that name
/// it so, and for no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct NamedRun {
    run: RunRef,
    vault: VaultId,
    key: KeyId,
}

impl NamedRun {
    pub(super) fn of(point: &Point, run: &RunRef) -> Self {
        Self { run: run.clone(), vault: point.vault, key: point.key }
    }
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
        point.runs.iter().try_for_each(|run| self.add_run(vault, &point, run))?;
        self.objects.insert(name::point(id));
        self.points.insert(id);
        Ok(())
    }

    /// Adds what is left of what a former point reaches.
    ///
    /// # Errors
    /// As [`add`](Self::add), but for what was given back.
    pub fn add_former(&mut self, vault: &Vault, id: Digest) -> Result<()> {
        if self.points.contains(&id) {
            return Ok(());
        }
        let key = name::point(id);
        if let Some(point) = vault.unless_given_back(&key, || vault.read_point(id))? {
            for run in &point.runs {
                vault.unless_given_back(&run.key(), || self.add_run(vault, &point, run))?;
            }
            self.objects.insert(key);
        }
        self.points.insert(id);
        Ok(())
    }

    /// Adds all that must stay: what live points reach, and what is left of former ones that stand at `now_ms`, by the
    /// store's clock.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_all(&mut self, vault: &Vault, catalog: &Catalog, now_ms: u64) -> Result<()> {
        catalog.points().keys().try_for_each(|id| self.add(vault, *id))?;
        catalog.standing_former(now_ms).try_for_each(|former| self.add_former(vault, former.id))
    }

    fn add_run(&mut self, vault: &Vault, point: &Point, run: &RunRef) -> Result<()> {
        let named = NamedRun::of(point, run);
        if self.opened.contains(&named) {
            return Ok(());
        }
        match vault.catalog().is_destroyed(point.key) {
            true => drop(self.destroyed.insert(point.key)),
            false => {
                let packs = vault.open_run(point, run)?;
                self.objects.extend(packs.packs().map(|pack| pack.name.key()));
                self.opened.insert(named);
            }
        }
        self.objects.insert(run.key());
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
    /// What all points reach that are live in the catalog as it was last read, or former and stand.
    ///
    /// # Errors
    /// As [`Reach::add`].
    pub fn reach(&self) -> Result<Reach> {
        let mut reach = Reach::default();
        reach.add_all(self, &self.catalog(), self.store.clock_ms()?)?;
        Ok(reach)
    }

    /// What one point reaches, and what opens it: settings, slots and its data key. All of it is locked with it.
    ///
    /// # Errors
    /// As [`Reach::add`]; [`Kind::Conflict`] when its data key was destroyed.
    pub fn needed_by(&self, id: Digest) -> Result<BTreeSet<Key>> {
        self.needed_by_all([id], [])
    }

    /// What is left of what a former point reaches, and what opens it.
    ///
    /// # Errors
    /// As [`Reach::add_former`].
    pub fn needed_by_former(&self, former: &FormerPoint) -> Result<BTreeSet<Key>> {
        self.needed_by_all([], [former])
    }

    /// What these points need together, live ones and former ones.
    ///
    /// # Errors
    /// As [`needed_by`](Self::needed_by) and [`needed_by_former`](Self::needed_by_former).
    pub(super) fn needed_by_all<'f>(
        &self,
        live: impl IntoIterator<Item = Digest>,
        former: impl IntoIterator<Item = &'f FormerPoint>,
    ) -> Result<BTreeSet<Key>> {
        let catalog = self.catalog();
        let (mut reach, mut keys) = (Reach::default(), BTreeSet::new());
        for id in live {
            let committed = &catalog.point(id)?.committed;
            reach.add(self, committed.id)?;
            if reach.has_destroyed() {
                return Err(unreadable(committed.id, "find what a point needs"));
            }
            keys.insert(committed.key);
        }
        for former in former {
            reach.add_former(self, former.id)?;
            keys.insert(former.key);
        }
        let mut needed = reach.objects;
        needed.extend(keys.into_iter().flat_map(|key| self.openers(key)));
        Ok(needed)
    }

    /// Does `read`, which needs the object `key` of a former point; nothing when that was given back.
    pub(super) fn unless_given_back<T>(
        &self,
        key: &Key,
        read: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        // Before it is looked for: where the store keeps versions, the first one would be found.
        if self.was_given_back(&self.catalog(), key)? {
            return Ok(None);
        }
        match read() {
            // By somebody else, since the log was read.
            Err(error)
                if error.kind() == Kind::Damaged && self.was_given_back(self.refresh()?.as_ref(), key)? =>
            {
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// Whether an object is gone that a `delete` entry names.
    pub(super) fn was_given_back(&self, catalog: &Catalog, key: &Key) -> Result<bool> {
        Ok(catalog.is_deleted(key) && self.store.head(key)?.is_none())
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
    /// [`Kind::Damaged`], naming the object, when it is missing or not what was written, or the log says that it is of
    /// another volume or under another key; what the store said.
    pub fn read_point(&self, id: Digest) -> Result<Point> {
        let key = name::point(id);
        let store = self.store.as_ref();
        let read = || Point::decode(id, &bounded::get(store, &key, bounded::POINT_BYTES_MAX)?);
        let point = uncovering(store, &key, read).map_err(|error| named(&key, error))?;
        match self.catalog().points().get(&id) {
            Some(live) if !live.committed.is_of(&point) => {
                let detail = format!(
                    "{key} is of another volume or under another key than entry {} says",
                    live.number
                );
                Err(Error::new(Kind::Damaged, "read object", detail))
            }
            _ => Ok(point),
        }
    }

    /// A run of a point, with its list of packs.
    pub(super) fn open_run(&self, point: &Point, run: &RunRef) -> Result<Run> {
        let keys = RunKeys::of(point, self.frame_keys(point.key)?);
        Run::open(self.store.as_ref(), run, &keys, Judge::Refuse)
    }
}

/// The error of a point whose packs nobody can tell any more.
pub(super) fn unreadable(id: Digest, operation: &'static str) -> Error {
    let detail = format!("point {id} can't be read any more: its data key was destroyed");
    Error::new(Kind::Conflict, operation, detail)
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
