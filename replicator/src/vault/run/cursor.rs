//! Reading a run in block order from some block on, several frames with one request.

use super::{BLOCKS_MAX, Run, RunKeys};
use crate::error::{Error, Kind, Result};
use crate::format::container::Row;
use crate::format::extent::{self, Extent};
use crate::format::frame::Opener;
use crate::store::Store;
use crate::vault::container::{named, read_frames};
use crate::vault::damage::Judge;
use crate::vault::layer::{Layer, Piece, What};

/// Stored bytes of the first request, which may be for a few blocks only, and of the later ones.
const AHEAD_BYTES: [usize; 2] = [128 << 10, 1 << 20];

/// What a run says, from some block on.
pub(crate) struct RunCursor<'a> {
    store: &'a dyn Store,
    run: &'a Run,
    judge: Judge<'a>,
    opener: Opener,
    /// The next frame.
    frame: usize,
    /// The stored bytes of frames from `frame` to before `fetched_end`, which begin at `fetched_at` in `fetched`.
    fetched: Vec<u8>,
    fetched_at: usize,
    fetched_end: usize,
    ahead_bytes: usize,
    extents: std::vec::IntoIter<Extent>,
}

impl<'a> RunCursor<'a> {
    pub(crate) fn new(
        store: &'a dyn Store,
        run: &'a Run,
        keys: &RunKeys,
        first: u64,
        judge: Judge<'a>,
    ) -> Result<Self> {
        let rows = &run.table.rows()[..run.extent_frames];
        let frame = rows.partition_point(|row| row.first <= first).saturating_sub(1);
        Ok(Self {
            store,
            run,
            judge,
            opener: Opener::new(keys.frames.clone())?,
            frame,
            fetched: Vec::new(),
            fetched_at: 0,
            fetched_end: frame,
            ahead_bytes: AHEAD_BYTES[0],
            extents: Vec::new().into_iter(),
        })
    }

    fn rows(&self) -> &'a [Row] {
        &self.run.table.rows()[..self.run.extent_frames]
    }

    /// The block at which the frame `index` is over: where the next one starts.
    fn end_of(&self, index: usize) -> u64 {
        self.rows().get(index + 1).map_or(BLOCKS_MAX, |row| row.first)
    }

    /// Reads the next frame.
    fn read(&mut self) -> Result<Vec<Extent>> {
        let (index, row) = (self.frame, self.rows()[self.frame]);
        self.frame += 1;
        if index >= self.fetched_end {
            self.fetch(index)?;
        }
        let stored = &self.fetched[self.fetched_at..self.fetched_at + row.stored_bytes as usize];
        self.fetched_at += row.stored_bytes as usize;
        let content = self.opener.open(&row, stored)?;
        let extents = extent::decode(&content, row.first, self.end_of(index))?;
        let starts = extents.first().map(|extent| extent.first);
        if starts != Some(row.first) || !extents.iter().all(|extent| self.lies_in_a_pack(extent)) {
            let detail = format!("frame {index} says what can't be");
            return Err(Error::new(Kind::Damaged, "read run", detail));
        }
        Ok(extents)
    }

    /// Whether a pack that is known has the blocks; of a pack whose list is lost nothing is known.
    fn lies_in_a_pack(&self, extent: &Extent) -> bool {
        let Some(place) = extent.place else { return true };
        match self.run.packs.get(place.pack as usize) {
            None => false,
            Some(None) => true,
            Some(Some(pack)) => {
                place.position.checked_add(extent.blocks).is_some_and(|end| end <= pack.blocks)
            }
        }
    }

    fn fetch(&mut self, first: usize) -> Result<()> {
        let mut bytes = 0;
        let fits = |row: &&Row| {
            bytes += row.stored_bytes as usize;
            bytes <= self.ahead_bytes
        };
        let end = first + self.rows()[first..].iter().take_while(fits).count().max(1);
        // What is not fetched is not taken for fetched, should this fail.
        (self.fetched_end, self.fetched_at) = (first, 0);
        self.fetched = read_frames(self.store, &self.run.key, &self.run.table, first, end)?;
        self.fetched_end = end;
        self.ahead_bytes = AHEAD_BYTES[1];
        Ok(())
    }

    fn piece(&self, extent: &Extent) -> Piece {
        let what = match extent.place {
            None => What::Hole,
            Some(place) if self.run.pack(place.pack).is_none() => What::Lost,
            Some(place) => What::Stored { pack: place.pack, position: place.position },
        };
        Piece { first: extent.first, end: extent.end(), what }
    }
}

impl Layer for RunCursor<'_> {
    fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(extent) = self.extents.next() {
                return Ok(Some(self.piece(&extent)));
            }
            let index = self.frame;
            if index >= self.rows().len() {
                return Ok(None);
            }
            let mut read = self.read();
            if read.as_ref().is_err_and(|error| error.kind() == Kind::Damaged)
                && self.store.uncover(&self.run.key)?
            {
                (self.frame, self.fetched_end) = (index, index);
                read = self.read();
            }
            match read {
                Ok(extents) => self.extents = extents.into_iter(),
                Err(error) => {
                    self.judge.pass(&self.run.key, named(&self.run.key, error))?;
                    let (first, end) = (self.rows()[index].first, self.end_of(index));
                    return Ok(Some(Piece { first, end, what: What::Lost }));
                }
            }
        }
    }
}
