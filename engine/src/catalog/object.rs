//! The catalog's objects. Their JSON is what RocksDB holds, so a field is never renamed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::format::Malformed;
use crate::units::{Epoch, GroupId, LayerId, VolumeId};

/// Key=value pairs that a user gave.
pub type Tags = BTreeMap<String, String>;

/// A writable block address space with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its identity.
    pub id: VolumeId,
    /// Its name, unique in the pool.
    pub name: String,
    /// Its size in bytes, a multiple of 4096.
    pub bytes: u64,
    /// The layer that is written to.
    pub layer: LayerId,
    /// The consistency group it belongs to.
    pub group: Option<GroupId>,
    /// When it was created, in ms since 1970.
    pub created_ms: u64,
    /// What the user noted on it.
    pub tags: Tags,
}

/// What becomes of a layer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// A volume writes to it.
    Live,
    /// Nobody sees it; blocks that only it maps are still to be given back.
    Orphaned,
    /// It maps nothing that no live snapshot sees.
    Trimmed,
}

/// The snapshot that a layer began as a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The layer of the snapshot.
    pub layer: LayerId,
    /// Its epoch. The new layer's own blocks are all born later.
    pub epoch: Epoch,
}

/// One map: a head and its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its identity.
    pub id: LayerId,
    /// The volume whose layer it is or was.
    pub volume: VolumeId,
    /// Where pages that it does not have are looked up.
    pub origin: Option<Origin>,
    /// What becomes of its head.
    pub head: Head,
    /// Epochs at which intervals began: of the snapshots taken since the last checkpoint, deleted ones too, and the
    /// newest before that, or the origin's.
    pub points: Vec<Epoch>,
}

impl Layer {
    /// A live layer that begins as a snapshot.
    pub(super) fn on(origin: SnapshotKey, id: LayerId, volume: VolumeId) -> Self {
        let points = vec![origin.epoch];
        let origin = Some(Origin { layer: origin.layer, epoch: origin.epoch });
        Self { id, volume, origin, head: Head::Live, points }
    }
}

/// A snapshot's place: its layer and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotKey {
    /// The layer it is a view of.
    pub layer: LayerId,
    /// Blocks born in this epoch or before are what it sees.
    pub epoch: Epoch,
}

impl From<Origin> for SnapshotKey {
    fn from(origin: Origin) -> Self {
        Self { layer: origin.layer, epoch: origin.epoch }
    }
}

/// What becomes of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotState {
    /// Users see it.
    Visible,
    /// Deleted, but a clone or a rollback stands on it.
    Hidden,
    /// Deleted; its room is being given back.
    Reclaiming,
}

/// An immutable view of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its place.
    pub key: SnapshotKey,
    /// The volume it is a snapshot of.
    pub volume: VolumeId,
    /// Its name, unique among the volume's.
    pub name: String,
    /// The volume's size then, in bytes.
    pub bytes: u64,
    /// When it was taken, in ms since 1970.
    pub created_ms: u64,
    /// The consistency group it was taken with.
    pub group: Option<GroupId>,
    /// Reasons why it can't be deleted.
    pub holds: BTreeSet<String>,
    /// What the user noted on it.
    pub tags: Tags,
    /// What becomes of it.
    pub state: SnapshotState,
}

/// Volumes that are snapshotted at one point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its identity.
    pub id: GroupId,
    /// Its name, unique in the pool.
    pub name: String,
    /// When it was created, in ms since 1970.
    pub created_ms: u64,
    /// What the user noted on it.
    pub tags: Tags,
}

/// Which object of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKey {
    /// A volume.
    Volume(VolumeId),
    /// A layer.
    Layer(LayerId),
    /// A snapshot.
    Snapshot(SnapshotKey),
    /// A consistency group.
    Group(GroupId),
}

impl ObjectKey {
    /// The key in column family `catalog`: a letter, then the id, big-endian.
    pub fn encode(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(9);
        match self {
            ObjectKey::Volume(id) => {
                key.push(b'v');
                key.extend_from_slice(&id.0.to_be_bytes());
            }
            ObjectKey::Layer(id) => {
                key.push(b'l');
                key.extend_from_slice(&id.0.to_be_bytes());
            }
            ObjectKey::Snapshot(at) => {
                key.push(b's');
                key.extend_from_slice(&at.layer.0.to_be_bytes());
                key.extend_from_slice(&at.epoch.0.to_be_bytes());
            }
            ObjectKey::Group(id) => {
                key.push(b'g');
                key.extend_from_slice(&id.0.to_be_bytes());
            }
        }
        key
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`Malformed`] when it is none of the four.
    pub fn decode(key: &[u8]) -> Result<Self, Malformed> {
        let (kind, id) = key.split_first().ok_or(Malformed("empty catalog key"))?;
        let long =
            || id.try_into().map(u64::from_be_bytes).map_err(|_| Malformed("catalog key of a wrong length"));
        match kind {
            b'v' => Ok(ObjectKey::Volume(VolumeId(long()?))),
            b'g' => Ok(ObjectKey::Group(GroupId(long()?))),
            b's' => {
                let [a, b, c, d, e, f, g, h] = long()?.to_be_bytes();
                let layer = LayerId(u32::from_be_bytes([a, b, c, d]));
                Ok(ObjectKey::Snapshot(SnapshotKey { layer, epoch: Epoch(u32::from_be_bytes([e, f, g, h])) }))
            }
            b'l' => {
                let id = id.try_into().map_err(|_| Malformed("catalog key of a wrong length"))?;
                Ok(ObjectKey::Layer(LayerId(u32::from_be_bytes(id))))
            }
            _ => Err(Malformed("catalog key of unknown kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        let at = SnapshotKey { layer: LayerId(2), epoch: Epoch(3) };
        for key in [
            ObjectKey::Volume(VolumeId(1)),
            ObjectKey::Layer(LayerId(2)),
            ObjectKey::Snapshot(at),
            ObjectKey::Group(GroupId(9)),
        ] {
            assert_eq!(ObjectKey::decode(&key.encode()), Ok(key));
        }
        assert!(
            ObjectKey::decode(b"").is_err()
                && ObjectKey::decode(b"v1").is_err()
                && ObjectKey::decode(b"x").is_err()
        );
    }
}
