//! The client's side of the handshake, up to the first request.

use std::io::Read;

use super::super::protocol::Malformed;
use super::super::protocol::handshake::{
    self, ContextQuery, ExportQuery, GREETING_BYTES, Info, REPLY_HEADER_BYTES, ReplyHeader, flags, info,
    option, reply, transmission_flags,
};
use super::connection::{OpenError, ReadHalf, WriteHalf};
use super::route::Route;
use super::uri::Uri;
use crate::error::{Error, Kind};

/// The metadata context that tells holes from data.
const ALLOCATION: &str = "base:allocation";
/// Longest data of an option's reply that is read.
const REPLY_BYTES_MAX: u32 = 64 << 10;
/// Most replies to one option.
const REPLIES_MAX: usize = 64;
/// The longest request where the server does not say (the protocol document's figure).
const MAXIMUM_UNSAID: u32 = 32 << 20;

/// What an export is. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Its size.
    pub bytes: u64,
    /// What it can do: the flags of the protocol.
    pub flags: u16,
    /// Offsets and lengths are multiples of this.
    pub minimum: u32,
    /// Multiples of this are fastest.
    pub preferred: u32,
    /// Longest read or write.
    pub maximum: u32,
    /// The server's words for it; firn's names the volume's identity.
    pub description: Option<String>,
    /// The number under which the server tells holes from data, where it does.
    pub allocation: Option<u32>,
}

impl Export {
    /// Writes are refused.
    pub const READ_ONLY: u16 = transmission_flags::READ_ONLY;
    /// Writes can be durable at once.
    pub const SEND_FUA: u16 = transmission_flags::SEND_FUA;
    /// Flush is understood.
    pub const SEND_FLUSH: u16 = transmission_flags::SEND_FLUSH;
    /// Trim is understood.
    pub const SEND_TRIM: u16 = transmission_flags::SEND_TRIM;
    /// Write zeroes is understood.
    pub const SEND_WRITE_ZEROES: u16 = transmission_flags::SEND_WRITE_ZEROES;
    /// Several connections see one another's writes and flushes.
    pub const CAN_MULTI_CONN: u16 = transmission_flags::CAN_MULTI_CONN;

    /// Whether a flag is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Whether requests for `before` may go to what the server has under its name now.
    pub(super) fn is_still(&self, before: &Self) -> bool {
        self.description == before.description
            && self.minimum <= before.minimum
            && self.maximum >= before.maximum
            && self.allocation.is_some() >= before.allocation.is_some()
            && before.flags & !self.flags & (Self::SEND_FLUSH | Self::CAN_MULTI_CONN) == 0
    }

    /// Says so when they may not.
    pub(super) fn check_still(&self, before: &Self, uri: &Uri) -> Result<(), Error> {
        if self.is_still(before) {
            return Ok(());
        }
        let what = |export: &Self| export.description.clone().unwrap_or_else(|| "something".to_owned());
        let detail = format!("{uri} is not what it was: it was {}, it is {} now", what(before), what(self));
        Err(Error::new(Kind::Conflict, "connect to NBD server", detail))
    }
}

/// The first words of both.
pub(super) fn greet(from: &mut ReadHalf, to: &mut WriteHalf, uri: &Uri) -> Result<(), OpenError> {
    Hand { from, to, uri }.greet()
}

/// Asks for TLS. What comes next is its handshake.
pub(super) fn start_tls(from: &mut ReadHalf, to: &mut WriteHalf, uri: &Uri) -> Result<(), OpenError> {
    let mut hand = Hand { from, to, uri };
    if !hand.is_granted(option::STARTTLS, &[])? {
        // Never in plain text what was asked to be encrypted.
        let refused = hand.error(Kind::Invalid, "the server does not speak TLS");
        return Err(OpenError::Failed(refused.hint("write nbd instead of nbds to do without")));
    }
    match hand.from.buffer() {
        [] => Ok(()),
        _ => Err(hand.malformed(Malformed("the server went on in plain text after TLS was agreed"))),
    }
}

/// Takes the export.
pub(super) fn negotiate(from: &mut ReadHalf, to: &mut WriteHalf, route: &Route) -> Result<Export, OpenError> {
    let uri = &route.uri;
    let mut hand = Hand { from, to, uri };
    if let Some(fence) = route.next_fence() {
        // A server that does not know it does without.
        hand.is_granted(option::FENCE, &fence.encode())?;
    }
    let export = uri.export.as_str();
    let mut allocation = None;
    if route.is_structured && hand.is_granted(option::STRUCTURED_REPLY, &[])? {
        let query = ContextQuery { name: export, queries: vec![ALLOCATION] };
        allocation = hand.context(&query.encode())?;
    }
    let wanted = vec![info::BLOCK_SIZE, info::DESCRIPTION];
    hand.go(&ExportQuery { name: export, wanted }.encode(), allocation)
}

struct Hand<'a> {
    from: &'a mut ReadHalf,
    to: &'a mut WriteHalf,
    uri: &'a Uri,
}

