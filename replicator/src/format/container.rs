//! Containers: header, frames, table, trailer. Packs and runs are both.
//!
//! ```text
//! header 64 | frame | frame | ... | table: 56 bytes a frame | trailer 64
//! ```
//! The object's name holds the hash of all of it, so whoever reads all of it needs no key to verify it. Whoever reads a
//! part knows from above (a run for its packs, a point for its runs) the [`Shape`]: how long it is, how many frames it
//! has, and the hash over header and table, which hold the hash of each frame's content.

use serde::{Deserialize, Serialize};

use super::VERSION;
use super::codec::{Put, Take, malformed, too_new};
use super::digest::{Digest, KeyId, VaultId};
use crate::error::Result;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a trailer.
pub const TRAILER_BYTES: usize = 64;
/// Bytes of a frame's row in the table.
pub const ROW_BYTES: usize = 56;
/// Content bytes of a frame at most: 16 blocks.
pub const FRAME_BYTES_MAX: usize = 64 << 10;
/// Bytes by which a frame may be stored longer than its content: salt and tag of an encrypted one.
pub const FRAME_OVERHEAD_MAX: usize = 32;
/// Frames in a container at most, so that a table fits in 56 MiB.
pub const FRAMES_MAX: u32 = 1 << 20;

const MAGIC: [u8; 8] = *b"firnvlt1";
const END_MAGIC: [u8; 4] = *b"firn";

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Blocks of volumes.
    Pack,
    /// A sorted part of a volume's map.
    Run,
}

impl Role {
    fn code(self) -> u8 {
        match self {
            Role::Pack => 1,
            Role::Run => 2,
        }
    }

    fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Role::Pack),
            2 => Some(Role::Run),
            _ => None,
        }
    }
}

/// A container's first 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub role: Role,
    /// The vault it belongs to.
    pub vault: VaultId,
    /// The key its frames are encrypted with; all zeros when they are not.
    pub key: KeyId,
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = Put::new(&mut bytes[..60]);
        put.bytes(&MAGIC).u16(VERSION).bytes(&[self.role.code()]).bytes(&[0; 5]);
        put.bytes(&self.vault.0).bytes(&self.key.0);
        seal(&mut bytes, 60);
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) when it can't be a header, `Invalid` when it is of a newer version.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        const WHAT: &str = "read container header";
        let mut take = Take::new(bytes);
        if take.array() != MAGIC {
            return Err(malformed(WHAT, "it does not start as a container does"));
        }
        if !is_sealed(bytes, 60) {
            return Err(malformed(WHAT, "its checksum is wrong"));
        }
        let version = take.u16();
        if version != VERSION {
            return Err(too_new(WHAT, version));
        }
        let code = take.u8();
        let role = Role::of(code).ok_or_else(|| malformed(WHAT, format!("no container has role {code}")))?;
        if !take.zeros(5) {
            return Err(malformed(WHAT, "reserved bytes are not zero"));
        }
        Ok(Self { role, vault: VaultId(take.array()), key: KeyId(take.array()) })
    }
}

/// How a frame's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is, where compressing gains nothing.
    Plain,
    /// As one zstd frame.
    Zstd,
}

impl Codec {
    pub(crate) fn code(self) -> u8 {
        match self {
            Codec::Plain => 0,
            Codec::Zstd => 1,
        }
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// 16 blocks of a volume; the last frame of a pack may have fewer.
    Blocks,
    /// Extents of a map (see `extent`).
    Extents,
    /// Packs that the extents point into (see `pack_list`).
    Packs,
}

impl Content {
    fn code(self) -> u8 {
        match self {
            Content::Blocks => 1,
            Content::Extents => 2,
            Content::Packs => 3,
        }
    }
}

/// A frame's row in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it holds.
    pub content: Content,
    /// How it is stored.
    pub codec: Codec,
    /// Bytes that it takes in the object.
    pub stored_bytes: u32,
    /// Bytes of its content, 1 to 64 KiB.
    pub content_bytes: u32,
    /// What it starts with: the block index of its first extent; the index of its first pack or block in all frames.
    pub first: u64,
    /// Keyed hash of its content.
    pub hash: Digest,
}

