//! Extents made of page masks: clipped to the asked range, neighbours merged.

use std::ops::Range;

use crate::error::Result;
use crate::units::{BlockIndex, PAGE_BLOCKS, PageIndex};

/// Pages that a key can name.
const PAGES_MAX: u64 = (1 << 48) - 1;

/// What an extent is at the point that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// Every block is mapped.
    Data,
    /// No block is mapped; it reads as zeros.
    Hole,
}

/// Consecutive blocks of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaExtent {
    /// The first block.
    pub first: BlockIndex,
    /// How many, at least 1.
    pub blocks: u64,
    /// What they are.
    pub kind: ExtentKind,
}

/// The pages that a range of blocks touches, as far as keys can name them.
pub(super) fn pages(range: &Range<BlockIndex>) -> Range<PageIndex> {
    let end = if range.is_empty() { range.start.0 } else { range.end.0 };
    PageIndex((range.start.0 / PAGE_BLOCKS).min(PAGES_MAX))
        ..PageIndex(end.div_ceil(PAGE_BLOCKS).min(PAGES_MAX))
}

/// Takes pages in rising order and shows the extents to `visit`.
pub(super) struct Extents<V> {
    range: Range<BlockIndex>,
    /// Not shown yet: the next page may lengthen it.
    pending: Option<DeltaExtent>,
    visit: V,
}

impl<V: FnMut(DeltaExtent) -> Result<bool>> Extents<V> {
    pub(super) fn new(range: Range<BlockIndex>, visit: V) -> Self {
        Self { range, pending: None, visit }
    }

    /// The blocks of a page that lie in the range.
    fn clip(&self, page: PageIndex) -> u64 {
        let first = page.first_block().0;
        let skipped = self.range.start.0.saturating_sub(first).min(PAGE_BLOCKS);
        let kept = self.range.end.0.saturating_sub(first).min(PAGE_BLOCKS);
        let below = |blocks: u64| if blocks == PAGE_BLOCKS { u64::MAX } else { (1 << blocks) - 1 };
        below(kept) & !below(skipped)
    }

    /// Takes a page; says whether to go on.
    pub(super) fn page(&mut self, page: PageIndex, data: u64, holes: u64) -> Result<bool> {
        let clip = self.clip(page);
        let (data, mut left) = (data & clip, (data | holes) & clip);
        while left != 0 {
            let slot = left.trailing_zeros();
            let kind = if data >> slot & 1 == 1 { ExtentKind::Data } else { ExtentKind::Hole };
            let same = if kind == ExtentKind::Data { data } else { left & !data };
            let blocks = (same >> slot).trailing_ones();
            left &= !((u64::MAX >> (64 - blocks)) << slot);
            let first = BlockIndex(page.first_block().0 + u64::from(slot));
            if !self.push(DeltaExtent { first, blocks: u64::from(blocks), kind })? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn push(&mut self, extent: DeltaExtent) -> Result<bool> {
        match &mut self.pending {
            Some(pending)
                if pending.kind == extent.kind && pending.first.0 + pending.blocks == extent.first.0 =>
            {
                pending.blocks += extent.blocks;
                Ok(true)
            }
            pending => match pending.replace(extent) {
                Some(complete) => (self.visit)(complete),
                None => Ok(true),
            },
        }
    }

    /// Shows the last extent.
    pub(super) fn finish(mut self) -> Result<()> {
        match self.pending.take() {
            Some(last) => (self.visit)(last).map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(range: Range<u64>, pages: &[(u64, u64, u64)]) -> Vec<(u64, u64, bool)> {
        let mut out = Vec::new();
        let mut extents = Extents::new(BlockIndex(range.start)..BlockIndex(range.end), |extent| {
            out.push((extent.first.0, extent.blocks, extent.kind == ExtentKind::Data));
            Ok(true)
        });
        for &(page, data, holes) in pages {
            assert!(extents.page(PageIndex(page), data, holes).unwrap());
        }
        extents.finish().unwrap();
        out
    }

    #[test]
    fn merges_over_pages_and_clips() {
        let full = [(0, u64::MAX, 0), (1, 0b0111, 0b1000), (2, 0, u64::MAX)];
        assert_eq!(shown(0..u64::MAX, &full), [(0, 67, true), (67, 1, false), (128, 64, false)]);
        assert_eq!(shown(10..66, &full), [(10, 56, true)]);
        assert_eq!(shown(67..129, &full), [(67, 1, false), (128, 1, false)]);
        assert_eq!(shown(68..68, &full), []);
    }

    #[test]
    fn pages_of_a_range() {
        let of = |start, end| pages(&(BlockIndex(start)..BlockIndex(end)));
        assert_eq!(of(63, 65), PageIndex(0)..PageIndex(2));
        assert_eq!(of(64, 128), PageIndex(1)..PageIndex(2));
        assert!(of(70, 70).is_empty() || of(70, 70) == (PageIndex(1)..PageIndex(2)));
        assert_eq!(of(0, u64::MAX).end, PageIndex(PAGES_MAX));
    }
}
