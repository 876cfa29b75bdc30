//! The operations that change the catalog. Their JSON is what the journal holds, so a field is never renamed.
//!
//! Fields named alike mean the same everywhere: `id` and `layer` are the new object's or the subject's, `name` its
//! name, `bytes` a size, `created_ms` a time in ms since 1970, `epoch` the epoch that the operation ends.
#![allow(missing_docs)]

use serde::{Deserialize, Serialize};

use super::object::{SnapshotKey, Tags};
use crate::error::{Error, Kind, Result};
use crate::format::journal::RECORDS_LEN;
use crate::units::{Epoch, GroupId, LayerId, VolumeId};

/// What can carry tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A volume.
    Volume(VolumeId),
    /// A snapshot.
    Snapshot(SnapshotKey),
    /// A consistency group.
    Group(GroupId),
}

/// One change of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    /// A new, empty volume.
    VolumeCreate { id: VolumeId, layer: LayerId, name: String, bytes: u64, created_ms: u64, tags: Tags },
    /// Another name.
    VolumeRename { id: VolumeId, name: String },
    /// Another size; what lies beyond it is unmapped in the same record.
    VolumeResize { id: VolumeId, bytes: u64 },
    /// The volume and all its snapshots go; held snapshots refuse it.
    VolumeDelete { id: VolumeId },
    /// Sets a tag, or takes it away.
    Tag { subject: Subject, key: String, value: Option<String> },
    /// A snapshot of each volume, all at one point, which ends the epoch.
    Snapshot {
        epoch: Epoch,
        name: String,
        created_ms: u64,
        volumes: Vec<VolumeId>,
        group: Option<GroupId>,
        tags: Tags,
    },
    /// The snapshot disappears from view.
    SnapshotDelete { key: SnapshotKey },
    /// Another name.
    SnapshotRename { key: SnapshotKey, name: String },
    /// A reason why the snapshot can't be deleted.
    SnapshotHold { key: SnapshotKey, reason: String },
    /// The reason is gone.
    SnapshotRelease { key: SnapshotKey, reason: String },
    /// A new volume that begins as the snapshot.
    Clone { id: VolumeId, layer: LayerId, name: String, origin: SnapshotKey, created_ms: u64, tags: Tags },
    /// The clone shares no block with its origin any more: a checkpoint that holds no inherited entry in its head was
    /// made before, since after it the layer frees whatever its head displaces.
    CloneDetach { layer: LayerId },
    /// The volume becomes what the snapshot is; what it was stays as a snapshot of its own.
    Rollback {
        id: VolumeId,
        layer: LayerId,
        to: SnapshotKey,
        epoch: Epoch,
        displaced_name: String,
        created_ms: u64,
    },
    /// A new, empty group.
    GroupCreate { id: GroupId, name: String, created_ms: u64, tags: Tags },
    /// The volume belongs to the group from now on, or to none.
    GroupAssign { volume: VolumeId, group: Option<GroupId> },
    /// Another name.
    GroupRename { id: GroupId, name: String },
    /// The group goes; its volumes and snapshots stay.
    GroupDelete { id: GroupId },
}

impl Operation {
    /// The journal record's JSON.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when it is too long for one journal block (about 4000 bytes).
    pub fn encode(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self).map_err(|source| {
            Error::new(Kind::Bug, "write catalog", "operation does not fit JSON").source(source)
        })?;
        if json.len() + 3 > RECORDS_LEN {
            let detail = format!(
                "the operation takes {} bytes, at most {} fit one record",
                json.len(),
                RECORDS_LEN - 3
            );
            return Err(Error::new(Kind::Invalid, "change catalog", detail).hint("use fewer or shorter tags"));
        }
        Ok(json)
    }

    /// Reads a journal record's JSON.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is no operation.
    pub fn decode(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|source| {
            Error::new(Kind::Damaged, "replay journal", "a catalog record is not readable").source(source)
        })
    }
}
