//! `firn snapshot ...`

use anyhow::Result;
use firn_engine::catalog::Operation;
use firn_engine::pool::Pool;
use firn_engine::snapshot::{Snapshot, SnapshotInfo};
use serde::Serialize;

use super::{check, or_dash, tags, tags_text};
use crate::args::snapshot::{SnapshotCreate, SnapshotDelete, SnapshotHold, SnapshotRollback, SnapshotVerb};
use crate::output::Answer;
use crate::session::{snapshot, volume};
use crate::size::Size;
use crate::table::Column::{Left, Right};
use crate::table::{properties, table};
use crate::time;

pub(super) fn run(pool: &Pool, verb: SnapshotVerb) -> Result<Answer> {
    match verb {
        SnapshotVerb::Create(create) => self::create(pool, create),
        SnapshotVerb::List { volume } => list(pool, volume.as_deref()),
        SnapshotVerb::Show { snapshot: name } => {
            let view = SnapshotView::of(&snapshot(pool, &name)?)?;
            Answer::new(&view, view.text())
        }
        SnapshotVerb::Delete(delete) => self::delete(pool, &delete),
        SnapshotVerb::Hold(hold) => self::hold(pool, &hold),
        SnapshotVerb::Release(hold) => release(pool, &hold),
        SnapshotVerb::Rollback(rollback) => self::rollback(pool, &rollback),
    }
}

/// A snapshot as it is answered.
#[derive(Serialize)]
pub(super) struct SnapshotView {
    #[serde(flatten)]
    info: SnapshotInfo,
    created: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Snapshots {
    pub(super) snapshots: Vec<SnapshotView>,
}

impl SnapshotView {
    pub(super) fn of(snapshot: &Snapshot) -> Result<Self> {
        let info = snapshot.info()?;
        Ok(Self { created: time::utc(info.created_ms), info })
    }

    pub(super) fn name(&self) -> String {
        format!("{}@{}", self.info.volume, self.info.name)
    }

    fn holds(&self) -> String {
        or_dash(self.info.holds.iter().cloned().collect::<Vec<_>>().join(" "))
    }

    fn row(&self) -> Vec<String> {
        let info = &self.info;
        vec![
            self.name(),
            time::local(info.created_ms),
            Size(info.referenced_bytes).to_string(),
            Size(info.exclusive_bytes).to_string(),
            info.clones.to_string(),
            self.holds(),
            or_dash(tags_text(&info.tags)),
        ]
    }

