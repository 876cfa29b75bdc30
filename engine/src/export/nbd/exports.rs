//! What a client can take: each volume, and each of its snapshots read-only.

use std::collections::BTreeSet;

use super::offer::{ExportInfo, Exports, LISTED_MAX};
use crate::catalog::{Catalog, Volume};
use crate::core::Target;
use crate::error::{Error, Kind, Result};
use crate::reactor::Handle;
use crate::snapshot::{Pin, Snapshot};
use crate::units::VolumeId;

/// The context that tells data from holes.
pub(super) const ALLOCATION: &str = "base:allocation";
/// The context that tells which layer of a chain of clones holds the data.
pub(super) const DEPTH: &str = "qemu:allocation-depth";
/// What the name of a context that tells what changed since a snapshot begins with.
pub(super) const DIRTY: &str = "qemu:dirty-bitmap:";

/// An export of a pool that a client has opened. A snapshot is not deleted for as long.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) volume: VolumeId,
    pub(super) target: Target,
    /// Held for its drop, which lets the snapshot go.
    pub(super) _pin: Option<Pin>,
}

/// The exports of an open pool.
#[derive(Clone, Debug)]
pub(super) struct PoolExports {
    handle: Handle,
}

impl PoolExports {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// The snapshot of an export's volume by its name, kept from being deleted.
    pub(super) fn snapshot(&self, volume: VolumeId, name: &str) -> Result<(Snapshot, Pin)> {
        let name = name.to_owned();
        let key = self.handle.try_look(move |core| {
            let catalog = core.catalog();
            Ok(catalog.snapshot_named(catalog.volume(volume)?, &name)?.key)
        })?;
        let snapshot = Snapshot::new(self.handle.clone(), key);
        let pin = snapshot.pin()?;
        Ok((snapshot, pin))
    }
}

impl Exports for PoolExports {
    type Opened = Opened;

    fn names(&self) -> Result<Vec<String>> {
        self.handle.look(|core| {
            let catalog = core.catalog();
            let volumes = || catalog.volumes().take(LISTED_MAX);
            let snapshots = volumes().flat_map(|volume| {
                let of = catalog.snapshots_of(volume.id);
                of.into_iter().map(|snapshot| format!("{}@{}", volume.name, snapshot.name))
            });
            let all = volumes().map(|volume| volume.name.clone()).chain(snapshots).take(LISTED_MAX);
            all.collect::<BTreeSet<_>>().into_iter().collect()
        })
    }

    fn open(&self, name: &str) -> Result<(ExportInfo, Opened)> {
        let asked = name.to_owned();
        let (info, volume, snapshot) = self.handle.try_look(move |core| find(core.catalog(), &asked))?;
        let Some(key) = snapshot else {
            return Ok((info, Opened { volume, target: Target::Volume(volume), _pin: None }));
        };
        let pin = Snapshot::new(self.handle.clone(), key).pin()?;
        Ok((info, Opened { volume, target: Target::Snapshot(key), _pin: Some(pin) }))
    }

    fn contexts(&self, name: &str) -> Result<Vec<String>> {
        let name = name.to_owned();
        self.handle.try_look(move |core| {
            let catalog = core.catalog();
            let (_, volume, _) = find(catalog, &name)?;
            let snapshots = catalog.snapshots_of(volume);
            let dirty = snapshots.iter().map(|snapshot| format!("{DIRTY}{}", snapshot.name));
            Ok([ALLOCATION, DEPTH].map(str::to_owned).into_iter().chain(dirty).collect())
        })
    }
}

type Found = (ExportInfo, VolumeId, Option<crate::catalog::SnapshotKey>);

/// Names of volumes and snapshots hold no `@`, so the first one separates them.
fn find(catalog: &Catalog, name: &str) -> Result<Found> {
    let (volume, snapshot) = match name.split_once('@') {
        Some((volume, snapshot)) => (catalog.volume_named(volume)?, Some(snapshot)),
        None if name.is_empty() => (only_volume(catalog)?, None),
        None => (catalog.volume_named(name)?, None),
    };
    let Some(snapshot) = snapshot else {
        let description = format!("volume {} ({})", volume.name, identity(volume));
        let name = volume.name.clone();
        let info = ExportInfo { name, bytes: volume.bytes, read_only: false, description };
        return Ok((info, volume.id, None));
    };
    let snapshot = catalog.snapshot_named(volume, snapshot)?;
    let info = ExportInfo {
        name: format!("{}@{}", volume.name, snapshot.name),
        bytes: snapshot.bytes,
        read_only: true,
        description: format!(
            "snapshot {} of volume {} ({}-{}-{})",
            snapshot.name,
            volume.name,
            identity(volume),
            snapshot.key.layer.0,
            snapshot.key.epoch.0
        ),
    };
    Ok((info, volume.id, Some(snapshot.key)))
}

/// Tells a volume from another that has its name, later or in another pool: a client that connects again must not go
/// on with that one.
fn identity(volume: &Volume) -> String {
    format!("{}-{}", volume.id.0, volume.created_ms)
}

/// The default export: the pool's volume, when it has one only.
fn only_volume(catalog: &Catalog) -> Result<&Volume> {
    let mut volumes = catalog.volumes();
    match (volumes.next(), volumes.next()) {
        (Some(volume), None) => Ok(volume),
        _ => {
            let detail = "there is no default export; name a volume, or volume@snapshot";
            Err(Error::new(Kind::NotFound, "find export", detail))
        }
    }
}
