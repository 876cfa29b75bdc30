//! The transmission phase: requests, simple replies, and replies in chunks.
//!
//! What was negotiated decides how all of them begin: see [`Mode`].

use super::reader::{Malformed, Reader};

/// The first four bytes of a request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// The first four bytes of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// The first four bytes of a chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;
/// The first four bytes of an extended request.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// The first four bytes of a chunk of an extended reply.
pub const EXTENDED_CHUNK_MAGIC: u32 = 0x6e8a_278c;
/// Bytes of a request, without what is written.
pub const REQUEST_BYTES: usize = 28;
/// Bytes of an extended request, without its payload.
pub const EXTENDED_REQUEST_BYTES: usize = 32;
/// Bytes of a simple reply, without what was read.
pub const SIMPLE_REPLY_BYTES: usize = 16;
/// Bytes of a chunk before its payload.
pub const CHUNK_HEADER_BYTES: usize = 20;
/// Bytes of a chunk of an extended reply before its payload.
pub const EXTENDED_CHUNK_HEADER_BYTES: usize = 32;

/// How requests and replies look. Each mode can say what those before it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// A reply is one header, and data after it.
    #[default]
    Simple,
    /// A reply may come in chunks.
    Structured,
    /// All headers have 32 bytes and lengths of 64 bits, and all replies come in chunks.
    Extended,
}

impl Mode {
    /// Bytes of a request before its payload.
    pub fn request_bytes(self) -> usize {
        if self == Self::Extended { EXTENDED_REQUEST_BYTES } else { REQUEST_BYTES }
    }
}

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
    /// Of an extended request: its length is that of a payload, which follows.
    pub const PAYLOAD_LEN: u16 = 1 << 5;
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
    /// A context and its extents, in numbers of 64 bits.
    pub const BLOCK_STATUS_EXT: u16 = 6;
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
    /// Its header is an extended one.
    pub extended: bool,
    /// See [`command_flags`].
    pub flags: u16,
    /// See [`command`].
    pub command: u16,
    /// The client's number for it, which its reply bears.
    pub cookie: u64,
    /// From which byte.
    pub offset: u64,
    /// How many bytes; below 4 GiB unless it is extended.
    pub length: u64,
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
            extended: false,
            flags: reader.u16()?,
            command: reader.u16()?,
            cookie: reader.u64()?,
            offset: reader.u64()?,
            length: reader.u32()?.into(),
        })
    }

    /// Reads an extended one.
    ///
    /// # Errors
    /// When it does not start with the magic of an extended request.
    pub fn decode_extended(bytes: &[u8; EXTENDED_REQUEST_BYTES]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != EXTENDED_REQUEST_MAGIC {
            return Err(Malformed("an extended request starts with a wrong magic"));
        }
        Ok(Self {
            extended: true,
            flags: reader.u16()?,
            command: reader.u16()?,
            cookie: reader.u64()?,
            offset: reader.u64()?,
            length: reader.u64()?,
        })
    }

    /// Bytes that follow the header. A client that forgets [`command_flags::PAYLOAD_LEN`] with a write has sent them all
    /// the same.
    pub fn payload_bytes(&self) -> u64 {
        let is_flagged = self.extended && self.flags & command_flags::PAYLOAD_LEN != 0;
        if self.command == command::WRITE || is_flagged { self.length } else { 0 }
    }

    /// The bytes of its header. Panics with a length of 4 GiB and more in a request that is not extended.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(EXTENDED_REQUEST_BYTES);
        let magic = if self.extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
        out.extend_from_slice(&magic.to_be_bytes());
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&self.command.to_be_bytes());
        out.extend_from_slice(&self.cookie.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        if self.extended {
            out.extend_from_slice(&self.length.to_be_bytes());
        } else {
            let length = u32::try_from(self.length).expect("below 4 GiB");
            out.extend_from_slice(&length.to_be_bytes());
        }
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

    /// Its bytes in an extended reply to a request from `offset`.
    pub fn encode_extended(&self, offset: u64) -> [u8; EXTENDED_CHUNK_HEADER_BYTES] {
        let mut out = [0; EXTENDED_CHUNK_HEADER_BYTES];
        out[..4].copy_from_slice(&EXTENDED_CHUNK_MAGIC.to_be_bytes());
        out[4..6].copy_from_slice(&self.flags.to_be_bytes());
        out[6..8].copy_from_slice(&self.kind.to_be_bytes());
        out[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        out[16..24].copy_from_slice(&offset.to_be_bytes());
        out[24..].copy_from_slice(&u64::from(self.length).to_be_bytes());
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

    /// Reads it in an extended reply; the second value is the request's offset.
    ///
    /// # Errors
    /// When it does not start with the magic of an extended chunk, or its payload is 4 GiB or more.
    pub fn decode_extended(bytes: &[u8; EXTENDED_CHUNK_HEADER_BYTES]) -> Result<(Self, u64), Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != EXTENDED_CHUNK_MAGIC {
            return Err(Malformed("an extended chunk starts with a wrong magic"));
        }
        let (flags, kind, cookie) = (reader.u16()?, reader.u16()?, reader.u64()?);
        let offset = reader.u64()?;
        let length = u32::try_from(reader.u64()?).map_err(|_| Malformed("a chunk is longer than 4 GiB"))?;
        Ok((Self { flags, kind, cookie, length }, offset))
    }
}

/// A run of bytes of which a metadata context says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusExtent {
    /// How long it is; not 0, and below 4 GiB unless the reply is extended.
    pub bytes: u64,
    /// What the context says.
    pub status: u32,
}

