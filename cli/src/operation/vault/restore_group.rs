//! Restoring a consistency group to new volumes, all of it from one entry of the vault's log.
//!
//! 1. All is looked at before anything is written: names, the consistency group, whether the points can be opened.
//! 2. No volume counts as whole before all of them are: only then are they taken into their consistency group, and only
//!    then lose their tags (`target`). A restore that was cut, or from which something was missing, begins anew with all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firn_engine::catalog::{self, Tags};
use firn_engine::error::{Error, Kind};
use firn_engine::sys::{Clock, SystemClock};
use firn_engine::units::GroupId;
use firn_engine::volume::Volume;
use firn_replicator::vault::catalog::{Catalog, LivePoint};
use firn_replicator::vault::groups::{GroupPoint, Named};
use firn_replicator::vault::progress::Progress;
use firn_replicator::vault::restore::{PointReader, RestoreReport};
use firn_replicator::vault::sink::{Sink, VolumeSink};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Transferring;
use super::restore::{Restored, full_name};
use super::target::{self, Target};
use super::watched::watched;
use crate::operation::{LongOperation, Route, Served, Told};
use crate::vaults::Vaults;
use crate::vaults::opening::{Purpose, Wanted};

/// A consistency group to restore.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultRestoreGroup {
    /// Where from.
    pub(crate) vault: Wanted,
    /// The group: bank for its newest point, bank@tuesday, bank@2026-11-24T12:00 for the newest then, or group/ and the
    /// first digits of the id of one of its points.
    pub(crate) point: String,
    /// What its volumes are called from now on, by the names that they had; the others keep theirs.
    #[serde(default)]
    pub(crate) volumes: BTreeMap<String, String>,
    /// The consistency group that is made of them; without it one of the same name, unless there is one.
    #[serde(default)]
    pub(crate) group: Option<String>,
}

/// What was restored of a consistency group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct RestoredGroup {
    /// The group and its snapshot, as the vault has them: bank@tuesday.
    pub(crate) snapshot: String,
    /// The number of the log's entry that committed it.
    pub(crate) entry: u64,
    /// The consistency group of the pool that the volumes belong to now, if they belong to one.
    pub(crate) group: Option<String>,
    /// Its volumes.
    pub(crate) volumes: Vec<Restored>,
    /// Bytes that they have.
    pub(crate) bytes: u64,
    /// What of them is no hole.
    pub(crate) data_bytes: u64,
    /// Bytes that could not be had.
    pub(crate) lost_bytes: u64,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl LongOperation for VaultRestoreGroup {
    type Event = Transferring;
    type View = RestoredGroup;
    const ROUTE: Route =
        Route::post("/v1/vault/restore-group", "Restore a consistency group to new volumes, all or none");

    fn run(self, served: &Served, told: &mut dyn Told<Transferring>) -> Result<RestoredGroup, Error> {
        let vaults = Vaults::at(served.state.as_deref())?;
        let began = SystemClock.monotonic();
        let vault = self.vault.open(&vaults, Purpose::Read)?;
        let catalog = vault.catalog();
        let found = choose_group(&catalog, &self.point)?;
        let targets = self.targets(served, &found)?;
        let group = self.grouping(served, &found, &targets)?;
        let open = |point: &&LivePoint| vault.open_point(point.committed.id);
        let readers = found.points.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let volumes: Vec<Volume> =
            targets.iter().map(|target| target.emptied(served)).collect::<Result<_, _>>()?;
        let sinks = volumes.iter().map(|volume| VolumeSink { volume: volume.clone(), is_new: true });
        let sinks: Vec<VolumeSink> = sinks.collect();
        let reports = watched(told, |meter| restore_all(readers, &sinks, meter))?;
        served.pool.checkpoint()?;
        let is_whole = reports.iter().all(|(report, _)| report.lost_bytes == 0);
        let group = group.filter(|_| is_whole);
        if is_whole {
            settle(served, group.as_deref(), &volumes)?;
        }
        let took = SystemClock.monotonic().saturating_sub(began);
        let to = targets.iter().map(|target| target.name().to_owned());
        Ok(RestoredGroup::of(&found, group, reports.into_iter().zip(to), took))
    }
}

impl VaultRestoreGroup {
    /// A place for each volume, in the order of its points. Nothing is written.
    fn targets(&self, served: &Served, found: &GroupPoint<'_>) -> Result<Vec<Target>, Error> {
        let own: BTreeSet<&str> = found.points.iter().map(|point| point.committed.name.as_str()).collect();
        if let Some(stranger) = self.volumes.keys().find(|name| !own.contains(name.as_str())) {
            let detail = format!("{stranger:?} is none of the volumes of {}@{}", found.group, found.snapshot);
            let names: Vec<&str> = own.into_iter().collect();
            return Err(invalid(detail).hint(format!("they are: {}", names.join(" "))));
        }
        let mut taken = BTreeSet::new();
        let target = |point: &&LivePoint| {
            let own = &point.committed.name;
            let name = self.volumes.get(own).unwrap_or(own);
            if !taken.insert(name.clone()) {
                return Err(invalid(format!("two volumes would be called {name:?}"))
                    .hint("give one of them another name with --to VOLUME=NEW"));
            }
            let otherwise = format!("give it another name with --to {own}=NEW");
            Target::claim(served, name, point.committed.bytes, &otherwise)
        };
        found.points.iter().map(target).collect()
    }

