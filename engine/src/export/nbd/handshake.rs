//! The server's side of the handshake, as a state machine over bytes: it reads no socket and asks only [`Exports`].
//!
//! 1. Whatever arrives, it answers as the protocol says, or ends; it never panics.
//! 2. It keeps at most one option of 64 KiB; the data of a longer one is passed over and answered with an error.
//! 3. What was negotiated before TLS is forgotten: somebody else may have said it.
//! 4. Where TLS is required, nothing about exports is said without.
//!
//! *flags* -> *options* -(`EXPORT_NAME`, `GO`)-> entered; -(`ABORT`, too many options, a wrong magic)-> ended;
//! -(`STARTTLS`)-> *options* again, inside TLS. *passing over* is within *options*, for an option that is too long.

use super::offer::{ExportInfo, Exports, LISTED_MAX};
use super::protocol::handshake::{
    CLIENT_FLAGS_BYTES, ContextQuery, ExportQuery, Fence, Info, OPTION_HEADER_BYTES, OptionHeader, context,
    export_name_answer, flags, greeting, info, option, put_reply, reply, server, transmission_flags,
};
use super::protocol::transmission::Mode;
use super::protocol::{Malformed, STRING_BYTES_MAX};
use crate::error::{Error, Kind};

/// Longest data of an option.
const OPTION_BYTES_MAX: u32 = 64 << 10;
/// Options in one handshake; who wants more has no use for any.
const OPTIONS_MAX: u32 = 1024;
/// Contexts that a connection may choose.
const CONTEXTS_MAX: usize = 64;
/// Offsets and lengths are multiples of this.
const BLOCK_BYTES_MINIMUM: u32 = 512;
/// The engine's own block.
const BLOCK_BYTES_PREFERRED: u32 = 4096;
/// Longest read or write.
pub(super) const PAYLOAD_BYTES_MAX: u32 = 32 << 20;

/// What there is of TLS on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsState {
    /// There is none to be had.
    Absent,
    /// The client may ask for it.
    Offered,
    /// The client has to ask for it.
    Required,
    /// It is spoken.
    Established,
}

/// What comes of the bytes so far.
#[derive(Debug)]
pub enum Step<T> {
    /// More bytes are needed.
    More,
    /// Send what is to be sent, then speak TLS, and go on inside it with [`Handshake::established`].
    StartTls,
    /// Send what is to be sent, then close.
    End,
    /// Send what is to be sent; what the client sends from here on are requests.
    Enter(Entered<T>),
}

/// An export that was chosen, and how it is to be served.
#[derive(Debug)]
pub struct Entered<T> {
    /// What [`Exports::open`] gave.
    pub opened: T,
    /// What it is.
    pub info: ExportInfo,
    /// How requests and replies look.
    pub mode: Mode,
    /// The chosen contexts; each has its place here as its number.
    pub contexts: Vec<String>,
    /// Whose earlier connections it ends.
    pub fence: Option<Fence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flags,
    Options,
    /// Bytes of an option's data that are passed over before it is answered.
    PassingOver {
        option: u32,
        left: u32,
    },
}

/// One connection's handshake.
#[derive(Debug)]
pub struct Handshake {
    state: State,
    tls: TlsState,
    zeroes: bool,
    fixed: bool,
    mode: Mode,
    /// The export that contexts were chosen for, and which.
    contexts: Option<(String, Vec<String>)>,
    fence: Option<Fence>,
    options: u32,
}

impl Handshake {
    /// A handshake, and the bytes that begin it.
    pub fn new(tls: TlsState) -> (Self, Vec<u8>) {
        let begun = Self {
            state: State::Flags,
            tls,
            zeroes: true,
            fixed: false,
            mode: Mode::Simple,
            contexts: None,
            fence: None,
            options: 0,
        };
        (begun, greeting(flags::FIXED_NEWSTYLE | flags::NO_ZEROES).to_vec())
    }

