//! Volumes: create, list, show, resize, rename, delete, tag.

use firn_engine::catalog::{self, Tags};
use firn_engine::error::{Error, Kind};
use firn_engine::volume::Volume;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Operation, Route, Served};
use crate::extents::mapped_beyond;
use crate::size::Size;
use crate::time;

/// A volume.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct VolumeView {
    /// Its identity, which a rename does not change.
    pub(crate) id: u64,
    /// Its name.
    pub(crate) name: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// Bytes that it maps, shared ones included, as of the last checkpoint.
    pub(crate) mapped_bytes: u64,
    /// When it was created, in ms since 1970.
    pub(crate) created_ms: u64,
    /// The same in UTC, as RFC 3339 has it.
    pub(crate) created: Option<String>,
    /// The consistency group that it belongs to.
    pub(crate) group: Option<String>,
    /// The snapshot that it is a clone of, or was rolled back to.
    pub(crate) origin: Option<OriginView>,
    /// How many snapshots it has.
    pub(crate) snapshots: u64,
    /// What the user noted on it.
    pub(crate) tags: Tags,
    /// Where NBD clients find it, when a daemon serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nbd_uri: Option<String>,
}

/// The snapshot that a volume stands on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct OriginView {
    /// The snapshot's volume, while that exists.
    pub(crate) volume: Option<String>,
    /// The snapshot's name, also after it was deleted.
    pub(crate) snapshot: String,
}

impl VolumeView {
    pub(super) fn of(served: &Served, volume: &Volume) -> Result<Self, Error> {
        let info = volume.info()?;
        Ok(Self {
            id: info.id.0,
            nbd_uri: served.nbd_uri(&info.name),
            name: info.name,
            bytes: info.bytes,
            mapped_bytes: info.mapped_bytes,
            created_ms: info.created_ms,
            created: time::utc(info.created_ms),
            group: info.group,
            origin: info.origin.map(|origin| OriginView { volume: origin.volume, snapshot: origin.snapshot }),
            snapshots: info.snapshots,
            tags: info.tags,
        })
    }
}

/// An empty volume to create.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeCreate {
    /// Its name.
    pub(crate) volume: String,
    /// Its size, a multiple of 4096; it may be more than the pool has.
    pub(crate) bytes: u64,
    /// Its tags.
    #[serde(default)]
    pub(crate) tags: Tags,
}

impl Operation for VolumeCreate {
    type View = VolumeView;
    const ROUTE: Route = Route::post("/v1/volume/create", "Create an empty volume");

    fn run(self, served: &Served) -> Result<VolumeView, Error> {
        VolumeView::of(served, &served.pool.create_volume(&self.volume, self.bytes, self.tags)?)
    }
}

/// All volumes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeList {}

/// Volumes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Volumes {
    /// Oldest first.
    pub(crate) volumes: Vec<VolumeView>,
}

impl Operation for VolumeList {
    type View = Volumes;
    const ROUTE: Route = Route::get("/v1/volume/list", "List the volumes");

    fn run(self, served: &Served) -> Result<Volumes, Error> {
        let mut volumes = Vec::new();
        for volume in served.pool.volumes()? {
            match VolumeView::of(served, &volume) {
                // Another client deleted it since.
                Err(error) if error.kind() == Kind::NotFound => {}
                view => volumes.push(view?),
            }
        }
        Ok(Volumes { volumes })
    }
}

/// One volume.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeShow {
    /// Its name.
    pub(crate) volume: String,
}

impl Operation for VolumeShow {
    type View = VolumeView;
    const ROUTE: Route = Route::get("/v1/volume/show", "Show one volume");

    fn run(self, served: &Served) -> Result<VolumeView, Error> {
        VolumeView::of(served, &served.volume(&self.volume)?)
    }
}

/// A volume's new size.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeResize {
    /// The volume.
    pub(crate) volume: String,
    /// The size that it is to have then, a multiple of 4096.
    pub(crate) bytes: u64,
    /// Cut off what is written beyond the new end; snapshots keep it.
    #[serde(default)]
    pub(crate) force: bool,
    /// Only say what would be done.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What became of a volume's size, or would.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Resized {
    /// Nothing was done.
    pub(crate) dry_run: bool,
    /// The volume.
    pub(crate) volume: String,
    /// Its size before.
    pub(crate) bytes_before: u64,
    /// Its size now.
    pub(crate) bytes: u64,
    /// Mapped bytes beyond the new end.
    pub(crate) cut_bytes: u64,
}

impl Operation for VolumeResize {
    type View = Resized;
    const ROUTE: Route = Route::post("/v1/volume/resize", "Make a volume larger or smaller");

