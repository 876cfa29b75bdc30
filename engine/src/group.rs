//! Consistency groups: volumes that are snapshotted at one point.

use serde::{Deserialize, Serialize};

use crate::catalog::{Operation, SnapshotKey, Subject, Tags};
use crate::error::{Error, Kind, Result};
use crate::reactor::Handle;
use crate::snapshot::Snapshot;
use crate::units::{GroupId, VolumeId};
use crate::volume::Volume;

/// A consistency group of an open pool. Cheap to clone, usable from several threads. Changes are durable on return;
/// after it was deleted every call says [`Kind::NotFound`].
#[derive(Clone, Debug)]
pub struct Group {
    handle: Handle,
    id: GroupId,
}

/// What is known of a consistency group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// Its identity.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// When it was created, in ms since 1970.
    pub created_ms: u64,
    /// The names of its volumes.
    pub volumes: Vec<String>,
    /// What the user noted on it.
    pub tags: Tags,
}

impl Group {
    pub(crate) fn new(handle: Handle, id: GroupId) -> Self {
        Self { handle, id }
    }

    /// Its identity.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Takes a volume in; it is no error if the volume belongs to it already.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the volume belongs to another group, or this one is full (256 volumes).
    pub fn add(&self, volume: &Volume) -> Result<()> {
        self.operate(Operation::GroupAssign { volume: volume.id(), group: Some(self.id) })
    }

    /// Lets a volume go.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the volume does not belong to it.
    pub fn remove(&self, volume: &Volume) -> Result<()> {
        let (id, volume) = (self.id, volume.id());
        let change = self.handle.change(move |catalog, _| {
            let found = catalog.volume(volume)?;
            if found.group != Some(id) {
                let detail = format!("volume {:?} does not belong to the group", found.name);
                return Err(Error::new(Kind::NotFound, "remove from group", detail));
            }
            Ok((Operation::GroupAssign { volume, group: None }, ()))
        });
        change.map(drop)
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the name is taken, [`Kind::Invalid`] for one that can't be.
    pub fn rename(&self, name: &str) -> Result<()> {
        self.operate(Operation::GroupRename { id: self.id, name: name.to_owned() })
    }

    /// Deletes it; its volumes and snapshots stay.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it was deleted before.
    pub fn delete(&self) -> Result<()> {
        self.operate(Operation::GroupDelete { id: self.id })
    }

    /// Sets a tag.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key or value that can't be, or too many tags.
    pub fn tag(&self, key: &str, value: &str) -> Result<()> {
        let subject = Subject::Group(self.id);
        self.operate(Operation::Tag { subject, key: key.to_owned(), value: Some(value.to_owned()) })
    }

    /// Takes a tag away; it is no error if there is none.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key that can't be.
    pub fn untag(&self, key: &str) -> Result<()> {
        self.operate(Operation::Tag { subject: Subject::Group(self.id), key: key.to_owned(), value: None })
    }

    /// Takes a snapshot of every volume, all at one point: together they see every write acknowledged before and none
    /// submitted after it returned. All have the same name. In the order of the volumes.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when one of the volumes has a snapshot of this name, [`Kind::Invalid`] when the group is
    /// empty or for a name or tag that can't be. Then none is taken.
    pub fn snapshot(&self, name: &str, tags: Tags) -> Result<Vec<Snapshot>> {
        let (id, name) = (self.id, name.to_owned());
        let (_, keys) = self.handle.change(move |catalog, created_ms| {
            find(catalog, id)?;
            let epoch = catalog.epoch();
            let members: Vec<_> = catalog.members(id).collect();
            let keys: Vec<_> =
                members.iter().map(|volume| SnapshotKey { layer: volume.layer, epoch }).collect();
            let volumes = members.iter().map(|volume| volume.id).collect();
            let group = Some(id);
            Ok((Operation::Snapshot { epoch, name, created_ms, volumes, group, tags }, keys))
        })?;
        Ok(keys.into_iter().map(|key| Snapshot::new(self.handle.clone(), key)).collect())
    }

    /// Its volumes, oldest first.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let id = self.id;
        let ids: Vec<VolumeId> = self.handle.try_look(move |core| {
            find(core.catalog(), id)?;
            Ok(core.catalog().members(id).map(|volume| volume.id).collect())
        })?;
        Ok(ids.into_iter().map(|id| Volume::new(self.handle.clone(), id)).collect())
    }

    /// What is known of it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted.
    pub fn info(&self) -> Result<GroupInfo> {
        let id = self.id;
        self.handle.try_look(move |core| {
            let group = find(core.catalog(), id)?;
            Ok(GroupInfo {
                id,
                name: group.name.clone(),
                created_ms: group.created_ms,
                volumes: core.catalog().members(id).map(|volume| volume.name.clone()).collect(),
                tags: group.tags.clone(),
            })
        })
    }

    fn operate(&self, operation: Operation) -> Result<()> {
        self.handle.change(move |_, _| Ok((operation, ()))).map(drop)
    }
}

fn find(catalog: &crate::catalog::Catalog, id: GroupId) -> Result<&crate::catalog::Group> {
    let found = catalog.groups().find(|group| group.id == id);
    found
        .ok_or_else(|| Error::new(Kind::NotFound, "find group", format!("no consistency group with id {id}")))
}
