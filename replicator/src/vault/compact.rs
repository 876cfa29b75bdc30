//! Compaction: packs of which live points see little are copied forward, and left to reclaim.
//!
//! 1. Only packs that nothing in the store locks or holds are left, and that no point reaches which is locked or must
//!    stay by the log, former points included: the others would stay, and the copy would be one more.
//! 2. All points that reach such a pack go on without it. One that changes meanwhile keeps it; the next compaction
//!    looks again.
//! 3. When it is not known what a live point sees, nothing is copied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::catalog::Catalog;
use super::damage::Judge;
use super::forward::{Leaving, Place};
use super::lock::locks_on;
use super::reach::Reach;
use super::retain::parts;
use super::run::{Run, RunKeys};
use super::{RACES_MAX, Vault};
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, KeyId};
use crate::format::name::PackName;
use crate::format::pack_list::PackRef;
use crate::format::point::{Point, RunRef};
use crate::policy::class::{self, is_worth_keeping};
use crate::store::Key;

/// How often it is begun anew because something left the vault meanwhile.
const TRIES: usize = 8;

/// A pack that is left, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftPack {
    /// The pack.
    pub object: Key,
    /// Its length: what reclaim gives back of it.
    pub bytes: u64,
    /// Blocks in it.
    pub blocks: u32,
    /// Of these, the ones that live points see.
    pub live_blocks: u32,
}

/// What a compaction found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactReport {
    /// The packs that are left, or would be.
    pub packs: Vec<LeftPack>,
    /// Their bytes.
    pub before_bytes: u64,
    /// The bytes that took their place, with the runs that were written anew; of a plan, what is expected for the packs.
    pub after_bytes: u64,
    /// Points that went on as others, or would.
    pub points: u64,
    /// Why it is not known what the live points see, if so.
    pub unknown: Option<String>,
}

/// Live points under one key, and the packs of theirs that may be left.
struct Group {
    keys: RunKeys,
    points: Vec<(Digest, Point)>,
    packs: Vec<PackRef>,
}

/// A run that points share, and what is known of those.
struct Shared {
    run: RunRef,
    /// Whether one of them is locked, or must stay.
    is_barred: bool,
}

impl Vault {
    /// What [`compact`](Self::compact) would do now.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the vault is locked; what the store said.
    pub fn plan_compact(&self) -> Result<CompactReport> {
        let catalog = self.refresh()?;
        let plan = || {
            let mut report = CompactReport::default();
            let mut points = BTreeSet::new();
            for group in self.groups(&catalog)? {
                for packs in parts(group.packs.clone()) {
                    let leaving = self.mostly_dead(&group, packs)?;
                    report.note(&leaving);
                    for (id, point) in &group.points {
                        if !points.contains(id) && self.lists(&group.keys, point, &leaving)? {
                            points.insert(*id);
                        }
                    }
                }
            }
            report.points = points.len() as u64;
            report.after_bytes = report.packs.iter().map(LeftPack::live_bytes).sum();
            Ok(report)
        };
        or_unknown(plan(), CompactReport::default())
    }

    /// Copies forward what lives of packs of which less than 70 % does. A reclaim gives back what is left.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the vault is locked; as [`append`](Self::append). The next compaction goes on where it
    /// ended.
    pub fn compact(&self) -> Result<CompactReport> {
        let (mut report, mut tries) = (CompactReport::default(), 0);
        for _ in 0..RACES_MAX {
            let catalog = self.refresh()?;
            match self.compact_some(&catalog, &mut report) {
                Ok(true) => {}
                Ok(false) => return Ok(report),
                Err(error) if tries < TRIES && self.has_moved(&catalog, &error)? => tries += 1,
                Err(error) => return or_unknown(Err(error), report),
            }
        }
        Err(Error::new(Kind::Retry, "compact vault", "points changed each time that they were looked at"))
    }

