//! Every byte of a container: its hash, and with keys each frame.

use super::reach::{Object, wrong};
use crate::error::Result;
use crate::format::container::{HEADER_BYTES, Table};
use crate::format::extent;
use crate::format::frame::Opener;
use crate::format::name;
use crate::store::Store;
use crate::vault::container::{named, read_table};
use crate::vault::progress::Progress;
use crate::vault::run::BLOCKS_MAX;

/// Bytes that are read with one request.
const READ_BYTES: u64 = 4 << 20;

/// Reads all `bytes` of `object`, and says how many they were.
pub(super) fn verify(store: &dyn Store, object: &Object, bytes: u64, progress: &dyn Progress) -> Result<u64> {
    let key = &object.key;
    let mut frames = match (&object.shape, &object.keys) {
        (Some(shape), Some(keys)) => {
            let table = read_table(store, key, shape, keys.expected(object.role))?;
            Some(Frames::new(table, Opener::new(keys.frames.clone())?))
        }
        _ => None,
    };
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from((bytes - at).min(READ_BYTES)).unwrap_or(0);
        let part = store.get_range(key, at, length).map_err(|error| named(key, error))?;
        if part.len() != length {
            return Err(wrong(key, "it is shorter than it must be"));
        }
        hasher.update(&part);
        if let Some(frames) = &mut frames {
            frames.take(&part).map_err(|error| named(key, error))?;
        }
        at += length as u64;
        progress.advance(length as u64);
    }
    let found = *hasher.finalize().as_bytes();
    match name::hash_in(key).is_some_and(|expected| expected.0 == found) {
        true => Ok(bytes),
        false => Err(wrong(key, "its bytes do not have the hash in its name")),
    }
}

/// Opens frames as their bytes come.
struct Frames {
    table: Table,
    opener: Opener,
    next: usize,
    /// Bytes that came and were not used, and where they lie in the object.
    gathered: Vec<u8>,
    start: u64,
}

impl Frames {
    fn new(table: Table, opener: Opener) -> Self {
        Self { table, opener, next: 0, gathered: Vec::new(), start: 0 }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        use crate::format::container::Content;
        self.gathered.extend_from_slice(bytes);
        let mut used = match self.start {
            0 => HEADER_BYTES,
            _ => 0,
        };
        while let Some(row) = self.table.rows().get(self.next) {
            let Some(stored) = self.gathered.get(used..used + row.stored_bytes as usize) else { break };
            let content = self.opener.open(row, stored)?;
            match row.content {
                Content::Blocks => {}
                Content::Extents => _ = extent::decode(&content, row.first, BLOCKS_MAX)?,
                Content::Packs => _ = crate::format::pack_list::decode(&content)?,
            }
            used += row.stored_bytes as usize;
            self.next += 1;
        }
        self.start += used as u64;
        self.gathered.drain(..used.min(self.gathered.len()));
        if self.next == self.table.rows().len() {
            self.gathered.clear();
        }
        Ok(())
    }
}
