//! Restoring a point to a new volume.

use firn_engine::error::{Error, Kind};
use firn_engine::sys::{Clock, SystemClock};
use firn_replicator::format::digest::Digest;
use firn_replicator::vault::Vault;
use firn_replicator::vault::catalog::{Catalog, LivePoint};
use firn_replicator::vault::groups::Named;
use firn_replicator::vault::restore::{PointReader, RestoreReport};
use firn_replicator::vault::sink::VolumeSink;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Transferring;
use super::target::{self, Target};
use super::watched::watched;
use crate::operation::{LongOperation, Route, Served, Told};
use crate::vaults::Vaults;
use crate::vaults::opening::{Purpose, Wanted};

/// A point to restore.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultRestore {
    /// Where from.
    pub(crate) vault: Wanted,
    /// The point: the first digits of its id, pg@nightly, pg for the newest, or pg@2026-11-24T12:00 for the newest then;
    /// former/ and the first digits for one that left the vault and is kept.
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

/// A volume's point that was chosen.
pub(crate) struct Chosen {
    id: Digest,
    /// Whether it left the vault, and is meant itself.
    is_former: bool,
}

impl Chosen {
    /// Opens it for reading.
    pub(crate) fn open<'v>(&self, vault: &'v Vault) -> Result<PointReader<'v>, Error> {
        match self.is_former {
            true => vault.open_former(self.id),
            false => vault.open_point(self.id),
        }
    }
}

/// The volume's point that `text` names.
pub(crate) fn choose(catalog: &Catalog, text: &str) -> Result<Chosen, Error> {
    match catalog.find(text)? {
        Named::Point(point) => Ok(Chosen { id: point.committed.id, is_former: false }),
        Named::Former(former) => Ok(Chosen { id: former.id, is_former: true }),
        Named::Group(group) => {
            let detail = format!("{text:?} is a consistency group of {} volumes", group.points.len());
            Err(Error::new(Kind::Invalid, "restore", detail).hint(
                "without --to they get their own names; --to VOLUME=NEW gives one of them another, --to ./DIR/ writes a file \
                 for each",
            ))
        }
    }
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
        let reader = choose(&vault.catalog(), &self.point)?.open(&vault)?;
        let otherwise = "name another one; a clone or a rollback can then take its place";
        let target = Target::claim(served, &self.volume, reader.point().bytes, otherwise)?;
        let volume = target.emptied(served)?;
        let sink = VolumeSink { volume: volume.clone(), is_new: true };
        let report = watched(told, |meter| reader.restore(&sink, meter))?;
        served.pool.checkpoint()?;
        if report.lost_bytes == 0 {
            target::finish(&volume)?;
        }
        let took = SystemClock.monotonic().saturating_sub(began);
        Ok(Restored::of(report, snapshot_name(&reader), self.volume, took.as_secs_f64()))
    }
}

/// The snapshot of a point that is open, as people write it.
pub(crate) fn snapshot_name(reader: &PointReader<'_>) -> String {
    let source = &reader.point().source;
    format!("{}@{}", source.name, source.snapshot)
}

/// The snapshot of a point, as people write it.
pub(crate) fn full_name(point: &LivePoint) -> String {
    format!("{}@{}", point.committed.name, point.committed.snapshot)
}
