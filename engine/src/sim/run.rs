//! A seeded run: random operations against the reference model, crashes at random points, and after each of them a
//! comparison of every block of every volume and snapshot.
//!
//! What is checked, by invariant: the recovered LSN is a boundary of a group (I3) and the pool equals the model at
//! it (I2, I4, I6); it is not below what a flush answered (I1); after the death of the process alone it is exactly
//! what had taken effect (I8); a checkpoint that maps a block twice or frees it twice fails (I5); 16 KiB pages are
//! never torn, by a checker that knows nothing of LSNs (I3).

mod operations;

use std::collections::BTreeMap;

use super::machine::{Machine, Running};
use super::model::{BLOCK_SECTORS, Effect, Model, Stamp, read_stamp};
use super::random::Random;
use crate::catalog::Operation;
use crate::check::CheckOptions;
use crate::core::{Completion, Request, Response, Target, TraceEvent};
use crate::error::Kind;
use crate::recovery::load_catalog;
use crate::sys::MemorySlice;
use crate::units::{Lsn, PhysicalBlock, VolumeId};

/// Operations between two crashes, at most.
const STEPS_MAX: u64 = 120;
/// Sectors of a 16 KiB page.
const PAGE_SECTORS: usize = 32;
/// The volume that only ever gets whole, aligned 16 KiB pages.
const PAGED: &str = "paged";

/// How a run went.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunReport {
    /// Crashes and closes.
    pub crashes: u64,
    /// Operations that took effect.
    pub events: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Snapshots and volumes compared, block by block.
    pub compared: u64,
    /// Reads that were answered by what was read ahead.
    pub ahead: u64,
    /// Blocks that were staged where they were received.
    pub landed: u64,
}

struct Issued {
    volume: Option<VolumeId>,
    sector: u64,
    stamps: Vec<Stamp>,
    flush: bool,
    /// A read: what was asked, and the model's answer when it was asked, with how many events the pool had seen.
    read: Option<(Target, u64, Vec<Stamp>, u64)>,
}

pub(super) struct Run {
    pub(super) machine: Machine,
    random: Random,
    /// The model at the last crash, and what took effect since, in LSN order.
    base: Model,
    log: Vec<(Lsn, Lsn, Effect)>,
    live: Model,
    issued: BTreeMap<u64, Issued>,
    next_tag: u64,
    next_stamp: Stamp,
    next_name: u64,
    /// No crash may lose what is below this LSN.
    durable: Lsn,
    paged: Option<VolumeId>,
    /// What a client has begun to send.
    half_received: Option<MemorySlice>,
    /// What is read in order, and the sector where that goes on.
    scanned: Option<(Target, u64)>,
    /// The disk lies in this run: damaged blocks may be reported, never returned.
    lying: bool,
    /// Requests that were refused because what they needed is damaged.
    pub(super) reported: u64,
    /// Requests that were refused for want of space.
    refused: u64,
    report: RunReport,
}

/// Runs one seed.
///
/// # Panics
/// When the engine broke an invariant; the message names it.
pub fn run(seed: u64) -> RunReport {
    let mut run = Run::new(seed, false);
    let crashes = run.random.range(1..4);
    let mut running = run.machine.open().expect("a new pool opens");
    for _ in 0..crashes {
        let steps = run.random.range(1..STEPS_MAX);
        for _ in 0..steps {
            run.step(&mut running);
        }
        run.report.checkpoints += running.core.statistics().checkpoints;
        run.report.ahead += running.core.statistics().read_ahead_hits;
        run.report.landed += running.core.statistics().landed_blocks;
        running = run.end(running);
        run.compare(&mut running);
    }
    run.check(&mut running);
    let overlaps = run.machine.disk.statistics().overlaps;
    assert_eq!(overlaps, 0, "device rule 3: writes met other requests for the same bytes in flight");
    run.report
}

impl Run {
    pub(super) fn new(seed: u64, lying: bool) -> Self {
        Self {
            machine: Machine::new(seed).expect("a new pool"),
            random: Random::new(seed ^ 0x5eed),
            base: Model::default(),
            log: Vec::new(),
            live: Model::default(),
            issued: BTreeMap::new(),
            next_tag: 1,
            next_stamp: 1,
            half_received: None,
            next_name: 0,
            durable: Lsn(1),
            paged: None,
            scanned: None,
            lying,
            reported: 0,
            refused: 0,
            report: RunReport::default(),
        }
    }

    pub(super) fn step(&mut self, running: &mut Running) {
        for _ in 0..self.random.below(4) {
            self.operate(running);
        }
        for _ in 0..self.random.below(6) {
            self.turn(running);
        }
    }

    fn turn(&mut self, running: &mut Running) {
        let (trace, completions) = running.turn(&mut self.random);
        trace.into_iter().for_each(|event| self.took_effect(event));
        for completion in completions {
            self.completed(completion);
        }
    }

