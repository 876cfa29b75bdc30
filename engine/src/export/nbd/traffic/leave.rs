//! How a connection goes, by its own wish or because it keeps memory from others.

use std::time::Duration;

use super::Traffic;
use super::serve::memory_of;
use crate::export::nbd::connection::Phase;
use crate::export::nbd::send::Sender;
use crate::reactor::Port;

/// So seldom are landings taken back: a client in the middle of a write is not to lose each one.
const LANDINGS_APART: Duration = Duration::from_millis(100);

impl Traffic {
    /// Receives no more; closes when everything is answered and sent.
    pub(super) fn drain(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.phase == Phase::Open {
            connection.phase = Phase::Draining;
            connection.readable = false;
            if let Some(half) = connection.receiver.give_up() {
                self.give_back(key, memory_of(&half, 0));
            }
            self.leave_queue(key);
            self.close_if_drained(key);
        }
    }

    pub(super) fn close_if_drained(&mut self, key: usize) {
        let connection = &self.connections[key];
        let is_drained = connection.under_way == 0 && connection.sender.is_empty();
        if connection.phase == Phase::Draining && is_drained {
            self.kill(key);
        }
    }

    /// Closes the socket and drops what would be sent or is half received.
    pub(super) fn kill(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.phase != Phase::Dead {
            connection.phase = Phase::Dead;
            connection.socket = None;
            connection.sender = Sender::default();
            let _ = connection.receiver.give_up();
            self.leave_queue(key);
            // What is under way gives its own part back when it ends.
            let kept: usize = match self.connections[key].under_way {
                0 => 0,
                _ => self
                    .under_way
                    .iter()
                    .filter(|(_, request)| request.connection == key)
                    .map(|(_, request)| request.bytes)
                    .sum(),
            };
            let over = self.connections[key].bytes.saturating_sub(kept);
            self.give_back(key, over);
        }
        self.forget_if_over(key);
    }

    pub(super) fn forget_if_over(&mut self, key: usize) {
        let connection = &self.connections[key];
        let is_named = connection.is_listed || connection.is_dirty || connection.is_short_of_memory;
        if connection.phase == Phase::Dead && connection.under_way == 0 && !is_named {
            let counters = self.connections.remove(key).counters;
            self.stalls.forget(key);
            // Only now that what it kept is let go.
            counters.connections_open.sub(1);
            self.counters.connections_open.sub(1);
        }
    }

    /// Has a connection wait for memory that others have.
    pub(super) fn queue(&mut self, key: usize) {
        if !std::mem::replace(&mut self.connections[key].is_short_of_memory, true) {
            self.short.push_back(key);
        }
    }

    /// A connection does not wait for others' memory any more; the next one may try.
    pub(super) fn leave_queue(&mut self, key: usize) {
        if std::mem::take(&mut self.connections[key].is_short_of_memory) {
            self.short.retain(|other| *other != key);
            if let Some(&next) = self.short.front() {
                self.list(next);
            }
        }
    }

    /// Where all landings are taken: has those make way whose clients keep them waiting.
    pub(super) fn free_landings(&mut self, port: &Port<'_>) {
        if !self.lacked_landing.take() || self.now < self.landings_freed + LANDINGS_APART {
            return;
        }
        self.landings_freed = self.now;
        for (_, connection) in &mut self.connections {
            if !connection.readable {
                connection.receiver.make_way(port.buffers());
            }
        }
    }

    /// Lets the next one try again that waits for memory, and closes who keeps it from them.
    pub(super) fn look_after_memory(&mut self) {
        self.counters.bytes_in_memory.set(self.budget.used() as u64);
        let Some(&next) = self.short.front() else { return self.stalls.over() };
        self.list(next);
        let patience = Duration::from_millis(self.limits.stall_ms);
        let holders = self.connections.iter().filter(|(_, one)| one.is_holding());
        let holders = holders.map(|(key, one)| (key, one.moved));
        for key in self.stalls.slow(self.now, patience, holders) {
            self.counters.stalled.add(1);
            self.kill(key);
        }
    }
}
