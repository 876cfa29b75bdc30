//! Which blocks of the data area are allocated, and where the next write goes.
//!
//! 1. A block is handed out only when no bit says that it is in use; who frees it waits for I5 first.
//! 2. Each stream of writes fills one open region from its start to its end, so that writes that arrive together
//!    lie together; the emptiest region is opened next.

use crate::format::dead::{CHUNK_BLOCKS, CHUNK_BYTES, PhysicalRun};
use crate::units::PhysicalBlock;

/// Writes that are laid down apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Small writes anywhere.
    Random,
    /// Long runs, written like a log.
    Sequential,
}

const STREAMS: usize = 2;

#[derive(Clone, Copy, Debug)]
struct Open {
    region: usize,
    cursor: u64,
}

/// The allocation bitmap and the open regions.
pub struct Space {
    bits: Vec<u64>,
    start: u64,
    end: u64,
    region_blocks: u64,
    region_free: Vec<u64>,
    free: u64,
    open: [Option<Open>; STREAMS],
}

impl Space {
    /// A data area from block `start` to before `end`, all free. Regions have `region_blocks`, a multiple of 64.
    pub fn new(start: u64, end: u64, region_blocks: u64) -> Self {
        let mut space = Self {
            bits: Vec::new(),
            start,
            end: start,
            region_blocks,
            region_free: Vec::new(),
            free: 0,
            open: [None; STREAMS],
        };
        space.grow(end);
        space
    }

    /// The area ends at `end` now, which is not before where it ended.
    pub fn grow(&mut self, end: u64) {
        assert!(end >= self.end);
        let words = usize::try_from(end.div_ceil(64)).expect("a bitmap fits memory");
        self.bits.resize(words, 0);
        if self.free == 0 && self.end == self.start {
            (0..self.start).for_each(|block| self.set(block));
        } else {
            (self.end..(self.end.div_ceil(64) * 64).min(end)).for_each(|block| self.clear(block));
        }
        self.free += end - self.end;
        self.end = end;
        (end..end.div_ceil(64) * 64).for_each(|block| self.set(block));
        let regions = usize::try_from(end.div_ceil(self.region_blocks)).expect("a bitmap fits memory");
        self.region_free = (0..regions).map(|region| self.count_free(region)).collect();
        self.open = [None; STREAMS];
    }

    fn word(block: u64) -> usize {
        usize::try_from(block / 64).expect("a bitmap fits memory")
    }

    fn set(&mut self, block: u64) {
        self.bits[Self::word(block)] |= 1 << (block % 64);
    }

    fn clear(&mut self, block: u64) {
        self.bits[Self::word(block)] &= !(1 << (block % 64));
    }

    /// Whether the block is in use.
    pub fn is_allocated(&self, block: PhysicalBlock) -> bool {
        self.bits.get(Self::word(block.0)).is_none_or(|word| word >> (block.0 % 64) & 1 == 1)
    }

    /// Whether every block of the run lies in the data area.
    pub fn contains(&self, run: PhysicalRun) -> bool {
        run.start.0 >= self.start && run.start.0.checked_add(run.blocks).is_some_and(|end| end <= self.end)
    }

    fn region(&self, block: u64) -> usize {
        usize::try_from(block / self.region_blocks).expect("a bitmap fits memory")
    }

    fn count_free(&self, region: usize) -> u64 {
        let first = region as u64 * self.region_blocks;
        let words = Self::word(first)..Self::word(first + self.region_blocks).min(self.bits.len());
        self.bits[words].iter().map(|word| u64::from(word.count_zeros())).sum()
    }

    /// Blocks that can be handed out.
    pub fn free_blocks(&self) -> u64 {
        self.free
    }

    /// Blocks in the data area.
    pub fn blocks(&self) -> u64 {
        self.end - self.start
    }

    /// Says that blocks are in use, as recovery finds it. Returns how many were already.
    pub fn mark(&mut self, run: PhysicalRun) -> u64 {
        let mut present = 0;
        for block in run.start.0..run.start.0 + run.blocks {
            if self.is_allocated(PhysicalBlock(block)) {
                present += 1;
            } else {
                self.take(block);
            }
        }
        present
    }

