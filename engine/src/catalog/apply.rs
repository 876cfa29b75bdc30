//! What an operation does to the catalog.

use super::{
    Catalog, Group, Head, Layer, ObjectKey, Operation, Snapshot, SnapshotKey, SnapshotState, Subject, Volume,
};
use crate::units::{Epoch, GroupId, LayerId, VolumeId};

impl Catalog {
    /// Does a checked operation.
    pub fn apply(&mut self, operation: &Operation) {
        match operation.clone() {
            Operation::VolumeCreate { id, layer, name, bytes, created_ms, tags } => {
                self.add_layer(Layer {
                    id: layer,
                    volume: id,
                    origin: None,
                    head: Head::Live,
                    points: Vec::new(),
                });
                self.add_volume(Volume { id, name, bytes, layer, group: None, created_ms, tags });
            }
            Operation::VolumeRename { id, name } => self.rename_volume(id, name),
            Operation::VolumeResize { id, bytes } => self.change_volume(id, |volume| volume.bytes = bytes),
            Operation::VolumeDelete { id } => self.delete_volume(id),
            Operation::Tag { subject, key, value } => self.tag(subject, key, value),
            Operation::Snapshot { epoch, name, created_ms, volumes, group, tags } => {
                for volume in
                    volumes.iter().filter_map(|id| self.volumes.get(id)).cloned().collect::<Vec<_>>()
                {
                    let key = SnapshotKey { layer: volume.layer, epoch };
                    self.add_snapshot(&volume, key, &name, created_ms, group, tags.clone());
                }
                self.epoch = epoch.next();
            }
            Operation::SnapshotDelete { key } => self.delete_snapshot(key),
            Operation::SnapshotRename { key, name } => self.rename_snapshot(key, name),
            Operation::SnapshotHold { key, reason } => {
                self.change_snapshot(key, |snapshot| _ = snapshot.holds.insert(reason));
            }
            Operation::SnapshotRelease { key, reason } => {
                self.change_snapshot(key, |snapshot| _ = snapshot.holds.remove(&reason));
            }
            Operation::Clone { id, layer, name, origin, created_ms, tags } => {
                let bytes = self.snapshots.get(&origin).map_or(0, |snapshot| snapshot.bytes);
                self.add_layer(Layer::on(origin, layer, id));
                self.add_volume(Volume { id, name, bytes, layer, group: None, created_ms, tags });
            }
            Operation::CloneDetach { layer } => self.detach(layer),
            Operation::Rollback { id, layer, to, epoch, displaced_name, created_ms } => {
                self.roll_back(id, layer, to, epoch, &displaced_name, created_ms);
            }
            Operation::GroupCreate { id, name, created_ms, tags } => {
                self.next_id = self.next_id.max(id.0 + 1);
                self.group_names.insert(name.clone(), id);
                self.groups.insert(id, Group { id, name, created_ms, tags });
                self.dirty.insert(ObjectKey::Group(id));
            }
            Operation::GroupAssign { volume, group } => {
                self.change_volume(volume, |volume| volume.group = group)
            }
            Operation::GroupRename { id, name } => {
                if let Some(group) = self.groups.get_mut(&id) {
                    self.group_names.remove(&group.name);
                    self.group_names.insert(name.clone(), id);
                    group.name = name;
                    self.dirty.insert(ObjectKey::Group(id));
                }
            }
            Operation::GroupDelete { id } => self.delete_group(id),
        }
    }

    fn add_volume(&mut self, volume: Volume) {
        self.next_id = self.next_id.max(volume.id.0 + 1);
        self.dirty.insert(ObjectKey::Volume(volume.id));
        self.volume_names.insert(volume.name.clone(), volume.id);
        self.volumes.insert(volume.id, volume);
    }

    fn add_layer(&mut self, layer: Layer) {
        self.next_layer = self.next_layer.max(LayerId(layer.id.0 + 1));
        self.dirty.insert(ObjectKey::Layer(layer.id));
        if let Some(origin) = layer.origin {
            *self.children.entry(origin.into()).or_default() += 1;
        }
        self.layers.insert(layer.id, layer);
    }

