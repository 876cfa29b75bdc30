//! The handshake: greeting, options and their replies.

use super::reader::{Malformed, Reader, put_string, text};

/// The first eight bytes of a server.
pub const MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// The next eight, and the first of every option.
pub const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// The first eight of every reply to an option.
pub const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Bytes of the greeting.
pub const GREETING_BYTES: usize = 18;
/// Bytes of the client's flags, its first words.
pub const CLIENT_FLAGS_BYTES: usize = 4;
/// Bytes before an option's data.
pub const OPTION_HEADER_BYTES: usize = 16;
/// Bytes before an option reply's data.
pub const REPLY_HEADER_BYTES: usize = 20;
/// Zeros after the answer to `EXPORT_NAME`, unless both sides said `NO_ZEROES`.
pub const EXPORT_NAME_ZEROES: usize = 124;

/// Flags of the greeting, and of the client's answer to it.
pub mod flags {
    /// Options are answered, unknown ones too.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// No 124 zeros after the answer to `EXPORT_NAME`.
    pub const NO_ZEROES: u16 = 2;
}

/// Option numbers.
pub mod option {
    /// Take this export or be disconnected.
    pub const EXPORT_NAME: u32 = 1;
    /// End the handshake.
    pub const ABORT: u32 = 2;
    /// Which exports are there?
    pub const LIST: u32 = 3;
    /// From here on TLS.
    pub const STARTTLS: u32 = 5;
    /// What is this export?
    pub const INFO: u32 = 6;
    /// Take this export.
    pub const GO: u32 = 7;
    /// Replies in chunks.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Which metadata contexts are there?
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Use these metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
    /// Requests and replies with 64-bit lengths.
    pub const EXTENDED_HEADERS: u32 = 11;
    /// firn's own: from here on whatever the client's earlier connections still hold is not done any more. A server
    /// that does not know it says so, as with every option.
    pub const FENCE: u32 = u32::from_be_bytes(*b"firn");
}

/// Kinds of replies to an option.
pub mod reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export's name.
    pub const SERVER: u32 = 2;
    /// Something about an export.
    pub const INFO: u32 = 3;
    /// A metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// From here on the kinds are errors.
    pub const ERRORS: u32 = 1 << 31;
    /// The option is not known.
    pub const ERR_UNSUP: u32 = ERRORS | 1;
    /// The server does not want it.
    pub const ERR_POLICY: u32 = ERRORS | 2;
    /// The option's data is not right.
    pub const ERR_INVALID: u32 = ERRORS | 3;
    /// Not on this platform.
    pub const ERR_PLATFORM: u32 = ERRORS | 4;
    /// Not without TLS.
    pub const ERR_TLS_REQD: u32 = ERRORS | 5;
    /// No such export.
    pub const ERR_UNKNOWN: u32 = ERRORS | 6;
    /// The server is about to end.
    pub const ERR_SHUTDOWN: u32 = ERRORS | 7;
    /// The client must ask for block sizes.
    pub const ERR_BLOCK_SIZE_REQD: u32 = ERRORS | 8;
    /// The option's data is too long.
    pub const ERR_TOO_BIG: u32 = ERRORS | 9;
    /// Not besides extended headers, or not without them.
    pub const ERR_EXT_HEADER_REQD: u32 = ERRORS | 10;
}

/// Kinds of information about an export.
pub mod info {
    /// Its size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Its name.
    pub const NAME: u16 = 1;
    /// Its description.
    pub const DESCRIPTION: u16 = 2;
    /// Its block sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub mod transmission_flags {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `FLUSH` is understood.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The flag `FUA` is understood.
    pub const SEND_FUA: u16 = 1 << 3;
    /// Better read in order.
    pub const ROTATIONAL: u16 = 1 << 4;
    /// `TRIM` is understood.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` is understood.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The flag `DF` is understood.
    pub const SEND_DF: u16 = 1 << 7;
    /// Several connections are coherent.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// `CACHE` is understood.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// The flag `FAST_ZERO` is understood.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// The data of `FENCE`: who connects, and how often it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// What the client drew at random; nobody else knows it.
    pub client: [u8; 16],
    /// The number of this connection, of which there is one at a time: it rises with each.
    pub connection: u64,
}

