//! How a connection goes, by its own wish or because it keeps memory from others.

use std::time::Duration;

use super::Traffic;
use crate::export::nbd::connection::{Connection, Phase};
use crate::export::nbd::send::Sender;

/// How often it is looked for connections that keep memory others wait for.
const STALL_CHECK: Duration = Duration::from_secs(1);

impl Traffic {
    /// Receives no more; closes when everything is answered and sent.
    pub(super) fn drain(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.phase == Phase::Open {
            connection.phase = Phase::Draining;
            connection.readable = false;
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
            // What is under way gives its own part back when it ends.
            let kept: usize = match connection.under_way {
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
            // Only now that what it kept is let go.
            counters.connections_open.sub(1);
            self.counters.connections_open.sub(1);
        }
    }

    /// Lets those try again who wait for memory, and closes who keeps it from them.
    pub(super) fn look_after_memory(&mut self) {
        self.counters.bytes_in_memory.set(self.budget.used() as u64);
        if self.short.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.short) {
            self.connections[key].is_short_of_memory = false;
            self.list(key);
        }
        if self.now.saturating_sub(self.stalls_checked) < STALL_CHECK {
            return;
        }
        self.stalls_checked = self.now;
        let patience = Duration::from_millis(self.limits.stall_ms);
        let is_stalled = |connection: &Connection| {
            connection.is_holding() && self.now.saturating_sub(connection.moved_at) >= patience
        };
        let stalled: Vec<usize> =
            self.connections.iter().filter(|(_, one)| is_stalled(one)).map(|(key, _)| key).collect();
        for key in stalled {
            self.counters.stalled.add(1);
            self.kill(key);
        }
    }
}
