//! What must be true when a schedule has ended, whatever happened in it.
//!
//! 1. Every live point restores to the byte, and nothing that it reaches is named in a `delete` entry: that may be
//!    carried out at any later time. So does every former point that stood all the time, whatever the clock showed.
//! 2. Everything that a point needs is locked in the store as long as the log says of the point.
//! 3. While nobody released anything, everything that a held point needs is held in the store.
//! 4. No point was pruned while it was held, or before its date by the log's time.
//!
//! Of what a thief wrote, and of what rests on it, nothing is asked; nor are names in a thief's `delete` entries.
//!
//! That the store let no locked object go is looked at with each request that deletes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use firn_replicator::error::Result;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::{Action, Entry, Forwarded, Signed};
use firn_replicator::format::name;
use firn_replicator::policy::lock;
use firn_replicator::store::{Key, MemoryStore, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::catalog::{Catalog, LivePoint};
use firn_replicator::vault::former::FormerPoint;
use firn_replicator::vault::reach::Reach;
use firn_replicator::vault::restore::PointReader;
use firn_replicator::vault::sink::Sink;

use crate::careless;
use crate::schedule::Scene;
use crate::thief;

/// The first fault that a schedule left, if any.
pub(crate) fn judge(scene: &Scene<'_>, vault: &Vault) -> Option<String> {
    let catalog = match vault.refresh() {
        Ok(catalog) => catalog,
        Err(error) => return Some(error.to_string()),
    };
    let entries = entries(&scene.store);
    let has_release = entries.iter().any(|entry| matches!(entry.action, Action::Release { .. }));
    let forged = Forged::of(&entries, &catalog);
    let point_fault = |live: &LivePoint| {
        let protection = protection_fault(scene, vault, live, !has_release);
        let content = || content_fault(scene, &vault.open_point(live.committed.id)?);
        let fault = protection.and_then(|fault| Ok(fault.or(content()?)));
        fault.unwrap_or_else(|error| Some(error.to_string()))
    };
    let is_honest = |live: &&LivePoint| !forged.points.contains(&live.committed.id);
    let named = |live: &LivePoint| Some(format!("point {}: {}", live.committed.id, point_fault(live)?));
    reach_fault(scene, vault, &catalog, &forged)
        .or_else(|| catalog.points().values().filter(is_honest).find_map(named))
        .or_else(|| former_fault(scene, vault, &catalog, &forged))
        .or_else(|| prune_fault(&entries, &catalog))
}

/// What a thief wrote.
#[derive(Default)]
struct Forged {
    /// Points that hold what nobody sent, and those that rest on them.
    points: BTreeSet<Digest>,
    /// Names in `delete` entries.
    deleted: BTreeSet<Key>,
}

impl Forged {
    fn of(entries: &[Entry], catalog: &Catalog) -> Self {
        let mut forged = Self::default();
        let is_void = |entry: &&Entry| catalog.void().iter().any(|void| void.number == entry.number);
        for entry in entries {
            let is_thief = entry.who.user == thief::USER;
            match &entry.action {
                Action::Delete { objects } if is_thief => forged.deleted.extend(objects.iter().cloned()),
                Action::Commit { points, .. } if !is_void(&entry) => {
                    for point in points {
                        if point.parent.is_some_and(|parent| forged.points.contains(&parent)) {
                            forged.points.insert(point.id);
                        }
                    }
                }
                Action::Forward { points } if !is_void(&entry) => {
                    for Forwarded { from, to } in points {
                        if is_thief || forged.points.contains(from) {
                            forged.points.insert(to.id);
                        }
                    }
                }
                _ => {}
            }
        }
        forged
    }
}

/// The former points that somebody sent, and that stood at every time that the clock showed.
fn always_stood<'c>(
    scene: &Scene<'_>,
    catalog: &'c Catalog,
    forged: &'c Forged,
) -> impl Iterator<Item = &'c FormerPoint> {
    let standing = catalog.standing_former(scene.turns.latest_ms());
    standing.filter(|former| !forged.points.contains(&former.id))
}

fn former_fault(scene: &Scene<'_>, vault: &Vault, catalog: &Catalog, forged: &Forged) -> Option<String> {
    always_stood(scene, catalog, forged).find_map(|former| {
        scene.tally.former.add(1);
        let fault = vault.open_former(former.id).and_then(|reader| content_fault(scene, &reader));
        let fault = fault.unwrap_or_else(|error| Some(error.to_string()));
        Some(format!("former point {}: {}", former.id, fault?))
    })
}

fn entries(store: &MemoryStore) -> Vec<Entry> {
    let entry = |number| store.get(&name::entry(number)).ok();
    let bytes = (1..).map_while(entry);
    bytes.map(|bytes| Signed::decode_again(&bytes).unwrap().entry).collect()
}

