//! A pool without a device: checkpoints are driven by hand, and everything is compared with plain maps in memory.
//!
//! 1. A block's checksum is its tag, never given twice: two points differ in a block exactly when its tags differ.
//! 2. Physical blocks come from a counter and from what checkpoints freed; a block freed twice, or freed while a
//!    live view maps it, is found at once.
//! 3. Operations also happen between the freezing of a checkpoint and its end, as they do in a real pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{Catalog, ObjectKey, Operation, SnapshotKey, SnapshotState, Tags};
use crate::checkpoint::{self, Reclaim, Work};
use crate::core::checkpointing::freeze_layer;
use crate::map::overlay::Overlay;
use crate::map::store::{CheckpointState, Family, MapStore, StoreOptions};
use crate::units::{BlockIndex, Epoch, LayerId, Lsn, PhysicalBlock, VolumeId};

/// What a view holds: the tag of each mapped block.
pub(crate) type Content = BTreeMap<u64, u32>;

/// Blocks of every volume.
pub(crate) const BLOCKS: u64 = 64 * 24;
/// Where the data area begins.
pub(crate) const DATA_START: u64 = 100;

/// A small seeded generator (splitmix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[usize::try_from(self.below(all.len() as u64)).unwrap()])
    }
}

/// The pool and what it should hold.
pub(crate) struct Model {
    pub(crate) store: MapStore,
    pub(crate) catalog: Catalog,
    overlay: Overlay,
    frozen: Option<Work>,
    checkpoint_epoch: Epoch,
    checkpoints: u64,
    end: u64,
    reusable: Vec<u64>,
    /// The tag of every physical block in use.
    pub(crate) allocated: BTreeMap<u64, u32>,
    last: u32,
    pub(crate) heads: BTreeMap<LayerId, Content>,
    pub(crate) snapshots: BTreeMap<SnapshotKey, Content>,
    pub(crate) seeded: Seeded,
    /// Deletes, clones and rollbacks are rare, so that history grows long.
    is_calm: bool,
    _home: tempfile::TempDir,
}

