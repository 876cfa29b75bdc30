//! Sending a volume, a snapshot or a consistency group to a vault.
//!
//! 1. Without a snapshot's name one is taken. It has the tag [`TAG`] with the vault's identity, so that a send that was
//!    cut finds it again and goes on with it, and so that it goes when a newer one is the common snapshot.
//! 2. A snapshot that somebody named is never deleted here.

use std::collections::BTreeMap;

use firn_engine::catalog::Tags;
use firn_engine::error::{Error, Kind};
use firn_engine::group::Group;
use firn_engine::sys::{Clock, SystemClock};
use firn_engine::units::{BLOCK_BYTES, BlockIndex};
use firn_engine::volume::Volume;
use firn_replicator::format::digest::PoolId;
use firn_replicator::vault::Vault;
use firn_replicator::vault::send::{SendOptions, SendReport};
use firn_replicator::vault::source::{SnapshotSource, Source};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Transferring;
use super::watched::watched;
use crate::name::{PointName, SnapshotName};
use crate::operation::{LongOperation, Route, Served, Told};
use crate::retention::Until;
use crate::time;
use crate::vaults::Vaults;
use crate::vaults::opening::{Purpose, Wanted};

/// The tag of snapshots that were taken to be sent: the vault's identity.
const TAG: &str = "firn:vault";

/// Something to send.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultSend {
    /// A volume, a snapshot such as pg@nightly, or a consistency group, with or without a snapshot's name.
    #[schema(value_type = String)]
    pub(crate) source: PointName,
    /// Where to.
    pub(crate) vault: Wanted,
    /// How long the points must be kept at least: 30d, 7y, or a date.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) retain: Option<Until>,
    /// Where the application stands.
    #[serde(default)]
    pub(crate) application: BTreeMap<String, String>,
    /// Most bytes sent in a second; without it as fast as it goes.
    #[serde(default)]
    pub(crate) bytes_per_second: Option<u64>,
    /// Send all of it, even if a point is there that only what changed since need be sent.
    #[serde(default)]
    pub(crate) baseline: bool,
    /// Only say what would be sent.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What was sent, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Sent {
    /// Nothing was done.
    pub(crate) dry_run: bool,
    /// It was in the vault before.
    pub(crate) was_there: bool,
    /// The number of the log's entry that the points count by; none of a dry run.
    pub(crate) entry: Option<u64>,
    /// Bytes that changed, or exist in a baseline.
    pub(crate) changed_bytes: u64,
    /// Bytes sent before compression, the map included.
    pub(crate) content_bytes: u64,
    /// Bytes as they are stored.
    pub(crate) stored_bytes: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// A point for each volume.
    pub(crate) points: Vec<SentPoint>,
}

/// A point that was sent, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct SentPoint {
    /// The point; none of a dry run.
    pub(crate) id: Option<String>,
    /// The volume.
    pub(crate) volume: String,
    /// The snapshot; none of a dry run that would take one.
    pub(crate) snapshot: Option<String>,
    /// Whether it is all of it, or what changed.
    pub(crate) kind: SentKind,
    /// The point whose changes since were sent.
    pub(crate) parent: Option<String>,
    /// Bytes that changed, or exist in a baseline.
    pub(crate) changed_bytes: u64,
}

/// Whether all of a volume was sent, or what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SentKind {
    /// All of it.
    Baseline,
    /// What changed since another point.
    Increment,
}

impl SentKind {
    fn of(is_baseline: bool) -> Self {
        if is_baseline { Self::Baseline } else { Self::Increment }
    }

    /// It as a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Increment => "increment",
        }
    }
}

impl LongOperation for VaultSend {
    type Event = Transferring;
    type View = Sent;
    const ROUTE: Route =
        Route::post("/v1/vault/send", "Send a volume, a snapshot or a consistency group to a vault");

    fn run(self, served: &Served, told: &mut dyn Told<Transferring>) -> Result<Sent, Error> {
        let vaults = Vaults::at(served.state.as_deref())?;
        let subject = Subject::find(served, &self.source)?;
        let began = SystemClock.monotonic();
        if self.dry_run {
            let vault = self.vault.open(&vaults, Purpose::Read)?;
            return plan(served, &vault, &subject);
        }
        let vault = self.vault.open_limited(&vaults, Purpose::Write, self.bytes_per_second)?;
        let options = self.options(&vault, &subject)?;
        let report = subject.send(served, &vault, &options, told)?;
        let took = SystemClock.monotonic().saturating_sub(began);
        Ok(Sent::of(report, took.as_secs_f64()))
    }
}

