//! Which blocks of a layer its overlays speak of, and which of those hold data now.

use std::ops::Range;

use super::overlay::LayerOverlay;
use crate::units::{BlockIndex, PAGE_BLOCKS, PageIndex};

/// What overlays say of one page, a bit a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// Blocks that were written or unmapped.
    pub said: u64,
    /// Those of them that hold data.
    pub data: u64,
}

impl Masks {
    const UNMAPPED: Self = Self { said: u64::MAX, data: 0 };

    /// `newer` over this.
    #[must_use]
    pub fn under(self, newer: Self) -> Self {
        Self { said: self.said | newer.said, data: self.data & !newer.said | newer.data }
    }
}

/// Pages of which the same is said.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: u64,
    end: u64,
    masks: Masks,
}

/// What overlays say of consecutive pages.
#[derive(Clone, Debug)]
pub struct Said {
    start: u64,
    end: u64,
    /// In order and apart; nothing is said of what lies between.
    parts: Vec<Part>,
}

impl Said {
    /// Nothing, of these pages.
    pub fn nothing(range: Range<PageIndex>) -> Self {
        Self { start: range.start.0, end: range.end.0, parts: Vec::new() }
    }

    /// Where what is known ends: with an overlay that has much to say, before the range does, but after its first page.
    pub fn end(&self) -> BlockIndex {
        PageIndex(self.end).first_block()
    }

    /// Lays what a newer overlay says over it. The cost is that of what was written to the range's pages, and of the
    /// holes in it; at most `most` of each are looked at, and the range ends where there are more.
    pub fn lay(&mut self, overlay: &LayerOverlay, most: usize) {
        let newer = self.newer(overlay, most);
        self.parts.retain_mut(|part| {
            part.end = part.end.min(self.end);
            part.start < part.end
        });
        self.parts = under(&self.parts, &newer);
    }

    /// What an overlay says of the range, with holes cut where pages in them were written to: these say everything by
    /// themselves, holes around them included. Ends the range where there is more than is looked at.
    fn newer(&mut self, overlay: &LayerOverlay, most: usize) -> Vec<Part> {
        let mut end = self.end;
        let mut pages: Vec<Part> = Vec::new();
        for (page, versions) in overlay.pages.range(PageIndex(self.start)..PageIndex(self.end)) {
            if pages.len() == most {
                end = page.0;
                break;
            }
            pages.push(Part { start: page.0, end: page.0 + 1, masks: versions.masks() });
        }
        let mut holes: Vec<Range<u64>> = Vec::new();
        for hole in overlay.holes_in(PageIndex(self.start)..PageIndex(end)) {
            if holes.len() == most {
                end = hole.start.0;
                break;
            }
            holes.push(hole.start.0..hole.end.0);
        }
        self.end = end;
        pages.retain(|page| page.end <= end);
        let mut parts = Vec::with_capacity(pages.len() + holes.len());
        let mut pages = pages.into_iter().peekable();
        for Range { mut start, end } in holes {
            parts.extend(std::iter::from_fn(|| pages.next_if(|page| page.start < start)));
            while let Some(page) = pages.next_if(|page| page.start < end) {
                if start < page.start {
                    parts.push(Part { start, end: page.start, masks: Masks::UNMAPPED });
                }
                start = page.end;
                parts.push(page);
            }
            if start < end {
                parts.push(Part { start, end, masks: Masks::UNMAPPED });
            }
        }
        parts.extend(pages);
        parts
    }

    /// Shows `visit` where runs end of blocks of which the same is said, from `first` on to `end`: whether they hold
    /// data, or nothing where nothing is said of them.
    pub fn runs(&self, first: BlockIndex, end: BlockIndex, mut visit: impl FnMut(BlockIndex, Option<bool>)) {
        let mut run: Option<(u64, Option<bool>)> = None;
        let mut take = |end: u64, said: Option<bool>| match &mut run {
            Some((at, was)) if *was == said => *at = end,
            Some((at, was)) => {
                visit(BlockIndex(*at), *was);
                run = Some((end, said));
            }
            None => run = Some((end, said)),
        };
        let mut block = first.0;
        let from = self.parts.partition_point(|part| part.end <= first.page().0);
        for part in &self.parts[from..] {
            let (part_start, part_end) = (part.start * PAGE_BLOCKS, (part.end * PAGE_BLOCKS).min(end.0));
            if block < part_start.min(end.0) {
                block = part_start.min(end.0);
                take(block, None);
            }
            if part.masks == Masks::UNMAPPED && block < part_end {
                block = part_end;
                take(block, Some(false));
            }
            while block < part_end {
                let bit = 1 << BlockIndex(block).slot();
                block += 1;
                take(block, (part.masks.said & bit != 0).then_some(part.masks.data & bit != 0));
            }
        }
        if block < end.0 {
            take(end.0, None);
        }
        if let Some((at, said)) = run {
            visit(BlockIndex(at), said);
        }
    }
}