/// Bytes of a [`Fence`]: the client, then the connection, big-endian.
pub const FENCE_BYTES: usize = 24;

impl Fence {
    /// The option's data.
    pub fn encode(&self) -> [u8; FENCE_BYTES] {
        let mut out = [0; FENCE_BYTES];
        out[..16].copy_from_slice(&self.client);
        out[16..].copy_from_slice(&self.connection.to_be_bytes());
        out
    }

    /// Reads the option's data.
    ///
    /// # Errors
    /// When it has another length.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        let (Some(&client), Some(connection), FENCE_BYTES) =
            (data.first_chunk(), data.last_chunk(), data.len())
        else {
            return Err(Malformed("a fence has 24 bytes"));
        };
        Ok(Self { client, connection: u64::from_be_bytes(*connection) })
    }
}

/// The server's first words, with its flags.
pub fn greeting(flags: u16) -> [u8; GREETING_BYTES] {
    let mut out = [0; GREETING_BYTES];
    out[..8].copy_from_slice(&MAGIC.to_be_bytes());
    out[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
    out[16..].copy_from_slice(&flags.to_be_bytes());
    out
}

/// Reads a greeting and gives the server's flags.
///
/// # Errors
/// When it is not that of a newstyle server.
pub fn read_greeting(bytes: &[u8; GREETING_BYTES]) -> Result<u16, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.u64()? != MAGIC {
        return Err(Malformed("this is no NBD server"));
    }
    if reader.u64()? != OPTION_MAGIC {
        return Err(Malformed("the server speaks the old handshake"));
    }
    reader.u16()
}

/// The client's answer to the greeting.
pub fn client_flags(flags: u16) -> [u8; CLIENT_FLAGS_BYTES] {
    u32::from(flags).to_be_bytes()
}

/// What comes before an option's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// Which: see [`option`].
    pub option: u32,
    /// Bytes of data that follow.
    pub length: u32,
}

impl OptionHeader {
    /// Reads it.
    ///
    /// # Errors
    /// When it does not start with the option magic.
    pub fn decode(bytes: &[u8; OPTION_HEADER_BYTES]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u64()? != OPTION_MAGIC {
            return Err(Malformed("an option starts with a wrong magic"));
        }
        Ok(Self { option: reader.u32()?, length: reader.u32()? })
    }
}

/// Appends an option. Panics with 4 GiB of data and more.
pub fn put_option(out: &mut Vec<u8>, option: u32, data: &[u8]) {
    out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&u32::try_from(data.len()).expect("options are short").to_be_bytes());
    out.extend_from_slice(data);
}

/// What comes before an option reply's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The option that is answered.
    pub option: u32,
    /// Which reply: see [`reply`].
    pub kind: u32,
    /// Bytes of data that follow.
    pub length: u32,
}

impl ReplyHeader {
    /// Reads it.
    ///
    /// # Errors
    /// When it does not start with the reply magic.
    pub fn decode(bytes: &[u8; REPLY_HEADER_BYTES]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u64()? != REPLY_MAGIC {
            return Err(Malformed("an option's reply starts with a wrong magic"));
        }
        Ok(Self { option: reader.u32()?, kind: reader.u32()?, length: reader.u32()? })
    }
}

/// Appends a reply to an option. Panics with 4 GiB of data and more.
pub fn put_reply(out: &mut Vec<u8>, option: u32, kind: u32, data: &[u8]) {
    out.extend_from_slice(&REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u32::try_from(data.len()).expect("replies are short").to_be_bytes());
    out.extend_from_slice(data);
}

/// What `INFO` and `GO` ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportQuery<'a> {
    /// The export's name; empty is the server's default.
    pub name: &'a str,
    /// What the client wants to know besides size and flags: see [`info`].
    pub wanted: Vec<u16>,
}

