//! Consistency groups: create, list, add, remove, snapshot, delete.

use firn_engine::catalog::Tags;
use firn_engine::error::{Error, Kind};
use firn_engine::group::Group;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::snapshot::{SnapshotView, Snapshots};
use super::{Operation, Route, Served};
use crate::name::SnapshotName;
use crate::time;

/// A consistency group.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct GroupView {
    /// Its identity.
    pub(crate) id: u64,
    /// Its name.
    pub(crate) name: String,
    /// When it was created, in ms since 1970.
    pub(crate) created_ms: u64,
    /// The same in UTC, as RFC 3339 has it.
    pub(crate) created: Option<String>,
    /// The names of its volumes.
    pub(crate) volumes: Vec<String>,
    /// What the user noted on it.
    pub(crate) tags: Tags,
}

impl GroupView {
    fn of(group: &Group) -> Result<Self, Error> {
        let info = group.info()?;
        Ok(Self {
            id: info.id.0,
            name: info.name,
            created_ms: info.created_ms,
            created: time::utc(info.created_ms),
            volumes: info.volumes,
            tags: info.tags,
        })
    }
}

/// A consistency group to create.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupCreate {
    /// Its name.
    pub(crate) group: String,
    /// Volumes that it begins with.
    #[serde(default)]
    pub(crate) volumes: Vec<String>,
    /// Its tags.
    #[serde(default)]
    pub(crate) tags: Tags,
}

impl Operation for GroupCreate {
    type View = GroupView;
    const ROUTE: Route = Route::post("/v1/group/create", "Create a consistency group");

    /// Finds every volume before the group is made.
    fn run(self, served: &Served) -> Result<GroupView, Error> {
        let volumes = served.volumes(&self.volumes)?;
        let group = served.pool.create_group(&self.group, self.tags)?;
        if let Err(error) = volumes.iter().try_for_each(|volume| group.add(volume)) {
            // A group without the volumes it was asked for is nothing that anybody wants; its volumes stay.
            group.delete()?;
            return Err(error);
        }
        GroupView::of(&group)
    }
}

/// All consistency groups.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupList {}

/// Consistency groups.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Groups {
    /// Oldest first.
    pub(crate) groups: Vec<GroupView>,
}

impl Operation for GroupList {
    type View = Groups;
    const ROUTE: Route = Route::get("/v1/group/list", "List the consistency groups");

    fn run(self, served: &Served) -> Result<Groups, Error> {
        let mut groups = Vec::new();
        for group in served.pool.groups()? {
            match GroupView::of(&group) {
                // Another client deleted it since.
                Err(error) if error.kind() == Kind::NotFound => {}
                view => groups.push(view?),
            }
        }
        Ok(Groups { groups })
    }
}

/// Volumes for a group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupAdd {
    /// The group.
    pub(crate) group: String,
    /// The volumes.
    pub(crate) volumes: Vec<String>,
}

impl Operation for GroupAdd {
    type View = GroupView;
    const ROUTE: Route = Route::post("/v1/group/add", "Take volumes into a group");

    fn run(self, served: &Served) -> Result<GroupView, Error> {
        let group = served.group(&self.group)?;
        served.volumes(&self.volumes)?.iter().try_for_each(|volume| group.add(volume))?;
        GroupView::of(&group)
    }
}

/// Volumes that leave a group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupRemove {
    /// The group.
    pub(crate) group: String,
    /// The volumes.
    pub(crate) volumes: Vec<String>,
}

impl Operation for GroupRemove {
    type View = GroupView;
    const ROUTE: Route = Route::post("/v1/group/remove", "Let volumes of a group go");

    fn run(self, served: &Served) -> Result<GroupView, Error> {
        let group = served.group(&self.group)?;
        served.volumes(&self.volumes)?.iter().try_for_each(|volume| group.remove(volume))?;
        GroupView::of(&group)
    }
}

/// A snapshot of every volume of a group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupSnapshot {
    /// The group and the name that the snapshot has on every volume, such as shop@nightly.
    #[schema(value_type = String)]
    pub(crate) snapshot: SnapshotName,
    /// Tags of each of them.
    #[serde(default)]
    pub(crate) tags: Tags,
}

impl Operation for GroupSnapshot {
    type View = Snapshots;
    const ROUTE: Route =
        Route::post("/v1/group/snapshot", "Take a snapshot of every volume of a group, all at one point");

    fn run(self, served: &Served) -> Result<Snapshots, Error> {
        let taken = served.group(&self.snapshot.of)?.snapshot(&self.snapshot.snapshot, self.tags)?;
        let snapshots =
            taken.iter().map(|snapshot| SnapshotView::of(served, snapshot)).collect::<Result<_, _>>()?;
        Ok(Snapshots { snapshots })
    }
}

/// A consistency group to delete.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupDelete {
    /// The group.
    pub(crate) group: String,
    /// Only say what would be done.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// A group that was deleted, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeletedGroup {
    /// Nothing was done.
    pub(crate) dry_run: bool,
    /// The group.
    pub(crate) group: String,
    /// Its volumes, which stay.
    pub(crate) volumes: Vec<String>,
}

impl Operation for GroupDelete {
    type View = DeletedGroup;
    const ROUTE: Route = Route::post("/v1/group/delete", "Delete a group; its volumes and snapshots stay");

    fn run(self, served: &Served) -> Result<DeletedGroup, Error> {
        let group = served.group(&self.group)?;
        let volumes = group.info()?.volumes;
        if !self.dry_run {
            group.delete()?;
        }
        Ok(DeletedGroup { dry_run: self.dry_run, group: self.group, volumes })
    }
}
