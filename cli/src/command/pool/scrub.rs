//! `firn pool scrub`

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use firn_engine::error::{Error, Kind};

use crate::args::pool::PoolScrub as Args;
use crate::operation::pool::PoolShow;
use crate::operation::scrub::{Cursor, PoolScrub, Scrubbed};
use crate::output::Answer;
use crate::progress;
use crate::service::Service;
use crate::size::Size;
use crate::table::Column::{Left, Right};
use crate::table::{properties, table};

/// Damaged blocks that are shown to people; JSON has all that the answer lists.
const SHOWN_MAX: usize = 20;
/// Bytes between two notes of how far it came.
const NOTE_BYTES: u64 = 64 << 20;

/// Reads everything. Damage is the answer, and exit status 5.
pub(super) fn run(service: &Service, scrub: &Args) -> Result<Answer> {
    let mut note = scrub.resume.clone().map(Note::open).transpose()?;
    let resume = note.as_ref().and_then(|note| note.from);
    // Not exact: what is written meanwhile is read too, and what an earlier scrub read is not.
    let bar = progress::bar("scrubbing", service.call(PoolShow {})?.used_bytes);
    let request = PoolScrub { bytes_per_second: scrub.rate.map(|rate| rate.0), resume };
    let scrubbed = service.long(request, |event| {
        bar.set_position(event.read_bytes);
        match &mut note {
            Some(note) => note.keep(event.cursor, event.read_bytes),
            None => Ok(()),
        }
    })?;
    bar.finish_and_clear();
    if let Some(note) = note {
        note.remove()?;
    }
    let answer = Answer::new(&scrubbed, text(&scrubbed))?;
    Ok(if scrubbed.is_sound { answer } else { answer.of_damage() })
}

fn text(scrubbed: &Scrubbed) -> String {
    let mut text = properties([
        ("read", Size(scrubbed.read_bytes).to_string()),
        ("damaged", scrubbed.damaged_blocks.to_string()),
        ("state", if scrubbed.is_sound { "sound" } else { "damaged" }.to_owned()),
    ]);
    if scrubbed.damaged.is_empty() {
        return text;
    }
    let rows = scrubbed.damaged.iter().take(SHOWN_MAX).map(|block| {
        let name = match &block.snapshot {
            Some(snapshot) => format!("{}@{snapshot}", block.volume),
            None => block.volume.clone(),
        };
        vec![name, block.offset.to_string(), block.detail.clone()]
    });
    text.push('\n');
    text.push_str(&table(&[Left("IN"), Right("OFFSET"), Left("DETAIL")], rows));
    if scrubbed.damaged.len() > SHOWN_MAX {
        text.push_str("and more: --json lists the first thousand\n");
    }
    text
}

/// A file that says how far a scrub came.
struct Note {
    path: PathBuf,
    from: Option<Cursor>,
    /// Bytes that had been read when it was last written.
    noted: u64,
}

impl Note {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let from = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim_end().parse().map_err(|detail: String| {
                Error::new(Kind::Invalid, "go on with a scrub", format!("{}: {detail}", path.display()))
                    .hint("remove the file to begin anew")
            })?),
            Err(source) if source.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(failed(&path, source)),
        };
        Ok(Self { path, from, noted: 0 })
    }

    /// Writes it, not too often, and whole or not at all.
    fn keep(&mut self, cursor: Cursor, read_bytes: u64) -> Result<(), Error> {
        if self.noted > 0 && read_bytes < self.noted + NOTE_BYTES {
            return Ok(());
        }
        self.noted = read_bytes;
        let mut partial = self.path.clone().into_os_string();
        partial.push(".partial");
        let written = fs::File::create(&partial)
            .and_then(|mut file| writeln!(file, "{cursor}"))
            .and_then(|()| fs::rename(&partial, &self.path));
        written.map_err(|source| failed(&self.path, source))
    }

    /// Nothing is left to go on with.
    fn remove(self) -> Result<(), Error> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed(&self.path, source)),
            _ => Ok(()),
        }
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::io("note how far the scrub came", path.display(), source)
}