impl VaultSend {
    fn options(&self, vault: &Vault, subject: &Subject) -> Result<SendOptions, Error> {
        let retain_until_ms = match self.retain {
            None => None,
            Some(until) => Some(until.after(vault.store().clock_ms()?).ok_or_else(|| {
                Error::new(Kind::Invalid, "send", format!("{until} is later than can be counted"))
            })?),
        };
        let group = subject.group.as_ref().map(|(name, _)| name.clone());
        let application = self.application.clone();
        let baseline = self.baseline;
        Ok(SendOptions { retain_until_ms, group, application, baseline, ..SendOptions::default() })
    }
}

/// What is sent.
struct Subject {
    volumes: Vec<Volume>,
    group: Option<(String, Group)>,
    snapshot: Option<String>,
}

impl Subject {
    /// The volume or group of this name.
    fn find(served: &Served, source: &PointName) -> Result<Self, Error> {
        let (name, snapshot) = match source {
            PointName::Volume(name) => (name, None),
            PointName::Snapshot(SnapshotName { of, snapshot }) => (of, Some(snapshot.clone())),
        };
        let volume = served.pool.volume(name);
        let group = served.pool.group(name);
        match (volume, group) {
            (Ok(_), Ok(_)) => {
                Err(Error::new(Kind::Invalid, "send", format!("{name:?} is a volume and a group"))
                    .hint("give the volume another name with `firn volume rename`"))
            }
            (Ok(volume), _) => Ok(Self { volumes: vec![volume], group: None, snapshot }),
            (_, Ok(group)) => {
                let volumes = group.volumes()?;
                match volumes.is_empty() {
                    true => Err(Error::new(Kind::Invalid, "send", format!("group {name:?} has no volumes"))),
                    false => Ok(Self { volumes, group: Some((name.clone(), group)), snapshot }),
                }
            }
            (Err(error), Err(_)) => match error.kind() {
                Kind::NotFound => {
                    let detail = format!("there is no volume and no group {name:?}");
                    Err(Error::new(Kind::NotFound, "send", detail)
                        .hint("`firn volume list` and `firn group list` show the names"))
                }
                _ => Err(error),
            },
        }
    }

    fn send(
        &self,
        served: &Served,
        vault: &Vault,
        options: &SendOptions,
        told: &mut dyn Told<Transferring>,
    ) -> Result<SendReport, Error> {
        if let Some(name) = &self.snapshot {
            return self.send_snapshot(served, vault, name, options, told);
        }
        // What a send that was cut had begun comes first; then the state of now, which was asked for.
        if let Some(pending) = self.pending(served, vault)? {
            self.send_snapshot(served, vault, &pending, options, told)?;
        }
        let name = self.take(vault)?;
        let report = self.send_snapshot(served, vault, &name, options, told)?;
        self.drop_older(vault, &name)?;
        Ok(report)
    }

    fn send_snapshot(
        &self,
        served: &Served,
        vault: &Vault,
        name: &str,
        options: &SendOptions,
        told: &mut dyn Told<Transferring>,
    ) -> Result<SendReport, Error> {
        let open = |volume| SnapshotSource::open(&served.pool, volume, name);
        let opened: Vec<SnapshotSource> = self.volumes.iter().map(open).collect::<Result<_, _>>()?;
        watched(told, |meter| {
            let sources: Vec<&dyn Source> = opened.iter().map(|source| source as &dyn Source).collect();
            vault.send(&sources, options, meter)
        })
    }

    /// The newest snapshot that was taken to be sent to this vault, if it was taken after what the vault has of the
    /// first volume and every volume has it. An older one was sent, or its point was taken out since.
    fn pending(&self, served: &Served, vault: &Vault) -> Result<Option<String>, Error> {
        let identity = vault.settings().vault.to_string();
        let Some(first) = self.volumes.first() else { return Ok(None) };
        let pool = PoolId::parse(&served.pool.status()?.pool_id)?;
        let catalog = vault.catalog();
        let newest_ms =
            catalog.points_of(pool, first.id().0).iter().map(|point| point.committed.created_ms).max();
        let mut newest = None;
        for snapshot in first.snapshots()? {
            let info = snapshot.info()?;
            let is_newer = newest_ms.is_none_or(|sent_ms| info.created_ms > sent_ms);
            if info.tags.get(TAG) == Some(&identity) && is_newer {
                newest = Some(info.name);
            }
        }
        let is_whole = |name: &String| self.volumes.iter().all(|volume| volume.snapshot_named(name).is_ok());
        Ok(newest.filter(is_whole))
    }

    /// Takes a snapshot to send.
    fn take(&self, vault: &Vault) -> Result<String, Error> {
        let tags = || Tags::from([(TAG.to_owned(), vault.settings().vault.to_string())]);
        let now = time::compact(SystemClock.now_ms());
        for attempt in 0..100 {
            let name = if attempt == 0 { format!("vault-{now}") } else { format!("vault-{now}.{attempt}") };
            let taken = match (&self.group, self.volumes.first()) {
                (Some((_, group)), _) => group.snapshot(&name, tags()).map(drop),
                (None, Some(volume)) => volume.snapshot(&name, tags()).map(drop),
                (None, None) => Ok(()),
            };
            match taken {
                Ok(()) => return Ok(name),
                // Two sends within a second.
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Retry, "send", "a hundred snapshots were taken within this second"))
    }

