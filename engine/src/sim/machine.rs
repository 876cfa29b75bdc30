//! One simulated machine: a disk, a metadata store in memory, and the core driven turn by turn by a seed.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::device::{SimDevice, SimDisk};
use super::random::Random;
use crate::checkpoint;
use crate::core::{Completion, Core, CoreOptions, Owner, Request, TraceEvent, WorkDone, WorkItem};
use crate::device::Device;
use crate::error::Result;
use crate::format::superblock::Superblock;
use crate::journal::tail::TailShape;
use crate::map::store::{MapStore, StoreOptions};
use crate::recovery::{self, PoolShape, RecoveryReport, TailPlace};
use crate::sys::{BufferPool, Memory};
use crate::units::{BLOCK_BYTES, Lsn, PoolId};

/// The shape of simulated pools: everything small, so that every limit is met often.
pub const DISK_BLOCKS: u64 = 16 + 64 + 1500;
const SHAPE: PoolShape = PoolShape { journal_blocks: 64, region_blocks: 128 };
const TAIL: TailShape = TailShape { data_slots: 96, journal_slots: 8 };
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
    store: Option<Arc<MapStore>>,
    tail: Option<Arc<Memory>>,
}

/// An open pool on a machine.
pub struct Running {
    /// The core.
    pub core: Core,
    /// What opening found.
    pub report: RecoveryReport,
    device: SimDevice,
    store: Arc<MapStore>,
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
        let environment = rocksdb::Env::mem_env().map_err(|source| {
            crate::error::Error::new(crate::error::Kind::Bug, "simulate", "no memory environment")
                .source(source)
        })?;
        let store_options = StoreOptions {
            cache_bytes: 1 << 20,
            write_buffer_bytes: 256 << 10,
            environment: Some(environment),
        };
        let store = MapStore::open(Path::new(STORE), true, &store_options)?;
        let mut device = SimDevice::open(&disk, 32)?;
        recovery::create(&mut device, &store, PoolId([5; 16]), &SHAPE, 1)?;
        Ok(Self { disk, random, store_options, store: Some(Arc::new(store)), tail: None })
    }

    /// Opens the pool. The store is opened anew when the process before had died.
    ///
    /// # Errors
    /// What recovery said.
    pub fn open(&mut self) -> Result<Running> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Arc::new(MapStore::open(Path::new(STORE), false, &self.store_options)?),
        };
        let mut device = SimDevice::open(&self.disk, 4 + self.random.index(36))?;
        let place = TailPlace {
            left: self.tail.clone(),
            boot_id: BOOT,
            shape: TAIL,
            buffers: BUFFERS.with(BufferPool::clone),
        };
        let mut made = None;
        let opened = recovery::open(&mut device, &store, place, |bytes| {
            let memory = Memory::heap(bytes);
            made = Some(memory.clone());
            Ok(memory)
        });
        if let Some(made) = made {
            self.tail = Some(made);
        }
        let opened = opened.inspect_err(|_| self.store = Some(store.clone()))?;
        let options = CoreOptions {
            cache_bytes: 0,
            overlay_bytes: 256 << 10,
            checkpoint_interval_ms: 2_000,
            reclaim_interval_ms: 300,
            sync_interval_ms: 200,
            unsynced_blocks: 128,
            // Small enough that writes of all kinds take either way.
            direct_bytes: if self.random.coin() { 4 } else { 16 } * BLOCK_BYTES,
            checkpoint_journal_percent: 50,
            writes_in_flight: 3,
        };
        let mut core = Core::new(opened.parts, options);
        core.begin_trace();
        Ok(Running {
            core,
            report: opened.report,
            device,
            store,
            superblock: opened.superblock,
            in_flight: 0,
            work: VecDeque::new(),
            now_ms: 0,
        })
    }

    /// The store holds nothing that it has not synced, so one that is opened anew is the same as before; opening it
    /// takes most of a run's time, so it is done one time in four.
    fn end_store(&mut self, running: Running) {
        if self.random.percent(75) {
            self.store = Some(running.store);
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

    /// The metadata store.
    pub fn store(&self) -> &Arc<MapStore> {
        &self.store
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
            self.work_on(item);
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

    fn work_on(&mut self, item: WorkItem) {
        match item {
            WorkItem::Load { view, page, chain, generation } => {
                let result = self.store.view().resolve(&chain, page);
                self.core.work_done(WorkDone::Loaded { view, page, chain, generation, result });
            }
            WorkItem::Checkpoint(work) => {
                let result = checkpoint::run(&self.store, &work);
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