    /// The handshake goes on inside TLS (rule 3).
    pub fn established(&mut self) {
        self.tls = TlsState::Established;
        self.mode = Mode::Simple;
        self.contexts = None;
        self.fence = None;
    }

    /// Takes bytes from the front of `input`, as many as it can use, and appends what is to be sent to `out`. Returns
    /// how many it took: at most one option's, so that the caller can wait until an answer is sent before it
    /// comes again.
    pub fn advance<E: Exports>(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        exports: &E,
    ) -> (usize, Step<E::Opened>) {
        match self.state {
            State::Flags => self.client_flags(input),
            State::PassingOver { option, left } => {
                let here = u32::try_from(input.len()).unwrap_or(u32::MAX).min(left);
                self.state = State::PassingOver { option, left: left - here };
                if left == here {
                    self.state = State::Options;
                    put_reply(out, option, reply::ERR_TOO_BIG, b"the option's data is too long");
                }
                (usize::try_from(here).unwrap_or(0), Step::More)
            }
            State::Options => self.option(input, out, exports),
        }
    }

    fn client_flags<T>(&mut self, input: &[u8]) -> (usize, Step<T>) {
        let Some(&bytes) = input.first_chunk::<CLIENT_FLAGS_BYTES>() else { return (0, Step::More) };
        let said = u32::from_be_bytes(bytes);
        if said & !u32::from(flags::FIXED_NEWSTYLE | flags::NO_ZEROES) != 0 {
            return (CLIENT_FLAGS_BYTES, Step::End);
        }
        self.fixed = said & u32::from(flags::FIXED_NEWSTYLE) != 0;
        self.zeroes = said & u32::from(flags::NO_ZEROES) == 0;
        self.state = State::Options;
        (CLIENT_FLAGS_BYTES, Step::More)
    }

    fn option<E: Exports>(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        exports: &E,
    ) -> (usize, Step<E::Opened>) {
        let Some(header) = input.first_chunk::<OPTION_HEADER_BYTES>() else { return (0, Step::More) };
        let Ok(header) = OptionHeader::decode(header) else { return (OPTION_HEADER_BYTES, Step::End) };
        if header.length > OPTION_BYTES_MAX {
            self.options += 1;
            let must_end = header.option == option::EXPORT_NAME || self.options > OPTIONS_MAX || !self.fixed;
            self.state = State::PassingOver { option: header.option, left: header.length };
            return (OPTION_HEADER_BYTES, if must_end { Step::End } else { Step::More });
        }
        let length = usize::try_from(header.length).expect("at most 64 KiB");
        let Some(data) = input.get(OPTION_HEADER_BYTES..OPTION_HEADER_BYTES + length) else {
            return (0, Step::More);
        };
        self.options += 1;
        let taken = OPTION_HEADER_BYTES + length;
        // A client of the unfixed handshake can't read an answer.
        if self.options > OPTIONS_MAX || !self.fixed && header.option != option::EXPORT_NAME {
            return (taken, Step::End);
        }
        (taken, self.answer(header.option, data, out, exports))
    }

    fn answer<E: Exports>(
        &mut self,
        option: u32,
        data: &[u8],
        out: &mut Vec<u8>,
        exports: &E,
    ) -> Step<E::Opened> {
        let mut answer = Answer { option, out };
        match option {
            option::ABORT => {
                answer.done();
                return Step::End;
            }
            option::STARTTLS => return self.start_tls(data, &mut answer),
            option::EXPORT_NAME if self.tls == TlsState::Required || self.mode == Mode::Extended => {
                // Its answer can't be a refusal.
                return Step::End;
            }
            _ if self.tls == TlsState::Required => {
                answer.refuse(reply::ERR_TLS_REQD, "this server speaks TLS only");
            }
            option::EXPORT_NAME => return self.export_name(data, &mut answer, exports),
            option::INFO | option::GO => return self.info(data, &mut answer, exports),
            option::LIST => list(data, &mut answer, exports),
            option::STRUCTURED_REPLY | option::EXTENDED_HEADERS if !data.is_empty() => {
                answer.refuse(reply::ERR_INVALID, "this option has no data");
            }
            option::STRUCTURED_REPLY if self.mode == Mode::Extended => {
                answer.refuse(reply::ERR_EXT_HEADER_REQD, "extended headers were chosen already");
            }
            option::STRUCTURED_REPLY => {
                self.mode = Mode::Structured;
                answer.done();
            }
            option::EXTENDED_HEADERS => {
                self.mode = Mode::Extended;
                answer.done();
            }
            option::FENCE => match Fence::decode(data) {
                Ok(fence) => {
                    self.fence = Some(fence);
                    answer.done();
                }
                Err(malformed) => answer.malformed(malformed),
            },
            option::LIST_META_CONTEXT => self.list_contexts(data, &mut answer, exports),
            option::SET_META_CONTEXT => self.set_contexts(data, &mut answer, exports),
            _ => answer.refuse(reply::ERR_UNSUP, "this option is not known here"),
        }
        Step::More
    }

