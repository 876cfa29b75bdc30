//! The catalog: which volumes, layers, snapshots and groups there are. Small, wholly in memory, changed only by
//! operations that are journal records, written to RocksDB by the checkpointer.
//!
//! 1. `check` refuses an operation that can't be done; `apply` of a checked operation can't fail and depends on
//!    nothing but the catalog, so that replaying the journal gives the same catalog again.
//! 2. A snapshot is *live* while it is visible or a layer has it as its origin. Blocks that no live snapshot sees
//!    and no head maps are given back by checkpoints: snapshots `Reclaiming`, heads `Orphaned`, whole layers.
//! 3. A layer has a head that is written to (`Live`), or one that nobody sees any more: `Orphaned` until the blocks
//!    that only it maps are given back, then `Trimmed`.

mod apply;
mod check;
pub mod object;
pub mod operation;

use std::collections::{BTreeMap, BTreeSet};

pub use object::{Group, Head, Layer, ObjectKey, Origin, Snapshot, SnapshotKey, SnapshotState, Tags, Volume};
pub use operation::{Operation, Subject};

use crate::error::{Error, Kind, Result};
use crate::units::{Epoch, GroupId, LayerId, VolumeId};

/// Everything that has a name, and the layers beneath.
#[derive(Clone, Debug)]
pub struct Catalog {
    pub(crate) volumes: BTreeMap<VolumeId, Volume>,
    pub(crate) layers: BTreeMap<LayerId, Layer>,
    pub(crate) snapshots: BTreeMap<SnapshotKey, Snapshot>,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    volume_names: BTreeMap<String, VolumeId>,
    group_names: BTreeMap<String, GroupId>,
    snapshot_names: BTreeMap<(VolumeId, String), SnapshotKey>,
    /// How many layers have a snapshot as their origin.
    children: BTreeMap<SnapshotKey, u32>,
    dirty: BTreeSet<ObjectKey>,
    /// Layers on which something may be left to give back.
    pub(crate) reclaiming: BTreeSet<LayerId>,
    pub(crate) epoch: Epoch,
    pub(crate) next_id: u64,
    pub(crate) next_layer: LayerId,
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new(Epoch(1), 1, LayerId(1))
    }
}

impl Catalog {
    /// An empty catalog with its counters.
    pub fn new(epoch: Epoch, next_id: u64, next_layer: LayerId) -> Self {
        Self {
            volumes: BTreeMap::new(),
            layers: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            groups: BTreeMap::new(),
            volume_names: BTreeMap::new(),
            group_names: BTreeMap::new(),
            snapshot_names: BTreeMap::new(),
            children: BTreeMap::new(),
            dirty: BTreeSet::new(),
            reclaiming: BTreeSet::new(),
            epoch,
            next_id,
            next_layer,
        }
    }