    fn add_snapshot(
        &mut self,
        volume: &Volume,
        key: SnapshotKey,
        name: &str,
        created_ms: u64,
        group: Option<GroupId>,
        tags: super::Tags,
    ) {
        let snapshot = Snapshot {
            key,
            volume: volume.id,
            name: name.to_owned(),
            bytes: volume.bytes,
            created_ms,
            group,
            holds: Default::default(),
            tags,
            state: SnapshotState::Visible,
        };
        self.snapshot_names.insert((volume.id, name.to_owned()), key);
        self.snapshots.insert(key, snapshot);
        self.dirty.insert(ObjectKey::Snapshot(key));
        if let Some(layer) = self.layers.get_mut(&key.layer) {
            layer.points.push(key.epoch);
            self.dirty.insert(ObjectKey::Layer(key.layer));
        }
    }

    fn change_volume(&mut self, id: VolumeId, change: impl FnOnce(&mut Volume)) {
        if let Some(volume) = self.volumes.get_mut(&id) {
            change(volume);
            self.dirty.insert(ObjectKey::Volume(id));
        }
    }

    fn change_snapshot(&mut self, key: SnapshotKey, change: impl FnOnce(&mut Snapshot)) {
        if let Some(snapshot) = self.snapshots.get_mut(&key) {
            change(snapshot);
            self.dirty.insert(ObjectKey::Snapshot(key));
        }
    }

    fn set_head(&mut self, layer: LayerId, head: Head) {
        if let Some(layer) = self.layers.get_mut(&layer) {
            layer.head = head;
            self.reclaiming.insert(layer.id);
            self.dirty.insert(ObjectKey::Layer(layer.id));
        }
    }

    fn rename_volume(&mut self, id: VolumeId, name: String) {
        if let Some(volume) = self.volumes.get(&id) {
            self.volume_names.remove(&volume.name);
            self.volume_names.insert(name.clone(), id);
        }
        self.change_volume(id, |volume| volume.name = name);
    }

    fn rename_snapshot(&mut self, key: SnapshotKey, name: String) {
        if let Some(snapshot) = self.snapshots.get(&key) {
            self.snapshot_names.remove(&(snapshot.volume, snapshot.name.clone()));
            self.snapshot_names.insert((snapshot.volume, name.clone()), key);
        }
        self.change_snapshot(key, |snapshot| snapshot.name = name);
    }

    fn tag(&mut self, subject: Subject, key: String, value: Option<String>) {
        let set = |tags: &mut super::Tags| match value {
            Some(value) => _ = tags.insert(key, value),
            None => _ = tags.remove(&key),
        };
        match subject {
            Subject::Volume(id) => self.change_volume(id, |volume| set(&mut volume.tags)),
            Subject::Snapshot(at) => self.change_snapshot(at, |snapshot| set(&mut snapshot.tags)),
            Subject::Group(id) => {
                if let Some(group) = self.groups.get_mut(&id) {
                    set(&mut group.tags);
                    self.dirty.insert(ObjectKey::Group(id));
                }
            }
        }
    }

    fn delete_snapshot(&mut self, key: SnapshotKey) {
        if let Some(snapshot) = self.snapshots.get(&key) {
            self.snapshot_names.remove(&(snapshot.volume, snapshot.name.clone()));
        }
        self.change_snapshot(key, |snapshot| snapshot.state = SnapshotState::Hidden);
        self.let_go(key);
    }

    /// A hidden snapshot that nothing stands on any more is to be reclaimed; when it was the newest live one of a
    /// layer that nobody writes to, that layer's head has blocks to give back too.
    pub(super) fn let_go(&mut self, key: SnapshotKey) {
        let hidden = self.snapshots.get(&key).is_some_and(|snapshot| snapshot.state == SnapshotState::Hidden);
        if !hidden || self.children(key) > 0 {
            return;
        }
        let newest = self.live_epochs(key.layer).last() == Some(&key.epoch);
        self.change_snapshot(key, |snapshot| snapshot.state = SnapshotState::Reclaiming);
        self.reclaiming.insert(key.layer);
        if newest && self.layers.get(&key.layer).is_some_and(|layer| layer.head == Head::Trimmed) {
            self.set_head(key.layer, Head::Orphaned);
        }
    }

