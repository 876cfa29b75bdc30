//! The transmission phase: requests, simple replies, and structured replies in chunks.

use super::reader::{Malformed, Reader};

/// The first four bytes of a request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// The first four bytes of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// The first four bytes of a chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;
/// Bytes of a request, without what is written.
pub const REQUEST_BYTES: usize = 28;
/// Bytes of a simple reply, without what was read.
pub const SIMPLE_REPLY_BYTES: usize = 16;
/// Bytes of a chunk before its payload.
pub const CHUNK_HEADER_BYTES: usize = 20;
/// Bytes of a chunk of data before the data.
pub const DATA_HEADER_BYTES: usize = CHUNK_HEADER_BYTES + 8;

/// Commands.
pub mod command {
    /// Read.
    pub const READ: u16 = 0;
    /// Write; the data follows the request.
    pub const WRITE: u16 = 1;
    /// End the connection; it has no reply.
    pub const DISC: u16 = 2;
    /// Make durable what was answered before.
    pub const FLUSH: u16 = 3;
    /// The range is not needed any more.
    pub const TRIM: u16 = 4;
    /// The range will be read soon.
    pub const CACHE: u16 = 5;
    /// Write zeros.
    pub const WRITE_ZEROES: u16 = 6;
    /// What the chosen metadata contexts say of the range.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of a command.
pub mod command_flags {
    /// Durable when answered.
    pub const FUA: u16 = 1 << 0;
    /// Zeros that keep their room.
    pub const NO_HOLE: u16 = 1 << 1;
    /// All data in one chunk.
    pub const DF: u16 = 1 << 2;
    /// One extent of each context.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Zeros only if that is faster than writing them.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Kinds of chunks.
pub mod chunk {
    /// The end of the reply.
    pub const NONE: u16 = 0;
    /// An offset and data.
    pub const OFFSET_DATA: u16 = 1;
    /// An offset and a length of zeros.
    pub const OFFSET_HOLE: u16 = 2;
    /// A context and its extents.
    pub const BLOCK_STATUS: u16 = 5;
    /// From here on the kinds are errors.
    pub const ERRORS: u16 = 1 << 15;
    /// An error and a message.
    pub const ERROR: u16 = ERRORS | 1;
    /// An error, a message and where.
    pub const ERROR_OFFSET: u16 = ERRORS | 2;
    /// Flag: the last chunk of its reply.
    pub const DONE: u16 = 1;
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// See [`command_flags`].
    pub flags: u16,
    /// See [`command`].
    pub command: u16,
    /// The client's number for it, which its reply bears.
    pub cookie: u64,
    /// From which byte.
    pub offset: u64,
    /// How many bytes. Of a write as many follow.
    pub length: u32,
}

impl Request {
    /// Reads it.
    ///
    /// # Errors
    /// When it does not start with the request magic.
    pub fn decode(bytes: &[u8; REQUEST_BYTES]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != REQUEST_MAGIC {
            return Err(Malformed("a request starts with a wrong magic"));
        }
        Ok(Self {
            flags: reader.u16()?,
            command: reader.u16()?,
            cookie: reader.u64()?,
            offset: reader.u64()?,
            length: reader.u32()?,
        })
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut out = [0; REQUEST_BYTES];
        out[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        out[4..6].copy_from_slice(&self.flags.to_be_bytes());
        out[6..8].copy_from_slice(&self.command.to_be_bytes());
        out[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        out[16..24].copy_from_slice(&self.offset.to_be_bytes());
        out[24..].copy_from_slice(&self.length.to_be_bytes());
        out
    }
}

/// A simple reply, without what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimpleReply {
    /// 0, or one of [`errno`](super::errno).
    pub error: u32,
    /// The request's number.
    pub cookie: u64,
}

impl SimpleReply {
    /// Its bytes.
    pub fn encode(&self) -> [u8; SIMPLE_REPLY_BYTES] {
        let mut out = [0; SIMPLE_REPLY_BYTES];
        out[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        out[4..8].copy_from_slice(&self.error.to_be_bytes());
        out[8..].copy_from_slice(&self.cookie.to_be_bytes());
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it does not start with the magic of a simple reply.
    pub fn decode(bytes: &[u8; SIMPLE_REPLY_BYTES]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != SIMPLE_REPLY_MAGIC {
            return Err(Malformed("a reply starts with a wrong magic"));
        }
        Ok(Self { error: reader.u32()?, cookie: reader.u64()? })
    }
}

/// What comes before a chunk's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// [`chunk::DONE`] or nothing.
    pub flags: u16,
    /// See [`chunk`].
    pub kind: u16,
    /// The request's number.
    pub cookie: u64,
    /// Bytes of payload.
    pub length: u32,
}

impl ChunkHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut out = [0; CHUNK_HEADER_BYTES];
        out[..4].copy_from_slice(&CHUNK_MAGIC.to_be_bytes());
        out[4..6].copy_from_slice(&self.flags.to_be_bytes());
        out[6..8].copy_from_slice(&self.kind.to_be_bytes());
        out[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        out[16..].copy_from_slice(&self.length.to_be_bytes());
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it does not start with the magic of a chunk.
    pub fn decode(bytes: &[u8; CHUNK_HEADER_BYTES]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != CHUNK_MAGIC {
            return Err(Malformed("a chunk starts with a wrong magic"));
        }
        Ok(Self { flags: reader.u16()?, kind: reader.u16()?, cookie: reader.u64()?, length: reader.u32()? })
    }
}

/// The header of a chunk of `length` bytes of data from `offset`; the data follows it.
pub fn data_header(cookie: u64, flags: u16, offset: u64, length: u32) -> [u8; DATA_HEADER_BYTES] {
    let payload = length.checked_add(8).expect("reads are shorter than 4 GiB by far");
    let header = ChunkHeader { flags, kind: chunk::OFFSET_DATA, cookie, length: payload };
    let mut out = [0; DATA_HEADER_BYTES];
    out[..CHUNK_HEADER_BYTES].copy_from_slice(&header.encode());
    out[CHUNK_HEADER_BYTES..].copy_from_slice(&offset.to_be_bytes());
    out
}

/// Appends a chunk that says that `length` bytes from `offset` are zeros.
pub fn put_hole(out: &mut Vec<u8>, cookie: u64, flags: u16, offset: u64, length: u32) {
    let header = ChunkHeader { flags, kind: chunk::OFFSET_HOLE, cookie, length: 12 };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
}

/// Appends a last chunk with an error; the message is cut at 1024 bytes.
pub fn put_error(out: &mut Vec<u8>, cookie: u64, error: u32, message: &str) {
    let message = &message[..message.floor_char_boundary(1024)];
    let length = u16::try_from(message.len()).expect("it was cut");
    let header =
        ChunkHeader { flags: chunk::DONE, kind: chunk::ERROR, cookie, length: 6 + u32::from(length) };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&error.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message.as_bytes());
}

/// Reads the payload of an error chunk: the error and the message.
///
/// # Errors
/// When it is too short, or its message is no UTF-8.
pub fn read_error(payload: &[u8]) -> Result<(u32, &str), Malformed> {
    let mut reader = Reader::new(payload);
    let error = reader.u32()?;
    let length = usize::from(reader.u16()?);
    let message = std::str::from_utf8(reader.bytes(length)?);
    Ok((error, message.map_err(|_| Malformed("an error's message is no UTF-8"))?))
}

/// A run of bytes of which a metadata context says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusExtent {
    /// How long it is; not 0.
    pub bytes: u32,
    /// What the context says.
    pub status: u32,
}

/// Appends a chunk with the extents that a context has, in order, from the request's offset on.
pub fn put_status(out: &mut Vec<u8>, cookie: u64, flags: u16, context: u32, extents: &[StatusExtent]) {
    let length = u32::try_from(4 + 8 * extents.len()).expect("extents are bounded");
    let header = ChunkHeader { flags, kind: chunk::BLOCK_STATUS, cookie, length };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&context.to_be_bytes());
    for extent in extents {
        out.extend_from_slice(&extent.bytes.to_be_bytes());
        out.extend_from_slice(&extent.status.to_be_bytes());
    }
}

/// Reads the payload of a status chunk: the context's number and its extents.
///
/// # Errors
/// When its length is not that of a list of extents.
pub fn read_status(payload: &[u8]) -> Result<(u32, Vec<StatusExtent>), Malformed> {
    let mut reader = Reader::new(payload);
    let context = reader.u32()?;
    let mut extents = Vec::new();
    while !reader.rest().is_empty() {
        extents.push(StatusExtent { bytes: reader.u32()?, status: reader.u32()? });
    }
    Ok((context, extents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        let request = Request { flags: 5, command: 7, cookie: u64::MAX - 1, offset: 1 << 40, length: 4096 };
        assert_eq!(Request::decode(&request.encode()), Ok(request));
        let reply = SimpleReply { error: 28, cookie: 9 };
        assert_eq!(SimpleReply::decode(&reply.encode()), Ok(reply));
        let header = ChunkHeader { flags: chunk::DONE, kind: chunk::ERROR, cookie: 3, length: 6 };
        assert_eq!(ChunkHeader::decode(&header.encode()), Ok(header));
        let mut out = Vec::new();
        put_error(&mut out, 1, 5, "no such luck");
        assert_eq!(read_error(&out[CHUNK_HEADER_BYTES..]), Ok((5, "no such luck")));
        let extents = [StatusExtent { bytes: 512, status: 3 }, StatusExtent { bytes: 4096, status: 0 }];
        out.clear();
        put_status(&mut out, 1, chunk::DONE, 77, &extents);
        assert_eq!(read_status(&out[CHUNK_HEADER_BYTES..]), Ok((77, extents.to_vec())));
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let request = Request { flags: 1, command: command::WRITE, cookie: 2, offset: 3, length: 4 };
        let mut expected = vec![0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4]);
        assert_eq!(request.encode()[..], expected);
        let header = data_header(2, chunk::DONE, 3, 4);
        let mut expected = vec![0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 12];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(header[..], expected);
    }

    #[test]
    fn what_is_wrong_or_short_is_refused() {
        assert!(Request::decode(&[0; REQUEST_BYTES]).is_err());
        assert!(SimpleReply::decode(&[0; SIMPLE_REPLY_BYTES]).is_err());
        assert!(ChunkHeader::decode(&[0; CHUNK_HEADER_BYTES]).is_err());
        assert!(read_error(&[0, 0, 0, 5, 0, 9, b'x']).is_err());
        assert!(read_status(&[0, 0, 0, 5, 0, 0, 0, 1]).is_err());
    }
}
