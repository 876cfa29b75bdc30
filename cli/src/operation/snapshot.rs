//! Snapshots: create, list, show, delete, hold, release, rollback.

use std::collections::BTreeSet;

use firn_engine::catalog::{self, Tags};
use firn_engine::error::{Error, Kind};
use firn_engine::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Operation, Route, Served};
use crate::name::SnapshotName;
use crate::time;

/// A snapshot.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct SnapshotView {
    /// Its place, which is also its identity.
    pub(crate) key: KeyView,
    /// Its name.
    pub(crate) name: String,
    /// Its volume.
    pub(crate) volume: String,
    /// The volume's size then.
    pub(crate) bytes: u64,
    /// When it was taken, in ms since 1970.
    pub(crate) created_ms: u64,
    /// The same in UTC, as RFC 3339 has it.
    pub(crate) created: Option<String>,
    /// The consistency group it was taken with, while that exists.
    pub(crate) group: Option<String>,
    /// Bytes that it maps, shared ones included.
    pub(crate) referenced_bytes: u64,
    /// Bytes that nothing else maps, as of the last checkpoint: what deleting it gives back. 0 while a clone stands on
    /// it.
    pub(crate) exclusive_bytes: u64,
    /// How many clones and rollbacks stand on it.
    pub(crate) clones: u64,
    /// Reasons why it can't be deleted.
    pub(crate) holds: BTreeSet<String>,
    /// What the user noted on it.
    pub(crate) tags: Tags,
    /// Where NBD clients find it, when a daemon serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nbd_uri: Option<String>,
}

/// A snapshot's place.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct KeyView {
    /// The layer that it is a view of.
    pub(crate) layer: u32,
    /// The epoch that it ended.
    pub(crate) epoch: u32,
}

impl SnapshotView {
    pub(super) fn of(served: &Served, snapshot: &Snapshot) -> Result<Self, Error> {
        let info = snapshot.info()?;
        Ok(Self {
            key: KeyView { layer: info.key.layer.0, epoch: info.key.epoch.0 },
            nbd_uri: served.nbd_uri(&format!("{}@{}", info.volume, info.name)),
            name: info.name,
            volume: info.volume,
            bytes: info.bytes,
            created_ms: info.created_ms,
            created: time::utc(info.created_ms),
            group: info.group,
            referenced_bytes: info.referenced_bytes,
            exclusive_bytes: info.exclusive_bytes,
            clones: info.clones,
            holds: info.holds,
            tags: info.tags,
        })
    }

    /// Its name as people write it.
    pub(crate) fn full_name(&self) -> String {
        format!("{}@{}", self.volume, self.name)
    }
}

/// A snapshot to take.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotCreate {
    /// The volume and the new snapshot's name, such as pg@before-upgrade.
    #[schema(value_type = String)]
    pub(crate) snapshot: SnapshotName,
    /// Its tags.
    #[serde(default)]
    pub(crate) tags: Tags,
}

impl Operation for SnapshotCreate {
    type View = SnapshotView;
    const ROUTE: Route = Route::post("/v1/snapshot/create", "Take a snapshot of a volume");

    fn run(self, served: &Served) -> Result<SnapshotView, Error> {
        let volume = served.volume(&self.snapshot.of)?;
        SnapshotView::of(served, &volume.snapshot(&self.snapshot.snapshot, self.tags)?)
    }
}

/// Snapshots of one volume, or of all.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotList {
    /// Only this volume's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume: Option<String>,
}

/// Snapshots.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Snapshots {
    /// Volume by volume, oldest first.
    pub(crate) snapshots: Vec<SnapshotView>,
}

impl Operation for SnapshotList {
    type View = Snapshots;
    const ROUTE: Route = Route::get("/v1/snapshot/list", "List snapshots");

    fn run(self, served: &Served) -> Result<Snapshots, Error> {
        let volumes = match &self.volume {
            Some(name) => vec![served.volume(name)?],
            None => served.pool.volumes()?,
        };
        let mut snapshots = Vec::new();
        for volume in volumes {
            let of_volume = match volume.snapshots() {
                // Another client deleted the volume since.
                Err(error) if error.kind() == Kind::NotFound => continue,
                of_volume => of_volume?,
            };
            for snapshot in of_volume {
                match SnapshotView::of(served, &snapshot) {
                    Err(error) if error.kind() == Kind::NotFound => {}
                    view => snapshots.push(view?),
                }
            }
        }
        Ok(Snapshots { snapshots })
    }
}

/// One snapshot.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotShow {
    /// Such as pg@before-upgrade.
    #[schema(value_type = String)]
    pub(crate) snapshot: SnapshotName,
}

impl Operation for SnapshotShow {
    type View = SnapshotView;
    const ROUTE: Route = Route::get("/v1/snapshot/show", "Show one snapshot");

