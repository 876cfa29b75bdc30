//! `firn volume ...`

use anyhow::Result;
use firn_engine::catalog::Operation;
use firn_engine::error::{Error, Kind};
use firn_engine::pool::Pool;
use firn_engine::volume::{Volume, VolumeInfo};
use serde::Serialize;

use super::{check, count, or_dash, tags, tags_text};
use crate::args::volume::{VolumeCreate, VolumeDelete, VolumeResize, VolumeTag, VolumeVerb};
use crate::extents::mapped_beyond;
use crate::output::Answer;
use crate::session::volume;
use crate::size::Size;
use crate::table::Column::{Left, Right};
use crate::table::{properties, table};
use crate::time;

pub(super) fn run(pool: &Pool, verb: VolumeVerb) -> Result<Answer> {
    match verb {
        VolumeVerb::Create(create) => self::create(pool, create),
        VolumeVerb::List => list(pool),
        VolumeVerb::Show { volume: name } => {
            let view = VolumeView::of(&volume(pool, &name)?)?;
            Answer::new(&view, view.text())
        }
        VolumeVerb::Resize(resize) => self::resize(pool, &resize),
        VolumeVerb::Rename { volume: before, name } => {
            let volume = volume(pool, &before)?;
            volume.rename(&name)?;
            Answer::new(&VolumeView::of(&volume)?, format!("volume {before} is called {name} now"))
        }
        VolumeVerb::Delete(delete) => self::delete(pool, &delete),
        VolumeVerb::Tag(tag) => self::tag(pool, &tag),
    }
}

/// A volume as it is answered.
#[derive(Serialize)]
pub(super) struct VolumeView {
    #[serde(flatten)]
    info: VolumeInfo,
    created: Option<String>,
}

#[derive(Serialize)]
struct Volumes {
    volumes: Vec<VolumeView>,
}

impl VolumeView {
    pub(super) fn of(volume: &Volume) -> Result<Self> {
        let info = volume.info()?;
        Ok(Self { created: time::utc(info.created_ms), info })
    }

    fn origin(&self) -> String {
        self.info.origin.as_ref().map_or_else(String::new, |origin| {
            format!("{}@{}", origin.volume.as_deref().unwrap_or("(deleted)"), origin.snapshot)
        })
    }

    fn row(&self) -> Vec<String> {
        let info = &self.info;
        vec![
            info.name.clone(),
            Size(info.bytes).to_string(),
            Size(info.mapped_bytes).to_string(),
            info.snapshots.to_string(),
            or_dash(info.group.clone().unwrap_or_default()),
            or_dash(self.origin()),
            or_dash(tags_text(&info.tags)),
        ]
    }

    fn text(&self) -> String {
        let info = &self.info;
        properties([
            ("volume", info.name.clone()),
            ("size", Size(info.bytes).to_string()),
            ("mapped", Size(info.mapped_bytes).to_string()),
            ("snapshots", info.snapshots.to_string()),
            ("group", or_dash(info.group.clone().unwrap_or_default())),
            ("origin", or_dash(self.origin())),
            ("created", time::local(info.created_ms)),
            ("tags", or_dash(tags_text(&info.tags))),
        ])
    }
}

fn create(pool: &Pool, create: VolumeCreate) -> Result<Answer> {
    let volume = pool.create_volume(&create.volume, create.size.0, tags(create.tag))?;
    Answer::new(&VolumeView::of(&volume)?, format!("volume {} created: {}", create.volume, create.size))
}

fn list(pool: &Pool) -> Result<Answer> {
    let volumes = pool.volumes()?.iter().map(VolumeView::of).collect::<Result<Vec<_>>>()?;
    if volumes.is_empty() {
        return Answer::new(
            &Volumes { volumes },
            "no volumes: `firn volume create pg --size 100G` makes one",
        );
    }
    let columns = [
        Left("VOLUME"),
        Right("SIZE"),
        Right("MAPPED"),
        Right("SNAPSHOTS"),
        Left("GROUP"),
        Left("ORIGIN"),
        Left("TAGS"),
    ];
    let text = table(&columns, volumes.iter().map(VolumeView::row));
    Answer::new(&Volumes { volumes }, text)
}