impl Row {
    fn encode(&self) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        let mut put = Put::new(&mut bytes);
        put.bytes(&[self.content.code(), self.codec.code(), 0, 0, 0, 0, 0, 0]);
        put.u32(self.stored_bytes).u32(self.content_bytes).u64(self.first).bytes(&self.hash.0);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let wrong = |detail: String| malformed("read frame table", detail);
        let mut take = Take::new(bytes);
        let content = match take.u8() {
            1 => Content::Blocks,
            2 => Content::Extents,
            3 => Content::Packs,
            code => return Err(wrong(format!("no frame has content {code}"))),
        };
        let codec = match take.u8() {
            0 => Codec::Plain,
            1 => Codec::Zstd,
            code => return Err(wrong(format!("no frame has codec {code}"))),
        };
        if !take.zeros(6) {
            return Err(wrong("reserved bytes are not zero".to_owned()));
        }
        let (stored_bytes, content_bytes) = (take.u32(), take.u32());
        let fits = |bytes: u32, max: usize| bytes > 0 && bytes as usize <= max;
        if !fits(stored_bytes, FRAME_BYTES_MAX + FRAME_OVERHEAD_MAX) || !fits(content_bytes, FRAME_BYTES_MAX)
        {
            return Err(wrong(format!("a frame of {content_bytes} bytes stored as {stored_bytes}")));
        }
        Ok(Self {
            content,
            codec,
            stored_bytes,
            content_bytes,
            first: take.u64(),
            hash: Digest(take.array()),
        })
    }
}

/// What must be known of a container to read a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Bytes of the object.
    pub stored_bytes: u64,
    /// Frames in it.
    pub frames: u32,
    /// Hash of header and table.
    pub table_hash: Digest,
}

impl Shape {
    /// Where the table starts, and how many bytes it and the trailer take; nothing for a shape that can't be.
    pub fn table(&self) -> Option<(u64, usize)> {
        if self.frames > FRAMES_MAX {
            return None;
        }
        let bytes = self.frames as usize * ROW_BYTES + TRAILER_BYTES;
        let start = self.stored_bytes.checked_sub(u64::try_from(bytes).ok()?)?;
        (start >= HEADER_BYTES as u64).then_some((start, bytes))
    }
}

/// A container's table, checked against its shape, with the place of each frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The container's header.
    pub header: Header,
    rows: Vec<Row>,
    /// Where each frame starts, and where the last one ends.
    offsets: Vec<u64>,
}

impl Table {
    /// Reads the table of a container whose `shape` is known from `header` and `tail`, the bytes from
    /// [`Shape::table`] to the end.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) when they are not those of the shape or contradict themselves, `Invalid` for a newer version.
    pub fn decode(shape: &Shape, header: &[u8; HEADER_BYTES], tail: &[u8]) -> Result<Self> {
        const WHAT: &str = "read frame table";
        let Some((start, bytes)) = shape.table() else {
            return Err(malformed(
                WHAT,
                format!("no container has {} frames in {} bytes", shape.frames, shape.stored_bytes),
            ));
        };
        if tail.len() != bytes {
            return Err(malformed(WHAT, format!("{} bytes instead of {bytes}", tail.len())));
        }
        let (rows, trailer) = tail.split_at(bytes - TRAILER_BYTES);
        if table_hash(header, rows) != shape.table_hash {
            return Err(malformed(WHAT, "it is not the table that was written"));
        }
        let found = Trailer::decode(trailer)?;
        if found.shape(shape.stored_bytes) != *shape {
            return Err(malformed(WHAT, "the trailer is of another container"));
        }
        let header = Header::decode(header)?;
        let rows = rows.chunks_exact(ROW_BYTES).map(Row::decode).collect::<Result<Vec<_>>>()?;
        let mut offsets = Vec::with_capacity(rows.len() + 1);
        let mut at = HEADER_BYTES as u64;
        for row in &rows {
            offsets.push(at);
            at += u64::from(row.stored_bytes);
        }
        offsets.push(at);
        if at != start {
            return Err(malformed(WHAT, format!("frames end at {at}, the table starts at {start}")));
        }
        Ok(Self { header, rows, offsets })
    }

    /// The rows, in the order of the frames.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Where frame `index` starts in the object.
    ///
    /// # Panics
    /// When there is no such frame.
    pub fn offset(&self, index: usize) -> u64 {
        self.offsets[index]
    }
}

