//! One fetch: neighbouring frames of a pack read with one request, opened, and written to where they belong.

use std::ops::Range;

use super::PointReader;
use super::window::FETCH_FRAMES;
use crate::error::{Error, Kind, Result};
use crate::format::container::{Role, Row, Table};
use crate::format::frame::Opener;
use crate::format::pack_list::PackRef;
use crate::store::Key;
use crate::vault::aligned::Aligned;
use crate::vault::container::{named, read_frames, split_frames};
use crate::vault::damage::Judge;
use crate::vault::map::Packs;
use crate::vault::pack::{FRAME_BLOCKS, check_row};
use crate::vault::progress::Progress;
use crate::vault::sink::Sink;

const BLOCK_LEN: usize = 4096;
/// Bytes of content of a fetch at most.
const FETCH_BYTES: usize = (FETCH_FRAMES * FRAME_BLOCKS) as usize * BLOCK_LEN;

/// Blocks that lie one after the other, both in the pack and in the volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// The first one's position in the pack.
    pub(super) position: u32,
    /// Which block of the volume it is.
    pub(super) first: u64,
    pub(super) blocks: u32,
}

/// Frames to read, and what is wanted of them, by position.
pub(super) struct Fetch {
    pub(super) pack: u32,
    pub(super) frames: Range<u32>,
    pub(super) wants: Vec<Want>,
}

/// What fetches; one per thread.
pub(super) struct Fetcher<'f> {
    reader: &'f PointReader<'f>,
    packs: &'f Packs<'f>,
    sink: &'f dyn Sink,
    progress: &'f dyn Progress,
    opener: Opener,
    /// The content of the frames, one after the other, from where it is written.
    content: Aligned,
}

impl<'f> Fetcher<'f> {
    pub(super) fn new(
        reader: &'f PointReader<'f>,
        packs: &'f Packs<'f>,
        sink: &'f dyn Sink,
        progress: &'f dyn Progress,
    ) -> Result<Self> {
        let opener = Opener::new(reader.keys.frames.clone())?;
        Ok(Self { reader, packs, sink, progress, opener, content: Aligned::zeroed(FETCH_BYTES) })
    }

    /// Does it, and says how many bytes were written. What is damaged is noted.
    pub(super) fn run(&mut self, fetch: &Fetch) -> Result<u64> {
        let pack = self.packs.get(fetch.pack);
        let key = pack.name.key();
        let judge = Judge::Note(&self.reader.notes);
        let mut read = self.read(pack, &key, &fetch.frames);
        let is_wrong = match &read {
            Ok(faults) => faults.iter().any(Option::is_some),
            Err(error) => error.kind() == Kind::Damaged,
        };
        if is_wrong && self.reader.store().uncover(&key)? {
            read = self.read(pack, &key, &fetch.frames);
        }
        let sound = match read {
            Ok(faults) => {
                let sound = faults.iter().map(Option::is_none).collect();
                faults.into_iter().flatten().try_for_each(|error| judge.pass(&key, error))?;
                sound
            }
            Err(error) => {
                judge.pass(&key, error)?;
                vec![false; fetch.frames.len()]
            }
        };
        let mut written = 0;
        for want in &fetch.wants {
            for part in parts(want, fetch.frames.start, &sound) {
                written += self.write(part, fetch.frames.start)?;
            }
            self.progress.advance(u64::from(want.blocks) * BLOCK_LEN as u64);
        }
        Ok(written)
    }

    /// Reads the frames, and says of each what is wrong with it; nothing where it is what was written.
    fn read(&mut self, pack: &PackRef, key: &Key, frames: &Range<u32>) -> Result<Vec<Option<Error>>> {
        let store = self.reader.store();
        let expected = self.reader.keys.expected(Role::Pack);
        let table = self.reader.tables.get(store, key, &pack.shape, expected)?;
        let (first, end) = (frames.start as usize, frames.end as usize);
        let stored = read_frames(store, key, &table, first, end)?;
        let frame_bytes = FRAME_BLOCKS as usize * BLOCK_LEN;
        let mut faults = Vec::with_capacity(end - first);
        let rows = rows(&table, first..end);
        for ((index, (row, stored)), into) in (frames.start..)
            .zip(split_frames(rows, &stored))
            .zip(self.content.bytes_mut().chunks_mut(frame_bytes))
        {
            let opened = check_row(row, pack, index)
                .and_then(|()| self.opener.open_into(row, stored, &mut into[..row.content_bytes as usize]));
            faults.push(opened.err().map(|error| named(key, error)));
        }
        Ok(faults)
    }

    /// Writes the part of a want if it is sound, and notes its loss if not.
    fn write(&self, (want, is_sound): (Want, bool), first_frame: u32) -> Result<u64> {
        if !is_sound {
            self.reader.notes.lose(want.first..want.first + u64::from(want.blocks));
            return Ok(0);
        }
        let start = (want.position - first_frame * FRAME_BLOCKS) as usize * BLOCK_LEN;
        let data = &self.content.bytes()[start..start + want.blocks as usize * BLOCK_LEN];
        self.sink.write_at(want.first * BLOCK_LEN as u64, data)?;
        Ok(data.len() as u64)
    }
}

fn rows(table: &Table, frames: Range<usize>) -> &[Row] {
    &table.rows()[frames]
}

/// The parts of a want that lie in sound frames, and those that don't.
fn parts(want: &Want, first_frame: u32, sound: &[bool]) -> Vec<(Want, bool)> {
    let mut parts = Vec::<(Want, bool)>::new();
    let mut skipped = 0;
    while skipped < want.blocks {
        let position = want.position + skipped;
        let is_sound = sound.get((position / FRAME_BLOCKS - first_frame) as usize) == Some(&true);
        let blocks = (FRAME_BLOCKS - position % FRAME_BLOCKS).min(want.blocks - skipped);
        match parts.last_mut() {
            Some((last, was_sound)) if *was_sound == is_sound => last.blocks += blocks,
            _ => parts.push((Want { position, first: want.first + u64::from(skipped), blocks }, is_sound)),
        }
        skipped += blocks;
    }
    parts
}
