//! The core: one state machine that takes requests and device completions and gives device requests and answers.
//! It owns every mutable part of an open pool, waits for nothing and knows no clock, thread or file; the reactor
//! (and the simulation) drives it.
//!
//! 1. A write takes effect when its records are published in the tail, in LSN order; it is answered after that (I8).
//! 2. A flush is answered after every block staged and every journal block sealed before it was written, and then
//!    a sync that was submitted afterwards has completed (I1).
//! 3. The map a read follows is, newest first: active overlay, frozen overlay (a checkpoint is writing it), retired
//!    overlay (written; cached pages are being brought up to it), cached page.
//! 4. Blocks freed by a checkpoint are handed out again only after every read that began before has ended (I5).
//! 5. After a failed write or sync the core takes no more changes and says why.

mod ahead;
mod change;
pub(crate) mod checkpointing;
mod devicing;
mod direct;
mod flush;
mod landing;
mod locks;
mod read;
mod recent;
pub mod request;
mod room;
mod staging;
mod statistics;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

pub(crate) use change::cut_off;
pub use checkpointing::{WorkDone, WorkItem};
pub use landing::Landing;
pub use recent::Recent;
pub use request::{Completion, Owner, Request, Response, Target};
pub use statistics::Statistics;

use crate::catalog::{Catalog, SnapshotKey};
use crate::device::{DeviceCompletion, DeviceRequest};
use crate::error::{Error, Kind, Result};
use crate::journal::Journal;
use crate::journal::tail::Tail;
use crate::map::cache::{PageCache, View};
use crate::map::overlay::Overlay;
use crate::space::Space;
use crate::sys::{BufferPool, Memory};
use crate::units::{Lsn, PoolId};
use ahead::Ahead;
use devicing::Pending;
use flush::Flushes;
use landing::Landings;
use locks::Locks;
use read::Reads;
use room::Quarantine;
use staging::Staging;
use write::WriteJob;

/// Bounds and intervals of an open pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreOptions {
    /// Bytes of decoded map pages kept in memory.
    pub cache_bytes: usize,
    /// Bytes of changes kept in memory before a checkpoint takes them.
    pub overlay_bytes: usize,
    /// The part of the journal that may be used before a checkpoint takes it, in percent. At 100 only a full journal
    /// asks for one, and writers wait for it.
    pub checkpoint_journal_percent: u64,
    /// Longest time between checkpoints while something changed, in ms.
    pub checkpoint_interval_ms: u64,
    /// Shortest time between checkpoints that are made only to give back the room of what was deleted, in ms.
    pub reclaim_interval_ms: u64,
    /// Longest time that an acknowledged write stays without a sync, in ms; it bounds what recovery must verify.
    pub sync_interval_ms: u64,
    /// Most blocks that are written without a sync, for the same reason.
    pub unsynced_blocks: u64,
    /// Writes of at least so many bytes go to the device from the request's own memory, not through the tail.
    pub direct_bytes: u64,
    /// Device writes of staged data in flight at once while nobody waits for a flush.
    pub writes_in_flight: usize,
    /// Pages written lately that one step of an unmap covers at most, at least 2: each takes room in memory until a
    /// checkpoint, for which there may have to be waited in between.
    pub unmap_pages: usize,
    /// Bytes that are read ahead of those who read in order, of all of them; 0 for none.
    pub read_ahead_bytes: u64,
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 128 << 20,
            overlay_bytes: 96 << 20,
            checkpoint_journal_percent: 50,
            checkpoint_interval_ms: 60_000,
            reclaim_interval_ms: 250,
            sync_interval_ms: 1_000,
            unsynced_blocks: 64 << 10,
            direct_bytes: 512 << 10,
            writes_in_flight: 4,
            unmap_pages: 4096,
            read_ahead_bytes: 32 << 20,
        }
    }
}

/// What recovery hands to the core.
pub struct CoreParts {
    /// The pool.
    pub pool_id: PoolId,
    /// The open of the pool.
    pub incarnation: u64,
    /// The catalog up to the journal's end.
    pub catalog: Catalog,
    /// The allocation bitmap up to the journal's end.
    pub space: Space,
    /// The journal, ready to go on.
    pub journal: Journal,
    /// The tail of this open.
    pub tail: Tail,
    /// What the journal says beyond the checkpoint.
    pub overlay: Overlay,
    /// Every record before this LSN is durable.
    pub durable: Lsn,
    /// Buffers for data on its way in and out.
    pub buffers: BufferPool,
    /// The epoch at the last checkpoint: snapshots from it on are not counted in RocksDB yet.
    pub checkpoint_epoch: crate::units::Epoch,
}

