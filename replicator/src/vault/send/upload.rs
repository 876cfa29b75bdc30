//! What goes up for one volume: packs, and a run that takes in the runs below it that have become too short.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use super::SendOptions;
use super::parent::Parent;
use crate::error::{Error, Kind, Result};
use crate::format::container::{Header, Role};
use crate::format::digest::Digest;
use crate::format::frame::Sealer;
use crate::format::name::{self, Class};
use crate::format::pack_list::PackRef;
use crate::format::point::{Point, RUNS_MAX, RunRef, Sent};
use crate::policy::class;
use crate::store::{Key, Store};
use crate::vault::Vault;
use crate::vault::catalog::Catalog;
use crate::vault::damage::Judge;
use crate::vault::fresh::{Fresh, Tally};
use crate::vault::layer::{Layer, Stack};
use crate::vault::map::{Map, runs_to_merge};
use crate::vault::pack::{PackWriter, publish};
use crate::vault::progress::Progress;
use crate::vault::run::{PackNumbers, RunKeys, RunWriter};
use crate::vault::seal::{self, Sealing};
use crate::vault::source::{Change, SnapshotId, Source};

/// A send under what the log said when it began.
pub(super) struct Upload<'u> {
    vault: &'u Vault,
    catalog: &'u Arc<Catalog>,
    options: &'u SendOptions,
    progress: &'u dyn Progress,
    time_ms: u64,
    class: Class,
    period: u32,
}

/// What is in the store for one volume, and does not count yet.
pub(super) struct Uploaded {
    pub(super) point: Point,
    pub(super) parent: Option<Parent>,
    /// Packs and runs that this send wrote, or found there.
    pub(super) objects: Vec<Key>,
    pub(super) class: Class,
    pub(super) period: u32,
    pub(super) keys: RunKeys,
}

/// What is to be sent of one volume.
struct Plan {
    parent: Option<Parent>,
    keys: RunKeys,
    since: Option<SnapshotId>,
    /// Extents that change, and bytes of data.
    extents: u64,
    data_bytes: u64,
    /// Blocks that the volume lost at its end.
    cut_off: std::ops::Range<u64>,
    /// How many of the parent's newest runs become one with the new one.
    merged: usize,
}

/// A new run and what it points into.
struct NewRun {
    run: Option<RunRef>,
    packs: Vec<PackRef>,
    sent: Sent,
}

impl<'u> Upload<'u> {
    pub(super) fn new(
        vault: &'u Vault,
        catalog: &'u Arc<Catalog>,
        options: &'u SendOptions,
        progress: &'u dyn Progress,
    ) -> Result<Self> {
        let time_ms = vault.store().clock_ms()?;
        let class = class::for_date(time_ms, options.retain_until_ms)?;
        Ok(Self { vault, catalog, options, progress, time_ms, class, period: class::period(time_ms) })
    }

    /// Sends what the vault lacks of `source`.
    pub(super) fn volume(&self, source: &dyn Source) -> Result<Uploaded> {
        let plan = self.plan(source)?;
        self.progress.expect(plan.data_bytes);
        let new = match plan.extents == 0 && plan.cut_off.is_empty() {
            true => NewRun { run: None, packs: Vec::new(), sent: Sent::default() },
            false => self.new_run(source, &plan).map_err(|error| match error.kind() {
                Kind::Damaged if plan.merged > 0 => {
                    error.hint("send a baseline, which rests on nothing that is there")
                }
                _ => error,
            })?,
        };
        let mut objects: Vec<Key> = new.packs.iter().map(|pack| pack.name.key()).collect();
        objects.extend(new.run.as_ref().map(RunRef::key));
        let kept = plan.parent.as_ref().map_or(&[][..], |parent| &parent.point.runs);
        let kept = if new.run.is_some() || plan.merged > 0 { &kept[plan.merged..] } else { kept };
        let point = Point {
            firn: "point".to_owned(),
            format: crate::format::VERSION,
            vault: plan.keys.vault,
            source: source.origin().clone(),
            bytes: source.bytes(),
            time_ms: self.time_ms,
            parent: plan.parent.as_ref().map(|parent| parent.id),
            key: plan.keys.key,
            runs: new.run.into_iter().chain(kept.iter().cloned()).collect(),
            retain_until_ms: self.options.retain_until_ms,
            application: self.options.application.clone(),
            tags: source.tags(),
            sent: new.sent,
        };
        let (class, period) = (self.class.clone(), self.period);
        Ok(Uploaded { point, parent: plan.parent, objects, class, period, keys: plan.keys })
    }

