//! The open pool that operations run on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use firn_engine::catalog;
use firn_engine::error::{Error, Kind};
use firn_engine::export::nbd::Address;
use firn_engine::group::Group;
use firn_engine::pool::Pool;
use firn_engine::snapshot::Snapshot;
use firn_engine::volume::Volume;

use crate::name::SnapshotName;

/// Volumes that are being filled, by name: two who fill one would mix what they write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filling(Arc<Mutex<BTreeSet<String>>>);

/// A volume that only its holder fills.
#[derive(Debug)]
pub(crate) struct Filled {
    filling: Filling,
    name: String,
}

impl Filling {
    /// Begins to fill the volume `name`; nothing when somebody else does.
    pub(crate) fn begin(&self, name: &str) -> Option<Filled> {
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        is_free.then(|| Filled { filling: self.clone(), name: name.to_owned() })
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        self.filling.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// An open pool, with the places that it is at.
pub(crate) struct Served {
    pub(crate) pool: Pool,
    pub(crate) path: PathBuf,
    pub(crate) metadata: PathBuf,
    /// Where NBD clients on this host find its exports, when it has any.
    pub(crate) nbd: Option<Address>,
    /// The state directory, when one was named.
    pub(crate) state: Option<PathBuf>,
    /// Volumes that a restore is filling now.
    pub(crate) restoring: Filling,
}

impl Served {
    /// The volume of this name.
    pub(crate) fn volume(&self, name: &str) -> Result<Volume, Error> {
        self.pool.volume(name).map_err(|error| match error.kind() {
            Kind::NotFound => error.hint("`firn volume list` shows the names"),
            _ => error,
        })
    }

    /// The volumes of these names: all of them, or the error of the first that there is none of.
    pub(crate) fn volumes(&self, names: &[String]) -> Result<Vec<Volume>, Error> {
        names.iter().map(|name| self.volume(name)).collect()
    }

    /// The snapshot of this name.
    pub(crate) fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, Error> {
        self.volume(&name.of)?.snapshot_named(&name.snapshot).map_err(|error| match error.kind() {
            Kind::NotFound => error.hint(format!("`firn snapshot list {}` shows the names", name.of)),
            _ => error,
        })
    }

    /// The consistency group of this name.
    pub(crate) fn group(&self, name: &str) -> Result<Group, Error> {
        self.pool.group(name).map_err(|error| match error.kind() {
            Kind::NotFound => error.hint("`firn group list` shows the names"),
            _ => error,
        })
    }

    /// Asks the engine whether it would do an operation now.
    pub(crate) fn check(&self, operation: catalog::Operation) -> Result<(), Error> {
        self.pool.handle().try_look(move |core| core.catalog().check(&operation))
    }

    /// Where an NBD client finds the volume or snapshot `export`.
    pub(crate) fn nbd_uri(&self, export: &str) -> Option<String> {
        self.nbd.as_ref().map(|address| address.uri(export))
    }
}