    fn text(&self) -> String {
        let info = &self.info;
        properties([
            ("snapshot", self.name()),
            ("size", Size(info.bytes).to_string()),
            ("referenced", Size(info.referenced_bytes).to_string()),
            ("exclusive", Size(info.exclusive_bytes).to_string()),
            ("group", or_dash(info.group.clone().unwrap_or_default())),
            ("clones", info.clones.to_string()),
            ("holds", self.holds()),
            ("created", time::local(info.created_ms)),
            ("tags", or_dash(tags_text(&info.tags))),
        ])
    }
}

fn create(pool: &Pool, create: SnapshotCreate) -> Result<Answer> {
    let volume = volume(pool, &create.snapshot.of)?;
    let snapshot = volume.snapshot(&create.snapshot.snapshot, tags(create.tag))?;
    Answer::new(&SnapshotView::of(&snapshot)?, format!("snapshot {} created", create.snapshot))
}

fn list(pool: &Pool, of: Option<&str>) -> Result<Answer> {
    let volumes = match of {
        Some(name) => vec![volume(pool, name)?],
        None => pool.volumes()?,
    };
    let mut snapshots = Vec::new();
    for volume in volumes {
        for snapshot in volume.snapshots()? {
            snapshots.push(SnapshotView::of(&snapshot)?);
        }
    }
    if snapshots.is_empty() {
        return Answer::new(
            &Snapshots { snapshots },
            "no snapshots: `firn snapshot create pg@monday` takes one",
        );
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
    let text = table(&columns, snapshots.iter().map(SnapshotView::row));
    Answer::new(&Snapshots { snapshots }, text)
}

#[derive(Serialize)]
struct Deleted {
    dry_run: bool,
    snapshots: Vec<DeletedSnapshot>,
}

#[derive(Serialize)]
struct DeletedSnapshot {
    snapshot: String,
    /// What comes back in the background when it goes alone; neighbours that go too bring back more.
    exclusive_bytes: u64,
    clones: u64,
}

/// Looks at all of them before the first is deleted.
fn delete(pool: &Pool, delete: &SnapshotDelete) -> Result<Answer> {
    let mut found = Vec::new();
    let mut snapshots = Vec::new();
    for name in &delete.snapshots {
        let snapshot = snapshot(pool, name)?;
        check(pool, Operation::SnapshotDelete { key: snapshot.key() })?;
        let info = snapshot.info()?;
        let (exclusive_bytes, clones) = (info.exclusive_bytes, info.clones);
        snapshots.push(DeletedSnapshot { snapshot: name.to_string(), exclusive_bytes, clones });
        found.push(snapshot);
    }
    if !delete.dry_run {
        found.iter().try_for_each(Snapshot::delete)?;
    }
    let done = if delete.dry_run { "would be deleted" } else { "deleted" };
    let mut text = String::new();
    for snapshot in &snapshots {
        let back = match snapshot.clones {
            0 => format!("{} comes back", Size(snapshot.exclusive_bytes)),
            _ => "its blocks stay while clones stand on it".to_owned(),
        };
        text.push_str(&format!("snapshot {} {done}: {back}\n", snapshot.snapshot));
    }
    Answer::new(&Deleted { dry_run: delete.dry_run, snapshots }, text)
}

fn hold(pool: &Pool, hold: &SnapshotHold) -> Result<Answer> {
    let snapshot = snapshot(pool, &hold.snapshot)?;
    snapshot.hold(&hold.reason)?;
    Answer::new(&SnapshotView::of(&snapshot)?, format!("snapshot {} is held: {}", hold.snapshot, hold.reason))
}

fn release(pool: &Pool, hold: &SnapshotHold) -> Result<Answer> {
    let snapshot = snapshot(pool, &hold.snapshot)?;
    snapshot.release(&hold.reason)?;
    let view = SnapshotView::of(&snapshot)?;
    let text = match view.info.holds.is_empty() {
        true => format!("snapshot {} is not held any more", hold.snapshot),
        false => format!("snapshot {} is still held: {}", hold.snapshot, view.holds()),
    };
    Answer::new(&view, text)
}

#[derive(Serialize)]
struct RolledBack {
    dry_run: bool,
    volume: String,
    to: String,
    /// The snapshot that keeps what the volume was. A dry run does not know a name that was not given.
    kept_as: Option<String>,
}

fn rollback(pool: &Pool, rollback: &SnapshotRollback) -> Result<Answer> {
    let name = &rollback.snapshot;
    let volume = volume(pool, &name.of)?;
    // Found here too, for an error that says where the names are.
    snapshot(pool, name)?;
    let keep_as = rollback.keep_as.as_deref();
    let kept_as = match rollback.dry_run {
        true => keep_as.map(|kept| format!("{}@{kept}", name.of)),
        false => Some(format!("{}@{}", name.of, volume.rollback(&name.snapshot, keep_as)?)),
    };
    let text = match (&kept_as, rollback.dry_run) {
        (Some(kept), false) => {
            format!("volume {} is what {name} was; what it was until now is {kept}", name.of)
        }
        (kept, _) => {
            let kept = kept.as_deref().unwrap_or("a snapshot called before-rollback-N");
            format!("volume {} would become what {name} is; what it is now would be kept as {kept}", name.of)
        }
    };
    let (dry_run, volume) = (rollback.dry_run, name.of.clone());
    Answer::new(&RolledBack { dry_run, volume, to: name.to_string(), kept_as }, text)
}
