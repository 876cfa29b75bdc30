//! The core, driven by hand on a real file: one step after the other, with a clock that stands still, so that what
//! is written is the same each time, and with device requests that can be kept back, so that a crash can be placed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firn_engine::catalog::{Catalog, Operation};
use firn_engine::checkpoint;
use firn_engine::core::{Core, CoreOptions, Owner, Request, Response, WorkDone, WorkItem};
use firn_engine::device::{Device, DeviceRequest};
use firn_engine::error::Result;
use firn_engine::format::superblock::Superblock;
use firn_engine::journal::tail::TailShape;
use firn_engine::map::store::MapStore;
use firn_engine::recovery::{self, PoolShape, TailPlace};
use firn_engine::sys::{BufferPool, CreateOptions, DeviceFile, DeviceKind, Memory, MemorySlice, open_device};
use firn_engine::units::{BLOCK_BYTES, BlockIndex, LayerId, PoolId, VolumeId};

use crate::files::store_options;

pub(crate) const POOL: PoolId = PoolId(*b"golden pool v1 \x01");
pub(crate) const BOOT: [u8; 16] = *b"the golden boot.";
pub(crate) const TAIL: TailShape = TailShape { data_slots: 64, journal_slots: 8 };
const DEVICE_BYTES: u64 = 2 << 20;
const SHAPE: PoolShape = PoolShape { journal_blocks: 64, region_blocks: 64 };
const CREATED_MS: u64 = 1_700_000_000_000;
const SYNC_MS: u64 = 1_000;

pub(crate) struct Driver {
    pub(crate) core: Core,
    device: Box<dyn Device>,
    store: MapStore,
    superblock: Superblock,
    /// The shared memory, which outlives the core.
    pub(crate) tail: Arc<Memory>,
    now_ms: u64,
    wall_ms: u64,
    tags: u64,
    next_id: u64,
    next_layer: u32,
}

impl Driver {
    pub(crate) fn create(directory: &Path) -> Self {
        let meta = directory.join("meta");
        let store = MapStore::open(&meta, true, &store_options()).expect("a new store");
        let bytes = CreateOptions { bytes: Some(DEVICE_BYTES), ..CreateOptions::default() };
        let file = DeviceFile::create(&directory.join("device"), &bytes).expect("a new file");
        let mut device = open_device(file, DeviceKind::Plain).expect("a device");
        recovery::create(&mut *device, &store, POOL, &SHAPE, CREATED_MS).expect("laid out");
        let place = TailPlace { left: None, boot_id: BOOT, shape: TAIL, buffers: BufferPool::new(1 << 20) };
        let mut made = None;
        let opened = recovery::open(&mut *device, &store, place, |bytes| {
            let memory = Memory::heap(bytes);
            made = Some(memory.clone());
            Ok(memory)
        });
        let opened = opened.expect("opened");
        // Nothing happens by itself but the sync, when the clock is set forward.
        let options = CoreOptions {
            checkpoint_interval_ms: u64::MAX,
            reclaim_interval_ms: u64::MAX,
            sync_interval_ms: SYNC_MS,
            ..CoreOptions::default()
        };
        let mut driver = Self {
            core: Core::new(opened.parts, options),
            device,
            store,
            superblock: opened.superblock,
            tail: made.expect("recovery made a tail"),
            now_ms: 0,
            wall_ms: CREATED_MS,
            tags: 0,
            next_id: 1,
            next_layer: 1,
        };
        // The core knows the time from its last turn.
        driver.turn(&|_| false);
        driver
    }

