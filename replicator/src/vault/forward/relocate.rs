//! Runs that pointed into packs that are left point to where their blocks lie now.
//!
//! 1. A run is written anew once, for all points that have it, so what they share they share still.
//! 2. Of a run only extents into the packs that are left change. Those that no map shows go: a newer run of each of
//!    these points covers them.

use std::collections::{BTreeMap, BTreeSet};

use super::copy::Copier;
use super::leaving::{Leaving, Pack};
use super::{Moved, Place};
use crate::error::Result;
use crate::format::container::{Header, Role};
use crate::format::frame::{LEVEL_DEFAULT, Sealer};
use crate::format::name;
use crate::format::pack_list::PackRef;
use crate::format::point::RunRef;
use crate::store::{Key, Store};
use crate::vault::Vault;
use crate::vault::damage::Judge;
use crate::vault::layer::{Layer, Piece, What};
use crate::vault::run::{PackNumbers, Run, RunCursor, RunKeys, RunWriter};

/// What took the place of runs.
#[derive(Debug, Default)]
pub(in crate::vault) struct Relocated {
    /// By the run's name; nothing for one that would say nothing.
    runs: BTreeMap<Key, Option<RunRef>>,
    /// The packs that what lives was copied to.
    pub(in crate::vault) packs: Vec<PackRef>,
}

impl Relocated {
    /// A point's runs as they are now; nothing when none of them changed.
    pub(in crate::vault) fn runs_of(&self, runs: &[RunRef]) -> Option<Vec<RunRef>> {
        if !runs.iter().any(|run| self.runs.contains_key(&run.key())) {
            return None;
        }
        let now = |run: &RunRef| self.runs.get(&run.key()).cloned().unwrap_or_else(|| Some(run.clone()));
        Some(runs.iter().filter_map(now).collect())
    }

    /// All that was written.
    pub(in crate::vault) fn objects(&self) -> BTreeSet<Key> {
        let packs = self.packs.iter().map(|pack| pack.name.key());
        packs.chain(self.runs.values().flatten().map(RunRef::key)).collect()
    }

    /// Its bytes.
    pub(in crate::vault) fn stored_bytes(&self) -> u64 {
        let packs = self.packs.iter().map(|pack| pack.shape.stored_bytes);
        packs.chain(self.runs.values().flatten().map(|run| run.shape.stored_bytes)).sum()
    }
}

impl Vault {
    /// Copies what lives of the packs, and writes anew the runs of `maps` that list one. Nothing counts yet.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) when something can't be read; what the store said.
    pub(in crate::vault) fn relocate(
        &self,
        place: &Place<'_>,
        keys: &RunKeys,
        maps: &[&[RunRef]],
        leaving: &Leaving,
    ) -> Result<Relocated> {
        let store = self.store().as_ref();
        let moved = Copier::new(store, place, keys)?.copy(leaving)?;
        let mut relocated = Relocated::default();
        let mut seen = BTreeSet::new();
        for run in maps.iter().copied().flatten() {
            if !seen.insert(run.key()) {
                continue;
            }
            let opened = Run::open(store, run, keys, Judge::Refuse)?;
            if opened.packs().any(|pack| leaving.get(&pack.name).is_some()) {
                let written = rewrite(store, place, keys, &opened, leaving, &moved)?;
                relocated.runs.insert(run.key(), written);
            }
        }
        relocated.packs = moved.packs;
        Ok(relocated)
    }
}

fn rewrite(
    store: &dyn Store,
    place: &Place<'_>,
    keys: &RunKeys,
    run: &Run,
    leaving: &Leaving,
    moved: &Moved,
) -> Result<Option<RunRef>> {
    let header = Header { role: Role::Run, vault: keys.vault, key: keys.key };
    let sealer = Sealer::new(keys.frames.clone(), LEVEL_DEFAULT)?;
    let numbers = PackNumbers::new(vec![run.packs().cloned().collect()]);
    let mut writer = RunWriter::new(store, &header, sealer, numbers, true)?;
    let mut cursor = RunCursor::new(store, run, keys, 0, Judge::Refuse)?;
    while let Some(piece) = cursor.next()? {
        let left = match piece.what {
            What::Stored { pack, position } => {
                let pack = run.pack(pack).and_then(|pack| leaving.get(&pack.name));
                pack.map(|pack| (pack, position))
            }
            _ => None,
        };
        match left {
            Some((pack, position)) => add_moved(&mut writer, piece, pack, position, moved)?,
            None => writer.add(1, piece)?,
        }
    }
    let Some(written) = writer.finish(&moved.packs)? else { return Ok(None) };
    let finished = written.sealed.finished;
    let generation = written.sealed.publish(
        store,
        |generation| name::run(finished.id, generation),
        |key| place.catalog.is_deleted(key),
    )?;
    Ok(Some(RunRef { id: finished.id, generation, shape: finished.shape, extents: written.extents }))
}

/// Adds what lives of `piece`, whose first block lies at `position` of `pack`.
fn add_moved(
    writer: &mut RunWriter<'_>,
    piece: Piece,
    pack: &Pack,
    position: u32,
    moved: &Moved,
) -> Result<()> {
    let (mut first, mut position) = (piece.first, position);
    while first < piece.end {
        let rest = u32::try_from(piece.end - first).unwrap_or(u32::MAX);
        let stretch = pack.stretch(position, rest);
        let blocks = match stretch.number {
            None => stretch.blocks,
            Some(number) => {
                let (what, room) = moved.place(number);
                let blocks = stretch.blocks.min(room);
                writer.add(0, Piece { first, end: first + u64::from(blocks), what })?;
                blocks
            }
        };
        first += u64::from(blocks);
        position += blocks;
    }
    Ok(())
}
