//! One simulated machine: a disk, a metadata store in memory, and the core driven turn by turn by a seed.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::device::{SimDevice, SimDisk};
use super::random::Random;
use crate::checkpoint::{self, Outcome, Work};
use crate::core::{Completion, Core, CoreOptions, Owner, Request, TraceEvent, WorkDone, WorkItem};
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::Superblock;
use crate::journal::tail::TailShape;
use crate::map::home::StoreHome;
use crate::map::store::{MapStore, StoreOptions};
use crate::recovery::{self, PoolShape, RecoveryReport, TailPlace};
use crate::sys::{BufferPool, Memory};
use crate::units::{BLOCK_BYTES, Lsn, PoolId};

/// The shape of simulated pools: everything small, so that every limit is met often.
pub const DISK_BLOCKS: u64 = 16 + 64 + 1500;
const SHAPE: PoolShape = PoolShape { journal_blocks: 64, region_blocks: 128 };
const TAIL: TailShape = TailShape { data_slots: 160, journal_slots: 8 };
const BOOT: [u8; 16] = [7; 16];
thread_local! {
    /// One pool of buffers for every run of a thread: fresh memory is what a short run would spend its time on.
    static BUFFERS: BufferPool = BufferPool::new(16 << 20);
}
const STORE: &str = "/pool.meta";

/// What survives a crash of the process, or of the machine.
pub struct Machine {
    /// The disk.
    pub disk: SimDisk,
    /// The seed's randomness.
    pub random: Random,
    store_options: StoreOptions,
    home: Option<StoreHome>,
    tail: Option<Arc<Memory>>,
}

/// An open pool on a machine.
pub struct Running {
    /// The core.
    pub core: Core,
    /// What opening found.
    pub report: RecoveryReport,
    device: SimDevice,
    home: StoreHome,
    superblock: Superblock,
    in_flight: usize,
    work: VecDeque<WorkItem>,
    now_ms: u64,
}

impl Machine {
    /// A machine with an empty pool on it.
    ///
    /// # Errors
    /// None that isn't a bug.
    pub fn new(seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let disk = SimDisk::new(DISK_BLOCKS * 4096, random.next_u64());
        let environment = rocksdb::Env::mem_env()
            .map_err(|source| Error::new(Kind::Bug, "simulate", "no memory environment").source(source))?;
        let store_options = StoreOptions {
            cache_bytes: 1 << 20,
            write_buffer_bytes: 256 << 10,
            environment: Some(environment),
        };
        let store = MapStore::open(Path::new(STORE), true, &store_options)?;
        let mut device = SimDevice::open(&disk, 32)?;
        recovery::create(&mut device, &store, PoolId([5; 16]), &SHAPE, 1)?;
        let home = StoreHome::new(store, Path::new(STORE), store_options.clone());
        Ok(Self { disk, random, store_options, home: Some(home), tail: None })
    }

