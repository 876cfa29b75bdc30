//! `firn group ...`

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::group::{Group, GroupInfo};
use firn_engine::pool::Pool;
use serde::Serialize;

use super::snapshot::{SnapshotView, Snapshots};
use super::{count, or_dash, tags, tags_text};
use crate::args::group::{GroupCreate, GroupMembers, GroupSnapshot, GroupVerb};
use crate::output::Answer;
use crate::session::volume;
use crate::table::Column::Left;
use crate::table::table;
use crate::time;

pub(super) fn run(pool: &Pool, verb: GroupVerb) -> Result<Answer> {
    match verb {
        GroupVerb::Create(create) => self::create(pool, create),
        GroupVerb::List => list(pool),
        GroupVerb::Add(members) => change(pool, &members, Group::add),
        GroupVerb::Remove(members) => change(pool, &members, Group::remove),
        GroupVerb::Snapshot(snapshot) => self::snapshot(pool, snapshot),
        GroupVerb::Delete { group: name, dry_run } => delete(pool, &name, dry_run),
    }
}

/// A consistency group as it is answered.
#[derive(Serialize)]
struct GroupView {
    #[serde(flatten)]
    info: GroupInfo,
    created: Option<String>,
}

#[derive(Serialize)]
struct Groups {
    groups: Vec<GroupView>,
}

impl GroupView {
    fn of(group: &Group) -> Result<Self> {
        let info = group.info()?;
        Ok(Self { created: time::utc(info.created_ms), info })
    }

    fn members(&self) -> String {
        or_dash(self.info.volumes.join(" "))
    }

    fn row(&self) -> Vec<String> {
        let info = &self.info;
        vec![info.name.clone(), time::local(info.created_ms), self.members(), or_dash(tags_text(&info.tags))]
    }
}

fn group(pool: &Pool, name: &str) -> Result<Group, Error> {
    pool.group(name).map_err(|error| match error.kind() {
        Kind::NotFound => error.hint("`firn group list` shows the names"),
        _ => error,
    })
}

/// Finds every volume before the group is made.
fn create(pool: &Pool, create: GroupCreate) -> Result<Answer> {
    let volumes = create.volumes.iter().map(|name| volume(pool, name)).collect::<Result<Vec<_>, _>>()?;
    let group = pool.create_group(&create.group, tags(create.tag))?;
    if let Err(error) = volumes.iter().try_for_each(|volume| group.add(volume)) {
        // A group without the volumes it was asked for is nothing that anybody wants; its volumes stay.
        group.delete()?;
        return Err(error.into());
    }
    let view = GroupView::of(&group)?;
    let text = format!("group {} created: {}", create.group, view.members());
    Answer::new(&view, text)
}

fn list(pool: &Pool) -> Result<Answer> {
    let groups = pool.groups()?.iter().map(GroupView::of).collect::<Result<Vec<_>>>()?;
    if groups.is_empty() {
        return Answer::new(&Groups { groups }, "no groups: `firn group create shop orders stock` makes one");
    }
    let columns = [Left("GROUP"), Left("CREATED"), Left("VOLUMES"), Left("TAGS")];
    let text = table(&columns, groups.iter().map(GroupView::row));
    Answer::new(&Groups { groups }, text)
}

fn change(
    pool: &Pool,
    members: &GroupMembers,
    change: impl Fn(&Group, &firn_engine::volume::Volume) -> Result<(), Error>,
) -> Result<Answer> {
    let group = group(pool, &members.group)?;
    let volumes = members.volumes.iter().map(|name| volume(pool, name)).collect::<Result<Vec<_>, _>>()?;
    volumes.iter().try_for_each(|volume| change(&group, volume))?;
    let view = GroupView::of(&group)?;
    let text = format!("group {} has {}", members.group, view.members());
    Answer::new(&view, text)
}

fn snapshot(pool: &Pool, snapshot: GroupSnapshot) -> Result<Answer> {
    let taken =
        group(pool, &snapshot.snapshot.of)?.snapshot(&snapshot.snapshot.snapshot, tags(snapshot.tag))?;
    let snapshots = taken.iter().map(SnapshotView::of).collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = snapshots.iter().map(SnapshotView::name).collect();
    let number = count(names.len() as u64, "snapshot");
    let text = format!("{number} created at one point: {}", names.join(", "));
    Answer::new(&Snapshots { snapshots }, text)
}

#[derive(Serialize)]
struct Deleted {
    dry_run: bool,
    group: String,
    volumes: Vec<String>,
}

fn delete(pool: &Pool, name: &str, dry_run: bool) -> Result<Answer> {
    let group = group(pool, name)?;
    let volumes = group.info()?.volumes;
    if !dry_run {
        group.delete()?;
    }
    let done = if dry_run { "would be deleted" } else { "deleted" };
    let text = format!("group {name} {done}; its volumes stay: {}", or_dash(volumes.join(" ")));
    Answer::new(&Deleted { dry_run, group: name.to_owned(), volumes }, text)
}
