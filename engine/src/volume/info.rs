//! What is known of a volume.

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Tags};
use crate::error::Result;
use crate::units::VolumeId;

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Its identity.
    pub id: VolumeId,
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes that it maps, shared ones included, as of the last checkpoint.
    pub mapped_bytes: u64,
    /// When it was created, in ms since 1970.
    pub created_ms: u64,
    /// The consistency group that it belongs to.
    pub group: Option<String>,
    /// The snapshot that it is a clone of, or was rolled back to.
    pub origin: Option<VolumeOrigin>,
    /// How many snapshots it has.
    pub snapshots: u64,
    /// What the user noted on it.
    pub tags: Tags,
}

/// The snapshot that a volume stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeOrigin {
    /// The snapshot's volume, while that exists.
    pub volume: Option<String>,
    /// The snapshot's name, also after it was deleted.
    pub snapshot: String,
}

pub(super) fn describe(catalog: &Catalog, id: VolumeId) -> Result<VolumeInfo> {
    let volume = catalog.volume(id)?;
    let origin = catalog.layers.get(&volume.layer).and_then(|layer| layer.origin);
    let origin =
        origin.and_then(|origin| catalog.snapshot(origin.into()).ok()).map(|snapshot| VolumeOrigin {
            volume: catalog.volume(snapshot.volume).ok().map(|volume| volume.name.clone()),
            snapshot: snapshot.name.clone(),
        });
    let group = catalog.groups().find(|group| Some(group.id) == volume.group).map(|group| group.name.clone());
    Ok(VolumeInfo {
        id,
        name: volume.name.clone(),
        bytes: volume.bytes,
        mapped_bytes: 0,
        created_ms: volume.created_ms,
        group,
        origin,
        snapshots: catalog.snapshots_of(id).len() as u64,
        tags: volume.tags.clone(),
    })
}
