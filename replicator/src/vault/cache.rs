//! What was read of a vault's log, in a file: spares reading it again, and remembers what was there.
//!
//! 1. The file holds the entries as they are stored, from the first without gaps. An end that was torn is cut off.
//! 2. Only what was verified goes in. Read again, the last entry's signature alone is verified: its line names the hash
//!    of the entry before, and so on down to the first. The vault then compares it with the store's.
//! 3. Whoever adds to the file has it locked and first looks at what others added.
//!
//! The file is named after the store, not after the vault in it: so a vault that took another's place is noticed.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::catalog::Catalog;
use super::log;
use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;

/// Who looks at entries in the file: their number and bytes, and whether it is the last.
type Seen<'a> = &'a mut dyn FnMut(u64, &[u8], bool) -> Result<()>;

/// A cache file, open.
pub(super) struct LogCache {
    path: PathBuf,
    file: File,
    /// Bytes of it that are known to be whole entries.
    bytes: u64,
    /// The number of the last of them.
    number: u64,
}

impl LogCache {
    /// Opens the cache of the store called `store` in `directory`, and takes up into `catalog` what it holds.
    pub(super) fn open(directory: &Path, store: &str, catalog: &mut Catalog) -> Result<Self> {
        let path = directory.join(format!("{}.log", Digest::of(store.as_bytes()).short()));
        let failed = |source| Error::io("open log cache", path.display(), source);
        fs::create_dir_all(directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        let mut cache = Self { file, bytes: 0, number: 0, path };
        cache.file.lock().map_err(|source| cache.failed(source))?;
        let read = cache.read(&mut |number, bytes, is_last| {
            let signed = if is_last { log::decode(number, bytes) } else { log::decode_again(number, bytes) };
            catalog.apply(&signed?)
        });
        cache.unlock()?;
        read.map_err(|source| {
            let detail = format!("{} is not what the log there was", cache.path.display());
            Error::new(Kind::Damaged, "open log cache", detail).source(source).hint(format!(
                "if the vault was made anew on purpose, or the file is broken, remove {}; if not, somebody put another vault in its place",
                cache.path.display()
            ))
        })?;
        Ok(cache)
    }

    /// Adds entries, given with their numbers, which follow what was last known of the file.
    pub(super) fn add(&mut self, entries: &[(u64, Vec<u8>)]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.file.lock().map_err(|source| self.failed(source))?;
        let added = self.read(&mut |_, _, _| Ok(())).and_then(|()| self.write(entries));
        self.unlock()?;
        added
    }

    /// Shows what the file holds beyond what is known, and passes by an end that is no whole entry.
    fn read(&mut self, seen: Seen<'_>) -> Result<()> {
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(self.bytes)).map_err(|source| self.failed(source))?;
        self.file.read_to_end(&mut rest).map_err(|source| self.failed(source))?;
        let mut entries = whole_entries(&rest).peekable();
        while let Some(entry) = entries.next() {
            seen(self.number + 1, entry, entries.peek().is_none())?;
            self.number += 1;
            self.bytes += entry.len() as u64;
        }
        Ok(())
    }

    fn write(&mut self, entries: &[(u64, Vec<u8>)]) -> Result<()> {
        self.file.set_len(self.bytes).map_err(|source| self.failed(source))?;
        self.file.seek(SeekFrom::Start(self.bytes)).map_err(|source| self.failed(source))?;
        for (number, bytes) in entries {
            if *number == self.number + 1 {
                self.file.write_all(bytes).map_err(|source| self.failed(source))?;
                self.number += 1;
                self.bytes += bytes.len() as u64;
            }
        }
        Ok(())
    }

    fn unlock(&self) -> Result<()> {
        self.file.unlock().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::io("use log cache", self.path.display(), source)
    }
}

/// Entries end with their second line end.
fn whole_entries(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let mut start = 0;
    std::iter::from_fn(move || {
        ends.next()?;
        let end = ends.next()?;
        let entry = &bytes[start..end];
        start = end;
        Some(entry)
    })
}
