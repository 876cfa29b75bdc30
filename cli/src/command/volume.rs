//! `firn volume ...`

use anyhow::Result;

use super::{count, or_dash, tags, tags_text};
use crate::args::volume::{self as args, VolumeVerb};
use crate::operation::volume::{
    DeletedVolumes, VolumeCreate, VolumeDelete, VolumeList, VolumeRename, VolumeResize, VolumeShow,
    VolumeTag, VolumeView, Volumes,
};
use crate::output::Answer;
use crate::service::Service;
use crate::size::Size;
use crate::table::Column::{Left, Right};
use crate::table::{properties, table};
use crate::time;

pub(super) fn run(service: &Service, verb: VolumeVerb) -> Result<Answer> {
    match verb {
        VolumeVerb::Create(create) => self::create(service, create),
        VolumeVerb::List => list(service),
        VolumeVerb::Show { volume } => {
            let view = service.call(VolumeShow { volume })?;
            Answer::new(&view, text(&view))
        }
        VolumeVerb::Resize(resize) => self::resize(service, resize),
        VolumeVerb::Rename { volume, name } => {
            let text = format!("volume {volume} is called {name} now");
            Answer::new(&service.call(VolumeRename { volume, name })?, text)
        }
        VolumeVerb::Delete(delete) => self::delete(service, delete),
        VolumeVerb::Tag(tag) => self::tag(service, tag),
    }
}

fn origin(view: &VolumeView) -> String {
    view.origin.as_ref().map_or_else(String::new, |origin| {
        format!("{}@{}", origin.volume.as_deref().unwrap_or("(deleted)"), origin.snapshot)
    })
}

fn row(view: &VolumeView) -> Vec<String> {
    vec![
        view.name.clone(),
        Size(view.bytes).to_string(),
        Size(view.mapped_bytes).to_string(),
        view.snapshots.to_string(),
        or_dash(view.group.clone().unwrap_or_default()),
        or_dash(origin(view)),
        or_dash(tags_text(&view.tags)),
    ]
}

fn text(view: &VolumeView) -> String {
    let mut rows = vec![
        ("volume", view.name.clone()),
        ("size", Size(view.bytes).to_string()),
        ("mapped", Size(view.mapped_bytes).to_string()),
        ("snapshots", view.snapshots.to_string()),
        ("group", or_dash(view.group.clone().unwrap_or_default())),
        ("origin", or_dash(origin(view))),
        ("created", time::local(view.created_ms)),
        ("tags", or_dash(tags_text(&view.tags))),
    ];
    rows.extend(view.nbd_uri.clone().map(|uri| ("nbd", uri)));
    properties(rows)
}

fn create(service: &Service, create: args::VolumeCreate) -> Result<Answer> {
    let text = format!("volume {} created: {}", create.volume, create.size);
    let request = VolumeCreate { volume: create.volume, bytes: create.size.0, tags: tags(create.tag) };
    Answer::new(&service.call(request)?, text)
}

fn list(service: &Service) -> Result<Answer> {
    let Volumes { volumes } = service.call(VolumeList {})?;
    if volumes.is_empty() {
        let text = "no volumes: `firn volume create pg --size 100G` makes one";
        return Answer::new(&Volumes { volumes }, text);
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
    let text = table(&columns, volumes.iter().map(row));
    Answer::new(&Volumes { volumes }, text)
}

fn resize(service: &Service, resize: args::VolumeResize) -> Result<Answer> {
    let args::VolumeResize { volume, size, force, dry_run } = resize;
    let resized = service.call(VolumeResize { volume, bytes: size.0, force, dry_run })?;
    let done = if resized.dry_run { "would be resized" } else { "resized" };
    let before = Size(resized.bytes_before);
    let mut text = format!("volume {} {done} from {before} to {size}", resized.volume);
    if resized.cut_bytes > 0 {
        text.push_str(&format!(", which cuts off {}", Size(resized.cut_bytes)));
    }
    Answer::new(&resized, text)
}

fn delete(service: &Service, delete: args::VolumeDelete) -> Result<Answer> {
    let args::VolumeDelete { volumes, with_snapshots, dry_run } = delete;
    let deleted = service.call(VolumeDelete { volumes, with_snapshots, dry_run })?;
    Answer::new(&deleted, deletion(&deleted))
}

fn deletion(deleted: &DeletedVolumes) -> String {
    let done = if deleted.dry_run { "would be deleted" } else { "deleted" };
    let mut text = String::new();
    for volume in &deleted.volumes {
        text.push_str(&format!("volume {} {done}", volume.volume));
        if !volume.snapshots.is_empty() {
            let number = count(volume.snapshots.len() as u64, "snapshot");
            text.push_str(&format!(" with {number}: {}", volume.snapshots.join(", ")));
        }
        text.push('\n');
    }
    text
}

fn tag(service: &Service, tag: args::VolumeTag) -> Result<Answer> {
    let request = VolumeTag { volume: tag.volume, tags: tags(tag.tags), remove: tag.remove };
    let view = service.call(request)?;
    let text = format!("volume {} has tags {}", view.name, or_dash(tags_text(&view.tags)));
    Answer::new(&view, text)
}