/// The state of an open pool.
pub struct Core {
    options: CoreOptions,
    pool_id: PoolId,
    incarnation: u64,
    now_ms: u64,
    wall_ms: u64,
    catalog: Catalog,
    space: Space,
    journal: Journal,
    tail: Tail,
    staging: Staging,
    landings: Landings,
    cache: PageCache,
    active: Overlay,
    frozen: Option<Arc<Overlay>>,
    retired: Option<checkpointing::Retired>,
    checkpoints: checkpointing::Checkpoints,
    durable: Lsn,
    flushes: Flushes,
    reads: Reads,
    ahead: Ahead,
    locks: Locks,
    parked_writes: VecDeque<WriteJob>,
    parked_changes: VecDeque<(Owner, request::Plan)>,
    edge_jobs: Slab<WriteJob>,
    direct_jobs: Slab<WriteJob>,
    /// Times that a volume was made smaller.
    cuts: u64,
    pins: BTreeMap<SnapshotKey, u32>,
    quarantine: Quarantine,
    pending: Slab<Pending>,
    device_requests: VecDeque<(u64, DeviceRequest)>,
    stage_writes_in_flight: usize,
    buffers: BufferPool,
    completions: Vec<Completion>,
    work: Vec<WorkItem>,
    failed: Option<Error>,
    closing: bool,
    statistics: Statistics,
    #[cfg(any(test, feature = "sim"))]
    trace: Option<Vec<TraceEvent>>,
}

/// What took effect at an LSN, for the simulation's reference model.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Debug)]
pub struct TraceEvent {
    /// The first LSN of the group of records.
    pub lsn: Lsn,
    /// The LSN after the group.
    pub end: Lsn,
    /// Whose request it was.
    pub owner: Option<Owner>,
    /// Blocks from the first to before the end, for a write or unmap.
    pub blocks: std::ops::Range<u64>,
    /// The catalog operation, for a change.
    pub operation: Option<crate::catalog::Operation>,
}

impl Core {
    /// A core that goes on from what recovery found.
    pub fn new(parts: CoreParts, options: CoreOptions) -> Self {
        let landings = Landings::new(parts.tail.data_slots());
        let staging = Staging::new(landings.first_slot());
        let overlay_is_empty = parts.overlay.is_empty();
        Self {
            pool_id: parts.pool_id,
            incarnation: parts.incarnation,
            now_ms: 0,
            wall_ms: 0,
            catalog: parts.catalog,
            space: parts.space,
            journal: parts.journal,
            tail: parts.tail,
            staging,
            landings,
            cache: PageCache::new(options.cache_bytes),
            active: parts.overlay,
            frozen: None,
            retired: None,
            checkpoints: checkpointing::Checkpoints::new(parts.checkpoint_epoch, !overlay_is_empty),
            durable: parts.durable,
            flushes: Flushes::default(),
            reads: Reads::default(),
            ahead: Ahead::default(),
            locks: Locks::default(),
            parked_writes: VecDeque::new(),
            parked_changes: VecDeque::new(),
            edge_jobs: Slab::new(),
            direct_jobs: Slab::new(),
            cuts: 0,
            pins: BTreeMap::new(),
            quarantine: Quarantine::default(),
            pending: Slab::new(),
            device_requests: VecDeque::new(),
            stage_writes_in_flight: 0,
            buffers: parts.buffers,
            completions: Vec::new(),
            work: Vec::new(),
            failed: None,
            closing: false,
            statistics: Statistics::default(),
            options,
            #[cfg(any(test, feature = "sim"))]
            trace: None,
        }
    }

    /// Takes a request; its completion comes out of [`take_completions`](Self::take_completions) at once or later.
    pub fn submit(&mut self, owner: Owner, request: Request) {
        match request {
            Request::Read { target, offset, length } => self.submit_read(owner, target, offset, length),
            Request::Write { volume, offset, data, fua } => {
                let length = data.len() as u64;
                self.submit_write(WriteJob::new(owner, volume, offset, length, Some(data), fua));
            }
            Request::Unmap { volume, offset, length, fua } => {
                self.submit_write(WriteJob::new(owner, volume, offset, length, None, fua));
            }
            Request::Rewrite { volume, block } => self.submit_write(WriteJob::rewrite(owner, volume, block)),
            Request::Flush => self.submit_flush(owner),
            Request::Change(plan) => self.submit_change(owner, plan),
            Request::Checkpoint => self.submit_checkpoint(owner),
            Request::Pin { key, pinned } => self.pin(owner, key, pinned),
            Request::Look(look) => {
                look(self);
                self.complete(owner, Ok(Response::Done(self.journal.next_lsn())));
            }
            Request::Grow { pool_blocks } => {
                self.space.grow(pool_blocks);
                self.complete(owner, Ok(Response::Done(self.journal.next_lsn())));
            }
        }
    }

    fn complete(&mut self, owner: Owner, result: Result<Response>) {
        if result.is_err() {
            self.statistics.failed_requests += 1;
        }
        self.completions.push(Completion { owner, result });
    }