    fn run(self, served: &Served) -> Result<SnapshotView, Error> {
        SnapshotView::of(served, &served.snapshot(&self.snapshot)?)
    }
}

/// Snapshots to delete.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotDelete {
    /// Such as pg@before-upgrade.
    #[schema(value_type = Vec<String>)]
    pub(crate) snapshots: Vec<SnapshotName>,
    /// Only say what would be done.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// Snapshots that were deleted, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeletedSnapshots {
    /// Nothing was done.
    pub(crate) dry_run: bool,
    /// In the order in which they were named.
    pub(crate) snapshots: Vec<DeletedSnapshot>,
}

/// A snapshot that was deleted, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeletedSnapshot {
    /// Its name.
    pub(crate) snapshot: String,
    /// What comes back in the background when it goes alone; neighbours that go too bring back more.
    pub(crate) exclusive_bytes: u64,
    /// How many clones and rollbacks stand on it and keep its blocks.
    pub(crate) clones: u64,
}

impl Operation for SnapshotDelete {
    type View = DeletedSnapshots;
    const ROUTE: Route = Route::post("/v1/snapshot/delete", "Delete snapshots");

    /// Looks at all of them before the first is deleted.
    fn run(self, served: &Served) -> Result<DeletedSnapshots, Error> {
        let mut found = Vec::new();
        let mut snapshots = Vec::new();
        for name in &self.snapshots {
            let snapshot = served.snapshot(name)?;
            served.check(catalog::Operation::SnapshotDelete { key: snapshot.key() })?;
            let info = snapshot.info()?;
            let (exclusive_bytes, clones) = (info.exclusive_bytes, info.clones);
            snapshots.push(DeletedSnapshot { snapshot: name.to_string(), exclusive_bytes, clones });
            found.push(snapshot);
        }
        if !self.dry_run {
            found.iter().try_for_each(Snapshot::delete)?;
        }
        Ok(DeletedSnapshots { dry_run: self.dry_run, snapshots })
    }
}

/// A hold.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotHold {
    /// Such as pg@before-upgrade.
    #[schema(value_type = String)]
    pub(crate) snapshot: SnapshotName,
    /// Why; each reason is a hold of its own.
    pub(crate) reason: String,
}

impl Operation for SnapshotHold {
    type View = SnapshotView;
    const ROUTE: Route = Route::post("/v1/snapshot/hold", "Keep a snapshot from being deleted");

    fn run(self, served: &Served) -> Result<SnapshotView, Error> {
        let snapshot = served.snapshot(&self.snapshot)?;
        snapshot.hold(&self.reason)?;
        SnapshotView::of(served, &snapshot)
    }
}

/// A hold to take back.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotRelease {
    /// Such as pg@before-upgrade.
    #[schema(value_type = String)]
    pub(crate) snapshot: SnapshotName,
    /// The reason that it was held for.
    pub(crate) reason: String,
}

impl Operation for SnapshotRelease {
    type View = SnapshotView;
    const ROUTE: Route = Route::post("/v1/snapshot/release", "Take back a hold");

    fn run(self, served: &Served) -> Result<SnapshotView, Error> {
        let snapshot = served.snapshot(&self.snapshot)?;
        snapshot.release(&self.reason)?;
        SnapshotView::of(served, &snapshot)
    }
}

/// A rollback of a volume to one of its snapshots.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotRollback {
    /// Such as pg@before-upgrade.
    #[schema(value_type = String)]
    pub(crate) snapshot: SnapshotName,
    /// The name of the snapshot that keeps what the volume was; without one it is called before-rollback-N.
    #[serde(default)]
    pub(crate) keep_as: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What a rollback did, or would do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct RolledBack {
    /// Nothing was done.
    pub(crate) dry_run: bool,
    /// The volume.
    pub(crate) volume: String,
    /// The snapshot that it is now.
    pub(crate) to: String,
    /// The snapshot that keeps what the volume was. A dry run does not know a name that was not given.
    pub(crate) kept_as: Option<String>,
}

impl Operation for SnapshotRollback {
    type View = RolledBack;
    const ROUTE: Route = Route::post(
        "/v1/snapshot/rollback",
        "Make a volume what one of its snapshots is, and keep what it was as a snapshot",
    );

    fn run(self, served: &Served) -> Result<RolledBack, Error> {
        let Self { snapshot: name, keep_as, dry_run } = self;
        let volume = served.volume(&name.of)?;
        // Found here too, for an error that says where the names are.
        served.snapshot(&name)?;
        let kept = match dry_run {
            true => keep_as,
            false => Some(volume.rollback(&name.snapshot, keep_as.as_deref())?),
        };
        let kept_as = kept.map(|kept| format!("{}@{kept}", name.of));
        Ok(RolledBack { dry_run, volume: name.of.clone(), to: name.to_string(), kept_as })
    }
}
