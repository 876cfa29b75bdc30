//! One connection's turn: requests are taken out of what it sent and handed to the core, then it is received from.

use super::{Traffic, UnderWay};
use crate::core;
use crate::core::{Landing, Target};
use crate::export::nbd::connection::{Grant, Phase};
use crate::export::nbd::finders::Question;
use crate::export::nbd::protocol::transmission::{Request, command, command_flags};
use crate::export::nbd::protocol::{Malformed, errno};
use crate::export::nbd::receive::{Next, SMALL_BYTES_MAX};
use crate::export::nbd::request::{self, Refusal};
use crate::export::nbd::status::{ANSWERED_MAX, Range};
use crate::reactor::Port;
use crate::sys::{BufferPool, MemorySlice};
use crate::units::BLOCK_BYTES;

/// Bytes received from one connection before others have their turn.
const TURN_BYTES_MAX: usize = 1 << 20;
/// Bytes of headers, errors and block status that wait to be sent before a connection is received from again.
const HEAD_BYTES_MAX: usize = 256 << 10;

impl Traffic {
    /// One connection's turn: its requests are handed on, then it is received from.
    pub(super) fn serve(&mut self, key: usize, port: &mut Port<'_>) {
        if self.connections[key].is_broken() && self.connections[key].phase == Phase::Open {
            return self.kill(key);
        }
        let mut received = 0;
        loop {
            match self.hand_on(key, port) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    self.counters.protocol_faults.add(1);
                    return self.kill(key);
                }
            }
            let connection = &mut self.connections[key];
            let (true, Some(socket)) = (connection.readable, &connection.socket) else { return };
            if received >= TURN_BYTES_MAX {
                port.stay_awake();
                return self.list(key);
            }
            match connection.receiver.receive(socket, port.buffers()) {
                Ok(here) if here.bytes == 0 => return self.drain(key),
                Ok(here) => {
                    received += here.bytes;
                    connection.moved += here.bytes as u64;
                    // After a hang-up no readiness comes any more: read on until the end is seen.
                    connection.readable = !here.drained || connection.hung_up;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => connection.readable = false,
                Err(_) => return self.kill(key),
            }
        }
    }

    /// Hands on what was received. Whether more may be received.
    pub(super) fn hand_on(
        &mut self,
        key: usize,
        port: &mut Port<'_>,
    ) -> std::result::Result<bool, Malformed> {
        loop {
            let connection = &mut self.connections[key];
            let is_full = connection.under_way >= self.limits.requests_per_connection
                || connection.sender.head_bytes() > HEAD_BYTES_MAX;
            if connection.phase != Phase::Open || is_full {
                return Ok(false);
            }
            let contexts = connection.contexts.len();
            let is_next = self.short.front().is_none_or(|&first| first == key);
            let (budget, held) = (&mut self.budget, &mut connection.bytes);
            let mut refused = Grant::Yes;
            let mut grant = |request: &Request| {
                let bytes = memory_of(request, contexts);
                refused = budget.ask(*held, bytes, is_next);
                if refused == Grant::Yes {
                    budget.take(bytes);
                    *held += bytes;
                }
                refused == Grant::Yes
            };
            let (target, read_only, lacked) =
                (connection.opened.target, connection.read_only, &self.lacked_landing);
            let give = |request: &Request, bytes: usize| {
                let landing = if !read_only && is_within(port, target, request) {
                    port.landing(bytes)
                } else {
                    Landing::Unfit
                };
                match landing {
                    Landing::Lent(memory) => return (memory, true),
                    Landing::Taken => lacked.set(true),
                    Landing::Unfit => {}
                }
                (MemorySlice::new(port.buffers().get(bytes), 0, bytes), false)
            };
            let next = connection.receiver.next(&give, &mut grant)?;
            if refused != Grant::NotNow {
                self.leave_queue(key);
            }
            match next {
                Next::More => return Ok(true),
                Next::NoMemory => {
                    // Its own memory comes back when it is answered or has taken an answer, which lists it.
                    if refused == Grant::NotNow {
                        self.queue(key);
                    }
                    return Ok(false);
                }
                Next::Request(request, _) if request.command == command::DISC => {
                    // A payload that nobody asked for.
                    self.give_back(key, memory_of(&request, contexts));
                    self.drain(key);
                    return Ok(false);
                }
                Next::Request(request, data) => self.begin(key, request, data, port),
            }
        }
    }

    /// Begins a request, whose memory was granted.
    pub(super) fn begin(
        &mut self,
        key: usize,
        request: Request,
        data: Option<MemorySlice>,
        port: &mut Port<'_>,
    ) {
        let connection = &mut self.connections[key];
        connection.under_way += 1;
        let (volume, target) = (connection.opened.volume, connection.opened.target);
        let bytes = match target {
            Target::Volume(volume) => port.catalog().volume(volume).map(|volume| volume.bytes),
            Target::Snapshot(snapshot) => port.catalog().snapshot(snapshot).map(|snapshot| snapshot.bytes),
        };
        let checked = bytes
            .map_err(|error| Refusal::of(&error))
            .and_then(|bytes| request::check(&request, &connection.serving(bytes)));
        let contexts = connection.contexts.clone();
        let under_way = UnderWay {
            connection: key,
            request,
            started: self.now,
            bytes: memory_of(&request, contexts.len()),
        };
        let tag = self.under_way.insert(under_way);
        if let Err(refusal) = checked {
            return self.finish(tag, Err(refusal));
        }
        let (offset, length) = (request.offset, request.length);
        let fua = request.flags & command_flags::FUA != 0;
        let submitted = match (request.command, data) {
            (command::READ | command::CACHE, _) => {
                let length = length.min(core::request::READ_BYTES_MAX);
                core::Request::Read { target, offset, length }
            }
            (command::WRITE, Some(data)) => core::Request::Write { volume, offset, data, fua },
            (command::TRIM | command::WRITE_ZEROES, _) => {
                core::Request::Unmap { volume, offset, length, fua }
            }
            (command::FLUSH, _) => core::Request::Flush,
            _ => {
                let one = request.flags & command_flags::REQ_ONE != 0;
                let range = Range { offset, length, one };
                if !self.finders.ask(Question { tag, volume, target, contexts, range }) {
                    self.finish(tag, Err(Refusal::new(errno::EIO, "block status can't be found now")));
                }
                return;
            }
        };
        port.submit(tag as u64, submitted);
    }
}