    fn delete_volume(&mut self, id: VolumeId) {
        for key in self.snapshots_of(id).iter().map(|snapshot| snapshot.key).collect::<Vec<_>>() {
            self.delete_snapshot(key);
        }
        if let Some(volume) = self.volumes.remove(&id) {
            self.volume_names.remove(&volume.name);
            self.set_head(volume.layer, Head::Orphaned);
            self.dirty.insert(ObjectKey::Volume(id));
        }
    }

    fn detach(&mut self, layer: LayerId) {
        let Some(origin) = self.layers.get_mut(&layer).and_then(|layer| layer.origin.take()) else { return };
        self.dirty.insert(ObjectKey::Layer(layer));
        self.release_child(origin.into());
    }

    fn release_child(&mut self, origin: SnapshotKey) {
        if let Some(count) = self.children.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.children.remove(&origin);
            }
        }
        self.let_go(origin);
    }

    fn roll_back(
        &mut self,
        id: VolumeId,
        layer: LayerId,
        to: SnapshotKey,
        epoch: Epoch,
        displaced_name: &str,
        created_ms: u64,
    ) {
        let Some(volume) = self.volumes.get(&id).cloned() else { return };
        let bytes = self.snapshots.get(&to).map_or(volume.bytes, |snapshot| snapshot.bytes);
        let displaced = SnapshotKey { layer: volume.layer, epoch };
        self.add_snapshot(&volume, displaced, displaced_name, created_ms, None, super::Tags::new());
        // Everything the old head maps was born by now, so the displaced snapshot sees it all.
        self.set_head(volume.layer, Head::Trimmed);
        self.add_layer(Layer::on(to, layer, id));
        self.change_volume(id, |volume| {
            volume.layer = layer;
            volume.bytes = bytes;
        });
        self.epoch = epoch.next();
    }

    fn delete_group(&mut self, id: GroupId) {
        for volume in self.members(id).map(|volume| volume.id).collect::<Vec<_>>() {
            self.change_volume(volume, |volume| volume.group = None);
        }
        if let Some(group) = self.groups.remove(&id) {
            self.group_names.remove(&group.name);
            self.dirty.insert(ObjectKey::Group(id));
        }
    }

    /// Forgets the points that no write still to be checkpointed can lie before: all but the newest. For the layers
    /// that changed, right before a checkpoint takes their objects.
    pub(crate) fn prune_points(&mut self) {
        for key in &self.dirty {
            if let ObjectKey::Layer(id) = key
                && let Some(layer) = self.layers.get_mut(id)
            {
                let old = layer.points.len().saturating_sub(1);
                layer.points.drain(..old);
            }
        }
    }

    /// A checkpoint gave the snapshot's room back: it is gone.
    pub fn reclaimed(&mut self, key: SnapshotKey) {
        self.snapshots.remove(&key);
    }

    /// A checkpoint gave back what only the orphaned head mapped beyond its newest live snapshot, `newest`. When
    /// that was deleted meanwhile, more is left to give back.
    pub fn trimmed(&mut self, layer: LayerId, newest: Epoch) {
        let still = self.live_epochs(layer).last() == Some(&newest);
        self.set_head(layer, if still { Head::Trimmed } else { Head::Orphaned });
    }

    /// A checkpoint gave the whole layer's room back: it is gone, with its snapshots that were being reclaimed.
    pub fn dropped(&mut self, layer: LayerId) {
        for key in self.snapshots_on(layer).map(|snapshot| snapshot.key).collect::<Vec<_>>() {
            self.snapshots.remove(&key);
        }
        if let Some(origin) = self.layers.remove(&layer).and_then(|layer| layer.origin) {
            self.release_child(origin.into());
        }
    }
}
