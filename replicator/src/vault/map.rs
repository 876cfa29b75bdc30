//! A point's map: its runs, one over the other.

use std::collections::BTreeMap;

use super::damage::Judge;
use super::layer::{Layer, Piece, Stack, What};
use super::run::{BLOCKS_MAX, Run, RunCursor, RunKeys};
use crate::error::{Error, Kind, Result};
use crate::format::container::Shape;
use crate::format::name::PackName;
use crate::format::pack_list::PackRef;
use crate::format::point::RunRef;
use crate::store::Store;

/// Runs that were opened, newest first.
#[derive(Debug)]
pub(crate) struct Map {
    /// Nothing for a run that is lost.
    runs: Vec<Option<Run>>,
    keys: RunKeys,
}

impl Map {
    /// Opens `runs`; what `judge` does not let pass ends it.
    pub(crate) fn open(store: &dyn Store, runs: &[RunRef], keys: &RunKeys, judge: Judge<'_>) -> Result<Self> {
        let mut opened = Vec::with_capacity(runs.len());
        for run in runs {
            match Run::open(store, run, keys, judge) {
                Ok(run) => opened.push(Some(run)),
                Err(error) => {
                    judge.pass(&run.key(), error)?;
                    opened.push(None);
                }
            }
        }
        compare_packs(runs, &mut opened, judge)?;
        Ok(Self { runs: opened, keys: keys.clone() })
    }

    /// The runs as layers, from block `first` on.
    pub(crate) fn layers<'a>(
        &'a self,
        store: &'a dyn Store,
        first: u64,
        judge: Judge<'a>,
    ) -> Result<Vec<Box<dyn Layer + 'a>>> {
        let layer = |run: &'a Option<Run>| -> Result<Box<dyn Layer + 'a>> {
            Ok(match run {
                Some(run) => Box::new(RunCursor::new(store, run, &self.keys, first, judge)?),
                None => Box::new(Lost(false)),
            })
        };
        self.runs.iter().map(layer).collect()
    }

    /// What the map says from block `first` on, with the index of the run that says it.
    pub(crate) fn pieces<'a>(
        &'a self,
        store: &'a dyn Store,
        first: u64,
        judge: Judge<'a>,
    ) -> Result<Stack<'a>> {
        Stack::new(self.layers(store, first, judge)?, first)
    }

    /// The packs of each run; of a map that was opened without letting damage pass.
    pub(crate) fn pack_lists(&self) -> Vec<Vec<PackRef>> {
        self.runs.iter().map(|run| run.iter().flat_map(Run::packs).cloned().collect()).collect()
    }

    /// All packs once, and how runs call them.
    pub(crate) fn packs(&self) -> Packs<'_> {
        let mut packs = Packs { packs: Vec::new(), indexes: Vec::new() };
        let mut known = BTreeMap::<&PackName, u32>::new();
        for run in &self.runs {
            let listed = run.as_ref().map_or(&[][..], Run::listed).iter();
            packs.indexes.push(
                listed
                    .map(|pack| {
                        let pack = pack.as_ref()?;
                        let next = u32::try_from(packs.packs.len()).ok()?;
                        let index = *known.entry(&pack.name).or_insert(next);
                        if index == next {
                            packs.packs.push(pack);
                        }
                        Some(index)
                    })
                    .collect(),
            );
        }
        packs
    }
}

/// The packs of all runs of a map.
pub(crate) struct Packs<'a> {
    packs: Vec<&'a PackRef>,
    /// By run and the run's own index.
    indexes: Vec<Vec<Option<u32>>>,
}

impl<'a> Packs<'a> {
    /// The index of the pack that run `run` calls `pack`.
    pub(crate) fn index(&self, run: usize, pack: u32) -> Option<u32> {
        *self.indexes[run].get(pack as usize)?
    }

    /// The pack of this index.
    pub(crate) fn get(&self, index: u32) -> &'a PackRef {
        self.packs[index as usize]
    }
}

/// Lets `judge` see every run that says of a pack what a newer one contradicts: what lies there is lost. A pack is read
/// by what one of them says, and blocks that only the other knows would be looked for beyond its end.
fn compare_packs(runs: &[RunRef], opened: &mut [Option<Run>], judge: Judge<'_>) -> Result<()> {
    let mut known = BTreeMap::<PackName, (Shape, u32)>::new();
    for (run, opened) in runs.iter().zip(opened) {
        let Some(opened) = opened else { continue };
        let contradicted = opened.forget(|pack| {
            let said = (pack.shape, pack.blocks);
            *known.entry(pack.name.clone()).or_insert(said) != said
        });
        if let Some(pack) = contradicted {
            let key = run.key();
            let detail = format!("{key} says of {} what a newer run contradicts", pack.key());
            judge.pass(&key, Error::new(Kind::Damaged, "read map", detail))?;
        }
    }
    Ok(())
}

