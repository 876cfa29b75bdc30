//! Containers in a store: written frame by frame and published under the hash of their bytes; read by parts.
//!
//! 1. A name that the log ever deleted is not used again: the same bytes get the next generation.
//! 2. Bytes that are there already are not sent again, but read: an object of the right name that is not what it was
//!    is left to whoever looks for damage, and passed by with the next generation.
//! 3. What was read is believed only when it fits the hash known from above; what does not fit is named.

use super::hidden::uncovering;
use crate::error::{Error, Kind, Result};
use crate::format::container::{Builder, Finished, HEADER_BYTES, Header, Role, Row, Shape, Table};
use crate::format::digest::{Digest, KeyId, VaultId};
use crate::store::{Key, Stage, Store};

/// Bytes that are gathered before they are hashed and a stage gets them.
const GATHER_BYTES: usize = 1 << 20;
/// Bytes that are enough as they come: copying them together would cost more than it saves.
const LARGE_BYTES: usize = 256 << 10;
/// Bytes that are read with one request when an object is looked through.
const READ_BYTES: u64 = 4 << 20;

/// A container that is being written.
pub(crate) struct ContainerWriter<'a> {
    builder: Builder,
    stage: Box<dyn Stage + 'a>,
    gathered: Vec<u8>,
}

/// A whole container without a name yet.
pub(crate) struct Sealed<'a> {
    /// What its bytes are.
    pub(crate) finished: Finished,
    stage: Box<dyn Stage + 'a>,
}

impl<'a> ContainerWriter<'a> {
    pub(crate) fn new(store: &'a dyn Store, header: &Header) -> Result<Self> {
        let builder = Builder::new(header);
        let mut stage = store.stage()?;
        stage.append(builder.header())?;
        Ok(Self { builder, stage, gathered: Vec::new() })
    }

    /// Frames so far.
    pub(crate) fn frames(&self) -> u32 {
        self.builder.frames()
    }

    /// Bytes so far, without table and trailer.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.builder.stored_bytes()
    }

    /// Adds a frame.
    pub(crate) fn add(&mut self, row: &Row, stored: &[u8]) -> Result<()> {
        self.note(row);
        self.append(stored)
    }

    /// Takes note of a frame, whose bytes [`append`](Self::append) gets before it is finished.
    pub(crate) fn note(&mut self, row: &Row) {
        self.builder.add(row);
    }

    /// The next bytes of the frames that were noted, of as many at once as there are.
    pub(crate) fn append(&mut self, stored: &[u8]) -> Result<()> {
        if stored.len() >= LARGE_BYTES {
            self.pass_on_gathered()?;
            return self.pass_on(stored);
        }
        self.gathered.extend_from_slice(stored);
        match self.gathered.len() < GATHER_BYTES {
            true => Ok(()),
            false => self.pass_on_gathered(),
        }
    }

    pub(crate) fn finish(mut self) -> Result<Sealed<'a>> {
        self.pass_on_gathered()?;
        let (tail, finished) = self.builder.finish();
        self.stage.append(&tail)?;
        Ok(Sealed { finished, stage: self.stage })
    }

    fn pass_on_gathered(&mut self) -> Result<()> {
        let mut gathered = std::mem::take(&mut self.gathered);
        self.pass_on(&gathered)?;
        gathered.clear();
        self.gathered = gathered;
        Ok(())
    }

    fn pass_on(&mut self, stored: &[u8]) -> Result<()> {
        if stored.is_empty() {
            return Ok(());
        }
        self.builder.hash(stored);
        self.stage.append(stored)
    }
}

impl Sealed<'_> {
    /// Gives it the first name that may be used (`name` of a generation; `is_used_up` says which the log deleted),
    /// and says its generation. Durable on return.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) fn publish(
        self,
        store: &dyn Store,
        name: impl Fn(u32) -> Key,
        is_used_up: impl Fn(&Key) -> bool,
    ) -> Result<u32> {
        for generation in 0..u32::MAX {
            let key = name(generation);
            if is_used_up(&key) {
                continue;
            }
            match store.head(&key)? {
                Some(object) if object.bytes == self.finished.shape.stored_bytes => {
                    if has_hash(store, &key, object.bytes, self.finished.id)? {
                        return Ok(generation);
                    }
                }
                Some(_) => {}
                // Who came first in between wrote the same bytes, for the name is their hash.
                None => return self.stage.publish(&key).map(|_| generation),
            }
        }
        Err(Error::new(Kind::Bug, "name container", self.finished.id.to_string()))
    }
}

