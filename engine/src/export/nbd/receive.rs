//! What a connection has received: requests out of a stream of bytes, with what is written left where it arrived.
//!
//! 1. A request that is not there in whole does nothing.
//! 2. What a small write carries stays in the buffer it was received into, and the engine copies it from there. A
//!    buffer is filled again only when nobody holds a part of it.
//! 3. What a large write carries is received into memory of its own, for which the caller is asked first, and which the
//!    caller gives; while large writes follow each other, the headers between them are received by themselves.
//! 4. The payload that any other extended request may have is received as a write's, so that what follows it is
//!    understood.

use std::io;

use super::handshake::PAYLOAD_BYTES_MAX;
use super::protocol::Malformed;
use super::protocol::transmission::{EXTENDED_REQUEST_BYTES, Mode, REQUEST_BYTES, Request};
use crate::sys::{BufferPool, MemorySlice, Socket};

/// Size of a buffer.
const BUFFER_BYTES: usize = 128 << 10;
/// Most bytes that a small write carries.
pub(super) const SMALL_BYTES_MAX: u64 = 64 << 10;

/// Gives memory of so many bytes for what a large write carries, and says whether others want it too, so that it is taken
/// back from a client that keeps it waiting.
pub(super) type Give<'a> = &'a dyn Fn(&Request, usize) -> (MemorySlice, bool);

/// What the bytes so far hold.
#[derive(Debug)]
pub(super) enum Next {
    /// No whole request.
    More,
    /// A request, and what it writes.
    Request(Request, Option<MemorySlice>),
    /// The next request needs memory that was not granted.
    NoMemory,
}

/// How a receive went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) bytes: usize,
    /// The socket had no more.
    pub(super) drained: bool,
}

struct Large {
    request: Request,
    data: MemorySlice,
    filled: usize,
    is_wanted: bool,
}

/// A connection's received bytes.
pub(super) struct Receiver {
    mode: Mode,
    buffer: MemorySlice,
    start: usize,
    end: usize,
    large: Option<Large>,
    /// The last write was a large one: the next receive asks for a header only.
    header_only: bool,
}

impl Receiver {
    /// A receiver that begins with what came with the handshake: at most a buffer full.
    pub(super) fn new(pool: &BufferPool, mode: Mode, begun: &[u8]) -> Self {
        let buffer = MemorySlice::new(pool.get(BUFFER_BYTES), 0, BUFFER_BYTES);
        buffer.copy_in(0, begun);
        Self { mode, buffer, start: 0, end: begun.len(), large: None, header_only: false }
    }

    /// Whether a large write has begun and is not whole.
    pub(super) fn is_within_large(&self) -> bool {
        self.large.is_some()
    }

    /// Lets go of a large write that is not whole, and says which.
    pub(super) fn give_up(&mut self) -> Option<Request> {
        self.large.take().map(|large| large.request)
    }

    /// Goes on in memory that nobody else wants.
    pub(super) fn make_way(&mut self, pool: &BufferPool) {
        let Some(large) = self.large.as_mut().filter(|large| large.is_wanted) else { return };
        let data = MemorySlice::new(pool.get(large.data.len()), 0, large.data.len());
        data.copy_in(0, large.data.bytes(0, large.filled));
        (large.data, large.is_wanted) = (data, false);
    }

    /// Receives once.
    pub(super) fn receive(&mut self, socket: &Socket, pool: &BufferPool) -> io::Result<Received> {
        self.make_room(pool);
        let room = self.buffer.len() - self.end;
        let header_bytes = self.mode.request_bytes();
        let header = header_bytes - (self.end - self.start).min(header_bytes);
        if let Some(large) = &mut self.large {
            let rest = large.data.slice(large.filled, large.data.len() - large.filled);
            let after = self.buffer.slice(self.end, header_bytes);
            let bytes = socket.receive(&[&rest, &after])?;
            let own = bytes.min(rest.len());
            large.filled += own;
            self.end += bytes - own;
            return Ok(Received { bytes, drained: bytes < rest.len() + header_bytes });
        }
        let asked = if self.header_only && header > 0 { header } else { room };
        let bytes = socket.receive(&[&self.buffer.slice(self.end, asked)])?;
        self.end += bytes;
        Ok(Received { bytes, drained: bytes < asked })
    }