/// The shape of a container by its trailer alone, for whoever holds the whole object and nothing above it.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) when it can't be a trailer.
pub fn shape_of(object_bytes: u64, trailer: &[u8; TRAILER_BYTES]) -> Result<Shape> {
    Ok(Trailer::decode(trailer)?.shape(object_bytes))
}

struct Trailer {
    table_hash: Digest,
    frames: u32,
}

impl Trailer {
    fn shape(&self, stored_bytes: u64) -> Shape {
        Shape { stored_bytes, frames: self.frames, table_hash: self.table_hash }
    }

    fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        let mut put = Put::new(&mut bytes[..56]);
        put.bytes(&self.table_hash.0).u32(self.frames).bytes(&[0; 20]);
        bytes[56..60].copy_from_slice(&END_MAGIC);
        seal(&mut bytes, 60);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "read container trailer";
        if bytes.len() != TRAILER_BYTES || bytes[56..60] != END_MAGIC || !is_sealed(bytes, 60) {
            return Err(malformed(WHAT, "it does not end as a container does"));
        }
        let mut take = Take::new(bytes);
        let trailer = Self { table_hash: Digest(take.array()), frames: take.u32() };
        match take.zeros(20) {
            true => Ok(trailer),
            false => Err(malformed(WHAT, "reserved bytes are not zero")),
        }
    }
}

/// A container that grows at its end: it keeps the table and the hashes, its owner keeps the bytes.
pub struct Builder {
    header: [u8; HEADER_BYTES],
    rows: Vec<u8>,
    frames: u32,
    stored_bytes: u64,
    hasher: blake3::Hasher,
}

/// A finished container's name and shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Hash of the whole object.
    pub id: Digest,
    /// Its shape.
    pub shape: Shape,
}

impl Builder {
    /// Begins one; its first bytes are [`Self::header`].
    pub fn new(header: &Header) -> Self {
        let header = header.encode();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header);
        Self { header, rows: Vec::new(), frames: 0, stored_bytes: HEADER_BYTES as u64, hasher }
    }

    /// The header's bytes, which the object starts with.
    pub fn header(&self) -> &[u8; HEADER_BYTES] {
        &self.header
    }

    /// Frames so far.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Bytes so far, without table and trailer.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Takes note of a frame, whose bytes [`hash`](Self::hash) gets in their turn.
    ///
    /// # Panics
    /// When the container is full.
    pub fn add(&mut self, row: &Row) {
        assert!(self.frames < FRAMES_MAX, "a container of too many frames");
        self.rows.extend_from_slice(&row.encode());
        self.frames += 1;
        self.stored_bytes += u64::from(row.stored_bytes);
    }

    /// The next bytes of frames, in the order of the object; of many at once, for that is several times as fast.
    pub fn hash(&mut self, stored: &[u8]) {
        self.hasher.update(stored);
    }

    /// Ends it: the bytes of table and trailer, which the object ends with, and what it is called.
    ///
    /// # Panics
    /// When the bytes of the frames were not those that their rows say, by number.
    pub fn finish(mut self) -> (Vec<u8>, Finished) {
        assert_eq!(self.hasher.count(), self.stored_bytes, "the frames' rows give their lengths");
        let table_hash = table_hash(&self.header, &self.rows);
        let trailer = Trailer { table_hash, frames: self.frames }.encode();
        let mut tail = self.rows;
        tail.extend_from_slice(&trailer);
        self.hasher.update(&tail);
        let stored_bytes = self.stored_bytes + tail.len() as u64;
        let id = Digest(*self.hasher.finalize().as_bytes());
        (tail, Finished { id, shape: Shape { stored_bytes, frames: self.frames, table_hash } })
    }
}

fn table_hash(header: &[u8; HEADER_BYTES], rows: &[u8]) -> Digest {
    Digest(*blake3::Hasher::new().update(header).update(rows).finalize().as_bytes())
}

/// Writes the CRC-32 of everything before `at` to `at`.
fn seal(bytes: &mut [u8], at: usize) {
    let checksum = crc32fast::hash(&bytes[..at]);
    bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
}

fn is_sealed(bytes: &[u8], at: usize) -> bool {
    crc32fast::hash(&bytes[..at]).to_le_bytes() == bytes[at..at + 4]
}