/// Whether the `bytes` bytes of an object have the hash `id`. One that is gone or shorter by now does not.
fn has_hash(store: &dyn Store, key: &Key, bytes: u64, id: Digest) -> Result<bool> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(READ_BYTES);
        let part = match store.get_range(key, at, usize::try_from(length).unwrap_or(0)) {
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => return Ok(false),
            part => part?,
        };
        hasher.update(&part);
        at += length;
    }
    Ok(*hasher.finalize().as_bytes() == id.0)
}

/// What a container must be, besides its shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) role: Role,
    pub(crate) vault: VaultId,
    /// The key of its frames; nothing where that is not known.
    pub(crate) key: Option<KeyId>,
}

/// Reads and verifies the table of the container `key`.
///
/// # Errors
/// [`Kind::Damaged`], naming the object, when it is missing or not what its shape says; what the store said.
pub(crate) fn read_table(store: &dyn Store, key: &Key, shape: &Shape, expected: Expected) -> Result<Table> {
    uncovering(store, key, || read_present_table(store, key, shape, expected))
}

fn read_present_table(store: &dyn Store, key: &Key, shape: &Shape, expected: Expected) -> Result<Table> {
    const WHAT: &str = "read container";
    let (start, bytes) = shape
        .table()
        .ok_or_else(|| Error::new(Kind::Damaged, WHAT, format!("{key}: no container has such a shape")))?;
    let header = store.get_range(key, 0, HEADER_BYTES).map_err(|error| named(key, error))?;
    let header = header.first_chunk().ok_or_else(|| cut_short(key))?;
    let tail = store.get_range(key, start, bytes).map_err(|error| named(key, error))?;
    let table = Table::decode(shape, header, &tail).map_err(|error| named(key, error))?;
    let found = table.header;
    let is_expected = found.role == expected.role
        && found.vault == expected.vault
        && expected.key.is_none_or(|key| key == found.key);
    match is_expected {
        true => Ok(table),
        false => {
            let detail =
                format!("{key} is a {:?} of vault {} under key {}", found.role, found.vault, found.key);
            Err(Error::new(Kind::Damaged, WHAT, detail))
        }
    }
}

/// Reads the stored bytes of frames `first` to before `end`.
///
/// # Errors
/// As [`read_table`].
pub(crate) fn read_frames(
    store: &dyn Store,
    key: &Key,
    table: &Table,
    first: usize,
    end: usize,
) -> Result<Vec<u8>> {
    let start = table.offset(first);
    let length = usize::try_from(table.offset(end) - start).map_err(|_| cut_short(key))?;
    let bytes = store.get_range(key, start, length).map_err(|error| named(key, error))?;
    if bytes.len() != length {
        return Err(cut_short(key));
    }
    Ok(bytes)
}

/// Cuts the stored bytes of the frames `rows` out of `bytes`, which begin with the first of them.
pub(crate) fn split_frames<'a>(
    rows: &'a [Row],
    mut bytes: &'a [u8],
) -> impl Iterator<Item = (&'a Row, &'a [u8])> {
    rows.iter().map(move |row| {
        let (stored, rest) = bytes.split_at(row.stored_bytes as usize);
        bytes = rest;
        (row, stored)
    })
}

/// The same error about the object `key`. A missing one is damage: something that is there points at it.
pub(crate) fn named(key: &Key, error: Error) -> Error {
    match error.kind() {
        Kind::NotFound => Error::new(Kind::Damaged, "read object", format!("{key} is missing")),
        // A version or method that this firn does not know: nothing wrong may come of it either.
        Kind::Damaged | Kind::Invalid => {
            Error::new(Kind::Damaged, "read object", key.to_string()).source(error)
        }
        _ => error,
    }
}

fn cut_short(key: &Key) -> Error {
    Error::new(Kind::Damaged, "read object", format!("{key} is shorter than it must be"))
}