    /// Deletes snapshots that were taken for this vault before `newest`, which is the common one now.
    fn drop_older(&self, vault: &Vault, newest: &str) -> Result<(), Error> {
        let identity = vault.settings().vault.to_string();
        for volume in &self.volumes {
            // Another send may have taken a newer one meanwhile.
            let newest_ms = volume.snapshot_named(newest)?.info()?.created_ms;
            for snapshot in volume.snapshots()? {
                let info = snapshot.info()?;
                let is_ours = info.tags.get(TAG) == Some(&identity) && info.holds.is_empty();
                if !is_ours || info.name == newest || info.created_ms > newest_ms {
                    continue;
                }
                match snapshot.delete() {
                    // Somebody reads it, or it went before: the next send looks again.
                    Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                    deleted => deleted?,
                }
            }
        }
        Ok(())
    }
}

/// What would be sent.
fn plan(served: &Served, vault: &Vault, subject: &Subject) -> Result<Sent, Error> {
    let mut points = Vec::new();
    for volume in &subject.volumes {
        points.push(plan_volume(served, vault, volume, subject.snapshot.as_deref())?);
    }
    let changed_bytes = points.iter().map(|point| point.changed_bytes).sum();
    Ok(Sent {
        dry_run: true,
        was_there: false,
        entry: None,
        changed_bytes,
        content_bytes: changed_bytes,
        stored_bytes: 0,
        seconds: 0.0,
        points,
    })
}

fn plan_volume(
    served: &Served,
    vault: &Vault,
    volume: &Volume,
    snapshot: Option<&str>,
) -> Result<SentPoint, Error> {
    // Any snapshot of the volume can tell which point of the vault it goes on from.
    let probe = match snapshot {
        Some(name) => Some(volume.snapshot_named(name)?),
        None => volume.snapshots()?.pop(),
    };
    let common = match &probe {
        None => None,
        Some(probe) => {
            vault.common_snapshot(&SnapshotSource::open(&served.pool, volume, &probe.info()?.name)?)?
        }
    };
    let parent = common.map(|(id, _)| id);
    let older = match common {
        None => None,
        Some((_, id)) => {
            let is_it = |found: &firn_engine::snapshot::Snapshot| {
                (found.key().layer.0, found.key().epoch.0) == (id.layer, id.epoch)
            };
            volume.snapshots()?.into_iter().find(is_it)
        }
    };
    let mut changed_bytes = 0;
    let count = |extent: firn_engine::delta::DeltaExtent| {
        if extent.kind == firn_engine::delta::ExtentKind::Data {
            changed_bytes += extent.blocks * BLOCK_BYTES;
        }
        Ok(true)
    };
    let all = |bytes: u64| BlockIndex(0)..BlockIndex(bytes.div_ceil(BLOCK_BYTES));
    match (snapshot.and(probe), &older) {
        (Some(newer), Some(older)) => newer.changes_since(older, all(newer.info()?.bytes), count)?,
        (Some(newer), None) => newer.allocation(all(newer.info()?.bytes), count)?,
        (None, Some(older)) => volume.changes_since(older, all(volume.info()?.bytes), count)?,
        (None, None) => volume.allocation(all(volume.info()?.bytes), count)?,
    }
    Ok(SentPoint {
        id: None,
        volume: volume.name()?,
        snapshot: snapshot.map(ToOwned::to_owned),
        kind: SentKind::of(parent.is_none()),
        parent: parent.map(|id| id.to_string()),
        changed_bytes,
    })
}

impl Sent {
    fn of(report: SendReport, seconds: f64) -> Self {
        let sum = |of: fn(&firn_replicator::format::point::Sent) -> u64| {
            report.points.iter().map(|point| of(&point.sent)).sum()
        };
        Self {
            dry_run: false,
            was_there: report.was_there,
            entry: Some(report.entry),
            changed_bytes: sum(|sent| sent.changed_bytes),
            content_bytes: sum(|sent| sent.content_bytes),
            stored_bytes: sum(|sent| sent.stored_bytes),
            seconds: (seconds * 1000.0).round() / 1000.0,
            points: report.points.into_iter().map(SentPoint::of).collect(),
        }
    }
}

impl SentPoint {
    fn of(point: firn_replicator::vault::send::SentPoint) -> Self {
        Self {
            id: Some(point.id.to_string()),
            volume: point.volume,
            snapshot: Some(point.snapshot),
            kind: SentKind::of(point.parent.is_none()),
            parent: point.parent.map(|id| id.to_string()),
            changed_bytes: point.sent.changed_bytes,
        }
    }
}