    fn start_tls<T>(&self, data: &[u8], answer: &mut Answer<'_>) -> Step<T> {
        match self.tls {
            _ if !data.is_empty() => answer.refuse(reply::ERR_INVALID, "this option has no data"),
            TlsState::Absent => answer.refuse(reply::ERR_POLICY, "this server has no certificate"),
            TlsState::Established => answer.refuse(reply::ERR_INVALID, "this is TLS already"),
            TlsState::Offered | TlsState::Required => {
                answer.done();
                return Step::StartTls;
            }
        }
        Step::More
    }

    fn export_name<E: Exports>(
        &mut self,
        data: &[u8],
        answer: &mut Answer<'_>,
        exports: &E,
    ) -> Step<E::Opened> {
        let Some(name) = name(data) else { return Step::End };
        let Ok((info, opened)) = exports.open(name) else { return Step::End };
        let bytes = export_name_answer(info.bytes, self.transmission_flags(&info), self.zeroes);
        answer.out.extend_from_slice(&bytes);
        self.enter(name, info, opened)
    }

    fn info<E: Exports>(&mut self, data: &[u8], answer: &mut Answer<'_>, exports: &E) -> Step<E::Opened> {
        let query = match ExportQuery::decode(data) {
            Ok(query) => query,
            Err(malformed) => {
                answer.malformed(malformed);
                return Step::More;
            }
        };
        let (info, opened) = match exports.open(query.name) {
            Ok(opened) => opened,
            Err(error) => {
                answer.error(&error);
                return Step::More;
            }
        };
        answer.info(&Info::Export { bytes: info.bytes, flags: self.transmission_flags(&info) });
        answer.info(&Info::BlockSize {
            minimum: BLOCK_BYTES_MINIMUM,
            preferred: BLOCK_BYTES_PREFERRED,
            maximum: PAYLOAD_BYTES_MAX,
        });
        if query.wanted.contains(&info::NAME) {
            answer.info(&Info::Name(info.name.clone()));
        }
        if query.wanted.contains(&info::DESCRIPTION) {
            answer.info(&Info::Description(info.description.clone()));
        }
        answer.done();
        if answer.option == option::GO { self.enter(query.name, info, opened) } else { Step::More }
    }

    fn enter<T>(&mut self, asked: &str, info: ExportInfo, opened: T) -> Step<T> {
        // Contexts that were chosen for another export say nothing of this one.
        let contexts = self.contexts.take().filter(|(name, _)| name == asked).map(|(_, chosen)| chosen);
        let contexts = contexts.unwrap_or_default();
        Step::Enter(Entered { opened, info, mode: self.mode, contexts, fence: self.fence })
    }

    fn transmission_flags(&self, export: &ExportInfo) -> u16 {
        use transmission_flags as flag;
        let mut flags = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA | flag::SEND_CACHE;
        flags |= flag::CAN_MULTI_CONN;
        flags |= if export.read_only {
            flag::READ_ONLY
        } else {
            flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO
        };
        if self.mode >= Mode::Structured { flags | flag::SEND_DF } else { flags }
    }

