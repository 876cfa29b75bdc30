//! Packs that are to be left, and which of their blocks somebody sees: a bit for each block.
//!
//! 1. A block lives when a map shows it. What a run says and a newer one covers does not count.
//! 2. Living blocks are numbered one after the other, pack by pack. In this order they are copied, so a block's number
//!    says where it lies then, and no table of places is needed.

use std::collections::BTreeMap;
use std::collections::btree_map;

use crate::error::{Error, Kind, Result};
use crate::format::name::PackName;
use crate::format::pack_list::PackRef;
use crate::format::point::RunRef;
use crate::store::Store;
use crate::vault::damage::Judge;
use crate::vault::layer::What;
use crate::vault::map::Map;
use crate::vault::run::RunKeys;

/// Blocks of the packs that are left at once: bits of 2 MiB, data of 64 GiB.
pub(in crate::vault) const BLOCKS_MAX: u64 = 1 << 24;
/// Words of bits between two counts.
const COUNTED_WORDS: usize = 8;

/// Packs, by name.
#[derive(Debug, Default)]
pub(in crate::vault) struct Leaving {
    packs: BTreeMap<PackName, Pack>,
}

/// A pack, and what lives of it.
#[derive(Debug)]
pub(in crate::vault) struct Pack {
    pub(in crate::vault) pack: PackRef,
    words: Vec<u64>,
    /// The number of the first living block in each [`COUNTED_WORDS`].
    numbers: Vec<u64>,
}

/// Consecutive blocks of a pack that all live, or are all dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) blocks: u32,
    /// The first one's number, if they live.
    pub(super) number: Option<u64>,
}

impl Leaving {
    /// These packs, nothing of which lives yet.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when two runs say different things of a pack.
    pub(in crate::vault) fn new(packs: impl IntoIterator<Item = PackRef>) -> Result<Self> {
        let mut leaving = Self::default();
        for pack in packs {
            match leaving.packs.entry(pack.name.clone()) {
                btree_map::Entry::Vacant(entry) => {
                    let words = vec![0; pack.blocks.div_ceil(u64::BITS) as usize];
                    entry.insert(Pack { pack, words, numbers: Vec::new() });
                }
                btree_map::Entry::Occupied(entry) => check_same(&entry.get().pack, &pack)?,
            }
        }
        Ok(leaving)
    }

    /// Takes in what the map of `runs`, newest first, shows of the packs.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it can't be read; what the store said.
    pub(in crate::vault) fn mark(
        &mut self,
        store: &dyn Store,
        runs: &[RunRef],
        keys: &RunKeys,
    ) -> Result<()> {
        let map = Map::open(store, runs, keys, Judge::Refuse)?;
        let lists = map.pack_lists();
        let is_listed = |pack: &PackRef| self.packs.contains_key(&pack.name);
        if !lists.iter().flatten().any(is_listed) {
            return Ok(());
        }
        let mut pieces = map.pieces(store, 0, Judge::Refuse)?;
        while let Some((run, piece)) = pieces.next()? {
            let What::Stored { pack, position } = piece.what else { continue };
            let Some(listed) = lists[run].get(pack as usize) else { continue };
            let Some(leaving) = self.packs.get_mut(&listed.name) else { continue };
            check_same(&leaving.pack, listed)?;
            let blocks = u32::try_from(piece.end - piece.first).expect("stored pieces have u32 positions");
            leaving.mark(position, blocks);
        }
        Ok(())
    }

    /// Keeps the packs that `leaves`, given each and how many of its blocks live, and numbers what lives.
    pub(in crate::vault) fn decide(&mut self, mut leaves: impl FnMut(&PackRef, u32) -> bool) {
        self.packs.retain(|_, pack| leaves(&pack.pack, pack.live_blocks()));
        let mut next = 0;
        for pack in self.packs.values_mut() {
            let counted = pack.words.chunks(COUNTED_WORDS);
            pack.numbers = counted
                .map(|words| {
                    let first = next;
                    next += words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
                    first
                })
                .collect();
        }
    }

    pub(in crate::vault) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    pub(in crate::vault) fn packs(&self) -> impl Iterator<Item = &Pack> {
        self.packs.values()
    }