impl<'a> ExportQuery<'a> {
    /// Reads the data of `INFO` or `GO`.
    ///
    /// # Errors
    /// When lengths and data do not fit each other.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(data);
        let name = reader.string()?;
        let count = reader.u16()?;
        if reader.rest().len() != 2 * usize::from(count) {
            return Err(Malformed("the number of questions is wrong"));
        }
        let wanted = (0..count).map(|_| reader.u16()).collect::<Result<_, _>>()?;
        Ok(Self { name, wanted })
    }

    /// The data of `INFO` or `GO`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, self.name);
        out.extend_from_slice(&u16::try_from(self.wanted.len()).expect("few questions").to_be_bytes());
        self.wanted.iter().for_each(|wanted| out.extend_from_slice(&wanted.to_be_bytes()));
        out
    }
}

/// What `LIST_META_CONTEXT` and `SET_META_CONTEXT` ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextQuery<'a> {
    /// The export's name.
    pub name: &'a str,
    /// Names, or for listing also beginnings of names, of contexts.
    pub queries: Vec<&'a str>,
}

impl<'a> ContextQuery<'a> {
    /// Reads the data of the option.
    ///
    /// # Errors
    /// When lengths and data do not fit each other.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(data);
        let name = reader.string()?;
        let count = reader.u32()?;
        let mut queries = Vec::new();
        for _ in 0..count {
            // Each takes four bytes at least, so a count that lies ends here soon.
            queries.push(reader.string()?);
        }
        reader.end()?;
        Ok(Self { name, queries })
    }

    /// The data of the option.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, self.name);
        out.extend_from_slice(&u32::try_from(self.queries.len()).expect("few queries").to_be_bytes());
        self.queries.iter().for_each(|query| put_string(&mut out, query));
        out
    }
}

/// Something about an export: the data of a reply of kind `INFO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// Its size in bytes and what it can do.
    Export {
        /// Size in bytes.
        bytes: u64,
        /// See [`transmission_flags`].
        flags: u16,
    },
    /// Its name.
    Name(String),
    /// Its description, for people.
    Description(String),
    /// What requests should and may be, in bytes.
    BlockSize {
        /// Offsets and lengths are multiples of this.
        minimum: u32,
        /// Multiples of this are fastest.
        preferred: u32,
        /// Longest read or write.
        maximum: u32,
    },
    /// Something that is not known here.
    Other(u16),
}

impl Info {
    /// Reads the data of a reply.
    ///
    /// # Errors
    /// When a known kind has a wrong length or no proper string.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(data);
        let read = match reader.u16()? {
            info::EXPORT => Self::Export { bytes: reader.u64()?, flags: reader.u16()? },
            info::BLOCK_SIZE => {
                Self::BlockSize { minimum: reader.u32()?, preferred: reader.u32()?, maximum: reader.u32()? }
            }
            info::NAME => return Ok(Self::Name(text(reader.rest())?.to_owned())),
            info::DESCRIPTION => return Ok(Self::Description(text(reader.rest())?.to_owned())),
            other => return Ok(Self::Other(other)),
        };
        reader.end()?;
        Ok(read)
    }

    /// The data of a reply.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut kind = |kind: u16| out.extend_from_slice(&kind.to_be_bytes());
        match self {
            Self::Export { bytes, flags } => {
                kind(info::EXPORT);
                out.extend_from_slice(&bytes.to_be_bytes());
                out.extend_from_slice(&flags.to_be_bytes());
            }
            Self::Name(name) => {
                kind(info::NAME);
                out.extend_from_slice(name.as_bytes());
            }
            Self::Description(description) => {
                kind(info::DESCRIPTION);
                out.extend_from_slice(description.as_bytes());
            }
            Self::BlockSize { minimum, preferred, maximum } => {
                kind(info::BLOCK_SIZE);
                for size in [minimum, preferred, maximum] {
                    out.extend_from_slice(&size.to_be_bytes());
                }
            }
            Self::Other(other) => kind(*other),
        }
        out
    }
}