    /// Takes a chunk of the persisted bitmap; blocks outside the data area are ignored.
    pub fn load(&mut self, chunk: u64, bytes: &[u8; CHUNK_BYTES]) {
        for (index, &byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                let block = chunk * CHUNK_BLOCKS + index as u64 * 8 + bit;
                if (self.start..self.end).contains(&block) {
                    self.mark(PhysicalRun { start: PhysicalBlock(block), blocks: 1 });
                }
            }
        }
    }

    fn take(&mut self, block: u64) {
        self.set(block);
        self.free -= 1;
        let region = self.region(block);
        self.region_free[region] -= 1;
    }

    /// Blocks may be handed out again.
    ///
    /// # Panics
    /// When one of them was free: that would be our own fault, and going on would write over live data.
    pub fn release(&mut self, run: PhysicalRun) {
        for block in run.start.0..run.start.0 + run.blocks {
            assert!(self.is_allocated(PhysicalBlock(block)), "block {block} is released twice");
            self.clear(block);
            self.free += 1;
            let region = self.region(block);
            self.region_free[region] += 1;
        }
    }

    /// Hands out 1 to `want` consecutive blocks for a stream; `None` when none is free.
    pub fn allocate(&mut self, stream: Stream, want: u64) -> Option<PhysicalRun> {
        let index = stream as usize;
        loop {
            let open = match self.open[index] {
                Some(open) => open,
                None => self.open_region(index)?,
            };
            let end = ((open.region as u64 + 1) * self.region_blocks).min(self.end);
            let Some(start) = self.first_free(open.cursor, end) else {
                self.open[index] = None;
                continue;
            };
            let most = end.min(start + want);
            let stop =
                (start + 1..most).find(|&block| self.is_allocated(PhysicalBlock(block))).unwrap_or(most);
            (start..stop).for_each(|block| self.take(block));
            self.open[index] = Some(Open { region: open.region, cursor: stop });
            return Some(PhysicalRun { start: PhysicalBlock(start), blocks: stop - start });
        }
    }

    fn first_free(&self, from: u64, end: u64) -> Option<u64> {
        let mut block = from;
        while block < end {
            let free = !self.bits[Self::word(block)] & (u64::MAX << (block % 64));
            if free != 0 {
                return Some(block / 64 * 64 + u64::from(free.trailing_zeros())).filter(|&block| block < end);
            }
            block = (block / 64 + 1) * 64;
        }
        None
    }

    /// Opens the emptiest region that the other stream has not open; when there is only that one, shares it.
    fn open_region(&mut self, index: usize) -> Option<Open> {
        let taken = |region| self.open.iter().flatten().any(|open| open.region == region);
        let emptiest = |shared: bool| {
            (0..self.region_free.len())
                .filter(|&region| self.region_free[region] > 0 && taken(region) == shared)
                .max_by_key(|&region| (self.region_free[region], std::cmp::Reverse(region)))
        };
        let region = emptiest(false).or_else(|| emptiest(true))?;
        let open = Open { region, cursor: (region as u64 * self.region_blocks).max(self.start) };
        self.open[index] = Some(open);
        Some(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, blocks: u64) -> PhysicalRun {
        PhysicalRun { start: PhysicalBlock(start), blocks }
    }

    #[test]
    fn hands_out_every_block_once() {
        let mut space = Space::new(100, 1000, 128);
        let mut seen = std::collections::BTreeSet::new();
        let mut stream = [Stream::Random, Stream::Sequential].into_iter().cycle();
        while let Some(found) = space.allocate(stream.next().expect("endless"), 7) {
            assert!(space.contains(found) && found.blocks <= 7);
            (found.start.0..found.start.0 + found.blocks).for_each(|block| assert!(seen.insert(block)));
        }
        assert_eq!((seen.len(), space.free_blocks()), (900, 0));
        space.release(run(500, 3));
        assert_eq!(space.allocate(Stream::Random, 9), Some(run(500, 3)));
    }

    #[test]
    fn streams_stay_apart_and_neighbours_together() {
        let mut space = Space::new(0, 1024, 256);
        let first = space.allocate(Stream::Random, 4).expect("free");
        let other = space.allocate(Stream::Sequential, 4).expect("free");
        let second = space.allocate(Stream::Random, 4).expect("free");
        assert_eq!(second.start.0, first.start.0 + 4);
        assert_ne!(first.start.0 / 256, other.start.0 / 256);
    }

    #[test]
    fn grows_from_any_end() {
        let mut space = Space::new(10, 100, 64);
        while space.allocate(Stream::Random, 64).is_some() {}
        space.grow(131);
        assert_eq!(space.free_blocks(), 31);
        assert_eq!(space.allocate(Stream::Random, 64), Some(run(100, 28)));
        assert_eq!(space.allocate(Stream::Random, 64), Some(run(128, 3)));
        assert_eq!(space.mark(run(10, 5)), 5);
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn a_double_release_stops_everything() {
        Space::new(0, 64, 64).release(run(3, 1));
    }
}