    /// Looks through what changed once, before anything is read: how much it is decides what is merged.
    fn plan(&self, source: &dyn Source) -> Result<Plan> {
        let origin = source.origin();
        let key = self.vault.data_key(origin.pool, origin.volume)?;
        let frames = self.vault.frame_keys(key)?;
        let parent = match self.options.baseline {
            true => None,
            false => self.vault.parent_of(self.catalog, source, Some(key))?,
        };
        let since = parent.as_ref().map(|parent| SnapshotId::of(&parent.point.source));
        let (mut extents, mut data_bytes) = (0, 0);
        source.changes(since, &mut |Change { blocks, is_data, .. }| {
            extents += 1;
            data_bytes += if is_data { blocks * 4096 } else { 0 };
            Ok(())
        })?;
        let end = source.bytes() / 4096;
        let cut_off = end..parent.as_ref().map_or(end, |parent| end.max(parent.point.bytes / 4096));
        let below = parent.iter().flat_map(|parent| &parent.point.runs).map(|run| run.extents);
        let merged = match extents == 0 && cut_off.is_empty() {
            true => 0,
            false => {
                runs_to_merge(extents + u64::from(!cut_off.is_empty()), &below.collect::<Vec<_>>(), RUNS_MAX)
            }
        };
        let keys = RunKeys { vault: self.vault.settings().vault, key, frames };
        Ok(Plan { parent, keys, since, extents, data_bytes, cut_off, merged })
    }

    fn new_run(&self, source: &dyn Source, plan: &Plan) -> Result<NewRun> {
        let store: &dyn Store = self.vault.store().as_ref();
        let below = plan.parent.as_ref().map_or(&[][..], |parent| &parent.point.runs);
        let map = Map::open(store, &below[..plan.merged], &plan.keys, Judge::Refuse)?;
        let header = |role| Header { role, vault: plan.keys.vault, key: plan.keys.key };
        let sealer = Sealer::new(plan.keys.frames.clone(), self.options.level)?;
        // Under holes that nothing lies below, a block is a hole anyway.
        let keeps_holes = plan.merged < below.len();
        let numbers = PackNumbers::new(map.pack_lists());
        let mut run = RunWriter::new(store, &header(Role::Run), sealer, numbers, keeps_holes)?;
        let mut tally = Tally::default();
        let packs = thread::scope(|scope| {
            let (packed, queue) = sync_channel(1);
            let publisher = scope.spawn(move || {
                publish(store, &self.class, self.period, &|key| self.catalog.is_deleted(key), &queue)
            });
            let sealing = Sealing {
                since: plan.since,
                keys: plan.keys.frames.clone(),
                level: self.options.level,
                threads: self.options.threads,
            };
            let batches = seal::start(scope, source, &sealing);
            let mut packs = PackWriter::new(store, header(Role::Pack), packed);
            let fresh = Fresh::new(batches, &mut packs, plan.cut_off.clone(), &mut tally, self.progress);
            let merged = merge(store, Box::new(fresh), &map, &mut run);
            // No more packs come: the publisher ends. What failed there comes first, for it made the rest fail.
            drop(packs);
            let ended = || Error::new(Kind::Bug, "publish packs", "the thread ended before its work");
            let published = publisher.join().unwrap_or_else(|_| Err(ended()))?;
            merged.map(|()| published)
        })?;
        let mut sent = Sent {
            changed_bytes: tally.data_bytes,
            content_bytes: tally.data_bytes,
            stored_bytes: packs.iter().map(|pack| pack.shape.stored_bytes).sum(),
        };
        let Some(written) = run.finish(&packs)? else { return Ok(NewRun { run: None, packs, sent }) };
        let finished = written.sealed.finished;
        sent.content_bytes += written.content_bytes;
        sent.stored_bytes += finished.shape.stored_bytes;
        let id: Digest = finished.id;
        let generation = written.sealed.publish(
            store,
            |generation| name::run(id, generation),
            |key| self.catalog.is_deleted(key),
        )?;
        let run = RunRef { id, generation, shape: finished.shape, extents: written.extents };
        Ok(NewRun { run: Some(run), packs, sent })
    }
}

/// Writes what is new over the layers of `map` to `run`.
fn merge<'a>(
    store: &'a dyn Store,
    fresh: Box<dyn Layer + 'a>,
    map: &'a Map,
    run: &mut RunWriter<'_>,
) -> Result<()> {
    let mut layers = vec![fresh];
    layers.extend(map.layers(store, 0, Judge::Refuse)?);
    let mut stack = Stack::new(layers, 0)?;
    while let Some((layer, piece)) = stack.next()? {
        run.add(layer, piece)?;
    }
    Ok(())
}