    pub(in crate::vault) fn has(&self, name: &PackName) -> bool {
        self.packs.contains_key(name)
    }

    pub(super) fn get(&self, name: &PackName) -> Option<&Pack> {
        self.packs.get(name)
    }
}

impl Pack {
    fn mark(&mut self, position: u32, blocks: u32) {
        for block in position..position + blocks {
            self.words[(block / u64::BITS) as usize] |= 1 << (block % u64::BITS);
        }
    }

    pub(in crate::vault) fn live_blocks(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn is_live(&self, block: u32) -> bool {
        self.words[(block / u64::BITS) as usize] & 1 << (block % u64::BITS) != 0
    }

    /// What the blocks from `position` on are, up to where that changes, and at most `blocks` of them.
    pub(super) fn stretch(&self, position: u32, blocks: u32) -> Stretch {
        let is_live = self.is_live(position);
        let same = (position..position + blocks).take_while(|block| self.is_live(*block) == is_live).count();
        let blocks = u32::try_from(same).unwrap_or(blocks);
        Stretch { blocks, number: is_live.then(|| self.number(position)) }
    }

    fn number(&self, position: u32) -> u64 {
        let word = (position / u64::BITS) as usize;
        let counted = word / COUNTED_WORDS;
        let whole = &self.words[counted * COUNTED_WORDS..word];
        let below = self.words[word] & ((1 << (position % u64::BITS)) - 1);
        let before: u32 = whole.iter().map(|word| word.count_ones()).sum();
        self.numbers[counted] + u64::from(before + below.count_ones())
    }
}

fn check_same(one: &PackRef, other: &PackRef) -> Result<()> {
    match (one.shape, one.blocks) == (other.shape, other.blocks) {
        true => Ok(()),
        false => {
            let detail = format!("two runs contradict each other about {}", one.name.key());
            Err(Error::new(Kind::Damaged, "read map", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::container::Shape;
    use crate::format::digest::Digest;
    use crate::format::name::Class;

    fn pack(name: &[u8], blocks: u32) -> PackRef {
        let id = Digest::of(name);
        let name = PackName { class: Class::new("none").unwrap(), period: 1, id, generation: 0 };
        let shape = Shape { stored_bytes: 1 << 20, frames: blocks.div_ceil(16), table_hash: id };
        PackRef { name, shape, blocks, live_blocks: 0 }
    }

    /// Against counting each block.
    #[test]
    fn numbers_count_what_lives_pack_by_pack() {
        let packs = [pack(b"one", 3000), pack(b"two", 1), pack(b"three", 700)];
        let mut leaving = Leaving::new(packs.clone()).unwrap();
        for (index, pack) in (0_u32..).zip(leaving.packs.values_mut()) {
            let blocks = pack.pack.blocks;
            for block in (0..blocks).filter(|block| block % (7 + index) < 3 || block / 64 % 3 == 0) {
                pack.mark(block, 1);
            }
        }
        leaving.decide(|_, live| live > 0);
        let mut next = 0;
        for pack in leaving.packs() {
            let mut position = 0;
            while position < pack.pack.blocks {
                let stretch = pack.stretch(position, pack.pack.blocks - position);
                assert!(
                    (position..position + stretch.blocks)
                        .all(|block| pack.is_live(block) == stretch.number.is_some())
                );
                if let Some(number) = stretch.number {
                    assert_eq!(number, next);
                    next += u64::from(stretch.blocks);
                }
                position += stretch.blocks;
            }
        }
        assert_eq!(next, leaving.packs().map(|pack| u64::from(pack.live_blocks())).sum::<u64>());
        leaving.decide(|pack, _| pack.blocks == 1);
        assert_eq!(leaving.packs().count(), 1);
    }

    #[test]
    fn a_pack_of_two_shapes_is_damage() {
        let (one, other) = (pack(b"one", 20), pack(b"one", 21));
        assert_eq!(Leaving::new([one.clone(), other]).unwrap_err().kind(), Kind::Damaged);
        assert!(Leaving::new([one.clone(), one]).is_ok());
    }
}