    /// Sees to it that the largest small request fits behind what is there.
    fn make_room(&mut self, pool: &BufferPool) {
        let needed = self.mode.request_bytes() + usize::try_from(SMALL_BYTES_MAX).expect("it fits memory");
        let have = self.end - self.start;
        let is_ours = std::sync::Arc::strong_count(self.buffer.memory()) == 1;
        if have == 0 && is_ours {
            (self.start, self.end) = (0, 0);
        } else if self.start + needed > self.buffer.len() {
            let fresh = MemorySlice::new(pool.get(BUFFER_BYTES), 0, BUFFER_BYTES);
            fresh.copy_in(0, self.buffer.bytes(self.start, have));
            (self.buffer, self.start, self.end) = (fresh, 0, have);
        }
    }

    /// Takes the next request. `grant` is asked whether a request may have memory of its own.
    ///
    /// # Errors
    /// When the client has left the protocol: what follows can't be understood.
    pub(super) fn next(
        &mut self,
        give: Give<'_>,
        grant: &mut dyn FnMut(&Request) -> bool,
    ) -> Result<Next, Malformed> {
        if let Some(large) = self.large.take_if(|large| large.filled == large.data.len()) {
            self.header_only = true;
            return Ok(Next::Request(large.request, Some(large.data)));
        }
        let have = self.end - self.start;
        let header_bytes = self.mode.request_bytes();
        if self.large.is_some() || have < header_bytes {
            return Ok(Next::More);
        }
        let header = self.buffer.bytes(self.start, header_bytes);
        let request = match self.mode {
            Mode::Extended => {
                let header: &[u8; EXTENDED_REQUEST_BYTES] = header.first_chunk().expect("as long as asked");
                Request::decode_extended(header)?
            }
            Mode::Simple | Mode::Structured => {
                let header: &[u8; REQUEST_BYTES] = header.first_chunk().expect("as long as asked");
                Request::decode(header)?
            }
        };
        if request.payload_bytes() > 0 {
            return self.next_with_payload(give, request, have - header_bytes, grant);
        }
        if !grant(&request) {
            return Ok(Next::NoMemory);
        }
        self.start += header_bytes;
        self.header_only = false;
        Ok(Next::Request(request, None))
    }