/// Lays the parts `newer` over `older`.
fn under(older: &[Part], newer: &[Part]) -> Vec<Part> {
    let mut joined = Vec::with_capacity(older.len() + newer.len());
    let mut older = older.iter().copied().peekable();
    for new in newer {
        // What lies before it stays; what lies under it is cut away, and a page's own is laid beneath it.
        let mut masks = new.masks;
        while let Some(old) = older.peek_mut().filter(|old| old.start < new.end) {
            let cut = Part { end: old.end.min(new.start), ..*old };
            if cut.start < cut.end {
                joined.push(cut);
            }
            if old.end > new.start {
                masks = old.masks.under(new.masks);
            }
            if old.end > new.end {
                old.start = new.end;
                break;
            }
            older.next();
        }
        joined.push(Part { masks, ..*new });
    }
    joined.extend(older);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::overlay::Overlay;
    use crate::units::{Epoch, LayerId, PhysicalBlock};

    const LAYER: LayerId = LayerId(1);
    const PAGES: u64 = 12;

    /// Against what each overlay says of each block, up to where it is looked at.
    #[test]
    fn what_is_said_is_what_the_newest_overlay_says() {
        let mut random = 1_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut short = 0;
        for _ in 0..2000 {
            let mut overlays = [Overlay::default(), Overlay::default()];
            for (number, overlay) in (0..).zip(&mut overlays) {
                for step in 0..draw(6) {
                    let epoch = Epoch(u32::try_from(10 * number + step).expect("small"));
                    let block = draw(PAGES * PAGE_BLOCKS);
                    match draw(3) {
                        0 => overlay.put(LAYER, BlockIndex(block), epoch, PhysicalBlock(5), 0),
                        1 => overlay.unmap(LAYER, BlockIndex(block), 1 + draw(4), epoch),
                        _ => overlay.unmap(LAYER, BlockIndex(block), 1 + draw(300), epoch),
                    }
                }
            }
            let (first, end) = (draw(PAGES / 2) * PAGE_BLOCKS + draw(64), PAGES * PAGE_BLOCKS - draw(100));
            let mut said = Said::nothing(BlockIndex(first).page()..PageIndex(PAGES));
            let most = [1, 2, 3, 1000][usize::try_from(draw(4)).expect("small")];
            let layers = overlays.iter().filter_map(|one| one.layers.get(&LAYER));
            layers.for_each(|layer| said.lay(layer, most));
            assert!(said.end().0 > first, "there is always something to say");
            short += u32::from(said.end().0 < end);
            let end = end.min(said.end().0);
            let expected = |block: u64| {
                let of = |overlay: &Overlay| overlay.layers.get(&LAYER)?.get(BlockIndex(block), None);
                let entry = overlays.iter().rev().find_map(of)?;
                Some(entry.physical.0 != 0)
            };
            let (mut at, mut last) = (first, None);
            said.runs(BlockIndex(first), BlockIndex(end), |end, is_data| {
                assert!(end.0 > at && last != Some(is_data), "runs are whole");
                (at..end.0).for_each(|block| assert_eq!(is_data, expected(block), "block {block}"));
                (at, last) = (end.0, Some(is_data));
            });
            assert_eq!(at, end);
        }
        assert!(short > 200, "the bound was met {short} times");
    }

    #[test]
    fn a_large_range_costs_what_was_written_to_it() {
        let mut overlay = Overlay::default();
        overlay.put(LAYER, BlockIndex(1 << 40), Epoch(1), PhysicalBlock(5), 0);
        overlay.unmap(LAYER, BlockIndex(0), 1 << 39, Epoch(1));
        let mut said = Said::nothing(PageIndex(0)..PageIndex(1 << 40));
        said.lay(&overlay.layers[&LAYER], 1000);
        assert_eq!(said.parts.len(), 2);
        let mut runs = Vec::new();
        said.runs(BlockIndex(0), BlockIndex(1 << 45), |end, is_data| runs.push((end.0, is_data)));
        let expected =
            [(1 << 39, Some(false)), (1 << 40, None), ((1 << 40) + 1, Some(true)), (1 << 45, None)];
        assert_eq!(runs, expected);
    }
}
