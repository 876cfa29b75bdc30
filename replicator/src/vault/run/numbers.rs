//! The packs of a run that is being written, numbered as its extents first point at them.
//!
//! 1. A pack of older runs has one number, however many of them list it.
//! 2. A pack that is being sent has no name before it is whole; it has a number of its own. When it turns out to be
//!    one that is listed already (the same blocks were sent once before), the list holds it twice until the next merge.

use std::collections::BTreeMap;

use crate::format::name::PackName;
use crate::format::pack_list::PackRef;

/// Numbers for packs by layer and index. Layer 0 is what is being sent, the others are runs.
#[derive(Default)]
pub(crate) struct PackNumbers {
    /// What the layers from 1 on list.
    lists: Vec<Vec<PackRef>>,
    /// The number that was given to a pack of a layer.
    given: Vec<Vec<Option<u32>>>,
    numbered: Vec<Numbered>,
    by_name: BTreeMap<PackName, u32>,
}

struct Numbered {
    layer: usize,
    index: usize,
    live_blocks: u32,
}

impl PackNumbers {
    pub(crate) fn new(lists: Vec<Vec<PackRef>>) -> Self {
        let given =
            std::iter::once(Vec::new()).chain(lists.iter().map(|list| vec![None; list.len()])).collect();
        Self { lists, given, numbered: Vec::new(), by_name: BTreeMap::new() }
    }

    /// The number of pack `pack` of `layer`, of which `blocks` more are pointed at.
    pub(crate) fn number(&mut self, layer: usize, pack: u32, blocks: u32) -> u32 {
        let index = pack as usize;
        if self.given[layer].len() <= index {
            self.given[layer].resize(index + 1, None);
        }
        let number = self.given[layer][index].unwrap_or_else(|| self.give(layer, index));
        let live = &mut self.numbered[number as usize].live_blocks;
        *live = live.saturating_add(blocks);
        number
    }

    fn give(&mut self, layer: usize, index: usize) -> u32 {
        let next = u32::try_from(self.numbered.len()).expect("fewer packs than a run has extents");
        let name = layer.checked_sub(1).map(|list| &self.lists[list][index].name);
        let number = match name {
            Some(name) => *self.by_name.entry(name.clone()).or_insert(next),
            None => next,
        };
        if number == next {
            self.numbered.push(Numbered { layer, index, live_blocks: 0 });
        }
        self.given[layer][index] = Some(number);
        number
    }

    /// The list, in the order of the numbers; `sent` are the packs of layer 0.
    pub(crate) fn packs(self, sent: &[PackRef]) -> Vec<PackRef> {
        let listed = |numbered: &Numbered| {
            let pack = match numbered.layer.checked_sub(1) {
                Some(list) => &self.lists[list][numbered.index],
                None => &sent[numbered.index],
            };
            // Two places of the volume may share a block of a pack; more than all of it can't be alive.
            PackRef { live_blocks: numbered.live_blocks.min(pack.blocks), ..pack.clone() }
        };
        self.numbered.iter().map(listed).collect()
    }
}
