//! A point's map: its runs, one over the other.

use std::collections::BTreeMap;

use super::damage::Judge;
use super::layer::{Layer, Piece, Stack, What};
use super::run::{BLOCKS_MAX, Run, RunCursor, RunKeys};
use crate::error::Result;
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
