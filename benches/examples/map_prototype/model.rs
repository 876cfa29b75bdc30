//! What every format is asked to hold, the workload that fills it, and the oracle that knows the right answers.

use std::ops::Range;

/// Blocks that one map page maps.
pub(crate) const PAGE_LEN: usize = 64;
/// The epoch of the fill; its snapshot is the oldest.
pub(crate) const FILL_EPOCH: u32 = 1;

/// Where one block lies. A hole is `None` of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) physical: u64,
    pub(crate) checksum: u32,
    pub(crate) birth: u32,
}

/// The map of 64 consecutive blocks.
pub(crate) type Page = [Option<Entry>; PAGE_LEN];

/// A block's place in the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Block(pub(crate) u32);

impl Block {
    pub(crate) fn page(self) -> u32 {
        self.0 / 64
    }

    pub(crate) fn slot(self) -> usize {
        (self.0 % 64) as usize
    }
}

/// Two snapshots of which the delta is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) older: u32,
    pub(crate) newer: u32,
}

/// A snapshot to delete and the two that live beside it; `previous` is 0 for the oldest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deletion {
    pub(crate) previous: u32,
    pub(crate) snapshot: u32,
    pub(crate) next: u32,
}

/// One block of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Change {
    pub(crate) block: Block,
    pub(crate) is_data: bool,
}

/// What one epoch left in one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overwrite {
    pub(crate) block: Block,
    pub(crate) entry: Option<Entry>,
}

/// The overwrites of one epoch, in block order, each block once.
#[derive(Debug)]
pub(crate) struct EpochWrites {
    pub(crate) epoch: u32,
    pub(crate) overwrites: Vec<Overwrite>,
}

/// The size of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) pages: u32,
    pub(crate) epochs: u32,
    pub(crate) writes_per_epoch: u32,
    pub(crate) blocks_per_write: u32,
    pub(crate) epochs_per_checkpoint: usize,
}

impl Shape {
    pub(crate) fn blocks(self) -> u32 {
        self.pages * 64
    }

    /// The newest snapshot, which the head equals at the end of the run.
    pub(crate) fn newest(self) -> u32 {
        FILL_EPOCH + self.epochs
    }

    pub(crate) fn sequential_pages(self) -> Range<u32> {
        0..self.pages / 2
    }

    pub(crate) fn random_pages(self) -> Range<u32> {
        self.pages / 2..self.pages
    }
}

/// SplitMix64: a seed gives the same run everywhere.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    pub(crate) fn shuffle(&mut self, values: &mut [u32]) {
        for end in (1..values.len()).rev() {
            values.swap(end, self.below(end as u32 + 1) as usize);
        }
    }
}

/// Everything that is written, in the order it is checkpointed.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) shape: Shape,
    pub(crate) fill: Vec<Entry>,
    pub(crate) epochs: Vec<EpochWrites>,
}

impl Workload {
    pub(crate) fn generate(shape: Shape, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut allocator = 1 << 20;
        let fill = fill(shape, &mut random, &mut allocator);
        let epochs = overwrites(shape, &mut random, &mut allocator);
        Self { shape, fill, epochs }
    }

    pub(crate) fn displaced(&self) -> u64 {
        self.epochs.iter().map(|epoch| epoch.overwrites.len() as u64).sum()
    }

    pub(crate) fn fill_page(&self, page: u32) -> Page {
        let first = page as usize * PAGE_LEN;
        std::array::from_fn(|slot| Some(self.fill[first + slot]))
    }
}

/// The first half of the volume in block order, the second in random order; allocation goes up in arrival order.
fn fill(shape: Shape, random: &mut Random, allocator: &mut u64) -> Vec<Entry> {
    let half = shape.sequential_pages().end * 64;
    let mut order: Vec<u32> = (0..shape.blocks()).collect();
    random.shuffle(&mut order[half as usize..]);
    let mut fill = vec![Entry { physical: 0, checksum: 0, birth: FILL_EPOCH }; order.len()];
    for block in order {
        fill[block as usize] = new_entry(random, allocator, FILL_EPOCH);
    }
    fill
}

fn new_entry(random: &mut Random, allocator: &mut u64, birth: u32) -> Entry {
    *allocator += 1;
    Entry { physical: *allocator, checksum: random.next() as u32, birth }
}

fn overwrites(shape: Shape, random: &mut Random, allocator: &mut u64) -> Vec<EpochWrites> {
    let mut pages: Vec<u32> = (0..shape.pages).collect();
    random.shuffle(&mut pages);
    let mut is_hole = vec![false; shape.blocks() as usize];
    let mut epochs = Vec::with_capacity(shape.epochs as usize);
    for epoch in FILL_EPOCH + 1..=shape.newest() {
        let mut overwrites = one_epoch(shape, epoch, &pages, random, allocator);
        // A trimmed hole stays the same hole: nothing is displaced.
        overwrites.retain(|write| write.entry.is_some() || !is_hole[write.block.0 as usize]);
        for write in &overwrites {
            is_hole[write.block.0 as usize] = write.entry.is_none();
        }
        epochs.push(EpochWrites { epoch, overwrites });
    }
    epochs
}