/// Writes the chunks of one reply.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    /// The reply is an extended one.
    pub extended: bool,
    /// The request's number.
    pub cookie: u64,
    /// The request's offset.
    pub offset: u64,
}

impl Chunks {
    fn put(&self, out: &mut Vec<u8>, flags: u16, kind: u16, length: u32) {
        let header = ChunkHeader { flags, kind, cookie: self.cookie, length };
        if self.extended {
            out.extend_from_slice(&header.encode_extended(self.offset));
        } else {
            out.extend_from_slice(&header.encode());
        }
    }

    /// Appends a chunk that says nothing, but maybe that it is the last.
    pub fn put_none(&self, out: &mut Vec<u8>, flags: u16) {
        self.put(out, flags, chunk::NONE, 0);
    }

    /// Appends the header of a chunk of `length` bytes of data from `offset`; the data follows it. Panics with 4 GiB and
    /// more.
    pub fn put_data_header(&self, out: &mut Vec<u8>, flags: u16, offset: u64, length: u32) {
        let payload = length.checked_add(8).expect("reads are shorter than 4 GiB by far");
        self.put(out, flags, chunk::OFFSET_DATA, payload);
        out.extend_from_slice(&offset.to_be_bytes());
    }

    /// Appends a chunk that says that `length` bytes from `offset` are zeros.
    pub fn put_hole(&self, out: &mut Vec<u8>, flags: u16, offset: u64, length: u32) {
        self.put(out, flags, chunk::OFFSET_HOLE, 12);
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
    }