    /// Copies as much as is looked at at once. Whether there was something.
    fn compact_some(&self, catalog: &Arc<Catalog>, report: &mut CompactReport) -> Result<bool> {
        let place =
            Place { class: class::unlocked(), period: class::period(self.store.clock_ms()?), catalog };
        for group in self.groups(catalog)? {
            for packs in parts(group.packs.clone()) {
                let leaving = self.mostly_dead(&group, packs)?;
                if leaving.is_empty() {
                    continue;
                }
                let done = self.forward(&place, &group.points, &leaving, None)?;
                if done.points > 0 {
                    report.note(&leaving);
                }
                report.points += done.points;
                report.after_bytes += done.stored_bytes;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The live points by key, with the packs that may be mostly dead: no run points at most of one alone.
    fn groups(&self, catalog: &Catalog) -> Result<Vec<Group>> {
        let now_ms = self.store.clock_ms()?;
        let mut by_key = BTreeMap::<KeyId, (BTreeMap<Key, Shared>, Vec<(Digest, Point)>)>::new();
        for (id, live) in catalog.points() {
            if catalog.is_destroyed(live.committed.key) {
                continue;
            }
            let point = self.read_point(*id)?;
            let is_barred =
                live.protection(now_ms).is_some() || live.locked.is_some_and(|lock| lock.until_ms > now_ms);
            let (runs, points) = by_key.entry(point.key).or_default();
            for run in &point.runs {
                let shared = || Shared { run: run.clone(), is_barred: false };
                runs.entry(run.key()).or_insert_with(shared).is_barred |= is_barred;
            }
            points.push((*id, point));
        }
        let mut former = Reach::default();
        catalog.standing_former(now_ms).try_for_each(|point| former.add_former(self, point.id))?;
        let mut groups = Vec::new();
        for (_, (runs, points)) in by_key {
            let Some((_, point)) = points.first() else { continue };
            let keys = RunKeys::of(point, self.frame_keys(point.key)?);
            let mut packs = self.perhaps_dead(&keys, runs.values())?;
            packs.retain(|pack| !former.objects().contains(&pack.name.key()));
            groups.push(Group { keys, points, packs });
        }
        Ok(groups)
    }

    fn perhaps_dead<'a>(
        &self,
        keys: &RunKeys,
        runs: impl Iterator<Item = &'a Shared>,
    ) -> Result<Vec<PackRef>> {
        let mut packs = BTreeMap::<PackName, (PackRef, bool)>::new();
        for Shared { run, is_barred } in runs {
            let opened = Run::open(self.store.as_ref(), run, keys, Judge::Refuse)?;
            for pack in opened.packs() {
                let known = packs.entry(pack.name.clone()).or_insert_with(|| (pack.clone(), false));
                known.1 |= is_barred;
            }
        }
        Ok(packs.into_values().filter(|(_, is_barred)| !is_barred).map(|(pack, _)| pack).collect())
    }

    /// Those of the packs that are mostly dead, and that nothing in the store keeps.
    fn mostly_dead(&self, group: &Group, packs: Vec<PackRef>) -> Result<Leaving> {
        let store = self.store.as_ref();
        let mut leaving = Leaving::new(packs)?;
        for (_, point) in &group.points {
            leaving.mark(store, &point.runs, &group.keys)?;
        }
        leaving.decide(|pack, live_blocks| !is_worth_keeping(pack.blocks, live_blocks));
        let now_ms = store.clock_ms()?;
        let mut free = BTreeSet::new();
        for pack in leaving.packs() {
            if locks_on(store, &pack.pack.name.key())?.bar(now_ms).is_none() {
                free.insert(pack.pack.name.clone());
            }
        }
        leaving.decide(|pack, _| free.contains(&pack.name));
        Ok(leaving)
    }

    /// Whether a run of the point lists one of the packs.
    fn lists(&self, keys: &RunKeys, point: &Point, leaving: &Leaving) -> Result<bool> {
        if leaving.is_empty() {
            return Ok(false);
        }
        for run in &point.runs {
            let opened = Run::open(self.store.as_ref(), run, keys, Judge::Refuse)?;
            if opened.packs().any(|pack| leaving.has(&pack.name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl LeftPack {
    fn live_bytes(&self) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(self.live_blocks) / u128::from(self.blocks.max(1));
        u64::try_from(bytes).unwrap_or(self.bytes)
    }
}

impl CompactReport {
    fn note(&mut self, leaving: &Leaving) {
        for pack in leaving.packs() {
            let bytes = pack.pack.shape.stored_bytes;
            self.before_bytes += bytes;
            self.packs.push(LeftPack {
                object: pack.pack.name.key(),
                bytes,
                blocks: pack.pack.blocks,
                live_blocks: pack.live_blocks(),
            });
        }
    }
}

/// Damage is no error of a compaction: it is said, and nothing is copied.
fn or_unknown(done: Result<CompactReport>, so_far: CompactReport) -> Result<CompactReport> {
    match done {
        Err(error) if error.kind() == Kind::Damaged => {
            Ok(CompactReport { unknown: Some(error.to_string()), ..so_far })
        }
        done => done,
    }
}
