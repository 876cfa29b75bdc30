//! Volumes that are being restored.
//!
//! 1. Such a volume has the tag [`TAG`] until all of it is there and durable, so that one whose restore died is not taken
//!    for whole. The same restore then begins anew with it.
//! 2. Only one restore at a time fills a volume.

use firn_engine::catalog::{self, Tags};
use firn_engine::error::{Error, Kind};
use firn_engine::units::{LayerId, VolumeId};
use firn_engine::volume::Volume;

use crate::operation::Served;
use crate::operation::served::Filled;

const TAG: &str = "firn:restore";

/// A name that a restore has for itself while this lives.
#[derive(Debug)]
pub(super) struct Target {
    name: String,
    bytes: u64,
    /// The volume of a restore that died.
    unfinished: Option<Volume>,
    _filled: Filled,
}

impl Target {
    /// Takes `name` for a volume of `bytes` bytes, which must not be there, unless a restore of it died; `otherwise` says
    /// what to do then. Nothing is written yet.
    pub(super) fn claim(served: &Served, name: &str, bytes: u64, otherwise: &str) -> Result<Self, Error> {
        let busy = || {
            let detail = format!("another restore fills volume {name:?}");
            Error::new(Kind::Conflict, "restore", detail).hint(
                "wait until it is done (it goes on when its command is interrupted), or name another volume",
            )
        };
        let filled = served.restoring.begin(name).ok_or_else(busy)?;
        let unfinished = find_unfinished(served, name, otherwise)?;
        if unfinished.is_none() {
            served.check(catalog::Operation::VolumeCreate {
                id: VolumeId(0),
                layer: LayerId(0),
                name: name.to_owned(),
                bytes,
                created_ms: 0,
                tags: unfinished_tags(),
            })?;
        }
        Ok(Self { name: name.to_owned(), bytes, unfinished, _filled: filled })
    }

    /// The name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The consistency group of the volume that is there.
    pub(super) fn group(&self) -> Result<Option<String>, Error> {
        match &self.unfinished {
            None => Ok(None),
            Some(volume) => Ok(volume.info()?.group),
        }
    }

    /// A new volume, or the one whose restore died, emptied.
    pub(super) fn emptied(&self, served: &Served) -> Result<Volume, Error> {
        let Some(volume) = &self.unfinished else {
            return served.pool.create_volume(&self.name, self.bytes, unfinished_tags());
        };
        volume.resize(self.bytes, true)?;
        volume.unmap(0, self.bytes)?;
        Ok(volume.clone())
    }
}

/// Says that all of a volume is there. What was written must be durable.
pub(super) fn finish(volume: &Volume) -> Result<(), Error> {
    volume.untag(TAG)
}

fn unfinished_tags() -> Tags {
    Tags::from([(TAG.to_owned(), "unfinished".to_owned())])
}

fn find_unfinished(served: &Served, name: &str, otherwise: &str) -> Result<Option<Volume>, Error> {
    match served.pool.volume(name) {
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(volume) if volume.info()?.tags.contains_key(TAG) => Ok(Some(volume)),
        Ok(_) => {
            let detail = format!("a volume named {name:?} exists");
            Err(Error::new(Kind::Conflict, "restore", detail).hint(otherwise))
        }
    }
}