/// Appends the data of a reply of kind `META_CONTEXT`: the number that `BLOCK_STATUS` replies will bear, and the name.
pub fn context(id: u32, name: &str) -> Vec<u8> {
    [&id.to_be_bytes()[..], name.as_bytes()].concat()
}

/// Reads the data of a reply of kind `META_CONTEXT`.
///
/// # Errors
/// When it is too short or its name no proper string.
pub fn read_context(data: &[u8]) -> Result<(u32, &str), Malformed> {
    let mut reader = Reader::new(data);
    Ok((reader.u32()?, text(reader.rest())?))
}

/// The data of a reply of kind `SERVER`: an export's name.
pub fn server(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, name);
    out
}

/// Reads the data of a reply of kind `SERVER`: the name, without what may follow for people.
///
/// # Errors
/// When its length does not fit or it is no proper string.
pub fn read_server(data: &[u8]) -> Result<&str, Malformed> {
    Reader::new(data).string()
}

/// A server's answer to `EXPORT_NAME`, which has no header.
pub fn export_name_answer(bytes: u64, flags: u16, zeroes: bool) -> Vec<u8> {
    let mut out = [&bytes.to_be_bytes()[..], &flags.to_be_bytes()].concat();
    out.resize(out.len() + if zeroes { EXPORT_NAME_ZEROES } else { 0 }, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        assert_eq!(read_greeting(&greeting(3)), Ok(3));
        let mut out = Vec::new();
        put_option(&mut out, option::GO, b"data");
        let header = OptionHeader::decode(out[..OPTION_HEADER_BYTES].first_chunk().expect("whole"));
        assert_eq!(header, Ok(OptionHeader { option: option::GO, length: 4 }));
        out.clear();
        put_reply(&mut out, option::GO, reply::ERR_UNKNOWN, b"text");
        let header = ReplyHeader::decode(out[..REPLY_HEADER_BYTES].first_chunk().expect("whole"));
        assert_eq!(header, Ok(ReplyHeader { option: option::GO, kind: reply::ERR_UNKNOWN, length: 4 }));
        let query = ExportQuery { name: "pg", wanted: vec![info::BLOCK_SIZE, 9] };
        assert_eq!(ExportQuery::decode(&query.encode()), Ok(query));
        let query = ContextQuery { name: "pg", queries: vec!["base:allocation", ""] };
        assert_eq!(ContextQuery::decode(&query.encode()), Ok(query));
        assert_eq!(read_context(&context(7, "base:allocation")), Ok((7, "base:allocation")));
        assert_eq!(read_server(&server("pg")), Ok("pg"));
        let infos = [
            Info::Export { bytes: 1 << 40, flags: 0xffff },
            Info::Name("a".into()),
            Info::Description("what it is".into()),
            Info::BlockSize { minimum: 512, preferred: 4096, maximum: 32 << 20 },
            Info::Other(99),
        ];
        for info in infos {
            assert_eq!(Info::decode(&info.encode()), Ok(info));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = "x".repeat(4097);
        for query in [&b""[..], &[0, 0, 0, 9, b'a'], &[0, 0, 0, 0, 0, 2, 0, 1], &[0, 0, 0, 1, 0, 0, 0]] {
            assert!(ExportQuery::decode(query).is_err(), "{query:?}");
        }
        assert!(ExportQuery::decode(&ExportQuery { name: &long, wanted: vec![] }.encode()).is_err());
        assert!(ExportQuery::decode(&[0, 0, 0, 1, 0xff, 0, 0]).is_err(), "no UTF-8");
        let mut counted = ContextQuery { name: "a", queries: vec!["base:"] }.encode();
        counted[5] = 0xff;
        assert!(ContextQuery::decode(&counted).is_err(), "a count that lies");
        assert!(Info::decode(&[0, 0, 1]).is_err());
        assert!(read_greeting(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0").is_err(), "an old server");
    }
}