/// 80 % of the writes go to the first 20 % of `pages`; one in a hundred is a trim. The last write to a block wins.
fn one_epoch(
    shape: Shape,
    epoch: u32,
    pages: &[u32],
    random: &mut Random,
    allocator: &mut u64,
) -> Vec<Overwrite> {
    let hot = shape.pages / 5;
    let mut overwrites = Vec::new();
    for _ in 0..shape.writes_per_epoch {
        let rank =
            if random.below(100) < 80 { random.below(hot) } else { hot + random.below(shape.pages - hot) };
        let is_trim = random.below(100) == 0;
        let first = random.below(64 / shape.blocks_per_write) * shape.blocks_per_write;
        for slot in first..first + shape.blocks_per_write {
            let entry = (!is_trim).then(|| new_entry(random, allocator, epoch));
            overwrites.push(Overwrite { block: Block(pages[rank as usize] * 64 + slot), entry });
        }
    }
    overwrites.reverse();
    overwrites.sort_by_key(|write| write.block);
    overwrites.dedup_by_key(|write| write.block);
    overwrites
}

#[derive(Clone, Copy, Debug)]
struct Version {
    birth: u32,
    entry: Option<Entry>,
}

/// Every version of every block, in memory.
#[derive(Debug)]
pub(crate) struct Oracle<'a> {
    workload: &'a Workload,
    first: Vec<usize>,
    versions: Vec<Version>,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(workload: &'a Workload) -> Self {
        let blocks = workload.fill.len();
        let mut first = vec![0; blocks + 1];
        for (block, _) in all_versions(workload) {
            first[block + 1] += 1;
        }
        for block in 0..blocks {
            first[block + 1] += first[block];
        }
        let mut versions = vec![Version { birth: 0, entry: None }; first[blocks]];
        let mut cursor = first.clone();
        for (block, version) in all_versions(workload) {
            versions[cursor[block]] = version;
            cursor[block] += 1;
        }
        Self { workload, first, versions }
    }

    fn version_at(&self, block: Block, snapshot: u32) -> Version {
        let index = block.0 as usize;
        let versions = &self.versions[self.first[index]..self.first[index + 1]];
        versions[versions.partition_point(|version| version.birth <= snapshot) - 1]
    }

    pub(crate) fn block_at(&self, block: Block, snapshot: u32) -> Option<Entry> {
        self.version_at(block, snapshot).entry
    }

    pub(crate) fn page_at(&self, page: u32, snapshot: u32) -> Page {
        std::array::from_fn(|slot| self.block_at(Block(page * 64 + slot as u32), snapshot))
    }

    fn written_within(&self, span: Span) -> Vec<Block> {
        let first = (span.older - FILL_EPOCH) as usize;
        let last = (span.newer - FILL_EPOCH) as usize;
        let epochs = &self.workload.epochs[first..last];
        let mut blocks: Vec<Block> =
            epochs.iter().flat_map(|e| e.overwrites.iter().map(|w| w.block)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    pub(crate) fn delta(&self, span: Span) -> Vec<Change> {
        let changed = |&block: &Block| {
            let (older, newer) = (self.version_at(block, span.older), self.version_at(block, span.newer));
            let differs = older.birth != newer.birth && (older.entry.is_some() || newer.entry.is_some());
            differs.then_some(Change { block, is_data: newer.entry.is_some() })
        };
        self.written_within(span).iter().filter_map(changed).collect()
    }

    /// The physical blocks that only the deleted snapshot needs, in rising order.
    pub(crate) fn freed(&self, deletion: Deletion) -> Vec<u64> {
        let span = Span { older: deletion.snapshot, newer: deletion.next };
        let entries =
            self.written_within(span).into_iter().filter_map(|b| self.block_at(b, deletion.snapshot));
        let mut freed: Vec<u64> =
            entries.filter(|entry| entry.birth > deletion.previous).map(|entry| entry.physical).collect();
        freed.sort_unstable();
        freed
    }
}

fn all_versions(workload: &Workload) -> impl Iterator<Item = (usize, Version)> {
    let fill = workload.fill.iter().enumerate();
    let filled = fill.map(|(block, entry)| (block, Version { birth: FILL_EPOCH, entry: Some(*entry) }));
    let written = workload.epochs.iter().flat_map(|epoch| {
        epoch.overwrites.iter().map(|w| (w.block.0 as usize, Version { birth: epoch.epoch, entry: w.entry }))
    });
    filled.chain(written)
}
