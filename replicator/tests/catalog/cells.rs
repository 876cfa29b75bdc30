//! Volumes of two cells, each a hole or one letter over and over, as sources: senders of the same letters meet at the
//! same packs and runs.
//!
//! 1. A cell is 16 blocks, a whole frame. So a pack ends where the snapshot ends, and the thread that publishes it asks
//!    the store only when the one that reads the parent's map has asked for everything. Whoever sends asks one request
//!    after the other then, always in the same order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use firn_engine::sim::random::Random;
use firn_replicator::error::{Error, Kind, Result};
use firn_replicator::format::point;
use firn_replicator::vault::source::{Change, Reading, SnapshotId, Source};

use crate::world::{DAY_MS, POOL, START_MS};

const CELLS: usize = 2;
const CELL_BLOCKS: u64 = 16;
const BLOCK_BYTES: usize = 4096;
const CELL_BYTES: usize = 16 * BLOCK_BYTES;
/// Bytes of a volume.
pub(crate) const VOLUME_BYTES: usize = CELLS * CELL_BYTES;
const HOLE: u8 = 0;
/// Tells these volumes from those of other senders.
const LAYER: u32 = 7;

/// What a snapshot holds, cell by cell.
type Image = [u8; CELLS];

/// A volume, and everything that its snapshots hold or will hold. Epochs count from 1.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    number: u64,
    snapshots: Vec<(Image, u64)>,
}

impl Volume {
    /// With these snapshots, a day apart.
    pub(crate) fn new(number: u64, images: &[Image]) -> Self {
        let taken = (0..).map(|day| START_MS + day * DAY_MS);
        Self { number, snapshots: images.iter().copied().zip(taken).collect() }
    }

    /// Takes one more, in which each cell is another one as likely as not, by a clock that stands at `now_ms`.
    pub(crate) fn grow(&mut self, random: &mut Random, now_ms: u64) {
        let mut image = self.snapshots.last().map_or([HOLE; CELLS], |(image, _)| *image);
        for cell in &mut image {
            if random.below(2) == 0 {
                *cell = [HOLE, b'a', b'b'][usize::try_from(random.below(3)).unwrap()];
            }
        }
        self.snapshots.push((image, now_ms));
    }

    /// Its last epoch.
    pub(crate) fn last(&self) -> u32 {
        u32::try_from(self.snapshots.len()).unwrap()
    }

    fn at(&self, epoch: u32) -> Option<&(Image, u64)> {
        self.snapshots.get(usize::try_from(epoch).unwrap().checked_sub(1)?)
    }

    /// Whether these are the bytes of what a point was made of; nothing when that was no snapshot of this volume.
    pub(crate) fn has_content(&self, source: &point::Source, bytes: &[u8]) -> Option<bool> {
        let (image, _) = self.at(source.epoch).filter(|_| self.is_of(source))?;
        let mut cells = bytes.chunks(CELL_BYTES).zip(image);
        let is_cell = |(cell, letter): (&[u8], &u8)| {
            cell.chunks(BLOCK_BYTES).all(|block| block == [*letter; BLOCK_BYTES])
        };
        Some(bytes.len() == VOLUME_BYTES && cells.all(is_cell))
    }

    fn is_of(&self, source: &point::Source) -> bool {
        source.layer == LAYER && source.volume == self.number
    }
}

/// A snapshot, as a source.
pub(crate) struct Cells {
    volume: Arc<Volume>,
    origin: point::Source,
    /// The oldest epoch whose snapshot is still there.
    oldest: u32,
}

impl Cells {
    pub(crate) fn new(volume: &Arc<Volume>, epoch: u32, oldest: u32) -> Self {
        let (_, created_ms) = volume.at(epoch).expect("the snapshot was taken");
        let origin = point::Source {
            pool: POOL,
            volume: volume.number,
            name: format!("vol{}", volume.number),
            snapshot: format!("s{epoch}"),
            layer: LAYER,
            epoch,
            created_ms: *created_ms,
        };
        Self { volume: volume.clone(), origin, oldest }
    }

    fn find(&self, id: SnapshotId) -> Option<&Image> {
        let (image, created_ms) = self.volume.at(id.epoch)?;
        let is_there = (id.layer, id.created_ms) == (LAYER, *created_ms) && id.epoch >= self.oldest;
        is_there.then_some(image)
    }

    fn image(&self) -> &Image {
        &self.volume.at(self.origin.epoch).expect("the snapshot was taken").0
    }
}

impl Source for Cells {
    fn origin(&self) -> &point::Source {
        &self.origin
    }

    fn bytes(&self) -> u64 {
        VOLUME_BYTES as u64
    }

    fn tags(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn has(&self, snapshot: SnapshotId) -> Result<bool> {
        Ok(self.find(snapshot).is_some())
    }

    fn changes(&self, since: Option<SnapshotId>, visit: &mut dyn FnMut(Change) -> Result<()>) -> Result<()> {
        let gone = || Error::new(Kind::NotFound, "find snapshot", "it is gone");
        let older = match since {
            None => &[HOLE; CELLS],
            Some(since) => self.find(since).ok_or_else(gone)?,
        };
        for ((cell, now), before) in (0..).zip(self.image()).zip(older) {
            if now != before {
                let (first, is_data) = (cell * CELL_BLOCKS, *now != HOLE);
                visit(Change { first, blocks: CELL_BLOCKS, is_data })?;
            }
        }
        Ok(())
    }

    fn read<'s>(&'s self, ranges: Vec<Range<u64>>) -> Reading<'s> {
        Box::new(move |into| {
            for (block, into) in ranges.into_iter().flatten().zip(into.chunks_exact_mut(BLOCK_BYTES)) {
                into.fill(self.image()[usize::try_from(block / CELL_BLOCKS).unwrap()]);
            }
            Ok(())
        })
    }

    fn hold(&self, _reason: &str) -> Result<()> {
        Ok(())
    }

    fn release_others(&self, _reason: &str) -> Result<()> {
        Ok(())
    }
}