    fn took_effect(&mut self, event: TraceEvent) {
        self.report.events += 1;
        let effect = match (event.operation, event.owner.and_then(|owner| self.issued.get(&owner.tag))) {
            (Some(operation), _) => Effect::Change(operation),
            (None, Some(issued)) => {
                let first = (event.blocks.start * BLOCK_SECTORS).max(issued.sector);
                let end = (event.blocks.end * BLOCK_SECTORS).min(issued.sector + issued.stamps.len() as u64);
                let at = |sector: u64| usize::try_from(sector - issued.sector).expect("small");
                let stamps =
                    if first < end { issued.stamps[at(first)..at(end)].to_vec() } else { Vec::new() };
                Effect::Write { volume: issued.volume.expect("a write"), sector: first, stamps }
            }
            (None, None) => panic!("an effect of no request: {:?}", event.owner),
        };
        if let Effect::Change(Operation::VolumeCreate { id, name, .. }) = &effect
            && name == PAGED
        {
            self.paged = Some(*id);
        }
        self.live.apply(&effect);
        self.log.push((event.lsn, event.end, effect));
    }

    fn completed(&mut self, completion: Completion) {
        let Some(issued) = self.issued.remove(&completion.owner.tag) else {
            panic!("an answer to no request")
        };
        match completion.result {
            Ok(Response::Done(lsn) | Response::Changed(_, lsn)) if issued.flush => {
                self.durable = self.durable.max(lsn);
            }
            Ok(Response::Data(data)) => self.check_read(&issued, &data),
            Ok(_) => {}
            Err(error) if self.lying && error.kind() == Kind::Damaged => self.reported += 1,
            Err(error) if error.kind() == Kind::OutOfSpace => self.refused += 1,
            Err(error) => assert!(
                matches!(error.kind(), Kind::Invalid | Kind::NotFound | Kind::Conflict),
                "a request failed: {error:?}"
            ),
        }
    }

    /// A read that nothing changed around must give exactly what the model has (I4).
    fn check_read(&self, issued: &Issued, data: &MemorySlice) {
        let Some((target, sector, expected, events)) = &issued.read else { panic!("data for no read") };
        let snapshot = matches!(target, Target::Snapshot(_));
        if !snapshot && *events != self.report.events {
            return;
        }
        let found = stamps_of(data);
        if let Some(at) = (0..found.len()).find(|&at| found[at] != expected[at]) {
            panic!(
                "I4: {target:?} has stamp {} at sector {}, not {}; {} sectors of {} differ",
                found[at],
                sector + at as u64,
                expected[at],
                (0..found.len()).filter(|&at| found[at] != expected[at]).count(),
                found.len()
            );
        }
    }

    /// Ends this open of the pool in one of the ways that a pool's life goes on after.
    fn end(&mut self, mut running: Running) -> Running {
        self.report.crashes += 1;
        let way = self.random.below(100);
        let killed = way < 40;
        running.core.take_trace().into_iter().for_each(|event| self.took_effect(event));
        let reached = running.next_lsn();
        self.durable = self.durable.max(running.core.durable_lsn());
        if (40..55).contains(&way) {
            self.settle(&mut running);
            let reached = running.next_lsn();
            self.machine.close(running).expect("a healthy device");
            self.issued.clear();
            return self.reopen(reached, reached);
        }
        self.issued.clear();
        if killed {
            self.machine.kill(running);
            return self.reopen(reached, reached);
        }
        self.machine.power_cut(Some(running));
        self.reopen(self.durable, reached)
    }

    /// Lets everything that was asked for end, then flushes, and waits until the journal says that it is durable.
    pub(super) fn calm(&mut self, running: &mut Running, close: bool) {
        if close {
            self.settle(running);
        } else {
            self.flush_and_wait(running);
        }
        running.core.take_trace().into_iter().for_each(|event| self.took_effect(event));
        self.issued.clear();
    }

    fn flush_and_wait(&mut self, running: &mut Running) {
        for round in 0..2 {
            for _ in 0..100_000 {
                if self.issued.is_empty() {
                    break;
                }
                self.turn(running);
            }
            assert!(self.issued.is_empty(), "requests never ended: {:?}", running.core.statistics());
            if round == 0 {
                let owner =
                    self.tag(Issued { volume: None, sector: 0, stamps: vec![], flush: true, read: None });
                running.submit(owner, Request::Flush);
            }
        }
        for _ in 0..400 {
            self.turn(running);
        }
    }

    /// Lets everything end and makes a checkpoint, as a close does.
    fn settle(&mut self, running: &mut Running) {
        // Refusals before it was asked for; another one means that it could not be made.
        let mut asked = None;
        for _ in 0..200_000 {
            if self.issued.is_empty() {
                if asked == Some(self.refused) {
                    return;
                }
                asked = Some(self.refused);
                running.core.begin_close();
                let owner =
                    self.tag(Issued { volume: None, sector: 0, stamps: vec![], flush: true, read: None });
                running.submit(owner, Request::Checkpoint);
            }
            self.turn(running);
        }
        panic!("requests never ended: {:?}; {:?}", self.issued.keys(), running.core.statistics());
    }