/// Where the model's checkpoint of this number stands.
fn checkpoint_state(catalog: &Catalog, number: u64) -> CheckpointState {
    CheckpointState {
        pool_id: String::new(),
        incarnation: 1,
        next_lsn: Lsn(1),
        next_sequence: number,
        previous: 0,
        epoch: catalog.epoch(),
        next_id: catalog.next_id,
        next_layer: catalog.next_layer,
    }
}

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            environment: Some(rocksdb::Env::mem_env().unwrap()),
            cache_bytes: 1 << 20,
            write_buffer_bytes: 1 << 20,
        };
        let store = MapStore::open(home.path(), true, &options).unwrap();
        let catalog = Catalog::default();
        store.commit(store.batch(), &checkpoint_state(&catalog, 0)).unwrap();
        Self {
            store,
            catalog,
            overlay: Overlay::default(),
            frozen: None,
            checkpoint_epoch: Epoch(1),
            checkpoints: 0,
            end: DATA_START,
            reusable: Vec::new(),
            allocated: BTreeMap::new(),
            last: 0,
            heads: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            seeded: Seeded(seed),
            is_calm: seed.is_multiple_of(3),
            _home: home,
        }
    }

    /// The block after the last one ever allocated.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    fn unique(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    fn name(&mut self) -> String {
        format!("n{}", self.unique())
    }

    fn allocate(&mut self, tag: u32) -> PhysicalBlock {
        let physical = self.reusable.pop().unwrap_or_else(|| {
            // Gaps, so that not every run merges.
            self.end += 1 + u64::from(self.last.is_multiple_of(5));
            self.end - 1
        });
        assert_eq!(
            self.allocated.insert(physical, tag),
            None,
            "physical block {physical} was handed out twice"
        );
        PhysicalBlock(physical)
    }

    pub(crate) fn apply(&mut self, operation: Operation) {
        self.catalog.check(&operation).unwrap();
        self.catalog.apply(&operation);
    }

    pub(crate) fn create(&mut self) -> LayerId {
        let (id, layer, name) = (VolumeId(self.catalog.next_id), self.catalog.next_layer, self.name());
        let bytes = BLOCKS * 4096;
        self.apply(Operation::VolumeCreate { id, layer, name, bytes, created_ms: 0, tags: Tags::new() });
        self.heads.insert(layer, Content::new());
        layer
    }

    pub(crate) fn write(&mut self, layer: LayerId, block: u64, blocks: u64) {
        for block in block..(block + blocks).min(BLOCKS) {
            let tag = self.unique();
            self.put(layer, block, tag);
        }
    }

    pub(crate) fn put(&mut self, layer: LayerId, block: u64, tag: u32) {
        let physical = self.allocate(tag);
        self.overlay.put(layer, BlockIndex(block), self.catalog.epoch(), physical, tag);
        self.heads.get_mut(&layer).unwrap().insert(block, tag);
    }

    pub(crate) fn unmap(&mut self, layer: LayerId, block: u64, blocks: u64) {
        let blocks = blocks.min(BLOCKS - block);
        self.overlay.unmap(layer, BlockIndex(block), blocks, self.catalog.epoch());
        self.heads.get_mut(&layer).unwrap().retain(|at, _| !(block..block + blocks).contains(at));
    }

    fn volume(&self, layer: LayerId) -> VolumeId {
        self.catalog.layers[&layer].volume
    }

    pub(crate) fn snapshot(&mut self, layers: &[LayerId]) -> Epoch {
        let (epoch, name) = (self.catalog.epoch(), self.name());
        let volumes = layers.iter().map(|&layer| self.volume(layer)).collect();
        self.apply(Operation::Snapshot {
            epoch,
            name,
            created_ms: 0,
            volumes,
            group: None,
            tags: Tags::new(),
        });
        for &layer in layers {
            self.snapshots.insert(SnapshotKey { layer, epoch }, self.heads[&layer].clone());
        }
        epoch
    }

    /// Keeps the expected content of live snapshots only.
    fn forget_dead(&mut self) {
        let live = |key: &SnapshotKey| self.catalog.snapshot(*key).is_ok();
        self.snapshots.retain(|key, _| live(key));
    }

    pub(crate) fn delete_snapshot(&mut self, key: SnapshotKey) {
        self.apply(Operation::SnapshotDelete { key });
        self.forget_dead();
    }

    pub(crate) fn delete_volume(&mut self, layer: LayerId) {
        self.apply(Operation::VolumeDelete { id: self.volume(layer) });
        self.heads.remove(&layer);
        self.forget_dead();
    }

    pub(crate) fn clone_of(&mut self, origin: SnapshotKey) -> LayerId {
        let (id, layer, name) = (VolumeId(self.catalog.next_id), self.catalog.next_layer, self.name());
        self.apply(Operation::Clone { id, layer, name, origin, created_ms: 0, tags: Tags::new() });
        self.heads.insert(layer, self.snapshots[&origin].clone());
        layer
    }

    pub(crate) fn roll_back(&mut self, from: LayerId, to: SnapshotKey) -> LayerId {
        let (id, layer, displaced_name) = (self.volume(from), self.catalog.next_layer, self.name());
        let epoch = self.catalog.epoch();
        self.apply(Operation::Rollback { id, layer, to, epoch, displaced_name, created_ms: 0 });
        let displaced = self.heads.remove(&from).unwrap();
        self.snapshots.insert(SnapshotKey { layer: from, epoch }, displaced);
        self.heads.insert(layer, self.snapshots[&to].clone());
        layer
    }

    /// Every block is copied and checkpointed before the layer lets go of its origin.
    pub(crate) fn detach(&mut self, layer: LayerId) {
        self.finish();
        for (block, tag) in self.heads[&layer].clone() {
            self.put(layer, block, tag);
        }
        self.checkpoint();
        self.apply(Operation::CloneDetach { layer });
        self.forget_dead();
    }

    /// Snapshots that users see.
    pub(crate) fn visible(&self) -> Vec<SnapshotKey> {
        let all = self.catalog.snapshots.values();
        all.filter(|snapshot| snapshot.state == SnapshotState::Visible).map(|snapshot| snapshot.key).collect()
    }

    /// What the core does at the start of a checkpoint.
    pub(crate) fn freeze(&mut self) {
        let overlay = Arc::new(std::mem::take(&mut self.overlay));
        let named = self.catalog.dirty().filter_map(|key| match key {
            ObjectKey::Layer(layer) => Some(layer),
            _ => None,
        });
        let layers = overlay.layers.keys().copied().chain(named);
        let layers = layers
            .filter(|layer| self.catalog.layers.contains_key(layer))
            .map(|layer| (layer, freeze_layer(&self.catalog, layer)))
            .collect();
        self.catalog.prune_points();
        let objects = self.catalog.take_dirty();
        let fresh = objects
            .iter()
            .filter_map(|(key, json)| match key {
                ObjectKey::Snapshot(key) if key.epoch >= self.checkpoint_epoch && json.is_some() => {
                    Some(*key)
                }
                _ => None,
            })
            .collect();
        self.checkpoints += 1;
        let state = checkpoint_state(&self.catalog, self.checkpoints);
        let reclaim = self.catalog.reclaims();
        self.frozen =
            Some(Work { overlay, layers, fresh, objects, reclaim, state, merged: Default::default() });
    }

    /// Ends the checkpoint that was frozen, if one was.
    pub(crate) fn finish(&mut self) {
        let Some(work) = self.frozen.take() else { return };
        let outcome = checkpoint::run(&self.store, &work).unwrap();
        self.checkpoint_epoch = work.state.epoch;
        for reclaim in &outcome.reclaimed {
            match reclaim {
                Reclaim::Snapshots { layer, epochs, .. } => {
                    epochs
                        .iter()
                        .for_each(|&epoch| self.catalog.reclaimed(SnapshotKey { layer: *layer, epoch }));
                }
                Reclaim::Trim { layer, newest, .. } => self.catalog.trimmed(*layer, *newest),
                Reclaim::Drop { layer, .. } => self.catalog.dropped(*layer),
            }
        }
        self.forget_dead();
        for run in outcome.freed.iter().chain(&work.overlay.superseded) {
            for block in run.start.0..run.start.0 + run.blocks {
                assert!(self.allocated.remove(&block).is_some(), "physical block {block} was freed twice");
                self.reusable.push(block);
            }
        }
    }

    /// Brings everything into the store.
    pub(crate) fn checkpoint(&mut self) {
        self.finish();
        self.freeze();
        self.finish();
    }

    /// As `checkpoint`, until nothing is left to give back.
    pub(crate) fn settle(&mut self) {
        self.checkpoint();
        for _ in 0..1000 {
            if !self.catalog.has_reclaims() {
                return;
            }
            self.checkpoint();
        }
        panic!("what was deleted is never given back");
    }

    /// The catalog as the last checkpoint has it.
    pub(crate) fn stored_catalog(&self) -> Catalog {
        let state = self.store.state().unwrap();
        let mut catalog = Catalog::new(state.epoch, state.next_id, state.next_layer);
        let view = self.store.view();
        view.each(Family::Catalog, b"a", b"zz", |key, value| {
            if !key.starts_with(b"u") && !key.starts_with(b"r") {
                catalog.load(ObjectKey::decode(key).unwrap(), value).unwrap();
            }
            Ok(true)
        })
        .unwrap();
        catalog.loaded().unwrap();
        catalog
    }

    /// A restart with nothing to replay.
    pub(crate) fn reopen(&mut self) {
        self.checkpoint();
        self.catalog = self.stored_catalog();
        self.forget_dead();
    }

    /// One random operation.
    pub(crate) fn step(&mut self) {
        let heads: Vec<LayerId> = self.heads.keys().copied().collect();
        let Some(layer) = self.seeded.one(&heads) else {
            self.create();
            return;
        };
        // One page takes half of the writes, so that it comes to keyframes.
        let span = self.seeded.one(&[40, 40, 40, BLOCKS / 8, BLOCKS / 8, BLOCKS]).unwrap();
        let (block, blocks) = (self.seeded.below(span), 1 + self.seeded.below(12));
        let visible = self.visible();
        let mut roll = self.seeded.below(100);
        if self.is_calm && (66..86).contains(&roll) && self.seeded.below(8) > 0 {
            roll = 56;
        }
        match (roll, self.seeded.one(&visible)) {
            (0..45, _) => self.write(layer, block, blocks),
            (45..53, _) => self.unmap(layer, block, blocks),
            (53..56, _) => {
                let blocks = 1 + self.seeded.below(BLOCKS);
                self.unmap(layer, block, blocks);
            }
            (56..66, _) => _ = self.snapshot(&[layer]),
            (66..68, _) => _ = self.snapshot(&heads),
            (68..77, Some(key)) => self.delete_snapshot(key),
            (77..80, Some(key)) if heads.len() < 6 => _ = self.clone_of(key),
            (80..83, Some(key)) => {
                let same = |&&layer: &&LayerId| self.volume(layer) == self.catalog.snapshots[&key].volume;
                if let Some(&from) = heads.iter().find(same) {
                    self.roll_back(from, key);
                }
            }
            (83..84, _) if heads.len() < 4 => _ = self.create(),
            (84..85, _) => self.delete_volume(layer),
            (85, _) if self.catalog.check(&Operation::CloneDetach { layer }).is_ok() => self.detach(layer),
            (86..98, _) if self.frozen.is_some() => self.finish(),
            (86..98, _) => self.freeze(),
            (98, _) => self.reopen(),
            _ => {}
        }
    }
}
