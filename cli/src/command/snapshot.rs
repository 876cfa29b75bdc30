//! `firn snapshot ...`

use anyhow::Result;

use super::{or_dash, tags, tags_text};
use crate::args::snapshot::{self as args, SnapshotVerb};
use crate::operation::snapshot::{
    DeletedSnapshots, RolledBack, SnapshotCreate, SnapshotDelete, SnapshotHold, SnapshotList,
    SnapshotRelease, SnapshotRollback, SnapshotShow, SnapshotView, Snapshots,
};
use crate::output::Answer;
use crate::service::Service;
use crate::size::Size;
use crate::table::Column::{Left, Right};
use crate::table::{properties, table};
use crate::time;

pub(super) fn run(service: &Service, verb: SnapshotVerb) -> Result<Answer> {
    match verb {
        SnapshotVerb::Create(create) => self::create(service, create),
        SnapshotVerb::List { volume } => list(service, volume),
        SnapshotVerb::Show { snapshot } => {
            let view = service.call(SnapshotShow { snapshot })?;
            Answer::new(&view, text(&view))
        }
        SnapshotVerb::Delete(delete) => self::delete(service, delete),
        SnapshotVerb::Hold(hold) => self::hold(service, hold),
        SnapshotVerb::Release(hold) => release(service, hold),
        SnapshotVerb::Rollback(rollback) => self::rollback(service, rollback),
    }
}

fn holds(view: &SnapshotView) -> String {
    or_dash(view.holds.iter().cloned().collect::<Vec<_>>().join(" "))
}

fn row(view: &SnapshotView) -> Vec<String> {
    vec![
        view.full_name(),
        time::local(view.created_ms),
        Size(view.referenced_bytes).to_string(),
        Size(view.exclusive_bytes).to_string(),
        view.clones.to_string(),
        holds(view),
        or_dash(tags_text(&view.tags)),
    ]
}

fn text(view: &SnapshotView) -> String {
    let mut rows = vec![
        ("snapshot", view.full_name()),
        ("size", Size(view.bytes).to_string()),
        ("referenced", Size(view.referenced_bytes).to_string()),
        ("exclusive", Size(view.exclusive_bytes).to_string()),
        ("group", or_dash(view.group.clone().unwrap_or_default())),
        ("clones", view.clones.to_string()),
        ("holds", holds(view)),
        ("created", time::local(view.created_ms)),
        ("tags", or_dash(tags_text(&view.tags))),
    ];
    rows.extend(view.nbd_uri.clone().map(|uri| ("nbd", uri)));
    properties(rows)
}

fn create(service: &Service, create: args::SnapshotCreate) -> Result<Answer> {
    let text = format!("snapshot {} created", create.snapshot);
    let request = SnapshotCreate { snapshot: create.snapshot, tags: tags(create.tag) };
    Answer::new(&service.call(request)?, text)
}

fn list(service: &Service, volume: Option<String>) -> Result<Answer> {
    let Snapshots { snapshots } = service.call(SnapshotList { volume })?;
    if snapshots.is_empty() {
        let text = "no snapshots: `firn snapshot create pg@monday` takes one";
        return Answer::new(&Snapshots { snapshots }, text);
    }
    let columns = [
        Left("SNAPSHOT"),
        Left("CREATED"),
        Right("REFERENCED"),
        Right("EXCLUSIVE"),
        Right("CLONES"),
        Left("HOLDS"),
        Left("TAGS"),
    ];
    let text = table(&columns, snapshots.iter().map(row));
    Answer::new(&Snapshots { snapshots }, text)
}

fn delete(service: &Service, delete: args::SnapshotDelete) -> Result<Answer> {
    let args::SnapshotDelete { snapshots, dry_run } = delete;
    let deleted = service.call(SnapshotDelete { snapshots, dry_run })?;
    Answer::new(&deleted, deletion(&deleted))
}

fn deletion(deleted: &DeletedSnapshots) -> String {
    let done = if deleted.dry_run { "would be deleted" } else { "deleted" };
    let mut text = String::new();
    for snapshot in &deleted.snapshots {
        let back = match snapshot.clones {
            0 => format!("{} comes back", Size(snapshot.exclusive_bytes)),
            _ => "its blocks stay while clones stand on it".to_owned(),
        };
        text.push_str(&format!("snapshot {} {done}: {back}\n", snapshot.snapshot));
    }
    text
}

fn hold(service: &Service, hold: args::SnapshotHold) -> Result<Answer> {
    let text = format!("snapshot {} is held: {}", hold.snapshot, hold.reason);
    Answer::new(&service.call(SnapshotHold { snapshot: hold.snapshot, reason: hold.reason })?, text)
}

fn release(service: &Service, hold: args::SnapshotHold) -> Result<Answer> {
    let view = service.call(SnapshotRelease { snapshot: hold.snapshot, reason: hold.reason })?;
    let text = match view.holds.is_empty() {
        true => format!("snapshot {} is not held any more", view.full_name()),
        false => format!("snapshot {} is still held: {}", view.full_name(), holds(&view)),
    };
    Answer::new(&view, text)
}

fn rollback(service: &Service, rollback: args::SnapshotRollback) -> Result<Answer> {
    let args::SnapshotRollback { snapshot, keep_as, dry_run } = rollback;
    let rolled = service.call(SnapshotRollback { snapshot, keep_as, dry_run })?;
    let RolledBack { volume, to, kept_as, .. } = &rolled;
    let text = match (kept_as, rolled.dry_run) {
        (Some(kept), false) => format!("volume {volume} is what {to} was; what it was until now is {kept}"),
        (kept, _) => {
            let kept = kept.as_deref().unwrap_or("a snapshot called before-rollback-N");
            format!("volume {volume} would become what {to} is; what it is now would be kept as {kept}")
        }
    };
    Answer::new(&rolled, text)
}