    /// Appends a last chunk with an error; the message is cut at 1024 bytes.
    pub fn put_error(&self, out: &mut Vec<u8>, error: u32, message: &str) {
        let message = &message[..message.floor_char_boundary(1024)];
        let length = u16::try_from(message.len()).expect("it was cut");
        self.put(out, chunk::DONE, chunk::ERROR, 6 + u32::from(length));
        out.extend_from_slice(&error.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(message.as_bytes());
    }

    /// Appends a chunk with the extents that a context has, in order, from the request's offset on. Panics with an extent
    /// of 4 GiB and more in a reply that is not extended: no request for it is that long.
    pub fn put_status(&self, out: &mut Vec<u8>, flags: u16, context: u32, extents: &[StatusExtent]) {
        let count = u32::try_from(extents.len()).expect("extents are bounded");
        if self.extended {
            self.put(out, flags, chunk::BLOCK_STATUS_EXT, 8 + 16 * count);
            out.extend_from_slice(&context.to_be_bytes());
            out.extend_from_slice(&count.to_be_bytes());
        } else {
            self.put(out, flags, chunk::BLOCK_STATUS, 4 + 8 * count);
            out.extend_from_slice(&context.to_be_bytes());
        }
        for extent in extents {
            if self.extended {
                out.extend_from_slice(&extent.bytes.to_be_bytes());
                out.extend_from_slice(&u64::from(extent.status).to_be_bytes());
            } else {
                let bytes = u32::try_from(extent.bytes).expect("no longer than the request");
                out.extend_from_slice(&bytes.to_be_bytes());
                out.extend_from_slice(&extent.status.to_be_bytes());
            }
        }
    }
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

/// Reads the payload of a status chunk: the context's number and its extents.
///
/// # Errors
/// When its length is not that of a list of extents.
pub fn read_status(payload: &[u8]) -> Result<(u32, Vec<StatusExtent>), Malformed> {
    let mut reader = Reader::new(payload);
    let context = reader.u32()?;
    let mut extents = Vec::new();
    while !reader.rest().is_empty() {
        extents.push(StatusExtent { bytes: reader.u32()?.into(), status: reader.u32()? });
    }
    Ok((context, extents))
}

/// Reads the payload of a status chunk of an extended reply: the context's number and its extents.
///
/// # Errors
/// When its length is not that of as many extents as it says, or a status has more than 32 bits.
pub fn read_status_extended(payload: &[u8]) -> Result<(u32, Vec<StatusExtent>), Malformed> {
    let mut reader = Reader::new(payload);
    let (context, count) = (reader.u32()?, reader.u32()?);
    let mut extents = Vec::new();
    while !reader.rest().is_empty() {
        let (bytes, status) = (reader.u64()?, reader.u64()?);
        let status = u32::try_from(status).map_err(|_| Malformed("a status has more than 32 bits"))?;
        extents.push(StatusExtent { bytes, status });
    }
    if u32::try_from(extents.len()) != Ok(count) {
        return Err(Malformed("the number of extents is wrong"));
    }
    Ok((context, extents))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS: Chunks = Chunks { extended: false, cookie: 2, offset: 3 };

    fn extended() -> Chunks {
        Chunks { extended: true, ..CHUNKS }
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let request = Request {
            extended: false,
            flags: 5,
            command: 7,
            cookie: u64::MAX - 1,
            offset: 1 << 40,
            length: 4096,
        };
        assert_eq!(Request::decode(request.encode().first_chunk().expect("whole")), Ok(request));
        let long = Request { extended: true, length: 1 << 50, ..request };
        assert_eq!(Request::decode_extended(long.encode().first_chunk().expect("whole")), Ok(long));
        let reply = SimpleReply { error: 28, cookie: 9 };
        assert_eq!(SimpleReply::decode(&reply.encode()), Ok(reply));
        let header = ChunkHeader { flags: chunk::DONE, kind: chunk::ERROR, cookie: 3, length: 6 };
        assert_eq!(ChunkHeader::decode(&header.encode()), Ok(header));
        assert_eq!(ChunkHeader::decode_extended(&header.encode_extended(77)), Ok((header, 77)));
        let mut out = Vec::new();
        CHUNKS.put_error(&mut out, 5, "no such luck");
        assert_eq!(read_error(&out[CHUNK_HEADER_BYTES..]), Ok((5, "no such luck")));
        let mut extents = [StatusExtent { bytes: 512, status: 3 }, StatusExtent { bytes: 4096, status: 0 }];
        out.clear();
        CHUNKS.put_status(&mut out, chunk::DONE, 77, &extents);
        assert_eq!(read_status(&out[CHUNK_HEADER_BYTES..]), Ok((77, extents.to_vec())));
        out.clear();
        extents[1].bytes = 1 << 40;
        extended().put_status(&mut out, chunk::DONE, 77, &extents);
        let payload = &out[EXTENDED_CHUNK_HEADER_BYTES..];
        assert_eq!(read_status_extended(payload), Ok((77, extents.to_vec())));
        assert!(read_status_extended(&payload[..payload.len() - 16]).is_err(), "one is missing");
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let request =
            Request { extended: false, flags: 1, command: command::WRITE, cookie: 2, offset: 3, length: 4 };
        let middle = [0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3];
        let expected = [&[0x25, 0x60, 0x95, 0x13], &middle[..], &[0, 0, 0, 4]].concat();
        assert_eq!(request.encode(), expected);
        let expected = [&[0x21, 0xe4, 0x1c, 0x71], &middle[..], &[0, 0, 0, 0, 0, 0, 0, 4]].concat();
        assert_eq!(Request { extended: true, ..request }.encode(), expected);
        let mut out = Vec::new();
        CHUNKS.put_data_header(&mut out, chunk::DONE, 5, 4);
        let expected = [&[0x66, 0x8e, 0x33, 0xef], &middle[..12], &[0, 0, 0, 12], &[0, 0, 0, 0, 0, 0, 0, 5]];
        assert_eq!(out, expected.concat());
        out.clear();
        extended().put_data_header(&mut out, chunk::DONE, 5, 4);
        let length_and_place = [0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 5];
        assert_eq!(out, [&[0x6e, 0x8a, 0x27, 0x8c], &middle[..], &length_and_place].concat());
        out.clear();
        extended().put_status(&mut out, chunk::DONE, 7, &[StatusExtent { bytes: 9, status: 3 }]);
        let head = [0x6e, 0x8a, 0x27, 0x8c, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3];
        let length_context_count = [0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 7, 0, 0, 0, 1];
        let extent = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3];
        assert_eq!(out, [&head[..], &length_context_count, &extent].concat());
    }

    #[test]
    fn only_an_extended_request_has_a_payload_besides_writes() {
        let request = |extended, command, flags| {
            Request { extended, flags, command, cookie: 1, offset: 0, length: 512 }.payload_bytes()
        };
        let flag = command_flags::PAYLOAD_LEN;
        assert_eq!(request(false, command::WRITE, 0), 512);
        assert_eq!(request(false, command::TRIM, flag), 0);
        assert_eq!(request(true, command::TRIM, 0), 0);
        assert_eq!(request(true, command::TRIM, flag), 512);
        assert_eq!(request(true, command::WRITE, 0), 512, "the flag was forgotten");
    }

    #[test]
    fn what_is_wrong_or_short_is_refused() {
        assert!(Request::decode(&[0; REQUEST_BYTES]).is_err());
        assert!(Request::decode_extended(&[0; EXTENDED_REQUEST_BYTES]).is_err());
        assert!(SimpleReply::decode(&[0; SIMPLE_REPLY_BYTES]).is_err());
        assert!(ChunkHeader::decode(&[0; CHUNK_HEADER_BYTES]).is_err());
        assert!(ChunkHeader::decode_extended(&[0; EXTENDED_CHUNK_HEADER_BYTES]).is_err());
        assert!(read_error(&[0, 0, 0, 5, 0, 9, b'x']).is_err());
        assert!(read_status(&[0, 0, 0, 5, 0, 0, 0, 1]).is_err());
        assert!(read_status_extended(&[0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1]).is_err());
    }
}