    /// A turn of the core, then everything it wants done, but for device requests that `spare` keeps from the device.
    pub(crate) fn turn(&mut self, spare: &dyn Fn(&DeviceRequest) -> bool) {
        self.wall_ms += 1_000;
        self.core.turn(self.now_ms, self.wall_ms);
        let mut in_flight = 0;
        while let Some((token, request)) = self.core.device_requests().pop_front() {
            if !spare(&request) {
                self.device.submit(token, request);
                in_flight += 1;
            }
        }
        while in_flight > 0 {
            let mut ended = Vec::new();
            self.device.wait(Some(Duration::from_secs(1)), &mut ended);
            in_flight -= ended.len();
            ended.into_iter().for_each(|completion| self.core.device_completed(completion));
        }
        for item in self.core.take_work() {
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
    }

    /// Asks for something without waiting for its end.
    pub(crate) fn submit(&mut self, request: Request) -> u64 {
        self.tags += 1;
        self.core.submit(Owner { client: 0, tag: self.tags }, request);
        self.tags
    }

    pub(crate) fn call(&mut self, request: Request) -> Result<Response> {
        let tag = self.submit(request);
        for _ in 0..1_000 {
            if let Some(done) = self.core.take_completions().into_iter().find(|done| done.owner.tag == tag) {
                return done.result;
            }
            self.turn(&|_| false);
        }
        panic!("a request never ended");
    }

    pub(crate) fn done(&mut self, request: Request) {
        self.call(request).expect("done");
    }

    pub(crate) fn change(&mut self, plan: impl FnOnce(&Catalog, u64) -> Operation + Send + 'static) {
        self.done(Request::Change(Box::new(move |catalog, now_ms| Ok(plan(catalog, now_ms)))));
    }

    /// A checkpoint, and all that it sets free.
    pub(crate) fn checkpoint(&mut self) {
        self.done(Request::Checkpoint);
        (0..8).for_each(|_| self.turn(&|_| false));
    }

    /// Lets the sync interval pass: the journal says how far it is durable.
    pub(crate) fn wait_for_beacon(&mut self) {
        self.now_ms += SYNC_MS;
        self.turn(&|_| false);
    }

    /// An id for a new volume or group.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// An id for a new layer.
    pub(crate) fn new_layer(&mut self) -> LayerId {
        self.next_layer += 1;
        LayerId(self.next_layer - 1)
    }

    pub(crate) fn id(&self, volume: &str) -> VolumeId {
        self.core.catalog().volume_named(volume).expect("a volume").id
    }

    /// What writes `blocks` of a volume, each with the letter and its own number.
    pub(crate) fn filling(&self, volume: &str, blocks: std::ops::Range<u64>, letter: u8) -> Request {
        let data: Vec<u8> = blocks.clone().flat_map(|block| word(letter, block).repeat(512)).collect();
        self.writing(volume, blocks.start * BLOCK_BYTES, &data)
    }

    pub(crate) fn writing(&self, volume: &str, offset: u64, data: &[u8]) -> Request {
        let memory = Memory::heap(data.len().next_multiple_of(4096));
        memory.copy_in(0, data);
        let data = MemorySlice::new(memory, 0, data.len());
        Request::Write { volume: self.id(volume), offset, data, fua: false }
    }

    pub(crate) fn fill(&mut self, volume: &str, blocks: std::ops::Range<u64>, letter: u8) {
        let request = self.filling(volume, blocks, letter);
        self.done(request);
    }

    pub(crate) fn unmap(&mut self, volume: &str, blocks: std::ops::Range<u64>) {
        let (offset, length) = (blocks.start * BLOCK_BYTES, (blocks.end - blocks.start) * BLOCK_BYTES);
        self.done(Request::Unmap { volume: self.id(volume), offset, length, fua: false });
    }

    pub(crate) fn rewrite(&mut self, volume: &str, blocks: std::ops::Range<u64>) {
        for block in blocks.map(BlockIndex) {
            self.done(Request::Rewrite { volume: self.id(volume), block });
        }
    }

    /// Ends as a person would end it.
    pub(crate) fn close(mut self) {
        self.core.begin_close();
        self.done(Request::Flush);
        self.checkpoint();
        let end = self.core.journal_position();
        recovery::close(&mut *self.device, &self.superblock, end.next_lsn, end.next_sequence)
            .expect("closed");
    }
}

/// What a sector is filled with: who wrote it, and the block's number in the volume.
pub(crate) fn word(letter: u8, block: u64) -> [u8; 8] {
    let [.., a, b, c] = block.to_be_bytes();
    [letter, 0, 0, 0, 0, a, b, c]
}
