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

/// What overlays say of consecutive pages.
#[derive(Clone, Debug)]
pub struct Said {
    range: Range<PageIndex>,
    /// Empty while nothing was said.
    pages: Vec<Masks>,
}

impl Said {
    /// Nothing, of these pages.
    pub fn nothing(range: Range<PageIndex>) -> Self {
        Self { range, pages: Vec::new() }
    }

    /// Lays what a newer overlay says over it. The cost is that of the range's pages, and of what was written to them.
    pub fn lay(&mut self, overlay: &LayerOverlay) {
        let count = usize::try_from(self.range.end.0.saturating_sub(self.range.start.0)).unwrap_or(0);
        self.pages.resize(count, Masks::default());
        // A page that was written to says everything by itself, holes around it included.
        let place = |page: PageIndex| usize::try_from(page.0 - self.range.start.0).unwrap_or(usize::MAX);
        let written: Vec<(usize, Masks)> = overlay
            .pages
            .range(self.range.clone())
            .map(|(page, versions)| (place(*page), self.pages[place(*page)].under(versions.masks())))
            .collect();
        for hole in overlay.holes_in(self.range.clone()) {
            self.pages[place(hole.start)..place(hole.end)].fill(Masks::UNMAPPED);
        }
        for (place, masks) in written {
            self.pages[place] = masks;
        }
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
        while block < end.0 {
            let masks = self.masks(BlockIndex(block).page());
            let page_end = (block / PAGE_BLOCKS + 1) * PAGE_BLOCKS;
            if masks.said == 0 || masks == Masks::UNMAPPED {
                block = page_end.min(end.0);
                take(block, (masks.said != 0).then_some(false));
                continue;
            }
            while block < page_end.min(end.0) {
                let bit = 1 << BlockIndex(block).slot();
                block += 1;
                take(block, (masks.said & bit != 0).then_some(masks.data & bit != 0));
            }
        }
        if let Some((at, said)) = run {
            visit(BlockIndex(at), said);
        }
    }

    fn masks(&self, page: PageIndex) -> Masks {
        let place = page.0.checked_sub(self.range.start.0).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.pages.get(place)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::overlay::Overlay;
    use crate::units::{Epoch, LayerId, PhysicalBlock};

    const LAYER: LayerId = LayerId(1);
    const PAGES: u64 = 12;

    /// Against what each overlay says of each block.
    #[test]
    fn what_is_said_is_what_the_newest_overlay_says() {
        let mut random = 1_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..300 {
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
            overlays.iter().filter_map(|one| one.layers.get(&LAYER)).for_each(|layer| said.lay(layer));
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
    }
}