#[derive(Serialize)]
struct Resized {
    dry_run: bool,
    volume: String,
    bytes_before: u64,
    bytes: u64,
    /// Mapped bytes beyond the new end.
    cut_bytes: u64,
}

fn resize(pool: &Pool, resize: &VolumeResize) -> Result<Answer> {
    let volume = volume(pool, &resize.volume)?;
    let before = volume.info()?.bytes;
    let cut_bytes = if resize.size.0 < before { mapped_beyond(&volume, resize.size.0)? } else { 0 };
    if cut_bytes > 0 && !resize.force {
        let detail = format!("{} of {} is written beyond {}", Size(cut_bytes), resize.volume, resize.size);
        return Err(Error::new(Kind::Conflict, "resize volume", detail)
            .hint("shrink what lies on the volume first, or cut it off with --force")
            .into());
    }
    if !resize.dry_run {
        volume.resize(resize.size.0, resize.force)?;
    } else {
        check(pool, Operation::VolumeResize { id: volume.id(), bytes: resize.size.0 })?;
    }
    let done = if resize.dry_run { "would be resized" } else { "resized" };
    let mut text = format!("volume {} {done} from {} to {}", resize.volume, Size(before), resize.size);
    if cut_bytes > 0 {
        text.push_str(&format!(", which cuts off {}", Size(cut_bytes)));
    }
    let volume = resize.volume.clone();
    let bytes = resize.size.0;
    Answer::new(&Resized { dry_run: resize.dry_run, volume, bytes_before: before, bytes, cut_bytes }, text)
}

#[derive(Serialize)]
struct Deleted {
    dry_run: bool,
    volumes: Vec<DeletedVolume>,
}

#[derive(Serialize)]
struct DeletedVolume {
    volume: String,
    mapped_bytes: u64,
    snapshots: Vec<String>,
}

/// Looks at all of them before the first is deleted.
fn delete(pool: &Pool, delete: &VolumeDelete) -> Result<Answer> {
    let mut found = Vec::new();
    let mut volumes = Vec::new();
    for name in &delete.volumes {
        let volume = volume(pool, name)?;
        volumes.push(deletion(pool, &volume, delete)?);
        found.push(volume);
    }
    if !delete.dry_run {
        found.iter().try_for_each(|volume| volume.delete(delete.with_snapshots))?;
    }
    let done = if delete.dry_run { "would be deleted" } else { "deleted" };
    let mut text = String::new();
    for volume in &volumes {
        text.push_str(&format!("volume {} {done}", volume.volume));
        if !volume.snapshots.is_empty() {
            let number = count(volume.snapshots.len() as u64, "snapshot");
            text.push_str(&format!(" with {number}: {}", volume.snapshots.join(", ")));
        }
        text.push('\n');
    }
    Answer::new(&Deleted { dry_run: delete.dry_run, volumes }, text)
}

/// What deleting the volume takes with it, or why it is refused.
fn deletion(pool: &Pool, volume: &Volume, delete: &VolumeDelete) -> Result<DeletedVolume> {
    let info = volume.info()?;
    let mut snapshots = Vec::new();
    for snapshot in volume.snapshots()? {
        snapshots.push(snapshot.info()?.name);
    }
    if !snapshots.is_empty() && !delete.with_snapshots {
        let number = count(snapshots.len() as u64, "snapshot");
        let detail = format!("volume {:?} has {number}: {}", info.name, snapshots.join(", "));
        return Err(Error::new(Kind::Conflict, "delete volume", detail)
            .hint("delete them first, or with it: --with-snapshots")
            .into());
    }
    check(pool, Operation::VolumeDelete { id: volume.id() })?;
    Ok(DeletedVolume { volume: info.name, mapped_bytes: info.mapped_bytes, snapshots })
}

fn tag(pool: &Pool, tag: &VolumeTag) -> Result<Answer> {
    let volume = volume(pool, &tag.volume)?;
    tag.remove.iter().try_for_each(|key| volume.untag(key))?;
    tag.tags.iter().try_for_each(|tag| volume.tag(&tag.key, &tag.value))?;
    let view = VolumeView::of(&volume)?;
    let text = format!("volume {} has tags {}", tag.volume, or_dash(tags_text(&view.info.tags)));
    Answer::new(&view, text)
}