    fn run(self, served: &Served) -> Result<Resized, Error> {
        let Self { volume: name, bytes, force, dry_run } = self;
        let volume = served.volume(&name)?;
        let bytes_before = volume.info()?.bytes;
        let cut_bytes = if bytes < bytes_before { mapped_beyond(&volume, bytes)? } else { 0 };
        if cut_bytes > 0 && !force {
            let detail = format!("{} of {name} is written beyond {}", Size(cut_bytes), Size(bytes));
            return Err(Error::new(Kind::Conflict, "resize volume", detail)
                .hint("shrink what lies on the volume first, or cut it off with --force"));
        }
        match dry_run {
            true => served.check(catalog::Operation::VolumeResize { id: volume.id(), bytes })?,
            false => volume.resize(bytes, force)?,
        }
        Ok(Resized { dry_run, volume: name, bytes_before, bytes, cut_bytes })
    }
}

/// A volume's new name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeRename {
    /// The volume.
    pub(crate) volume: String,
    /// Its new name.
    pub(crate) name: String,
}

impl Operation for VolumeRename {
    type View = VolumeView;
    const ROUTE: Route = Route::post("/v1/volume/rename", "Give a volume another name");

    fn run(self, served: &Served) -> Result<VolumeView, Error> {
        let volume = served.volume(&self.volume)?;
        volume.rename(&self.name)?;
        VolumeView::of(served, &volume)
    }
}

/// Volumes to delete.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeDelete {
    /// Their names.
    pub(crate) volumes: Vec<String>,
    /// Delete their snapshots too.
    #[serde(default)]
    pub(crate) with_snapshots: bool,
    /// Only say what would be done.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// Volumes that were deleted, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeletedVolumes {
    /// Nothing was done.
    pub(crate) dry_run: bool,
    /// In the order in which they were named.
    pub(crate) volumes: Vec<DeletedVolume>,
}

/// A volume that was deleted, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeletedVolume {
    /// Its name.
    pub(crate) volume: String,
    /// Bytes that it mapped.
    pub(crate) mapped_bytes: u64,
    /// Its snapshots, which go with it.
    pub(crate) snapshots: Vec<String>,
}

impl Operation for VolumeDelete {
    type View = DeletedVolumes;
    const ROUTE: Route = Route::post("/v1/volume/delete", "Delete volumes");

    /// Looks at all of them before the first is deleted.
    fn run(self, served: &Served) -> Result<DeletedVolumes, Error> {
        let found = served.volumes(&self.volumes)?;
        let volumes =
            found.iter().map(|volume| self.deletion(served, volume)).collect::<Result<Vec<_>, _>>()?;
        if !self.dry_run {
            found.iter().try_for_each(|volume| volume.delete(self.with_snapshots))?;
        }
        Ok(DeletedVolumes { dry_run: self.dry_run, volumes })
    }
}

impl VolumeDelete {
    /// What deleting the volume takes with it, or why it is refused.
    fn deletion(&self, served: &Served, volume: &Volume) -> Result<DeletedVolume, Error> {
        let info = volume.info()?;
        let mut snapshots = Vec::new();
        for snapshot in volume.snapshots()? {
            snapshots.push(snapshot.info()?.name);
        }
        if !snapshots.is_empty() && !self.with_snapshots {
            let number = match snapshots.len() {
                1 => "1 snapshot".to_owned(),
                more => format!("{more} snapshots"),
            };
            let detail = format!("volume {:?} has {number}: {}", info.name, snapshots.join(", "));
            return Err(Error::new(Kind::Conflict, "delete volume", detail)
                .hint("delete them first, or with it: --with-snapshots"));
        }
        served.check(catalog::Operation::VolumeDelete { id: volume.id() })?;
        Ok(DeletedVolume { volume: info.name, mapped_bytes: info.mapped_bytes, snapshots })
    }
}

/// Tags to set on a volume, and to take away.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeTag {
    /// The volume.
    pub(crate) volume: String,
    /// Tags to set.
    #[serde(default)]
    pub(crate) tags: Tags,
    /// Keys of tags to take away, which is done first.
    #[serde(default)]
    pub(crate) remove: Vec<String>,
}

impl Operation for VolumeTag {
    type View = VolumeView;
    const ROUTE: Route = Route::post("/v1/volume/tag", "Set tags on a volume, or take some away");

    fn run(self, served: &Served) -> Result<VolumeView, Error> {
        let volume = served.volume(&self.volume)?;
        self.remove.iter().try_for_each(|key| volume.untag(key))?;
        self.tags.iter().try_for_each(|(key, value)| volume.tag(key, value))?;
        VolumeView::of(served, &volume)
    }
}