impl Hand<'_> {
    fn error(&self, kind: Kind, why: impl std::fmt::Display) -> Error {
        Error::new(kind, "connect to NBD server", format!("{}: {why}", self.uri.address))
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], OpenError> {
        let mut bytes = [0; N];
        match self.from.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(source) => Err(self.broken(source)),
        }
    }

    fn broken(&self, source: std::io::Error) -> OpenError {
        OpenError::Failed(self.error(Kind::Unavailable, "the handshake was cut off").source(source))
    }

    fn malformed(&self, why: Malformed) -> OpenError {
        OpenError::Failed(self.error(Kind::Invalid, why))
    }

    fn greet(&mut self) -> Result<(), OpenError> {
        let greeting = self.read::<GREETING_BYTES>()?;
        let offered = handshake::read_greeting(&greeting).map_err(|why| self.malformed(why))?;
        if offered & flags::FIXED_NEWSTYLE == 0 {
            return Err(
                self.malformed(Malformed("the server is too old: it has no fixed newstyle handshake"))
            );
        }
        let answer = handshake::client_flags(offered & (flags::FIXED_NEWSTYLE | flags::NO_ZEROES));
        self.to.send(&answer, &[]).map_err(|source| self.broken(source))
    }

    fn ask(&mut self, option: u32, data: &[u8]) -> Result<(), OpenError> {
        let mut out = Vec::new();
        handshake::put_option(&mut out, option, data);
        self.to.send(&out, &[]).map_err(|source| self.broken(source))
    }

    /// The next reply to `option`: its kind and data.
    fn reply(&mut self, option: u32) -> Result<(u32, Vec<u8>), OpenError> {
        let header = self.read::<REPLY_HEADER_BYTES>()?;
        let header = ReplyHeader::decode(&header).map_err(|why| self.malformed(why))?;
        if header.option != option || header.length > REPLY_BYTES_MAX {
            return Err(
                self.malformed(Malformed("a reply of the handshake is of another option, or too long"))
            );
        }
        let mut data = vec![0; usize::try_from(header.length).unwrap_or_default()];
        self.from.read_exact(&mut data).map_err(|source| self.broken(source))?;
        Ok((header.kind, data))
    }

    /// Asks for something that a server need not have.
    fn is_granted(&mut self, option: u32, data: &[u8]) -> Result<bool, OpenError> {
        self.ask(option, data)?;
        match self.reply(option)? {
            (reply::ACK, _) => Ok(true),
            (kind @ (reply::ERR_TLS_REQD | reply::ERR_SHUTDOWN), data) => Err(self.refusal(kind, &data)),
            (kind, _) if kind >= reply::ERRORS => Ok(false),
            _ => Err(self.malformed(Malformed("a reply of the handshake has an unknown kind"))),
        }
    }

    /// Chooses the metadata context, and gives its number.
    fn context(&mut self, query: &[u8]) -> Result<Option<u32>, OpenError> {
        self.ask(option::SET_META_CONTEXT, query)?;
        let mut chosen = None;
        for _ in 0..REPLIES_MAX {
            match self.reply(option::SET_META_CONTEXT)? {
                (reply::ACK, _) => return Ok(chosen),
                (reply::META_CONTEXT, data) => {
                    let (id, name) = handshake::read_context(&data).map_err(|why| self.malformed(why))?;
                    chosen = (name == ALLOCATION).then_some(id).or(chosen);
                }
                (kind @ reply::ERR_UNKNOWN, data) => return Err(self.refusal(kind, &data)),
                (kind, _) if kind >= reply::ERRORS => return Ok(None),
                _ => break,
            }
        }
        Err(self.malformed(Malformed("the replies to one option don't end")))
    }

    fn go(&mut self, query: &[u8], allocation: Option<u32>) -> Result<Export, OpenError> {
        self.ask(option::GO, query)?;
        let mut export =
            Export { minimum: 1, preferred: 4096, maximum: MAXIMUM_UNSAID, allocation, ..Export::default() };
        for _ in 0..REPLIES_MAX {
            match self.reply(option::GO)? {
                (reply::ACK, _) => return self.sound(export),
                (reply::INFO, data) => match Info::decode(&data).map_err(|why| self.malformed(why))? {
                    Info::Export { bytes, flags } => (export.bytes, export.flags) = (bytes, flags),
                    Info::BlockSize { minimum, preferred, maximum } => {
                        (export.minimum, export.preferred, export.maximum) = (minimum, preferred, maximum);
                    }
                    Info::Description(text) => export.description = Some(text),
                    Info::Name(_) | Info::Other(_) => {}
                },
                (kind, data) if kind >= reply::ERRORS => return Err(self.refusal(kind, &data)),
                _ => break,
            }
        }
        Err(self.malformed(Malformed("the replies to one option don't end")))
    }

    /// Looks at what the server said before anything is computed with it.
    fn sound(&self, export: Export) -> Result<Export, OpenError> {
        if !export.has(transmission_flags::HAS_FLAGS) {
            return Err(self.malformed(Malformed("the server did not say what the export is")));
        }
        if !export.minimum.is_power_of_two() || export.minimum > 64 << 10 || export.maximum < export.minimum {
            return Err(self.malformed(Malformed("the export's block sizes can't be")));
        }
        Ok(export)
    }

    /// What a server's refusal means.
    fn refusal(&self, kind: u32, data: &[u8]) -> OpenError {
        let said = String::from_utf8_lossy(&data[..data.len().min(512)]);
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        let name = &self.uri.export;
        match kind {
            reply::ERR_UNKNOWN => OpenError::Gone(
                self.error(Kind::NotFound, format!("there is no export {name:?}{said}"))
                    .hint("exports are named pg for a volume and pg@before-upgrade for a snapshot"),
            ),
            reply::ERR_TLS_REQD => OpenError::Failed(
                self.error(Kind::Invalid, format!("the server wants TLS{said}"))
                    .hint("write nbds instead of nbd, and ?tls-certificates=DIR at the end of the URI"),
            ),
            reply::ERR_POLICY => {
                OpenError::Failed(self.error(Kind::Unavailable, format!("export {name:?} is refused{said}")))
            }
            reply::ERR_SHUTDOWN => {
                OpenError::Failed(self.error(Kind::Retry, format!("the server is ending{said}")))
            }
            _ => OpenError::Failed(
                self.error(Kind::Invalid, format!("the server refused export {name:?} with {kind:#x}{said}")),
            ),
        }
    }
}
