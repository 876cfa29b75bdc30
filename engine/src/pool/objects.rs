//! A pool's volumes and groups, by name.

use super::Pool;
use crate::catalog::{Operation, Tags};
use crate::error::Result;
use crate::group::Group;
use crate::units::{GroupId, VolumeId};
use crate::volume::Volume;

impl Pool {
    /// Creates an empty volume of `bytes` bytes (a multiple of 4096), which takes room only for what is written to
    /// it. Durable on return.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) when the name is taken,
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a name, size or tag that can't be.
    pub fn create_volume(&self, name: &str, bytes: u64, tags: Tags) -> Result<Volume> {
        let name = name.to_owned();
        let (_, id) = self.handle().change(move |catalog, created_ms| {
            let (id, layer) = (VolumeId(catalog.next_id), catalog.next_layer);
            Ok((Operation::VolumeCreate { id, layer, name, bytes, created_ms, tags }, id))
        })?;
        Ok(Volume::new(self.handle().clone(), id))
    }

    /// The volume of this name.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound).
    pub fn volume(&self, name: &str) -> Result<Volume> {
        let name = name.to_owned();
        let id = self.handle().try_look(move |core| Ok(core.catalog().volume_named(&name)?.id))?;
        Ok(Volume::new(self.handle().clone(), id))
    }

    /// Every volume, oldest first.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) after the pool was closed.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let ids = self
            .handle()
            .look(|core| core.catalog().volumes().map(|volume| volume.id).collect::<Vec<_>>())?;
        Ok(ids.into_iter().map(|id| Volume::new(self.handle().clone(), id)).collect())
    }

    /// Creates an empty consistency group. Durable on return.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) when the name is taken,
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a name or tag that can't be.
    pub fn create_group(&self, name: &str, tags: Tags) -> Result<Group> {
        let name = name.to_owned();
        let (_, id) = self.handle().change(move |catalog, created_ms| {
            let id = GroupId(catalog.next_id);
            Ok((Operation::GroupCreate { id, name, created_ms, tags }, id))
        })?;
        Ok(Group::new(self.handle().clone(), id))
    }

    /// The consistency group of this name.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound).
    pub fn group(&self, name: &str) -> Result<Group> {
        let name = name.to_owned();
        let id = self.handle().try_look(move |core| Ok(core.catalog().group_named(&name)?.id))?;
        Ok(Group::new(self.handle().clone(), id))
    }

    /// Every consistency group, oldest first.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) after the pool was closed.
    pub fn groups(&self) -> Result<Vec<Group>> {
        let ids =
            self.handle().look(|core| core.catalog().groups().map(|group| group.id).collect::<Vec<_>>())?;
        Ok(ids.into_iter().map(|id| Group::new(self.handle().clone(), id)).collect())
    }
}
