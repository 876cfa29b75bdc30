//! One connection in the transmission phase.
//!
//! *open* -(`DISC`, the end of the stream, a stop)-> *draining*: nothing more is received, what is under way is
//! answered and sent; then, or from any state on a fault of the client or the socket, -> *dead*: the socket is closed,
//! and the connection goes when nothing of it is under way in the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exports::Opened;
use super::protocol::handshake::Fence;
use super::protocol::transmission::Mode;
use super::receive::Receiver;
use super::request::Serving;
use super::send::Sender;
use super::statistics::VolumeCounters;
use super::status::Context;
use crate::sys::Socket;

/// Where a connection is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Draining,
    Dead,
}

/// A connection.
pub(super) struct Connection {
    /// `None` once it is dead.
    pub(super) socket: Option<Socket>,
    pub(super) phase: Phase,
    pub(super) opened: Opened,
    pub(super) read_only: bool,
    pub(super) mode: Mode,
    pub(super) contexts: Arc<Vec<Context>>,
    /// Whose it is, where the client said so.
    pub(super) fence: Option<Fence>,
    /// Set by another thread when the client's connection broke behind this socket.
    pub(super) broken: Option<Arc<AtomicBool>>,
    pub(super) counters: Arc<VolumeCounters>,
    pub(super) receiver: Receiver,
    pub(super) sender: Sender,
    /// Requests that are not answered yet.
    pub(super) under_way: usize,
    /// Bytes that it has in memory: of requests under way, of a write that is being received, of answers not sent.
    pub(super) bytes: usize,
    /// There may be more in the socket.
    pub(super) readable: bool,
    /// The other side has ended: read on to see it.
    pub(super) hung_up: bool,
    /// The socket took no more.
    pub(super) send_blocked: bool,
    /// It is in the list of those that have something to do.
    pub(super) is_listed: bool,
    /// It is in the list of those that have something to send.
    pub(super) is_dirty: bool,
    /// It waits for memory that others have.
    pub(super) is_short_of_memory: bool,
    /// Bytes that it has sent and received.
    pub(super) moved: u64,
}

impl Connection {
    /// What a request is checked against; `bytes` is the export's size now.
    pub(super) fn serving(&self, bytes: u64) -> Serving {
        let has_contexts = !self.contexts.is_empty();
        Serving { bytes, read_only: self.read_only, mode: self.mode, has_contexts }
    }

    /// Whether the client's connection broke: what it holds is not to be done any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken.load(Ordering::Acquire))
    }

    /// Whether it keeps memory and it is its client who has to go on.
    pub(super) fn is_holding(&self) -> bool {
        let waits_for_data = self.receiver.is_within_large() && !self.readable;
        self.phase != Phase::Dead && (waits_for_data || self.send_blocked && self.sender.charge() > 0)
    }
}

/// Memory that every connection may have, whatever the others have.
const OWN_BYTES: usize = 256 << 10;

/// Memory for requests and answers, shared by all connections.
pub(super) struct Budget {
    used: usize,
    most: usize,
    most_of_one: usize,
}

/// Whether a request may have memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Yes,
    /// The connection has as much as one may have.
    NotToThis,
    /// All connections together have as much as they may.
    NotNow,
}

impl Budget {
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self { used: 0, most, most_of_one }
    }

    /// Whether a connection that has `held` bytes may have `bytes` more. Beyond its own it may when it is the next in
    /// turn: else many small requests would keep a large one waiting for ever.
    pub(super) fn ask(&self, held: usize, bytes: usize, is_next: bool) -> Grant {
        if held > 0 && held + bytes > self.most_of_one {
            return Grant::NotToThis;
        }
        let is_own = held + bytes <= OWN_BYTES;
        let has_room = self.used == 0 || self.used + bytes <= self.most;
        if is_own || is_next && has_room { Grant::Yes } else { Grant::NotNow }
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.used += bytes;
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.used, "more comes back than was taken");
        self.used = self.used.saturating_sub(bytes);
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_something_of_its_own_whatever_others_have() {
        let mut budget = Budget::new(1 << 20, 512 << 10);
        assert_eq!(budget.ask(0, 32 << 20, true), Grant::Yes, "nobody has anything");
        budget.take(1 << 20);
        assert_eq!(budget.ask(OWN_BYTES - 4096, 4097, true), Grant::NotNow);
        assert_eq!(budget.ask(OWN_BYTES - 4096, 4096, false), Grant::Yes);
        assert_eq!(budget.ask((512 << 10) - 65_535, 65_536, true), Grant::NotToThis);
        budget.give_back(4097);
        assert_eq!(budget.ask(OWN_BYTES - 4096, 4097, false), Grant::NotNow, "others come first");
        assert_eq!(budget.ask(OWN_BYTES - 4096, 4097, true), Grant::Yes);
    }
}
