//! How a request ends: counted, answered, and its memory let go.

use super::Traffic;
use crate::error::Result;
use crate::export::nbd::connection::Phase;
use crate::export::nbd::protocol::transmission::StatusExtent;
use crate::export::nbd::reply::Reply;
use crate::export::nbd::request::{self, Refusal};
use crate::reactor::Port;
use crate::sys::{Interest, MemorySlice};

pub(super) type Answered = std::result::Result<Answer, Refusal>;

/// What a request ended with.
pub(super) enum Answer {
    Done,
    Data(MemorySlice),
    Status(Vec<Vec<StatusExtent>>),
}

impl Traffic {
    pub(super) fn status_found(&mut self, tag: usize, found: Result<Vec<Vec<StatusExtent>>>) {
        match found {
            Ok(contexts) => self.finish(tag, Ok(Answer::Status(contexts))),
            Err(error) => self.finish(tag, Err(Refusal::of(&error))),
        }
    }

    /// A request has ended: counts it, answers it, and lets go of its memory.
    pub(super) fn finish(&mut self, tag: usize, result: Answered) {
        let Some(done) = self.under_way.try_remove(tag) else {
            debug_assert!(false, "the end of no request");
            return;
        };
        let key = done.connection;
        let connection = &mut self.connections[key];
        connection.under_way -= 1;
        let took = self.now.saturating_sub(done.started);
        // What was refused may have had any length.
        let bytes = if result.is_ok() { done.request.length } else { 0 };
        connection.counters.answered(request::kind(&done.request), bytes, result.is_err(), took);
        if connection.phase == Phase::Dead {
            self.give_back(key, done.bytes);
            return self.forget_if_over(key);
        }
        let before = connection.sender.charge();
        let reply = Reply { sender: &mut connection.sender, request: &done.request, mode: connection.mode };
        match result {
            Ok(Answer::Done) => reply.done(),
            Ok(Answer::Data(data)) => reply.data(data, done.bytes),
            Ok(Answer::Status(contexts)) => reply.status(&contexts),
            Err(refusal) => reply.refused(&refusal),
        }
        // What waits to be sent keeps its part of the memory.
        let kept = connection.sender.charge() - before;
        self.give_back(key, done.bytes.saturating_sub(kept));
        self.mark_dirty(key);
        self.list(key);
    }

    /// Sends what a connection has to send.
    pub(super) fn send(&mut self, key: usize, port: &mut Port<'_>) {
        let connection = &mut self.connections[key];
        let (false, Some(socket)) = (connection.send_blocked, &connection.socket) else { return };
        let flushed = match connection.sender.flush(socket) {
            Ok(flushed) => flushed,
            Err(_) => return self.kill(key),
        };
        connection.moved += flushed.bytes as u64;
        if flushed.blocked {
            connection.send_blocked = true;
            if self.poller.change(socket, key as u64, Interest::ReadWrite).is_err() {
                return self.kill(key);
            }
        }
        let more = !connection.sender.is_empty() && !connection.send_blocked;
        self.give_back(key, flushed.charge);
        if flushed.bytes > 0 {
            self.list(key);
        }
        if more {
            self.mark_dirty(key);
            port.stay_awake();
        }
        self.close_if_drained(key);
    }
}
