//! `firn group ...`

use anyhow::Result;

use super::{count, or_dash, tags, tags_text};
use crate::args::group::{self as args, GroupVerb};
use crate::operation::group::{
    GroupAdd, GroupCreate, GroupDelete, GroupList, GroupRemove, GroupSnapshot, GroupView, Groups,
};
use crate::operation::snapshot::SnapshotView;
use crate::output::Answer;
use crate::service::Service;
use crate::table::Column::Left;
use crate::table::table;
use crate::time;

pub(super) fn run(service: &Service, verb: GroupVerb) -> Result<Answer> {
    match verb {
        GroupVerb::Create(create) => self::create(service, create),
        GroupVerb::List => list(service),
        GroupVerb::Add(args::GroupMembers { group, volumes }) => {
            changed(&service.call(GroupAdd { group, volumes })?)
        }
        GroupVerb::Remove(args::GroupMembers { group, volumes }) => {
            changed(&service.call(GroupRemove { group, volumes })?)
        }
        GroupVerb::Snapshot(snapshot) => self::snapshot(service, snapshot),
        GroupVerb::Delete { group, dry_run } => delete(service, GroupDelete { group, dry_run }),
    }
}

fn members(view: &GroupView) -> String {
    or_dash(view.volumes.join(" "))
}

fn row(view: &GroupView) -> Vec<String> {
    vec![view.name.clone(), time::local(view.created_ms), members(view), or_dash(tags_text(&view.tags))]
}

fn create(service: &Service, create: args::GroupCreate) -> Result<Answer> {
    let args::GroupCreate { group, volumes, tag } = create;
    let view = service.call(GroupCreate { group, volumes, tags: tags(tag) })?;
    let text = format!("group {} created: {}", view.name, members(&view));
    Answer::new(&view, text)
}

fn list(service: &Service) -> Result<Answer> {
    let Groups { groups } = service.call(GroupList {})?;
    if groups.is_empty() {
        return Answer::new(&Groups { groups }, "no groups: `firn group create shop orders stock` makes one");
    }
    let columns = [Left("GROUP"), Left("CREATED"), Left("VOLUMES"), Left("TAGS")];
    let text = table(&columns, groups.iter().map(row));
    Answer::new(&Groups { groups }, text)
}

fn changed(view: &GroupView) -> Result<Answer> {
    Answer::new(view, format!("group {} has {}", view.name, members(view)))
}

fn snapshot(service: &Service, snapshot: args::GroupSnapshot) -> Result<Answer> {
    let args::GroupSnapshot { snapshot, tag } = snapshot;
    let taken = service.call(GroupSnapshot { snapshot, tags: tags(tag) })?;
    let names: Vec<_> = taken.snapshots.iter().map(SnapshotView::full_name).collect();
    let number = count(names.len() as u64, "snapshot");
    let text = format!("{number} created at one point: {}", names.join(", "));
    Answer::new(&taken, text)
}

fn delete(service: &Service, delete: GroupDelete) -> Result<Answer> {
    let deleted = service.call(delete)?;
    let done = if deleted.dry_run { "would be deleted" } else { "deleted" };
    let volumes = or_dash(deleted.volumes.join(" "));
    let text = format!("group {} {done}; its volumes stay: {volumes}", deleted.group);
    Answer::new(&deleted, text)
}