    /// Opens the pool again, with crashes on the way, and brings the model to the recovered LSN.
    fn reopen(&mut self, at_least: Lsn, at_most: Lsn) -> Running {
        let mut at_least = at_least;
        for _ in 0..self.random.below(3) {
            // Not at once: that would be before the process that opens the pool began, with the tail gone.
            self.machine.disk.cut_after(self.random.range(1..30));
            match self.machine.open() {
                Ok(running) => {
                    // It opened before the cut came; the cut comes now.
                    self.machine.power_cut(Some(running));
                }
                Err(error) => {
                    assert!(self.machine.disk.is_cut(), "opening failed without a cut: {error:?}");
                    self.machine.power_cut(None);
                }
            }
            // The tail is gone with the power: only what was flushed is promised now.
            at_least = at_least.min(self.durable);
        }
        self.machine.disk.cancel_cut();
        let running = self.machine.open().unwrap_or_else(|error| panic!("the pool does not open: {error:?}"));
        self.recovered(&running, at_least, at_most);
        running
    }

    /// Checks how far a recovery came, and brings the model there.
    pub(super) fn recovered(&mut self, running: &Running, at_least: Lsn, at_most: Lsn) {
        let recovered = running.next_lsn();
        assert!(recovered >= at_least, "I1, I8: recovered to {recovered}, promised was {at_least}");
        assert!(recovered <= at_most, "I2: recovered to {recovered}, only {at_most} was reached");
        let mut model = std::mem::take(&mut self.base);
        for (lsn, end, effect) in self.log.drain(..) {
            if lsn < recovered {
                assert!(end <= recovered, "I3: the group {lsn}..{end} was torn at {recovered}");
                model.apply(&effect);
            }
        }
        self.base = model.clone();
        self.live = model;
        self.durable = recovered;
        self.paged = self.paged.filter(|id| self.live.volumes.contains_key(id));
    }

    /// Reads everything and compares it with the model.
    pub(super) fn compare(&mut self, running: &mut Running) {
        let views: Vec<(Target, Vec<Stamp>)> = {
            let volumes =
                self.live.volumes.iter().map(|(&id, volume)| (Target::Volume(id), volume.sectors.clone()));
            let snapshots = self
                .live
                .snapshots
                .iter()
                .map(|(&key, snapshot)| (Target::Snapshot(key), snapshot.sectors.clone()));
            volumes.chain(snapshots).collect()
        };
        for (target, sectors) in &views {
            let owner = self.tag(Issued {
                volume: None,
                sector: 0,
                stamps: vec![],
                flush: false,
                read: Some((*target, 0, sectors.clone(), self.report.events)),
            });
            running.submit(
                owner,
                Request::Read { target: *target, offset: 0, length: sectors.len() as u64 * 512 },
            );
            self.report.compared += 1;
        }
        for _ in 0..100_000 {
            if self.issued.is_empty() {
                break;
            }
            self.turn(running);
        }
        assert!(self.issued.is_empty(), "reads never ended");
        let visible = running.core.catalog().volumes().count();
        assert_eq!(visible, self.live.volumes.len(), "volumes");
        let snapshots: usize = running
            .core
            .catalog()
            .volumes()
            .map(|volume| running.core.catalog().snapshots_of(volume.id).len())
            .sum();
        assert_eq!(snapshots, self.live.snapshots.len(), "snapshots");
        self.check_pages();
    }

    /// The offline check finds the map whole, with everything in it.
    fn check(&mut self, running: &mut Running) {
        self.settle(running);
        let superblock = running.superblock();
        let area = PhysicalBlock(superblock.data_start)..PhysicalBlock(superblock.pool_blocks);
        let checked = running.home().look(|store| {
            let view = store.view();
            let catalog = load_catalog(&view, &view.state()?)?;
            crate::check::check(&view, &catalog, area, CheckOptions::default())
        });
        let report = checked.expect("the store is readable");
        assert!(
            report.is_clean(),
            "the check found: {:?}",
            report.discrepancies.iter().take(5).collect::<Vec<_>>()
        );
    }

    /// I3, by itself: every aligned 16 KiB page of the paged volume and its snapshots is of one write.
    fn check_pages(&self) {
        let Some(paged) = self.paged else { return };
        let snapshots = self
            .live
            .snapshots
            .values()
            .filter(|snapshot| snapshot.volume == paged)
            .map(|snapshot| &snapshot.sectors);
        for sectors in
            self.live.volumes.get(&paged).map(|volume| &volume.sectors).into_iter().chain(snapshots)
        {
            for page in sectors.chunks(PAGE_SECTORS) {
                assert!(page.iter().all(|stamp| *stamp == page[0]), "I3: a 16 KiB page is torn: {page:?}");
            }
        }
    }
}

fn stamps_of(data: &MemorySlice) -> Vec<Stamp> {
    data.bytes(0, data.len())
        .chunks(512)
        .map(|sector| {
            read_stamp(sector)
                .unwrap_or_else(|| panic!("I4: a sector that nobody wrote: {:?}", &sector[..16]))
        })
        .collect()
}