    /// The epoch that a write made now is born in.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A volume by its id.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn volume(&self, id: VolumeId) -> Result<&Volume> {
        self.volumes
            .get(&id)
            .ok_or_else(|| Error::new(Kind::NotFound, "find volume", format!("no volume with id {id}")))
    }

    /// A volume by its name.
    ///
    /// # Errors
    /// [`Kind::NotFound`], naming it.
    pub fn volume_named(&self, name: &str) -> Result<&Volume> {
        let id = self.volume_names.get(name).ok_or_else(|| {
            Error::new(Kind::NotFound, "find volume", format!("no volume named {name:?}"))
                .hint("list the volumes to see their names")
        })?;
        self.volume(*id)
    }

    /// A group by its name.
    ///
    /// # Errors
    /// [`Kind::NotFound`], naming it.
    pub fn group_named(&self, name: &str) -> Result<&Group> {
        self.group_names.get(name).and_then(|id| self.groups.get(id)).ok_or_else(|| {
            Error::new(Kind::NotFound, "find group", format!("no consistency group named {name:?}"))
        })
    }

    /// A visible snapshot of a volume by its name.
    ///
    /// # Errors
    /// [`Kind::NotFound`], naming both.
    pub fn snapshot_named(&self, volume: &Volume, name: &str) -> Result<&Snapshot> {
        self.snapshot_names
            .get(&(volume.id, name.to_owned()))
            .and_then(|key| self.snapshots.get(key))
            .ok_or_else(|| {
                Error::new(
                    Kind::NotFound,
                    "find snapshot",
                    format!("volume {:?} has no snapshot {name:?}", volume.name),
                )
            })
    }

    /// A snapshot that can be seen or that a layer still stands on.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn snapshot(&self, key: SnapshotKey) -> Result<&Snapshot> {
        self.snapshots
            .get(&key)
            .filter(|snapshot| snapshot.state != SnapshotState::Reclaiming)
            .ok_or_else(|| Error::new(Kind::NotFound, "find snapshot", "the snapshot was deleted"))
    }

    /// Every volume, by id.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.values()
    }

    /// Every layer, by id.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.values()
    }

    /// Every group, by id.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Every visible snapshot of a volume, oldest first, across rollbacks.
    pub fn snapshots_of(&self, volume: VolumeId) -> Vec<&Snapshot> {
        let range = (volume, String::new())..(VolumeId(volume.0 + 1), String::new());
        let mut found: Vec<_> =
            self.snapshot_names.range(range).filter_map(|(_, key)| self.snapshots.get(key)).collect();
        found.sort_by_key(|snapshot| snapshot.key.epoch);
        found
    }

    /// The volumes of a group, by id.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = &Volume> {
        self.volumes.values().filter(move |volume| volume.group == Some(group))
    }

    /// The epochs of a layer's live snapshots, oldest first.
    pub fn live_epochs(&self, layer: LayerId) -> Vec<Epoch> {
        self.snapshots_on(layer)
            .filter(|snapshot| snapshot.state != SnapshotState::Reclaiming)
            .map(|snapshot| snapshot.key.epoch)
            .collect()
    }

    /// Every snapshot on a layer, whatever its state, oldest first.
    pub fn snapshots_on(&self, layer: LayerId) -> impl DoubleEndedIterator<Item = &Snapshot> {
        let range = SnapshotKey { layer, epoch: Epoch(0) }..=SnapshotKey { layer, epoch: Epoch(u32::MAX) };
        self.snapshots.range(range).map(|(_, snapshot)| snapshot)
    }

    /// Layers that have this snapshot as their origin.
    pub fn children(&self, key: SnapshotKey) -> u32 {
        self.children.get(&key).copied().unwrap_or(0)
    }

    /// A layer and the origins beneath it, nearest first: each with the epoch at which it is seen (`None`: its head).
    pub fn chain(&self, layer: LayerId, at: Option<Epoch>) -> Vec<(LayerId, Option<Epoch>)> {
        let mut chain = vec![(layer, at)];
        let mut current = layer;
        while let Some(origin) = self.layers.get(&current).and_then(|layer| layer.origin) {
            chain.push((origin.layer, Some(origin.epoch)));
            current = origin.layer;
        }
        chain
    }

    /// The objects changed since the last call, each with its JSON, or `None` when it is gone.
    pub fn take_dirty(&mut self) -> Vec<(ObjectKey, Option<Vec<u8>>)> {
        std::mem::take(&mut self.dirty).into_iter().map(|key| (key, self.object_json(key))).collect()
    }

    /// The objects that changed since they were last taken.
    pub(crate) fn dirty(&self) -> impl Iterator<Item = ObjectKey> {
        self.dirty.iter().copied()
    }

    /// Marks objects as changed again, after a checkpoint that should have written them failed.
    pub fn mark_dirty(&mut self, keys: impl IntoIterator<Item = ObjectKey>) {
        self.dirty.extend(keys);
    }

    fn object_json(&self, key: ObjectKey) -> Option<Vec<u8>> {
        let json = match key {
            ObjectKey::Volume(id) => self.volumes.get(&id).map(serde_json::to_vec),
            ObjectKey::Layer(id) => self.layers.get(&id).map(serde_json::to_vec),
            ObjectKey::Snapshot(key) => self.snapshots.get(&key).map(serde_json::to_vec),
            ObjectKey::Group(id) => self.groups.get(&id).map(serde_json::to_vec),
        };
        json.map(|json| json.expect("catalog objects are plain data, which JSON always holds"))
    }

    /// Takes an object as it was read from RocksDB.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is not the JSON of such an object.
    pub fn load(&mut self, key: ObjectKey, json: &[u8]) -> Result<()> {
        let damaged = |source: serde_json::Error| {
            Error::new(Kind::Damaged, "open catalog", format!("object {key:?} is not readable"))
                .source(source)
        };
        match key {
            ObjectKey::Volume(id) => {
                let volume: Volume = serde_json::from_slice(json).map_err(damaged)?;
                self.volume_names.insert(volume.name.clone(), id);
                self.volumes.insert(id, volume);
            }
            ObjectKey::Layer(id) => {
                let layer: Layer = serde_json::from_slice(json).map_err(damaged)?;
                if let Some(origin) = layer.origin {
                    *self.children.entry(origin.into()).or_default() += 1;
                }
                self.layers.insert(id, layer);
            }
            ObjectKey::Snapshot(at) => {
                let snapshot: Snapshot = serde_json::from_slice(json).map_err(damaged)?;
                if snapshot.state == SnapshotState::Visible {
                    self.snapshot_names.insert((snapshot.volume, snapshot.name.clone()), at);
                }
                self.snapshots.insert(at, snapshot);
            }
            ObjectKey::Group(id) => {
                let group: Group = serde_json::from_slice(json).map_err(damaged)?;
                self.group_names.insert(group.name.clone(), id);
                self.groups.insert(id, group);
            }
        }
        Ok(())
    }

    /// After every object was loaded: refuses a catalog whose parts don't fit, and takes up again what a crash
    /// left between dropping a layer and letting go of its origin.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when an object points to one that is not there.
    pub fn loaded(&mut self) -> Result<()> {
        let damaged = |detail: String| Err(Error::new(Kind::Damaged, "open catalog", detail));
        for volume in self.volumes.values() {
            let head = self.layers.get(&volume.layer).map(|layer| layer.head);
            if head != Some(Head::Live) {
                return damaged(format!("volume {:?} has no live layer {}", volume.name, volume.layer));
            }
        }
        for layer in self.layers.values() {
            let origin = layer.origin.map(SnapshotKey::from);
            if origin.is_some_and(|origin| origin.layer >= layer.id || !self.snapshots.contains_key(&origin))
            {
                return damaged(format!("layer {} has no origin {origin:?}", layer.id));
            }
        }
        if let Some(stray) = self.snapshots.keys().find(|key| !self.layers.contains_key(&key.layer)) {
            return damaged(format!("snapshot {stray:?} has no layer"));
        }
        let hidden: Vec<_> = self
            .snapshots
            .values()
            .filter(|snapshot| snapshot.state == SnapshotState::Hidden)
            .map(|snapshot| snapshot.key)
            .collect();
        hidden.into_iter().for_each(|key| self.let_go(key));
        self.reclaiming = self.layers.keys().copied().collect();
        Ok(())
    }
}
