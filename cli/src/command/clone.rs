//! `firn clone create` and `detach`.

use anyhow::Result;

use super::tags;
use crate::args::clone::{self as args, CloneVerb};
use crate::operation::clone::{CloneCreate, CloneDetach};
use crate::output::Answer;
use crate::progress;
use crate::service::Service;
use crate::size::Size;

pub(super) fn run(service: &Service, verb: CloneVerb) -> Result<Answer> {
    match verb {
        CloneVerb::Create(create) => self::create(service, create),
        CloneVerb::Detach { volume } => detach(service, volume),
    }
}

fn create(service: &Service, create: args::CloneCreate) -> Result<Answer> {
    let args::CloneCreate { snapshot, volume, tag } = create;
    let text = format!("volume {volume} created as a clone of {snapshot}");
    Answer::new(&service.call(CloneCreate { snapshot, volume, tags: tags(tag) })?, text)
}

fn detach(service: &Service, volume: String) -> Result<Answer> {
    let bar = progress::bar("copying", 0);
    let detached = service.long(CloneDetach { volume }, |event| {
        bar.set_length(event.mapped_bytes);
        bar.set_position(event.copied_bytes);
        Ok(())
    })?;
    bar.finish_and_clear();
    let copied = Size(detached.copied_bytes);
    let text = format!("volume {} stands on its own: {copied} copied", detached.volume);
    Answer::new(&detached, text)
}