fn reach_fault(scene: &Scene<'_>, vault: &Vault, catalog: &Catalog, forged: &Forged) -> Option<String> {
    let mut reach = Reach::default();
    let mut live = catalog.points().keys();
    let mut former = always_stood(scene, catalog, forged);
    let added = live.try_for_each(|id| reach.add(vault, *id));
    if let Err(error) = added.and_then(|()| former.try_for_each(|former| reach.add(vault, former.id))) {
        return Some(error.to_string());
    }
    let successors = catalog.points().keys().filter(|id| catalog.forwarded_to(**id).next().is_some()).count();
    scene.tally.successors.add(u64::try_from(successors).unwrap());
    let renamed = reach.objects().iter().filter(|key| key.as_str().ends_with(".1")).count();
    scene.tally.renamed.add(u64::try_from(renamed).unwrap());
    let is_deleted = |key: &&Key| catalog.is_deleted(key) && !forged.deleted.contains(*key);
    let deleted = reach.objects().iter().find(is_deleted);
    deleted.map(|key| format!("{key} is in a delete entry, and a point reaches it"))
}

fn protection_fault(
    scene: &Scene<'_>,
    vault: &Vault,
    live: &LivePoint,
    holds_stand: bool,
) -> Result<Option<String>> {
    // A lock that has ended by the log's time binds nobody.
    let lasting = live.locked.filter(|locked| locked.until_ms > vault.catalog().head().time_ms);
    let is_held = holds_stand && live.holds.values().any(|hold| hold.locked);
    if lasting.is_none() && !is_held {
        return Ok(None);
    }
    for key in vault.needed_by(live.committed.id)? {
        let present = scene.store.retention(&key)?;
        if lasting.is_some_and(|locked| lock::raise(present, locked).is_some()) {
            return Ok(Some(format!("{key} is not locked as long as the log says")));
        }
        if is_held && !scene.store.legal_hold(&key)? {
            return Ok(Some(format!("{key} is not held")));
        }
    }
    Ok(None)
}

/// Restores the point.
fn content_fault(scene: &Scene<'_>, reader: &PointReader<'_>) -> Result<Option<String>> {
    let point = reader.point();
    let target = Target(Mutex::new(vec![0xaa; usize::try_from(point.bytes).unwrap()]));
    let report = reader.restore(&target, &())?;
    scene.tally.restored.add(1);
    let restored = target.0.into_inner().unwrap();
    let is_sent = scene.volumes.iter().find_map(|volume| volume.has_content(&point.source, &restored));
    let is_sent = is_sent.unwrap_or_else(|| careless::content(&point.source.snapshot) == restored);
    let is_whole = is_sent && report.lost_bytes == 0 && report.damaged.is_empty();
    Ok((!is_whole).then(|| format!("it does not restore to what was sent: {report:?}")))
}

/// Replays what protects points, as simply as can be.
fn prune_fault(entries: &[Entry], catalog: &Catalog) -> Option<String> {
    let mut holds = BTreeMap::<Digest, BTreeSet<&str>>::new();
    let mut dates = BTreeMap::<Digest, u64>::new();
    let move_date = |dates: &mut BTreeMap<Digest, u64>, id: Digest, until_ms: u64| {
        let date = dates.entry(id).or_default();
        *date = (*date).max(until_ms);
        *date
    };
    for entry in entries.iter().filter(|entry| catalog.void().iter().all(|void| void.number != entry.number))
    {
        match &entry.action {
            Action::Commit { points, .. } => {
                for point in points {
                    move_date(&mut dates, point.id, point.retain_until_ms.unwrap_or(0));
                }
            }
            Action::Retain { points, until_ms, .. } => {
                for id in points {
                    move_date(&mut dates, *id, *until_ms);
                }
            }
            Action::Hold { point, reason, .. } => drop(holds.entry(*point).or_default().insert(reason)),
            Action::Release { point, reason } => {
                holds.entry(*point).or_default().remove(reason.as_str());
            }
            Action::Prune { points } => {
                for pruned in points {
                    let is_held = holds.get(&pruned.id).is_some_and(|holds| !holds.is_empty());
                    if is_held || move_date(&mut dates, pruned.id, 0) > entry.time_ms {
                        return Some(format!(
                            "entry {} prunes point {}, which must stay",
                            entry.number, pruned.id
                        ));
                    }
                }
            }
            Action::Forward { points } => {
                for Forwarded { from, to } in points {
                    let held = holds.remove(from).unwrap_or_default();
                    holds.insert(to.id, held);
                    let date = move_date(&mut dates, *from, 0);
                    move_date(&mut dates, to.id, date);
                    if to.retain_until_ms.unwrap_or(0) < date {
                        return Some(format!("entry {} moves a date earlier", entry.number));
                    }
                    move_date(&mut dates, to.id, to.retain_until_ms.unwrap_or(0));
                }
            }
            _ => {}
        }
    }
    None
}

/// A place that had other content before, so that holes must be written.
struct Target(Mutex<Vec<u8>>);

impl Sink for Target {
    fn is_zeroed(&self) -> bool {
        false
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> Result<()> {
        let (at, length) = (usize::try_from(offset).unwrap(), usize::try_from(length).unwrap());
        self.0.lock().unwrap()[at..at + length].fill(0);
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}