    fn list_contexts<E: Exports>(&self, data: &[u8], answer: &mut Answer<'_>, exports: &E) {
        let Some((query, known)) = self.contexts(data, answer, exports) else { return };
        let wanted = |name: &String| {
            let is_asked_for =
                |query: &&str| name == query || query.ends_with(':') && name.starts_with(query);
            query.queries.is_empty() || query.queries.iter().any(is_asked_for)
        };
        for name in known.iter().filter(|name| wanted(name)).take(LISTED_MAX) {
            answer.put(reply::META_CONTEXT, &context(0, name));
        }
        answer.done();
    }

    fn set_contexts<E: Exports>(&mut self, data: &[u8], answer: &mut Answer<'_>, exports: &E) {
        // Whatever comes of it, an earlier choice is void.
        self.contexts = None;
        let Some((query, known)) = self.contexts(data, answer, exports) else { return };
        let mut chosen: Vec<String> = Vec::new();
        for asked in &query.queries {
            let is_new = !chosen.iter().any(|name| name == asked);
            chosen.extend(known.iter().find(|name| name == asked).filter(|_| is_new).cloned());
        }
        if chosen.len() > CONTEXTS_MAX {
            return answer.refuse(reply::ERR_TOO_BIG, "at most 64 contexts can be chosen");
        }
        for (id, name) in (0..).zip(&chosen) {
            answer.put(reply::META_CONTEXT, &context(id, name));
        }
        answer.done();
        self.contexts = Some((query.name.to_owned(), chosen));
    }

    /// What was asked, and the contexts that the export has; or nothing, and the refusal is said.
    fn contexts<'a, E: Exports>(
        &self,
        data: &'a [u8],
        answer: &mut Answer<'_>,
        exports: &E,
    ) -> Option<(ContextQuery<'a>, Vec<String>)> {
        if self.mode < Mode::Structured {
            answer.refuse(reply::ERR_INVALID, "contexts need structured replies");
            return None;
        }
        let query = ContextQuery::decode(data).map_err(|malformed| answer.malformed(malformed)).ok()?;
        let known = exports.contexts(query.name).map_err(|error| answer.error(&error)).ok()?;
        Some((query, known))
    }
}

fn list<E: Exports>(data: &[u8], answer: &mut Answer<'_>, exports: &E) {
    if !data.is_empty() {
        return answer.refuse(reply::ERR_INVALID, "this option has no data");
    }
    match exports.names() {
        Ok(names) => {
            names.iter().take(LISTED_MAX).for_each(|name| answer.put(reply::SERVER, &server(name)));
            answer.done();
        }
        Err(error) => answer.error(&error),
    }
}

fn name(data: &[u8]) -> Option<&str> {
    let name = (data.len() <= STRING_BYTES_MAX).then(|| std::str::from_utf8(data).ok())??;
    (!name.contains('\0')).then_some(name)
}

/// Appends replies to one option.
struct Answer<'a> {
    option: u32,
    out: &'a mut Vec<u8>,
}

impl Answer<'_> {
    fn put(&mut self, kind: u32, data: &[u8]) {
        put_reply(self.out, self.option, kind, data);
    }

    fn info(&mut self, info: &Info) {
        self.put(reply::INFO, &info.encode());
    }

    fn done(&mut self) {
        self.put(reply::ACK, &[]);
    }

    fn refuse(&mut self, kind: u32, message: &str) {
        self.put(kind, message.as_bytes());
    }

    fn malformed(&mut self, malformed: Malformed) {
        self.refuse(reply::ERR_INVALID, malformed.0);
    }

    fn error(&mut self, error: &Error) {
        let kind = match error.kind() {
            Kind::NotFound | Kind::Invalid => reply::ERR_UNKNOWN,
            Kind::Unavailable => reply::ERR_SHUTDOWN,
            _ => reply::ERR_POLICY,
        };
        let message = error.to_string();
        self.refuse(kind, &message[..message.floor_char_boundary(STRING_BYTES_MAX)]);
    }
}
