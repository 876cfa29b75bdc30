//! The layer of what is being sent: sealed batches go into packs, and where they lie comes out, in block order.

use std::collections::VecDeque;

use super::layer::{Layer, Piece, What};
use super::pack::PackWriter;
use super::progress::Progress;
use super::seal::{Batch, Batches};
use crate::error::Result;

/// What is being sent, as a layer.
pub(crate) struct Fresh<'f, 'a> {
    batches: Batches,
    packs: &'f mut PackWriter<'a>,
    pieces: VecDeque<Piece>,
    /// Blocks from here on that an older map may say something about, but the volume no longer has.
    cut_off: Option<Piece>,
    tally: &'f mut Tally,
    progress: &'f dyn Progress,
}

/// What went into packs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) data_bytes: u64,
    pub(crate) stored_bytes: u64,
}

impl<'f, 'a> Fresh<'f, 'a> {
    /// `cut_off` are the blocks that the volume lost at its end since the parent.
    pub(crate) fn new(
        batches: Batches,
        packs: &'f mut PackWriter<'a>,
        cut_off: std::ops::Range<u64>,
        tally: &'f mut Tally,
        progress: &'f dyn Progress,
    ) -> Self {
        let cut_off = (!cut_off.is_empty()).then_some(Piece {
            first: cut_off.start,
            end: cut_off.end,
            what: What::Hole,
        });
        Self { batches, packs, pieces: VecDeque::new(), cut_off, tally, progress }
    }

    fn pack(&mut self, batch: &Batch) -> Result<()> {
        let data: u64 =
            batch.changes.iter().filter(|change| change.is_data).map(|change| change.blocks).sum();
        let mut places = self.packs.add(&batch.rows, &batch.stored)?.into_iter();
        self.tally.stored_bytes += batch.stored.len() as u64;
        // Where the next block lies, and how many from it on lie behind each other.
        let (mut pack, mut position, mut left) = (0, 0, 0);
        for change in &batch.changes {
            let mut first = change.first;
            let end = change.first + change.blocks;
            if !change.is_data {
                self.pieces.push_back(Piece { first, end, what: What::Hole });
                continue;
            }
            while first < end {
                if left == 0 {
                    let Some(place) = places.next() else { break };
                    (pack, position, left) = (place.pack, place.position, place.blocks);
                }
                let blocks = u32::try_from(end - first).map_or(left, |wanted| wanted.min(left));
                let what = What::Stored { pack, position };
                self.pieces.push_back(Piece { first, end: first + u64::from(blocks), what });
                (first, position, left) = (first + u64::from(blocks), position + blocks, left - blocks);
            }
        }
        self.tally.data_bytes += data * 4096;
        self.progress.advance(data * 4096);
        Ok(())
    }
}

impl Layer for Fresh<'_, '_> {
    fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(piece));
            }
            match self.batches.next()? {
                Some(batch) => {
                    self.pack(&batch)?;
                    self.batches.give_back(batch);
                }
                None => {
                    self.packs.close()?;
                    return Ok(self.cut_off.take());
                }
            }
        }
    }
}
