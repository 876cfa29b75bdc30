//! Whether an operation can be done, with an error that says why not.

use super::{Catalog, Operation, SnapshotKey, SnapshotState, Subject, Tags};
use crate::error::{Error, Kind, Result};
use crate::units::{BLOCK_BYTES, Epoch};

/// Most bytes in a name, a tag's key or a reason.
pub(crate) const NAME_BYTES_MAX: usize = 128;
/// Most bytes in a tag's value.
pub(crate) const TAG_BYTES_MAX: usize = 256;
/// Most tags on one object.
pub(crate) const TAGS_MAX: usize = 64;
/// Most volumes in a consistency group.
pub(crate) const GROUP_VOLUMES_MAX: usize = 256;
/// Most bytes in a volume: 2^47 blocks, so that a journal record can name all of them at once.
pub(crate) const VOLUME_BYTES_MAX: u64 = 1 << 59;

fn invalid(detail: String) -> Error {
    Error::new(Kind::Invalid, "change catalog", detail)
}

fn conflict(detail: String) -> Error {
    Error::new(Kind::Conflict, "change catalog", detail)
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:-+".contains(c);
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || !name.chars().all(plain)
        || name.starts_with(['-', '.'])
    {
        return Err(invalid(format!("{name:?} can't be the name of a {what}"))
            .hint("a name has 1 to 128 letters, digits or . _ : - + and starts with neither - nor ."));
    }
    Ok(())
}

fn check_tags(tags: &Tags) -> Result<()> {
    if tags.len() > TAGS_MAX {
        return Err(invalid(format!("{} tags, at most {TAGS_MAX} are kept", tags.len())));
    }
    tags.iter().try_for_each(|(key, value)| check_tag(key, Some(value)))
}

fn check_tag(key: &str, value: Option<&str>) -> Result<()> {
    check_name("tag", key)?;
    match value {
        Some(value) if value.len() > TAG_BYTES_MAX || value.chars().any(char::is_control) => Err(invalid(
            format!("the value of tag {key:?} is longer than {TAG_BYTES_MAX} bytes or not printable"),
        )),
        _ => Ok(()),
    }
}

/// Whether a volume may have this size.
pub(super) fn check_size(bytes: u64) -> Result<()> {
    if bytes == 0 || !bytes.is_multiple_of(BLOCK_BYTES) || bytes > VOLUME_BYTES_MAX {
        return Err(invalid(format!("a volume can't have {bytes} bytes"))
            .hint("a size is a multiple of 4096 bytes, from 4096 to 2^59"));
    }
    Ok(())
}