    /// Opens the pool. The store is opened anew when the process before had died.
    ///
    /// # Errors
    /// What recovery said.
    pub fn open(&mut self) -> Result<Running> {
        let home = match self.home.take() {
            Some(home) => home,
            None => {
                let store = MapStore::open(Path::new(STORE), false, &self.store_options)?;
                StoreHome::new(store, Path::new(STORE), self.store_options.clone())
            }
        };
        let mut device = SimDevice::open(&self.disk, 4 + self.random.index(36))?;
        let place = TailPlace {
            left: self.tail.clone(),
            boot_id: BOOT,
            shape: TAIL,
            buffers: BUFFERS.with(BufferPool::clone),
        };
        let mut made = None;
        let new_tail = |bytes| {
            let memory = Memory::heap(bytes);
            made = Some(memory.clone());
            Ok(memory)
        };
        let opened = home.look(|store| recovery::open(&mut device, store, place, new_tail));
        if let Some(made) = made {
            self.tail = Some(made);
        }
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.home = Some(home);
                return Err(error);
            }
        };
        let options = CoreOptions {
            cache_bytes: 0,
            overlay_bytes: 256 << 10,
            checkpoint_interval_ms: 2_000,
            reclaim_interval_ms: 300,
            sync_interval_ms: 200,
            unsynced_blocks: 128,
            // Small enough that writes of all kinds take either way; at the largest, several chunks land together.
            direct_bytes: self.random.pick(&[4, 16, 50]) * BLOCK_BYTES,
            checkpoint_journal_percent: 50,
            writes_in_flight: 3,
            unmap_pages: self.random.pick(&[2, 3, 4096]),
            read_ahead_bytes: if self.random.coin() { 0 } else { 1 << 20 },
        };
        let mut core = Core::new(opened.parts, options);
        core.begin_trace();
        Ok(Running {
            core,
            report: opened.report,
            device,
            home,
            superblock: opened.superblock,
            in_flight: 0,
            work: VecDeque::new(),
            now_ms: 0,
        })
    }

    /// A store that holds nothing but what it has flushed is the same when it is opened anew. Opening takes most of a
    /// run's time, so such a one is opened anew one time in four.
    fn end_store(&mut self, running: Running) {
        let is_flushed = |store: &MapStore| Ok(store.is_writable() && store.unflushed_bytes() == 0);
        if running.home.look(is_flushed).is_ok_and(|flushed| flushed) && self.random.percent(75) {
            self.home = Some(running.home);
        }
    }

    /// The power goes: the tail is gone, the disk keeps what it will.
    pub fn power_cut(&mut self, running: Option<Running>) {
        if let Some(running) = running {
            self.end_store(running);
        }
        self.disk.crash();
        self.tail = None;
    }

    /// The process dies, the kernel lives: the tail stays.
    pub fn kill(&mut self, running: Running) {
        self.end_store(running);
        self.disk.kill();
    }

    /// Closes the pool as a person would.
    ///
    /// # Errors
    /// What the device said.
    pub fn close(&mut self, mut running: Running) -> Result<()> {
        while running.in_flight > 0 {
            running.turn(&mut self.random);
        }
        let position = running.core.journal_position();
        recovery::close(&mut running.device, &running.superblock, position.next_lsn, position.next_sequence)?;
        self.tail = None;
        self.end_store(running);
        Ok(())
    }
}

impl Running {
    /// Asks the core for something.
    pub fn submit(&mut self, owner: Owner, request: Request) {
        self.core.submit(owner, request);
    }

    /// The metadata store's home.
    pub fn home(&self) -> &StoreHome {
        &self.home
    }

    /// The superblock as it is on the disk.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// One turn: device, core, and with some chance a piece of a worker's work.
    pub fn turn(&mut self, random: &mut Random) -> (Vec<TraceEvent>, Vec<Completion>) {
        self.now_ms += random.below(20);
        let mut ended = Vec::new();
        if self.in_flight > 0 && random.percent(20) {
            self.device.wait(None, &mut ended);
        } else {
            self.device.poll(&mut ended);
        }
        self.in_flight -= ended.len();
        ended.into_iter().for_each(|completion| self.core.device_completed(completion));
        if random.percent(40)
            && let Some(item) = self.work.pop_front()
        {
            self.work_on(item, random);
        }
        self.core.turn(self.now_ms, self.now_ms);
        self.work.extend(self.core.take_work());
        while self.in_flight < self.device.depth()
            && let Some((token, request)) = self.core.device_requests().pop_front()
        {
            self.in_flight += 1;
            self.device.submit(token, request);
        }
        (self.core.take_trace(), self.core.take_completions())
    }

    fn work_on(&mut self, item: WorkItem, random: &mut Random) {
        match item {
            WorkItem::Load { view, page, chain, generation } => {
                let result = self.home.look(|store| store.view().resolve(&chain, page));
                self.core.work_done(WorkDone::Loaded { view, page, chain, generation, result });
            }
            WorkItem::Checkpoint(work) => {
                let result = self
                    .home
                    .mend()
                    .and_then(|()| self.home.look(|store| write_checkpoint(store, &work, random)));
                self.core.work_done(WorkDone::Checkpointed(result));
            }
            WorkItem::Drop(_) => {}
        }
    }

    /// Whether a checkpoint was handed out and not written yet.
    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// The LSN that the next record gets.
    pub fn next_lsn(&self) -> Lsn {
        self.core.next_lsn()
    }
}

/// Writes a checkpoint, or fails to as RocksDB does on a full file system: with the batch lost, on disk, or in memory
/// and good for another flush. The core learns nothing but that it failed.
fn write_checkpoint(store: &MapStore, work: &Work, random: &mut Random) -> Result<Outcome> {
    let full = Error::new(Kind::OutOfSpace, "write checkpoint", "the simulated file system is full");
    match random.below(100) {
        0..2 => {
            checkpoint::run(store, work)?;
            store.give_up();
            Err(full)
        }
        2..5 => {
            checkpoint::write(store, work)?;
            store.give_up();
            Err(full)
        }
        5..8 => {
            checkpoint::write(store, work)?;
            Err(full)
        }
        _ => checkpoint::run(store, work),
    }
}
