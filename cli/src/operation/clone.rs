//! Clones: create, detach.

use firn_engine::catalog::Tags;
use firn_engine::error::Error;
use firn_engine::units::BLOCK_BYTES;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::volume::VolumeView;
use super::{LongOperation, Operation, Route, Served, Told};
use crate::name::SnapshotName;

/// A clone to create.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloneCreate {
    /// Such as pg@before-upgrade.
    #[schema(value_type = String)]
    pub(crate) snapshot: SnapshotName,
    /// The new volume's name.
    pub(crate) volume: String,
    /// Its tags.
    #[serde(default)]
    pub(crate) tags: Tags,
}

impl Operation for CloneCreate {
    type View = VolumeView;
    const ROUTE: Route =
        Route::post("/v1/clone/create", "Make a writable volume of a snapshot, which copies nothing");

    fn run(self, served: &Served) -> Result<VolumeView, Error> {
        VolumeView::of(served, &served.snapshot(&self.snapshot)?.clone_to(&self.volume, self.tags)?)
    }
}

/// A clone that is to stand on its own.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloneDetach {
    /// The clone.
    pub(crate) volume: String,
}

/// How far a detach is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Detaching {
    /// Bytes that were written again.
    pub(crate) copied_bytes: u64,
    /// Bytes that the clone maps: at most so many are to be written.
    pub(crate) mapped_bytes: u64,
}

/// A clone that stands on its own now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Detached {
    /// The volume.
    pub(crate) volume: String,
    /// Bytes that it had shared with its origin.
    pub(crate) copied_bytes: u64,
}

impl LongOperation for CloneDetach {
    type Event = Detaching;
    type View = Detached;
    const ROUTE: Route =
        Route::post("/v1/clone/detach", "Make a clone stand on its own; copies what it shares");

    /// Goes on when nobody listens: it was asked for, and half of it is worth nothing.
    fn run(self, served: &Served, told: &mut dyn Told<Detaching>) -> Result<Detached, Error> {
        let volume = served.volume(&self.volume)?;
        let mut copied_bytes = 0;
        let mut listening = Ok(());
        volume.detach(|progress| {
            copied_bytes = progress.copied_blocks * BLOCK_BYTES;
            let mapped_bytes = progress.mapped_blocks * BLOCK_BYTES;
            if listening.is_ok() {
                listening = told.event(Detaching { copied_bytes, mapped_bytes });
            }
        })?;
        Ok(Detached { volume: self.volume, copied_bytes })
    }
}
