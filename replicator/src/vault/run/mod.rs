//! Runs: sorted parts of a volume's map, in the store.

mod cursor;
mod numbers;
mod writer;

pub(crate) use cursor::RunCursor;
pub(crate) use numbers::PackNumbers;
pub(crate) use writer::RunWriter;

use std::sync::Arc;

use super::container::{Expected, named, read_frames, read_table, split_frames};
use super::damage::Judge;
use crate::error::{Error, Kind, Result};
use crate::format::container::{Content, Role, Shape, Table};
use crate::format::digest::{KeyId, VaultId};
use crate::format::frame::{FrameKeys, Opener};
use crate::format::name::PackName;
use crate::format::pack_list::{self, PACK_BYTES, PackRef};
use crate::format::point::{Point, RunRef};
use crate::store::{Key, Store};

/// Blocks that a volume has at most; what a run says reaches no further.
pub(crate) const BLOCKS_MAX: u64 = u64::MAX / 4096;

/// What a run is read with.
#[derive(Clone, Debug)]
pub(crate) struct RunKeys {
    pub(crate) vault: VaultId,
    pub(crate) key: KeyId,
    pub(crate) frames: FrameKeys,
}

impl RunKeys {
    pub(crate) fn of(point: &Point, frames: FrameKeys) -> Self {
        Self { vault: point.vault, key: point.key, frames }
    }

    pub(crate) fn expected(&self, role: Role) -> Expected {
        Expected { role, vault: self.vault, key: Some(self.key) }
    }
}

/// A run whose table and list of packs were read and verified.
#[derive(Debug)]
pub(crate) struct Run {
    key: Key,
    table: Arc<Table>,
    /// Frames of extents; those of packs follow.
    extent_frames: usize,
    /// Its packs; nothing for those whose frame can't be read.
    packs: Vec<Option<PackRef>>,
}

impl Run {
    /// Opens it.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when its table is missing or not what was written; what `judge` does not let pass of its list
    /// of packs; what the store said.
    pub(crate) fn open(store: &dyn Store, run: &RunRef, keys: &RunKeys, judge: Judge<'_>) -> Result<Self> {
        let key = run.key();
        let shape: &Shape = &run.shape;
        let table = Arc::new(read_table(store, &key, shape, keys.expected(Role::Run))?);
        let extent_frames = table.rows().iter().take_while(|row| row.content == Content::Extents).count();
        let rows = table.rows();
        let is_ordered = rows[..extent_frames].is_sorted_by(|one, next| one.first < next.first)
            && rows[extent_frames..].iter().all(|row| row.content == Content::Packs);
        if !is_ordered {
            return Err(Error::new(Kind::Damaged, "read run", format!("{key}: its frames are out of order")));
        }
        let mut run = Self { key, table, extent_frames, packs: Vec::new() };
        run.read_packs(store, keys, judge)?;
        Ok(run)
    }

    fn read_packs(&mut self, store: &dyn Store, keys: &RunKeys, judge: Judge<'_>) -> Result<()> {
        if self.table.rows().len() == self.extent_frames {
            return Ok(());
        }
        let mut read = self.read_lists(store, keys)?;
        if read.iter().any(|(_, list)| list.is_err()) && store.uncover(&self.key)? {
            read = self.read_lists(store, keys)?;
        }
        for (count, list) in read {
            match list {
                Ok(packs) => self.packs.extend(packs.into_iter().map(Some)),
                Err(error) => {
                    judge.pass(&self.key, named(&self.key, error))?;
                    self.packs.extend(std::iter::repeat_n(None, count));
                }
            }
        }
        Ok(())
    }

    /// Each frame of the list of packs: how many it has, and which, if it can be read.
    fn read_lists(&self, store: &dyn Store, keys: &RunKeys) -> Result<Vec<(usize, Result<Vec<PackRef>>)>> {
        let rows = &self.table.rows()[self.extent_frames..];
        let stored = read_frames(store, &self.key, &self.table, self.extent_frames, self.table.rows().len())?;
        let mut opener = Opener::new(keys.frames.clone())?;
        let read = split_frames(rows, &stored).map(|(row, stored)| {
            let list = opener.open(row, stored).and_then(|content| pack_list::decode(&content));
            (row.content_bytes as usize / PACK_BYTES, list)
        });
        Ok(read.collect())
    }

    /// The pack that its extents call so; nothing when that can't be read.
    pub(crate) fn pack(&self, index: u32) -> Option<&PackRef> {
        self.packs.get(index as usize)?.as_ref()
    }

    /// Its packs, in the order of the indexes that its extents use; nothing for those that can't be read.
    pub(crate) fn listed(&self) -> &[Option<PackRef>] {
        &self.packs
    }

    /// Forgets the packs that are wrong, and names the first of them.
    pub(crate) fn forget(&mut self, mut is_wrong: impl FnMut(&PackRef) -> bool) -> Option<PackName> {
        let wrong = self.packs.iter_mut().filter_map(|pack| pack.take_if(|pack| is_wrong(pack)));
        wrong.map(|pack| pack.name).reduce(|first, _| first)
    }

    /// All its packs that can be read.
    pub(crate) fn packs(&self) -> impl Iterator<Item = &PackRef> {
        self.packs.iter().flatten()
    }
}