    /// The name of the consistency group that the volumes come into: a new one, or one that a restore which was cut had
    /// made of some of them. None where there is one of its own already and nobody asked for another.
    fn grouping(
        &self,
        served: &Served,
        found: &GroupPoint<'_>,
        targets: &[Target],
    ) -> Result<Option<String>, Error> {
        let name = self.group.as_deref().unwrap_or(found.group);
        let is_target = |volume: &String| targets.iter().any(|target| target.name() == volume);
        match served.pool.group(name) {
            Err(error) if error.kind() == Kind::NotFound => {
                let (id, name, tags) = (GroupId(0), name.to_owned(), Tags::new());
                served.check(catalog::Operation::GroupCreate { id, name, created_ms: 0, tags })?;
            }
            Err(error) => return Err(error),
            Ok(group) if group.info()?.volumes.iter().all(is_target) => {}
            Ok(_) if self.group.is_none() => return Ok(None),
            Ok(_) => {
                let detail = format!("a consistency group named {name:?} exists");
                return Err(Error::new(Kind::Conflict, "restore", detail)
                    .hint("name another one; `firn group list` shows them"));
            }
        }
        for target in targets {
            if let Some(other) = target.group()?.filter(|other| other != name) {
                let detail = format!("volume {:?} belongs to the consistency group {other:?}", target.name());
                let hint = format!("`firn group remove {other} {}` takes it out", target.name());
                return Err(Error::new(Kind::Conflict, "restore", detail).hint(hint));
            }
        }
        Ok(Some(name.to_owned()))
    }
}

/// The points of the consistency group that `text` names; all that were committed must be there.
fn choose_group<'c>(catalog: &'c Catalog, text: &str) -> Result<GroupPoint<'c>, Error> {
    let group = match catalog.find(text)? {
        Named::Group(group) => group,
        Named::Point(point) => {
            let detail = format!("{text:?} is a point of a volume");
            let hint = format!("say where to: --to {}, --to ./FILE or --to -", point.committed.name);
            return Err(invalid(detail).hint(hint));
        }
        Named::Former(_) => {
            let detail = format!("{text:?} is a point of a volume, which left the vault");
            return Err(invalid(detail).hint("say where to: --to VOLUME, --to ./FILE or --to -"));
        }
    };
    check_whole(&group)?;
    Ok(group)
}

/// Whether all the points that were committed together are there.
pub(crate) fn check_whole(group: &GroupPoint<'_>) -> Result<(), Error> {
    let GroupPoint { group: name, snapshot, points, .. } = group;
    match group.missing() {
        0 => Ok(()),
        missing => {
            let left: Vec<String> = points.iter().map(|point| full_name(point)).collect();
            let detail = format!("{name}@{snapshot} is not whole: {missing} of its points left the vault");
            let hint = format!("choose another point, or restore what is left by itself: {}", left.join(" "));
            Err(Error::new(Kind::Conflict, "restore", detail).hint(hint))
        }
    }
}

impl RestoredGroup {
    /// What reports say, each with how long its point took and where it is now.
    pub(crate) fn of(
        found: &GroupPoint<'_>,
        group: Option<String>,
        reports: impl Iterator<Item = (Timed, String)>,
        took: Duration,
    ) -> Self {
        let restored = |(point, ((report, took), to)): (_, (Timed, String))| {
            Restored::of(report, full_name(point), to, took.as_secs_f64())
        };
        let volumes: Vec<Restored> = found.points.iter().copied().zip(reports).map(restored).collect();
        let sum = |of: fn(&Restored) -> u64| volumes.iter().map(of).sum();
        Self {
            snapshot: format!("{}@{}", found.group, found.snapshot),
            entry: found.number,
            group,
            bytes: sum(|one| one.bytes),
            data_bytes: sum(|one| one.data_bytes),
            lost_bytes: sum(|one| one.lost_bytes),
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            volumes,
        }
    }
}

/// What is known to be all of a group's work from the beginning; its parts only say what they have done.
struct Part<'p>(&'p dyn Progress);

impl Progress for Part<'_> {
    fn advance(&self, bytes: u64) {
        self.0.advance(bytes);
    }
}

/// What a restore did, and how long it took.
pub(crate) type Timed = (RestoreReport, Duration);

/// Restores one point after the other, each to the sink in its place; a reader goes when its point is done.
pub(crate) fn restore_all<S: Sink>(
    readers: Vec<PointReader<'_>>,
    sinks: &[S],
    progress: &dyn Progress,
) -> Result<Vec<Timed>, Error> {
    progress.expect(readers.iter().map(|reader| reader.point().bytes).sum());
    let restore = |(reader, sink): (PointReader<'_>, &S)| {
        let began = SystemClock.monotonic();
        let report = reader.restore(sink, &Part(progress))?;
        Ok((report, SystemClock.monotonic().saturating_sub(began)))
    };
    readers.into_iter().zip(sinks).map(restore).collect()
}

/// All volumes are there and durable: they come into their consistency group, and then count.
fn settle(served: &Served, group: Option<&str>, volumes: &[Volume]) -> Result<(), Error> {
    if let Some(name) = group {
        let group = match served.pool.group(name) {
            Err(error) if error.kind() == Kind::NotFound => served.pool.create_group(name, Tags::new()),
            group => group,
        }?;
        volumes.iter().try_for_each(|volume| group.add(volume))?;
    }
    volumes.iter().try_for_each(target::finish)
}

fn invalid(detail: String) -> Error {
    Error::new(Kind::Invalid, "restore", detail)
}