impl Catalog {
    /// Whether `operation` can be done now.
    ///
    /// # Errors
    /// [`Kind::Invalid`], [`Kind::NotFound`] or [`Kind::Conflict`], saying why not.
    pub fn check(&self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::VolumeCreate { name, bytes, tags, .. } => {
                check_size(*bytes)?;
                check_tags(tags)?;
                self.check_volume_name(name)
            }
            Operation::VolumeRename { id, name } => {
                self.volume(*id)?;
                self.check_volume_name(name)
            }
            Operation::VolumeResize { id, bytes } => {
                self.volume(*id)?;
                check_size(*bytes)
            }
            Operation::VolumeDelete { id } => self.check_volume_delete(self.volume(*id)?.id),
            Operation::Tag { subject, key, value } => self.check_subject_tag(*subject, key, value.as_deref()),
            Operation::Snapshot { .. } => self.check_snapshot(operation),
            Operation::SnapshotDelete { key } => self.check_snapshot_delete(*key),
            Operation::SnapshotRename { key, name } => {
                let volume = self.visible(*key)?.volume;
                self.check_snapshot_name(volume, name)
            }
            Operation::SnapshotHold { key, reason } => {
                self.visible(*key)?;
                check_name("hold", reason)
            }
            Operation::SnapshotRelease { key, reason } => self.check_release(*key, reason),
            Operation::Clone { name, origin, tags, .. } => {
                self.visible(*origin)?;
                check_tags(tags)?;
                self.check_volume_name(name)
            }
            Operation::CloneDetach { layer } => self.check_detach(*layer),
            Operation::Rollback { id, to, displaced_name, .. } => {
                self.check_rollback(*id, *to, displaced_name)
            }
            Operation::GroupCreate { name, tags, .. } => {
                check_tags(tags)?;
                self.check_group_name(name)
            }
            Operation::GroupAssign { volume, group } => self.check_assign(*volume, *group),
            Operation::GroupRename { id, name } => {
                self.check_group(*id)?;
                self.check_group_name(name)
            }
            Operation::GroupDelete { id } => self.check_group(*id),
        }
    }

    fn check_volume_name(&self, name: &str) -> Result<()> {
        check_name("volume", name)?;
        match self.volume_names.contains_key(name) {
            true => Err(conflict(format!("a volume named {name:?} exists"))),
            false => Ok(()),
        }
    }

    fn check_group_name(&self, name: &str) -> Result<()> {
        check_name("group", name)?;
        match self.group_names.contains_key(name) {
            true => Err(conflict(format!("a consistency group named {name:?} exists"))),
            false => Ok(()),
        }
    }

    fn check_snapshot_name(&self, volume: crate::units::VolumeId, name: &str) -> Result<()> {
        check_name("snapshot", name)?;
        match self.snapshot_names.contains_key(&(volume, name.to_owned())) {
            true => {
                Err(conflict(format!("volume {:?} has a snapshot named {name:?}", self.volume(volume)?.name)))
            }
            false => Ok(()),
        }
    }

    fn check_group(&self, id: crate::units::GroupId) -> Result<()> {
        match self.groups.contains_key(&id) {
            true => Ok(()),
            false => {
                Err(Error::new(Kind::NotFound, "find group", format!("no consistency group with id {id}")))
            }
        }
    }

    fn visible(&self, key: SnapshotKey) -> Result<&super::Snapshot> {
        let snapshot = self.snapshot(key)?;
        match snapshot.state {
            SnapshotState::Visible => Ok(snapshot),
            _ => Err(Error::new(Kind::NotFound, "find snapshot", "the snapshot was deleted")),
        }
    }

    fn check_volume_delete(&self, id: crate::units::VolumeId) -> Result<()> {
        match self.snapshots_of(id).iter().find(|snapshot| !snapshot.holds.is_empty()) {
            Some(held) => {
                Err(conflict(format!("snapshot {:?} of the volume is held: {}", held.name, reasons(held)))
                    .hint("release the hold, or keep the volume"))
            }
            None => Ok(()),
        }
    }

    fn check_subject_tag(&self, subject: Subject, key: &str, value: Option<&str>) -> Result<()> {
        check_tag(key, value)?;
        let tags = match subject {
            Subject::Volume(id) => &self.volume(id)?.tags,
            Subject::Snapshot(at) => &self.visible(at)?.tags,
            Subject::Group(id) => {
                self.check_group(id)?;
                &self.groups[&id].tags
            }
        };
        if value.is_some() && !tags.contains_key(key) && tags.len() >= TAGS_MAX {
            return Err(invalid(format!("at most {TAGS_MAX} tags are kept on one object")));
        }
        Ok(())
    }

    fn check_snapshot(&self, operation: &Operation) -> Result<()> {
        let Operation::Snapshot { name, volumes, tags, epoch, .. } = operation else { return Ok(()) };
        if volumes.is_empty() {
            return Err(invalid("a snapshot needs at least one volume".to_owned())
                .hint("add volumes to the group first"));
        }
        if volumes.len() > GROUP_VOLUMES_MAX {
            return Err(invalid(format!(
                "{} volumes, at most {GROUP_VOLUMES_MAX} are snapshotted at once",
                volumes.len()
            )));
        }
        check_tags(tags)?;
        if epoch.0 == u32::MAX {
            return Err(Error::new(
                Kind::OutOfSpace,
                "take snapshot",
                "the pool has used all of its 2^32 epochs",
            ));
        }
        volumes.iter().try_for_each(|&volume| {
            self.volume(volume)?;
            self.check_snapshot_name(volume, name)
        })
    }

    fn check_snapshot_delete(&self, key: SnapshotKey) -> Result<()> {
        let snapshot = self.visible(key)?;
        if snapshot.holds.is_empty() {
            return Ok(());
        }
        Err(conflict(format!("snapshot {:?} is held: {}", snapshot.name, reasons(snapshot)))
            .hint("release every hold, then delete it"))
    }

    fn check_release(&self, key: SnapshotKey, reason: &str) -> Result<()> {
        let snapshot = self.visible(key)?;
        if snapshot.holds.contains(reason) {
            return Ok(());
        }
        let detail =
            format!("snapshot {:?} has no hold {reason:?}; it has: {}", snapshot.name, reasons(snapshot));
        Err(Error::new(Kind::NotFound, "release snapshot", detail))
    }

    fn check_detach(&self, layer: crate::units::LayerId) -> Result<()> {
        let Some(origin) = self.layers.get(&layer).and_then(|layer| layer.origin) else {
            return Err(conflict("the volume is not a clone, or was detached before".to_owned()));
        };
        match self.snapshots_on(layer).find(|snapshot| snapshot.state != SnapshotState::Reclaiming) {
            Some(snapshot) => Err(conflict(format!(
                "snapshot {:?} of the clone still shares blocks with the origin (epoch {})",
                snapshot.name, origin.epoch
            ))
            .hint("delete the clone's snapshots first, or detach before taking any")),
            None => Ok(()),
        }
    }

    fn check_rollback(
        &self,
        id: crate::units::VolumeId,
        to: SnapshotKey,
        displaced_name: &str,
    ) -> Result<()> {
        let volume = self.volume(id)?;
        let snapshot = self.visible(to)?;
        if snapshot.volume != volume.id {
            return Err(invalid(format!("snapshot {:?} is not of volume {:?}", snapshot.name, volume.name))
                .hint("clone the snapshot to get a volume of its content"));
        }
        if self.epoch == Epoch(u32::MAX) {
            return Err(Error::new(
                Kind::OutOfSpace,
                "roll back",
                "the pool has used all of its 2^32 epochs",
            ));
        }
        self.check_snapshot_name(volume.id, displaced_name)
    }

    fn check_assign(
        &self,
        volume: crate::units::VolumeId,
        group: Option<crate::units::GroupId>,
    ) -> Result<()> {
        let volume = self.volume(volume)?;
        let Some(group) = group else { return Ok(()) };
        self.check_group(group)?;
        if volume.group.is_some_and(|present| present != group) {
            return Err(conflict(format!("volume {:?} belongs to another consistency group", volume.name))
                .hint("remove it from that group first"));
        }
        if volume.group.is_none() && self.members(group).count() >= GROUP_VOLUMES_MAX {
            return Err(conflict(format!("a consistency group has at most {GROUP_VOLUMES_MAX} volumes")));
        }
        Ok(())
    }
}

fn reasons(snapshot: &super::Snapshot) -> String {
    snapshot.holds.iter().cloned().collect::<Vec<_>>().join(", ")
}
