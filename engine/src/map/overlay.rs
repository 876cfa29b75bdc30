//! What the journal says and RocksDB does not know yet: the newest entries of every page written since the last
//! checkpoint, and those of earlier epochs that a snapshot may still need.
//!
//! 1. Writing is blind: nothing is looked up below the overlay.
//! 2. A block has at most one entry an epoch; what it replaces in the same epoch is superseded at once, seen by
//!    no snapshot, and its room comes back at the next checkpoint (I5).
//! 3. A page that is in `pages` says everything the overlay knows of it; `holes` speaks only of pages that are not.
//! 4. Unmapping costs what the overlay holds in the range, never the length of the range.

use std::collections::BTreeMap;
use std::ops::Range;

use super::said::Masks;
use super::{Entry, Page};
use crate::format::dead::{PhysicalRun, push};
use crate::format::head::bits;
use crate::units::{BlockIndex, Epoch, LayerId, PAGE_BLOCKS, PAGE_LEN, PageIndex, PhysicalBlock};

/// The entries that one page got in one epoch.
#[derive(Clone, Debug)]
pub struct Version {
    /// The epoch.
    pub birth: Epoch,
    /// Blocks that have an entry here.
    pub mask: u64,
    entries: Vec<(PhysicalBlock, u32)>,
}

impl Version {
    fn new(birth: Epoch) -> Self {
        Self { birth, mask: 0, entries: Vec::new() }
    }

    /// Every block of the page became a hole in `birth`.
    pub fn unmapped(birth: Epoch) -> Self {
        Self { birth, mask: u64::MAX, entries: vec![(PhysicalBlock(0), 0); 64] }
    }

    fn rank(&self, slot: usize) -> usize {
        (self.mask & ((1 << slot) - 1)).count_ones() as usize
    }

    /// The entry of a block, when it got one in this epoch.
    pub fn get(&self, slot: usize) -> Option<Entry> {
        (self.mask >> slot & 1 == 1).then(|| {
            let (physical, checksum) = self.entries[self.rank(slot)];
            if physical.0 == 0 { Entry::HOLE } else { Entry { physical, birth: self.birth, checksum } }
        })
    }

    fn masks(&self) -> Masks {
        let mapped = bits(self.mask).zip(&self.entries).filter(|(_, (physical, _))| physical.0 != 0);
        Masks { said: self.mask, data: mapped.fold(0, |data, (slot, _)| data | 1 << slot) }
    }

    fn put(&mut self, slot: usize, physical: PhysicalBlock, checksum: u32) -> Option<PhysicalBlock> {
        let rank = self.rank(slot);
        if self.mask >> slot & 1 == 1 {
            let (old, _) = std::mem::replace(&mut self.entries[rank], (physical, checksum));
            return (old.0 != 0).then_some(old);
        }
        self.mask |= 1 << slot;
        self.entries.insert(rank, (physical, checksum));
        None
    }
}

/// Every version of one page, oldest first.
#[derive(Clone, Debug, Default)]
pub struct PageVersions(pub Vec<Version>);

impl PageVersions {
    fn newest(&mut self, epoch: Epoch) -> &mut Version {
        if self.0.last().is_none_or(|version| version.birth != epoch) {
            debug_assert!(self.0.last().is_none_or(|version| version.birth < epoch));
            self.0.push(Version::new(epoch));
        }
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Blocks that have an entry, and those of them whose newest one is data.
    pub fn masks(&self) -> Masks {
        self.0.iter().fold(Masks::default(), |older, version| older.under(version.masks()))
    }

    /// The newest entry of a block, at `at` or before when given.
    pub fn get(&self, slot: usize, at: Option<Epoch>) -> Option<Entry> {
        self.0
            .iter()
            .rev()
            .filter(|version| at.is_none_or(|at| version.birth <= at))
            .find_map(|version| version.get(slot))
    }
}

/// Pages from a first to before an end, unmapped in an epoch.
#[derive(Clone, Copy, Debug)]
pub struct HoleRange {
    /// The page after the last.
    pub end: PageIndex,
    /// The epoch in which they were first unmapped.
    pub birth: Epoch,
}

/// One layer's part of the overlay.
#[derive(Clone, Debug, Default)]
pub struct LayerOverlay {
    /// Pages written to.
    pub pages: BTreeMap<PageIndex, PageVersions>,
    /// Whole pages unmapped, by their first; disjoint.
    pub holes: BTreeMap<PageIndex, HoleRange>,
}

impl LayerOverlay {
    fn hole_at(&self, page: PageIndex) -> Option<Epoch> {
        self.holes
            .range(..=page)
            .next_back()
            .filter(|(_, range)| page < range.end)
            .map(|(_, range)| range.birth)
    }

