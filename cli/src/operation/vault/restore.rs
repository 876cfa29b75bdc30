//! Restoring a point to a new volume.
//!
//! A volume that is being restored has the tag [`TAG`] until all of it is there and durable, so that one whose restore
//! died is not taken for whole. The same restore then begins anew with it. Only one restore at a time fills a volume.

use firn_engine::catalog::Tags;
use firn_engine::error::{Error, Kind};
use firn_engine::sys::{Clock, SystemClock};
use firn_engine::volume::Volume;
use firn_replicator::vault::restore::RestoreReport;
use firn_replicator::vault::sink::VolumeSink;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Transferring;
use super::watched::watched;
use crate::operation::{LongOperation, Route, Served, Told};
use crate::vaults::Vaults;
use crate::vaults::opening::{Purpose, Wanted};

const TAG: &str = "firn:restore";

/// A point to restore.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultRestore {
    /// Where from.
    pub(crate) vault: Wanted,
    /// The point: the first digits of its id, pg@nightly, pg for the newest, or pg@2026-11-24T12:00 for the newest then.
    pub(crate) point: String,
    /// The new volume.
    pub(crate) volume: String,
}

/// What was restored.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Restored {
    /// The point.
    pub(crate) point: String,
    /// The snapshot that it was made of.
    pub(crate) snapshot: String,
    /// The volume, file or `-` that it is now.
    pub(crate) to: String,
    /// Bytes that it has.
    pub(crate) bytes: u64,
    /// What of it is no hole.
    pub(crate) data_bytes: u64,
    /// Bytes that could not be had.
    pub(crate) lost_bytes: u64,
    /// Where they lie: the first thousand ranges, as offset and length.
    pub(crate) lost: Vec<(u64, u64)>,
    /// The objects that are missing or not what was written, and which points that affects.
    pub(crate) damaged: Vec<String>,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Restored {
    /// What a report says of a restore to `to`.
    pub(crate) fn of(report: RestoreReport, snapshot: String, to: String, seconds: f64) -> Self {
        Self {
            point: report.point.to_string(),
            snapshot,
            to,
            bytes: report.bytes,
            data_bytes: report.data_bytes,
            lost_bytes: report.lost_bytes,
            lost: report.lost.into_iter().map(|range| (range.start, range.end - range.start)).collect(),
            damaged: report.damaged.iter().map(super::damage).collect(),
            seconds: (seconds * 1000.0).round() / 1000.0,
        }
    }
}

impl LongOperation for VaultRestore {
    type Event = Transferring;
    type View = Restored;
    const ROUTE: Route = Route::post("/v1/vault/restore", "Restore a recovery point to a new volume");

    fn run(self, served: &Served, told: &mut dyn Told<Transferring>) -> Result<Restored, Error> {
        let vaults = Vaults::at(served.state.as_deref())?;
        let began = SystemClock.monotonic();
        let vault = self.vault.open(&vaults, Purpose::Read)?;
        let chosen = vault.catalog().choose(&self.point)?.clone();
        let reader = vault.open_point(chosen.committed.id)?;
        let busy = || {
            let detail = format!("another restore fills volume {:?}", self.volume);
            Error::new(Kind::Conflict, "restore", detail).hint(
                "wait until it is done (it goes on when its command is interrupted), or name another volume",
            )
        };
        let _filled = served.restoring.begin(&self.volume).ok_or_else(busy)?;
        let volume = target(served, &self.volume, reader.point().bytes)?;
        let snapshot = format!("{}@{}", chosen.committed.name, chosen.committed.snapshot);
        let sink = VolumeSink { volume: volume.clone(), is_new: true };
        let report = watched(told, |meter| reader.restore(&sink, meter))?;
        served.pool.checkpoint()?;
        if report.lost_bytes == 0 {
            volume.untag(TAG)?;
        }
        let took = SystemClock.monotonic().saturating_sub(began);
        Ok(Restored::of(report, snapshot, self.volume, took.as_secs_f64()))
    }
}

/// A new volume, or one whose restore died, emptied.
fn target(served: &Served, name: &str, bytes: u64) -> Result<Volume, Error> {
    let unfinished = || Tags::from([(TAG.to_owned(), "unfinished".to_owned())]);
    match served.pool.volume(name) {
        Err(error) if error.kind() == Kind::NotFound => served.pool.create_volume(name, bytes, unfinished()),
        Err(error) => Err(error),
        Ok(volume) => {
            let info = volume.info()?;
            if !info.tags.contains_key(TAG) {
                return Err(Error::new(Kind::Conflict, "restore", format!("a volume named {name:?} exists"))
                    .hint("name another one; a clone or a rollback can then take its place"));
            }
            volume.resize(bytes, true)?;
            volume.unmap(0, bytes)?;
            Ok(volume)
        }
    }
}