    /// A turn: everything that can go on does. `now_ms` is monotonic, `wall_ms` the wall clock.
    pub fn turn(&mut self, now_ms: u64, wall_ms: u64) {
        self.now_ms = now_ms;
        self.wall_ms = wall_ms;
        self.sweep_retired();
        self.drop_idle_streams();
        self.release_quarantine();
        self.read_ahead();
        self.retry_parked();
        self.begin_checkpoint_when_due();
        self.flush_when_due();
        self.seal_for_flushes();
        self.issue_staged();
        self.issue_journal();
        self.issue_sync();
    }

    /// A device request ended.
    pub fn device_completed(&mut self, completion: DeviceCompletion) {
        self.finish_pending(completion);
    }

    /// Device requests to submit, oldest first; the caller pops as many as its device takes.
    pub fn device_requests(&mut self) -> &mut VecDeque<(u64, DeviceRequest)> {
        &mut self.device_requests
    }

    /// Completions since the last call.
    pub fn take_completions(&mut self) -> Vec<Completion> {
        std::mem::take(&mut self.completions)
    }

    /// Work for other threads since the last call; each comes back through [`work_done`](Self::work_done).
    pub fn take_work(&mut self) -> Vec<WorkItem> {
        std::mem::take(&mut self.work)
    }

    /// Whether anything but a timer could make the core go on.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.device_requests.is_empty() && self.retired.is_none()
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The pool's identity.
    pub fn pool_id(&self) -> PoolId {
        self.pool_id
    }

    /// The LSN that the next record gets.
    pub fn next_lsn(&self) -> Lsn {
        self.journal.next_lsn()
    }

    /// Buffers for data on its way in and out.
    pub fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    /// Where what is written waits for the device.
    pub fn shared_memory(&self) -> &Arc<Memory> {
        self.tail.memory()
    }

    /// Refuses new writes and changes from now on; what was accepted goes on.
    pub fn begin_close(&mut self) {
        self.closing = true;
    }

    /// Where the journal stands.
    pub fn journal_position(&self) -> crate::journal::Position {
        self.journal.position()
    }

    /// Why the pool takes no changes, when it takes none.
    pub fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    fn writable(&self) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.closing {
            return Err(Error::new(Kind::Unavailable, "write", "the pool is closing"));
        }
        Ok(())
    }

    /// The device failed: from now on the pool is read-only, and everyone who waits for a write is told.
    fn fail(&mut self, what: &str, source: std::io::Error) {
        if self.failed.is_some() {
            return;
        }
        let error = Error::new(
            Kind::Unavailable,
            "write to the device",
            format!("{what} failed; the pool is read-only now"),
        )
        .source(source)
        .hint("mend the device, then open the pool again: it recovers to what was durable");
        self.failed = Some(error.clone());
        let mut owners: Vec<Owner> = self.flushes.take_owners();
        owners.extend(self.parked_writes.drain(..).filter_map(|job| job.owner()));
        owners.extend(self.parked_changes.drain(..).map(|(owner, _)| owner));
        owners.extend(self.locks.take_waiters().into_iter().filter_map(|job| job.owner()));
        owners.extend(self.checkpoints.take_waiters());
        owners.into_iter().for_each(|owner| self.complete(owner, Err(error.clone())));
    }

    /// Begins to note what takes effect; whoever does takes the notes away regularly.
    #[cfg(any(test, feature = "sim"))]
    pub fn begin_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// What took effect since the last call.
    #[cfg(any(test, feature = "sim"))]
    pub fn take_trace(&mut self) -> Vec<TraceEvent> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    #[cfg(any(test, feature = "sim"))]
    fn note(
        &mut self,
        lsn: Lsn,
        owner: Option<Owner>,
        blocks: std::ops::Range<u64>,
        operation: Option<&crate::catalog::Operation>,
    ) {
        let end = self.journal.next_lsn();
        if let Some(trace) = &mut self.trace {
            trace.push(TraceEvent { lsn, end, owner, blocks, operation: operation.cloned() });
        }
    }

    #[cfg(not(any(test, feature = "sim")))]
    fn note(
        &mut self,
        _: Lsn,
        _: Option<Owner>,
        _: std::ops::Range<u64>,
        _: Option<&crate::catalog::Operation>,
    ) {
    }

    /// The entry of a block in a view, or `None` when its map page must be loaded first.
    fn lookup(&mut self, view: View, block: crate::units::BlockIndex) -> Option<crate::map::Entry> {
        let overlays = [
            Some(&self.active),
            self.frozen.as_deref(),
            self.retired.as_ref().map(|retired| &*retired.overlay),
        ];
        let known =
            overlays.into_iter().flatten().find_map(|overlay| overlay.get(view.layer, block, view.at));
        match known {
            Some(entry) => Some(entry),
            None => self.cache.get(view, block.page()).map(|page| page.0[block.slot()]),
        }
    }
}