    /// The parts of `range` in which whole pages were unmapped. Pages that were written to may lie in them.
    pub fn holes_in(&self, range: Range<PageIndex>) -> impl Iterator<Item = Range<PageIndex>> {
        let before = self.holes.range(..range.start).next_back();
        let within = before.into_iter().chain(self.holes.range(range.clone()));
        within
            .map(move |(first, hole)| (*first).max(range.start)..hole.end.min(range.end))
            .filter(|part| part.start < part.end)
    }

    /// What the overlay says of a block's entry at `at` or before (`None`: now); `None` when it says nothing.
    pub fn get(&self, block: BlockIndex, at: Option<Epoch>) -> Option<Entry> {
        let page = block.page();
        match self.pages.get(&page) {
            Some(versions) => versions.get(block.slot(), at),
            None => {
                let birth = self.hole_at(page)?;
                at.is_none_or(|at| birth <= at).then_some(Entry::HOLE)
            }
        }
    }

    /// Lays what the overlay says of a page at `at` or before (`None`: now) over `page`.
    pub fn apply(&self, index: PageIndex, at: Option<Epoch>, page: &mut Page) {
        let Some(versions) = self.pages.get(&index) else {
            if self.hole_at(index).is_some_and(|birth| at.is_none_or(|at| birth <= at)) {
                *page = Page::default();
            }
            return;
        };
        for version in versions.0.iter().filter(|version| at.is_none_or(|at| version.birth <= at)) {
            for (slot, &(physical, checksum)) in bits(version.mask).zip(&version.entries) {
                page.0[slot] = if physical.0 == 0 {
                    Entry::HOLE
                } else {
                    Entry { physical, birth: version.birth, checksum }
                };
            }
        }
    }

    fn versions(&mut self, page: PageIndex) -> &mut PageVersions {
        let hole = if self.holes.is_empty() { None } else { self.hole_at(page) };
        self.pages
            .entry(page)
            .or_insert_with(|| PageVersions(hole.map(Version::unmapped).into_iter().collect()))
    }
}

/// The overlay of every layer.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// By layer.
    pub layers: BTreeMap<LayerId, LayerOverlay>,
    /// Blocks that were superseded in the epoch they were written in.
    pub superseded: Vec<PhysicalRun>,
    /// Physical blocks in `superseded`.
    pub superseded_blocks: u64,
    /// Bytes that the overlay takes in memory, about.
    pub bytes: usize,
}

/// About what a page takes besides its entries.
const PAGE_OVERHEAD: usize = 120;
const ENTRY_BYTES: usize = 16;

