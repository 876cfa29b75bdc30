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
use firn_engine::units::{BLOCK_BYTES, BLOCK_LEN};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::transfer::Import;
use crate::content::Content;
use crate::failure::Failure;
use crate::name::PointName;
use crate::operation::pool::PoolCheckpoint;
use crate::operation::volume::{VolumeCreate, VolumeShow, VolumeTag, VolumeView};
use crate::output::Answer;
use crate::progress;
use crate::service::Service;
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

pub(super) fn run(service: &Service, import: &Import) -> Result<Answer> {
    let source = Source::open(&import.file)?;
    let file_blocks_bytes = source.bytes().next_multiple_of(BLOCK_BYTES);
    let (view, is_new) = target(service, import, file_blocks_bytes)?;
    let volume = Content::open(service, &PointName::Volume(view.name.clone()))?;
    let mut filling = Filling::new(&volume, is_new, view.bytes, source.bytes());
    let filled = source.each_data(|start, end| filling.data(&source, start, end));
    filled.and_then(|()| filling.rest()).and_then(|()| volume.flush()).with_context(|| {
        format!("import {} into {}, which is not whole now", import.file.display(), import.volume)
    })?;
    service.call(tagged(view.name, Tags::new(), vec![TAG.to_owned()]))?;
    // What the volume maps is known as of a checkpoint, and whoever imported something looks at that next.
    service.call(PoolCheckpoint {})?;
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
fn target(service: &Service, import: &Import, bytes: u64) -> Result<(VolumeView, bool)> {
    let existing = match service.call(VolumeShow { volume: import.volume.clone() }) {
        Ok(existing) => existing,
        Err(error) if Failure::of(&error).is(Kind::NotFound) => {
            return create(service, import, bytes).map(|new| (new, true));
        }
        Err(error) => return Err(error),
    };
    refuse(&existing, import, bytes)?;
    let unfinished = tagged(existing.name, unfinished(), Vec::new());
    Ok((service.call(unfinished)?, false))
}

/// Says why a volume that exists can't be filled.
fn refuse(existing: &VolumeView, import: &Import, bytes: u64) -> Result<(), Error> {
    let refused = |detail: String| Error::new(Kind::Conflict, "import", detail);
    let name = &existing.name;
    if !import.overwrite {
        return Err(match existing.tags.contains_key(TAG) {
            true => refused(format!("an import into volume {name:?} was not finished"))
                .hint("go on with it: --overwrite writes what is missing"),
            false => refused(format!("a volume named {name:?} exists"))
                .hint("name another, or make it what the file is: --overwrite"),
        });
    }
    if existing.bytes < bytes || import.size.is_some_and(|size| size.0 != existing.bytes) {
        let wanted = import.size.map_or(bytes, |size| size.0);
        let detail = format!("volume {name:?} has {}, not {}", Size(existing.bytes), Size(wanted));
        return Err(refused(detail).hint(format!("`firn volume resize {name} --size {wanted}` first")));
    }
    Ok(())
}

fn create(service: &Service, import: &Import, bytes: u64) -> Result<VolumeView> {
    let wanted = import.size.map_or(bytes, |size| size.0);
    if wanted < bytes {
        let detail = format!("the file has {}, more than {}", Size(bytes), Size(wanted));
        return Err(Error::new(Kind::Invalid, "import", detail)
            .hint("leave --size away, or give a larger one")
            .into());
    }
    service.call(VolumeCreate { volume: import.volume.clone(), bytes: wanted, tags: unfinished() })
}

fn unfinished() -> Tags {
    Tags::from([(TAG.to_owned(), UNFINISHED.to_owned())])
}

fn tagged(volume: String, tags: Tags, remove: Vec<String>) -> VolumeTag {
    VolumeTag { volume, tags, remove }
}

/// A volume that is becoming what a file is.
struct Filling<'a> {
    volume: &'a Content,
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
    fn new(volume: &'a Content, is_new: bool, volume_bytes: u64, file_bytes: u64) -> Self {
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
            self.volume.zero(self.done, end - self.done)?;
        }
        self.done = self.done.max(end);
        Ok(())
    }

    /// What the file does not have reads as zeros.
    fn rest(&mut self) -> Result<(), Error> {
        self.hole(self.volume_bytes)
    }
}
