//! `firn import`
//!
//! 1. A volume that is being filled has the tag [`TAG`] until all of it is there and durable, so that one whose
//!    import died is not taken for whole. The same import with `--overwrite` then goes on: what is there already is
//!    not written again.
//! 2. Into a volume that exists only blocks that differ are written, so that its snapshots share the rest.

mod source;

use anyhow::{Context, Result};
use firn_engine::catalog::Tags;
use firn_engine::error::{Error, Kind};
use firn_engine::pool::Pool;
use firn_engine::units::{BLOCK_BYTES, BLOCK_LEN};
use firn_engine::volume::Volume;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::transfer::Import;
use crate::output::Answer;
use crate::progress;
use crate::session::volume;
use crate::size::Size;
use source::Source;

const TAG: &str = "firn:import";
const UNFINISHED: &str = "unfinished";
/// Bytes that are read and written at once.
const CHUNK_LEN: usize = 4 << 20;

#[derive(Serialize)]
struct Imported {
    volume: String,
    file: String,
    /// The size of the file.
    bytes: u64,
    /// What of it is no hole.
    data_bytes: u64,
    /// Blocks that were not in the volume as they are in the file.
    written_bytes: u64,
}

pub(super) fn run(pool: &Pool, import: &Import) -> Result<Answer> {
    let source = Source::open(&import.file)?;
    let file_blocks_bytes = source.bytes().next_multiple_of(BLOCK_BYTES);
    let (volume, is_new) = target(pool, import, file_blocks_bytes)?;
    let mut filling = Filling::new(&volume, is_new, volume.info()?.bytes, source.bytes());
    let filled = source.each_data(|start, end| filling.data(&source, start, end));
    filled.and_then(|()| filling.rest()).with_context(|| {
        format!("import {} into {}, which is not whole now", import.file.display(), import.volume)
    })?;
    volume.flush()?;
    volume.untag(TAG)?;
    filling.bar.finish_and_clear();
    let imported = Imported {
        volume: import.volume.clone(),
        file: import.file.display().to_string(),
        bytes: source.bytes(),
        data_bytes: filling.data_bytes,
        written_bytes: filling.written_bytes,
    };
    let [bytes, written] = [imported.bytes, imported.written_bytes].map(Size);
    let text = format!("{} imported into {}: {written} of {bytes} written", imported.file, imported.volume);
    Answer::new(&imported, text)
}

/// The volume to fill, and whether it is a new one.
fn target(pool: &Pool, import: &Import, bytes: u64) -> Result<(Volume, bool), Error> {
    let existing = match volume(pool, &import.volume) {
        Ok(volume) => volume,
        Err(error) if error.kind() == Kind::NotFound => {
            return create(pool, import, bytes).map(|new| (new, true));
        }
        Err(error) => return Err(error),
    };
    let info = existing.info()?;
    let refused = |detail: String| Error::new(Kind::Conflict, "import", detail);
    if !import.overwrite {
        let unfinished = info.tags.contains_key(TAG);
        return Err(match unfinished {
            true => refused(format!("an import into volume {:?} was not finished", info.name))
                .hint("go on with it: --overwrite writes what is missing"),
            false => refused(format!("a volume named {:?} exists", info.name))
                .hint("name another, or make it what the file is: --overwrite"),
        });
    }
    if info.bytes < bytes || import.size.is_some_and(|size| size.0 != info.bytes) {
        let wanted = import.size.map_or(bytes, |size| size.0);
        let detail = format!("volume {:?} has {}, not {}", info.name, Size(info.bytes), Size(wanted));
        return Err(refused(detail).hint(format!("`firn volume resize {} --size {wanted}` first", info.name)));
    }
    existing.tag(TAG, UNFINISHED)?;
    Ok((existing, false))
}

fn create(pool: &Pool, import: &Import, bytes: u64) -> Result<Volume, Error> {
    let wanted = import.size.map_or(bytes, |size| size.0);
    if wanted < bytes {
        let detail = format!("the file has {}, more than {}", Size(bytes), Size(wanted));
        return Err(
            Error::new(Kind::Invalid, "import", detail).hint("leave --size away, or give a larger one")
        );
    }
    let tags = Tags::from([(TAG.to_owned(), UNFINISHED.to_owned())]);
    pool.create_volume(&import.volume, wanted, tags)
}

/// A volume that is becoming what a file is.
struct Filling<'a> {
    volume: &'a Volume,
    is_new: bool,
    volume_bytes: u64,
    /// Up to here the volume is what the file is.
    done: u64,
    data_bytes: u64,
    written_bytes: u64,
    content: Vec<u8>,
    before: Vec<u8>,
    bar: ProgressBar,
}

impl<'a> Filling<'a> {
    fn new(volume: &'a Volume, is_new: bool, volume_bytes: u64, file_bytes: u64) -> Self {
        Self {
            volume,
            is_new,
            volume_bytes,
            done: 0,
            data_bytes: 0,
            written_bytes: 0,
            content: vec![0; CHUNK_LEN],
            before: vec![0; if is_new { 0 } else { CHUNK_LEN }],
            bar: progress::bar("importing", file_bytes),
        }
    }

    /// Takes a range of the file that may hold data; what lies between it and the one before is a hole.
    fn data(&mut self, source: &Source, start: u64, end: u64) -> Result<(), Error> {
        // A file system may have smaller blocks than ours.
        let start = (start - start % BLOCK_BYTES).max(self.done);
        self.hole(start)?;
        self.data_bytes += end.saturating_sub(start);
        while self.done < end {
            let length = usize::try_from(end - self.done).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
            source.read_at(self.done, &mut self.content[..length])?;
            let padded = length.next_multiple_of(BLOCK_LEN);
            self.content[length..padded].fill(0);
            self.chunk(padded)?;
            self.done += padded as u64;
            self.bar.set_position(self.done);
        }
        Ok(())
    }

    /// Writes what differs of the first `length` bytes of `content`.
    fn chunk(&mut self, length: usize) -> Result<(), Error> {
        let content = &self.content[..length];
        if self.is_new {
            // The engine makes holes of zeros; here they are only not counted.
            let data = content.chunks(BLOCK_LEN).filter(|block| block.iter().any(|byte| *byte != 0)).count();
            self.written_bytes += data as u64 * BLOCK_BYTES;
            return self.volume.write_at(self.done, content);
        }
        self.volume.read_at(self.done, &mut self.before[..length])?;
        let before = &self.before;
        let differs = |at: usize| content[at..at + BLOCK_LEN] != before[at..at + BLOCK_LEN];
        let mut at = 0;
        while at < length {
            let run_differs = differs(at);
            let mut end = at + BLOCK_LEN;
            while end < length && differs(end) == run_differs {
                end += BLOCK_LEN;
            }
            if run_differs {
                self.volume.write_at(self.done + at as u64, &content[at..end])?;
                self.written_bytes += (end - at) as u64;
            }
            at = end;
        }
        Ok(())
    }

    /// Makes a hole from where the volume is done to `end`.
    fn hole(&mut self, end: u64) -> Result<(), Error> {
        if end > self.done && !self.is_new {
            self.volume.unmap(self.done, end - self.done)?;
        }
        self.done = self.done.max(end);
        Ok(())
    }

    /// What the file does not have reads as zeros.
    fn rest(&mut self) -> Result<(), Error> {
        self.hole(self.volume_bytes)
    }
}