impl Overlay {
    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.superseded.is_empty()
    }

    fn supersede(&mut self, block: PhysicalBlock) {
        self.superseded_blocks += 1;
        push(&mut self.superseded, block);
    }

    /// A block was written in `epoch`, or made a hole (physical block 0).
    pub fn put(
        &mut self,
        layer: LayerId,
        block: BlockIndex,
        epoch: Epoch,
        physical: PhysicalBlock,
        checksum: u32,
    ) {
        self.put_in_page(layer, block, epoch, physical, &[checksum]);
    }

    /// Blocks from `first` on were written in `epoch` to as many physical blocks from `physical` on.
    pub fn put_run(
        &mut self,
        layer: LayerId,
        first: BlockIndex,
        epoch: Epoch,
        physical: PhysicalBlock,
        checksums: &[u32],
    ) {
        let mut done = 0;
        while done < checksums.len() {
            let (block, home) = (BlockIndex(first.0 + done as u64), PhysicalBlock(physical.0 + done as u64));
            let count = (PAGE_LEN - block.slot()).min(checksums.len() - done);
            self.put_in_page(layer, block, epoch, home, &checksums[done..done + count]);
            done += count;
        }
    }

    /// Blocks of one page.
    fn put_in_page(
        &mut self,
        layer: LayerId,
        first: BlockIndex,
        epoch: Epoch,
        physical: PhysicalBlock,
        checksums: &[u32],
    ) {
        let pages = self.layers.entry(layer).or_default();
        let before = pages.pages.len();
        let newest = pages.versions(first.page()).newest(epoch);
        for (at, &checksum) in checksums.iter().enumerate() {
            let home = PhysicalBlock(physical.0 + at as u64);
            match newest.put(first.slot() + at, home, checksum) {
                Some(old) => {
                    self.superseded_blocks += 1;
                    push(&mut self.superseded, old);
                }
                None => self.bytes += ENTRY_BYTES,
            }
        }
        self.bytes += (pages.pages.len() - before) * PAGE_OVERHEAD;
    }

    /// Where to stop unmapping for now, so that at most `pages` pages take room for it.
    pub fn unmap_step(&self, layer: LayerId, blocks: Range<BlockIndex>, pages: usize) -> BlockIndex {
        let end = PageIndex(blocks.end.0.div_ceil(PAGE_BLOCKS));
        let layer = self.layers.get(&layer);
        let beyond = layer.and_then(|layer| layer.pages.range(blocks.start.page()..end).nth(pages.max(1)));
        beyond.map_or(blocks.end, |(page, _)| page.first_block())
    }

    /// Makes holes of `blocks` blocks from `block` on.
    pub fn unmap(&mut self, layer: LayerId, block: BlockIndex, blocks: u64, epoch: Epoch) {
        let end = block.0 + blocks;
        let first_whole = block.0.div_ceil(PAGE_BLOCKS);
        let end_whole = end / PAGE_BLOCKS;
        if first_whole >= end_whole {
            (block.0..end).for_each(|block| self.put(layer, BlockIndex(block), epoch, PhysicalBlock(0), 0));
            return;
        }
        let edges = (block.0..first_whole * PAGE_BLOCKS).chain(end_whole * PAGE_BLOCKS..end);
        edges.for_each(|block| self.put(layer, BlockIndex(block), epoch, PhysicalBlock(0), 0));
        self.unmap_pages(layer, PageIndex(first_whole), PageIndex(end_whole), epoch);
    }

    fn unmap_pages(&mut self, layer: LayerId, first: PageIndex, end: PageIndex, epoch: Epoch) {
        let pages = self.layers.entry(layer).or_default();
        let mut superseded = Vec::new();
        for versions in pages.pages.range_mut(first..end).map(|(_, versions)| versions) {
            let newest = versions.newest(epoch);
            superseded
                .extend(newest.entries.iter().map(|&(physical, _)| physical).filter(|block| block.0 != 0));
            self.bytes += (PAGE_LEN - newest.entries.len()) * ENTRY_BYTES;
            *newest = Version::unmapped(epoch);
        }
        // Only what is no hole yet: an earlier hole stays one, with its earlier birth.
        let mut cursor = first;
        let covered: Vec<_> = pages
            .holes
            .range(..end)
            .rev()
            .take_while(|(_, range)| range.end > first)
            .map(|(&start, range)| (start, range.end))
            .collect();
        for (start, covered_end) in covered.into_iter().rev() {
            if cursor < start {
                pages.holes.insert(cursor, HoleRange { end: start, birth: epoch });
            }
            cursor = cursor.max(covered_end);
        }
        if cursor < end {
            pages.holes.insert(cursor, HoleRange { end, birth: epoch });
        }
        self.bytes += PAGE_OVERHEAD;
        superseded.into_iter().for_each(|block| self.supersede(block));
    }

    /// What the overlay says of a block's entry at `at` or before (`None`: now).
    pub fn get(&self, layer: LayerId, block: BlockIndex, at: Option<Epoch>) -> Option<Entry> {
        self.layers.get(&layer)?.get(block, at)
    }

    /// Lays what the overlay says of a page over `page`.
    pub fn apply(&self, layer: LayerId, index: PageIndex, at: Option<Epoch>, page: &mut Page) {
        if let Some(pages) = self.layers.get(&layer) {
            pages.apply(index, at, page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: LayerId = LayerId(1);

    fn put(overlay: &mut Overlay, block: u64, epoch: u32, physical: u64) {
        overlay.put(LAYER, BlockIndex(block), Epoch(epoch), PhysicalBlock(physical), 1);
    }

    fn at(overlay: &Overlay, block: u64, epoch: Option<u32>) -> Option<u64> {
        overlay.get(LAYER, BlockIndex(block), epoch.map(Epoch)).map(|entry| entry.physical.0)
    }

    /// Unmapping what was written once took a page's room for each page of any range at once, and again each time.
    #[test]
    fn unmapping_goes_in_steps_and_takes_room_once() {
        let mut overlay = Overlay::default();
        (0..10).for_each(|page| put(&mut overlay, page * PAGE_BLOCKS + 7, 1, 5 + page));
        let step = |first, end, pages| {
            overlay.unmap_step(LAYER, BlockIndex(first)..BlockIndex(end), pages).0 / PAGE_BLOCKS
        };
        assert_eq!(step(0, 1 << 40, 4), 4);
        assert_eq!(step(4 * PAGE_BLOCKS + 3, 1 << 40, 4), 8);
        assert_eq!(step(8 * PAGE_BLOCKS, 1 << 40, 4), (1 << 40) / PAGE_BLOCKS);
        assert_eq!(step(0, 2 * PAGE_BLOCKS, 4), 2);
        overlay.unmap(LAYER, BlockIndex(0), 1 << 40, Epoch(1));
        let once = overlay.bytes;
        (0..5).for_each(|_| overlay.unmap(LAYER, BlockIndex(0), 1 << 40, Epoch(1)));
        assert!(overlay.bytes - once <= 5 * PAGE_OVERHEAD, "{} and {once}", overlay.bytes);
    }

    #[test]
    fn keeps_one_entry_an_epoch() {
        let mut overlay = Overlay::default();
        put(&mut overlay, 70, 1, 100);
        put(&mut overlay, 70, 1, 101);
        put(&mut overlay, 70, 3, 102);
        assert_eq!(
            (at(&overlay, 70, None), at(&overlay, 70, Some(2)), at(&overlay, 70, Some(0))),
            (Some(102), Some(101), None)
        );
        assert_eq!(overlay.superseded_blocks, 1);
        assert_eq!(at(&overlay, 71, None), None);
    }

    #[test]
    fn holes_reach_over_pages_with_and_without_versions() {
        let mut overlay = Overlay::default();
        put(&mut overlay, 64, 1, 100);
        overlay.unmap(LAYER, BlockIndex(10), 300, Epoch(2));
        assert_eq!(
            (at(&overlay, 9, None), at(&overlay, 10, None), at(&overlay, 64, None)),
            (None, Some(0), Some(0))
        );
        assert_eq!(
            (at(&overlay, 64, Some(1)), at(&overlay, 128, Some(1)), at(&overlay, 309, None)),
            (Some(100), None, Some(0))
        );
        assert_eq!(at(&overlay, 310, None), None);
        // A page made later inside the range starts as a hole of the range's epoch.
        put(&mut overlay, 130, 5, 200);
        assert_eq!(
            (at(&overlay, 130, None), at(&overlay, 131, None), at(&overlay, 131, Some(1))),
            (Some(200), Some(0), None)
        );
        // Unmapping again adds only what was no hole, and supersedes what the same epoch wrote.
        overlay.unmap(LAYER, BlockIndex(0), 64 * 9, Epoch(5));
        assert_eq!((overlay.superseded_blocks, at(&overlay, 130, None)), (1, Some(0)));
        assert_eq!(
            (at(&overlay, 192, Some(3)), at(&overlay, 500, Some(3)), at(&overlay, 500, None)),
            (Some(0), None, Some(0))
        );
    }

    #[test]
    fn apply_agrees_with_get() {
        let mut overlay = Overlay::default();
        (0..64).step_by(3).for_each(|block| put(&mut overlay, block, 1, 100 + block));
        (0..64).step_by(5).for_each(|block| put(&mut overlay, block, 4, 300 + block));
        overlay.unmap(LAYER, BlockIndex(30), 4, Epoch(6));
        for epoch in [None, Some(0), Some(1), Some(5), Some(6)] {
            let mut page = Page::default();
            page.0.iter_mut().for_each(|entry| *entry = Entry::data(7, 0, 0));
            overlay.apply(LAYER, PageIndex(0), epoch.map(Epoch), &mut page);
            for (block, entry) in (0..).zip(page.0.iter()) {
                assert_eq!(entry.physical.0, at(&overlay, block, epoch).unwrap_or(7));
            }
        }
    }
}