/// Whether a write covers whole blocks of a volume that has them.
fn is_within(port: &Port<'_>, target: Target, request: &Request) -> bool {
    let Target::Volume(volume) = target else { return false };
    let is_whole = request.offset.is_multiple_of(BLOCK_BYTES) && request.length.is_multiple_of(BLOCK_BYTES);
    let end = request.offset.checked_add(request.length);
    request.command == command::WRITE
        && is_whole
        && port.catalog().volume(volume).is_ok_and(|volume| end.is_some_and(|end| end <= volume.bytes))
}

/// Most bytes of a block status chunk before its extents.
const STATUS_HEAD_MAX: usize = 64;

/// What a request has of the budget: the memory for what it writes, or for its answer.
pub(super) fn memory_of(request: &Request, contexts: usize) -> usize {
    match request.command {
        // A small payload stays in the buffer that it was received into.
        _ if request.payload_bytes() > 0 => match usize::try_from(request.length).unwrap_or(usize::MAX) {
            length if request.length <= SMALL_BYTES_MAX => length,
            length => BufferPool::footprint(length),
        },
        // A chunk's header and its extents, for each context: never less than is charged for the answer.
        command::BLOCK_STATUS => {
            let extent_bytes = if request.extended { 16 } else { 8 };
            contexts * (ANSWERED_MAX * extent_bytes + STATUS_HEAD_MAX)
        }
        command::READ | command::CACHE => {
            let length = request.length.min(core::request::READ_BYTES_MAX);
            // The engine reads whole blocks, and shows what was asked for of them.
            let blocks = (request.offset % BLOCK_BYTES + length).next_multiple_of(BLOCK_BYTES);
            BufferPool::footprint(usize::try_from(blocks).unwrap_or(usize::MAX))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A read that begins within a block takes one block more, for which the next power of two is allocated: it once
    /// was charged for half of that.
    #[test]
    fn a_request_is_charged_for_the_whole_of_its_buffer() {
        let request = |command, offset, length| {
            let (extended, flags) = (true, 0);
            Request { extended, flags, command, cookie: 1, offset, length }
        };
        let charged = |command, offset, length| memory_of(&request(command, offset, length), 2);
        assert_eq!(charged(command::READ, 0, 32 << 20), 32 << 20);
        assert_eq!(charged(command::READ, 512, 32 << 20), 64 << 20);
        assert_eq!(charged(command::READ, 512, 512), 4096);
        assert_eq!(charged(command::CACHE, 0, u64::MAX), 32 << 20);
        assert_eq!(charged(command::WRITE, 0, 4096), 4096, "it lies in the receive buffer");
        assert_eq!(charged(command::WRITE, 0, 65_537), 131_072);
        assert_eq!(charged(command::TRIM, 0, u64::MAX), 0);
        let with_payload =
            Request { flags: command_flags::PAYLOAD_LEN, ..request(command::BLOCK_STATUS, 0, 24) };
        assert_eq!(memory_of(&with_payload, 2), 24);
        assert_eq!(charged(command::BLOCK_STATUS, 0, 512), 2 * (4096 * 16 + STATUS_HEAD_MAX));
    }
}