/// A run of which nothing is known.
struct Lost(bool);

impl Layer for Lost {
    fn next(&mut self) -> Result<Option<Piece>> {
        let is_first = !std::mem::replace(&mut self.0, true);
        Ok(is_first.then_some(Piece { first: 0, end: BLOCKS_MAX, what: What::Lost }))
    }
}

/// How many of the newest runs are merged with `fresh` new extents, given the extents of the runs, newest first; so
/// that each run that is left is at least twice as long as the one over it, and there are no more than `runs_max`.
///
/// What is merged is counted as the sum, which is the most that it can be.
pub(crate) fn runs_to_merge(fresh: u64, extents: &[u64], runs_max: usize) -> usize {
    let mut sum = fresh;
    let mut count = 0;
    while let Some(older) = extents.get(count)
        && (*older < 2 * sum || extents.len() - count >= runs_max)
    {
        sum += older;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::container::{Header, Role};
    use crate::format::digest::{Digest, KeyId, VaultId};
    use crate::format::frame::{FrameKeys, LEVEL_DEFAULT, Sealer};
    use crate::format::name::{self, Class};
    use crate::store::MemoryStore;
    use crate::vault::damage::Notes;
    use crate::vault::run::{PackNumbers, RunWriter};

    /// A pack of so many blocks; the name is always the same.
    fn pack(blocks: u32) -> PackRef {
        let id = Digest::of(b"pack");
        let name = PackName { class: Class::new("y7").unwrap(), period: 1, id, generation: 0 };
        let shape = Shape { stored_bytes: 1 << 20, frames: blocks.div_ceil(16), table_hash: id };
        PackRef { name, shape, blocks, live_blocks: 0 }
    }

    /// A run that says that block `block` of the volume is the last one of `pack`.
    fn run(store: &MemoryStore, keys: &RunKeys, block: u64, pack: &PackRef) -> RunRef {
        let header = Header { role: Role::Run, vault: keys.vault, key: keys.key };
        let sealer = Sealer::new(keys.frames.clone(), LEVEL_DEFAULT).unwrap();
        let mut run = RunWriter::new(store, &header, sealer, PackNumbers::new(Vec::new()), true).unwrap();
        let what = What::Stored { pack: 0, position: pack.blocks - 1 };
        run.add(0, Piece { first: block, end: block + 1, what }).unwrap();
        let written = run.finish(std::slice::from_ref(pack)).unwrap().unwrap();
        let finished = written.sealed.finished;
        written.sealed.publish(store, |generation| name::run(finished.id, generation), |_| false).unwrap();
        RunRef { id: finished.id, generation: 0, shape: finished.shape, extents: written.extents }
    }

    /// Two runs that say different things of one pack made a restore look for a block beyond the pack's end, and panic.
    #[test]
    fn runs_that_contradict_each_other_about_a_pack_are_damage() {
        let store = MemoryStore::new(1);
        let vault = VaultId([1; 16]);
        let keys = RunKeys { vault, key: KeyId::default(), frames: FrameKeys::plain(vault) };
        let small = run(&store, &keys, 3, &pack(20));
        let also_small = run(&store, &keys, 5, &pack(20));
        let large = run(&store, &keys, 7, &pack(100));
        Map::open(&store, &[small.clone(), also_small.clone()], &keys, Judge::Refuse).unwrap();
        let runs = [small, also_small, large];
        let error = Map::open(&store, &runs, &keys, Judge::Refuse).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        let notes = Notes::default();
        let map = Map::open(&store, &runs, &keys, Judge::Note(&notes)).unwrap();
        assert_eq!(notes.objects().into_keys().collect::<Vec<_>>(), [runs[2].key()]);
        let mut pieces = map.pieces(&store, 0, Judge::Note(&notes)).unwrap();
        let stored = What::Stored { pack: 0, position: 19 };
        for (block, expected) in [(3, stored), (5, stored), (7, What::Lost)] {
            let (_, piece) = pieces.next().unwrap().unwrap();
            assert_eq!((piece.first, piece.end, piece.what), (block, block + 1, expected));
        }
        assert_eq!(pieces.next().unwrap(), None);
    }
}