    fn next_with_payload(
        &mut self,
        give: Give<'_>,
        request: Request,
        have: usize,
        grant: &mut dyn FnMut(&Request) -> bool,
    ) -> Result<Next, Malformed> {
        if request.length > PAYLOAD_BYTES_MAX.into() {
            return Err(Malformed("a payload is longer than 32 MiB"));
        }
        let length = usize::try_from(request.length).expect("at most 32 MiB");
        let at = self.start + self.mode.request_bytes();
        if request.length <= SMALL_BYTES_MAX {
            if have < length {
                self.header_only = false;
                return Ok(Next::More);
            }
            if !grant(&request) {
                return Ok(Next::NoMemory);
            }
            self.header_only = false;
            self.start = at + length;
            return Ok(Next::Request(request, Some(self.buffer.slice(at, length))));
        }
        if !grant(&request) {
            return Ok(Next::NoMemory);
        }
        let (data, is_wanted) = give(&request, length);
        let filled = have.min(length);
        data.copy_in(0, self.buffer.bytes(at, filled));
        self.start = at + filled;
        self.large = Some(Large { request, data, filled, is_wanted });
        self.next(give, grant)
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::transmission::{command, command_flags};
    use super::*;
    use std::io::IoSlice;

    const MODES: [Mode; 2] = [Mode::Structured, Mode::Extended];

    fn write(mode: Mode, cookie: u64, length: u64) -> Request {
        let (extended, flags) = (mode == Mode::Extended, 0);
        Request { extended, flags, command: command::WRITE, cookie, offset: 4096 * cookie, length }
    }

    fn bytes(request: &Request) -> Vec<u8> {
        let fill = u8::try_from(request.cookie % 251).expect("a byte");
        [request.encode(), vec![fill; usize::try_from(request.payload_bytes()).expect("small")]].concat()
    }

    fn from(pool: &BufferPool) -> impl Fn(&Request, usize) -> (MemorySlice, bool) {
        |_, length| (MemorySlice::new(pool.get(length), 0, length), true)
    }

    /// Sends `stream` in pieces and gives the requests that come out, with what they write still held.
    fn received(mode: Mode, stream: &[u8], piece: usize) -> Vec<(Request, Option<MemorySlice>)> {
        let pool = BufferPool::new(1 << 20);
        let (client, server) = Socket::pair().expect("a pair");
        let mut receiver = Receiver::new(&pool, mode, &[]);
        let mut found = Vec::new();
        for piece in stream.chunks(piece) {
            assert_eq!(client.send(&[IoSlice::new(piece)]).expect("sent"), piece.len());
            while !receiver.receive(&server, &pool).map_or(true, |received| received.drained) {}
            loop {
                match receiver.next(&from(&pool), &mut |_| true).expect("no fault") {
                    Next::Request(request, data) => found.push((request, data)),
                    Next::More => {
                        receiver.make_way(&pool);
                        // There may be more in the socket.
                        if receiver.receive(&server, &pool).is_err() {
                            break;
                        }
                    }
                    Next::NoMemory => panic!("it was granted"),
                }
            }
        }
        found
    }

    #[test]
    fn requests_come_out_whole_however_they_arrive() {
        let lengths = [4096, 512, 65_536, 65_537, 200_000, 4096, 131_072, 131_072, 1, 65_536, 65_536, 0];
        for mode in MODES {
            let writes = (1..).zip(lengths);
            let mut requests: Vec<Request> = writes.map(|(at, length)| write(mode, at, length)).collect();
            requests.insert(3, Request { command: command::READ, ..write(mode, 99, 4096) });
            // What its header makes it carry is taken for no request.
            let flags = command_flags::PAYLOAD_LEN;
            for (at, length) in [(5, 24), (9, 70_000)] {
                let status = Request { command: command::BLOCK_STATUS, ..write(mode, 100, length) };
                requests.insert(at, Request { flags, ..status });
            }
            let stream: Vec<u8> = requests.iter().flat_map(bytes).collect();
            for piece in [27, 4000, 65_536, 100_000] {
                let found = received(mode, &stream, piece);
                let headers: Vec<Request> = found.iter().map(|(request, _)| *request).collect();
                assert_eq!(headers, requests, "in pieces of {piece}");
                for (request, data) in &found {
                    let carried = data.as_ref().map_or(&[][..], |data| data.bytes(0, data.len()));
                    let own = [&request.encode()[..], carried].concat();
                    assert!(own == bytes(request), "request {} in pieces of {piece}", request.cookie);
                }
            }
        }
    }

    #[test]
    fn a_fault_is_told_and_nothing_is_allocated_for_it() {
        let pool = BufferPool::new(0);
        let is_told = |mode, bytes: &[u8]| {
            let mut receiver = Receiver::new(&pool, mode, bytes);
            receiver.next(&from(&pool), &mut |_| panic!("asked")).is_err()
        };
        for mode in MODES {
            let mut wrong = write(mode, 1, 512).encode();
            wrong[0] ^= 1;
            assert!(is_told(mode, &wrong));
            assert!(is_told(mode, &write(mode, 1, u32::MAX.into()).encode()));
            let of_the_other = if mode == Mode::Extended { Mode::Structured } else { Mode::Extended };
            let mut other = write(of_the_other, 1, 512).encode();
            other.resize(mode.request_bytes(), 0);
            assert!(is_told(mode, &other));
        }
        let flags = command_flags::PAYLOAD_LEN;
        let giant = Request { command: command::TRIM, flags, ..write(Mode::Extended, 1, u64::MAX) };
        assert!(is_told(Mode::Extended, &giant.encode()));
    }

    #[test]
    fn what_is_not_granted_comes_again() {
        let pool = BufferPool::new(0);
        let mode = Mode::Structured;
        let mut receiver = Receiver::new(&pool, mode, &write(mode, 1, 1 << 20).encode());
        assert!(matches!(receiver.next(&from(&pool), &mut |_| false), Ok(Next::NoMemory)));
        assert!(!receiver.is_within_large());
        assert!(matches!(receiver.next(&from(&pool), &mut |_| true), Ok(Next::More)));
        assert!(receiver.is_within_large());
    }
}
