//! `firn clone create` and `detach`.

use anyhow::Result;
use firn_engine::pool::Pool;
use firn_engine::units::BLOCK_BYTES;
use serde::Serialize;

use super::tags;
use super::volume::VolumeView;
use crate::args::clone::{CloneCreate, CloneVerb};
use crate::output::Answer;
use crate::progress;
use crate::session::{snapshot, volume};
use crate::size::Size;

pub(super) fn run(pool: &Pool, verb: CloneVerb) -> Result<Answer> {
    match verb {
        CloneVerb::Create(create) => self::create(pool, create),
        CloneVerb::Detach { volume } => detach(pool, &volume),
    }
}

fn create(pool: &Pool, create: CloneCreate) -> Result<Answer> {
    let clone = snapshot(pool, &create.snapshot)?.clone_to(&create.volume, tags(create.tag))?;
    let text = format!("volume {} created as a clone of {}", create.volume, create.snapshot);
    Answer::new(&VolumeView::of(&clone)?, text)
}

#[derive(Serialize)]
struct Detached<'a> {
    volume: &'a str,
    copied_bytes: u64,
}

fn detach(pool: &Pool, name: &str) -> Result<Answer> {
    let volume = volume(pool, name)?;
    let bar = progress::bar("copying", 0);
    let mut copied_bytes = 0;
    volume.detach(|progress| {
        copied_bytes = progress.copied_blocks * BLOCK_BYTES;
        bar.set_length(progress.mapped_blocks * BLOCK_BYTES);
        bar.set_position(copied_bytes);
    })?;
    bar.finish_and_clear();
    let text = format!("volume {name} stands on its own: {} copied", Size(copied_bytes));
    Answer::new(&Detached { volume: name, copied_bytes }, text)
}
