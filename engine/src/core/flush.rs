//! Flushes: who waits, for what, and when the device is synced.

use std::collections::VecDeque;

use super::devicing::Pending;
use super::{Core, Owner, Response};
use crate::device::DeviceRequest;
use crate::units::Lsn;

/// Who waits for a flush.
pub(super) enum Waiter {
    /// A client's flush or forced write.
    Client(Owner),
    /// A catalog change, answered with its operation.
    Change(Owner, Box<crate::catalog::Operation>),
    /// The frozen checkpoint.
    Checkpoint,
    /// Nobody: the regular sync.
    Timer,
}

struct Flush {
    waiter: Waiter,
    /// Records below this LSN are to be durable.
    lsn: Lsn,
    staged_mark: u64,
    /// The journal's sealed end; `None` until it was sealed for this flush.
    sequence: Option<u64>,
}

/// Flushes that wait, and the one sync in flight.
#[derive(Default)]
pub(super) struct Flushes {
    waiting: VecDeque<Flush>,
    /// Flushes that the sync in flight answers.
    syncing: Vec<Flush>,
    sync_in_flight: bool,
    last_sync_ms: u64,
    last_sync_lsn: Lsn,
    /// The durable LSN that the last journal block repeated.
    stated: Lsn,
    unsynced_blocks: u64,
}

impl Flushes {
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Everything staged before this mark is waited for by a flush.
    pub(super) fn staged_mark(&self) -> u64 {
        self.waiting.back().map_or(0, |flush| flush.staged_mark)
    }

    pub(super) fn wrote_blocks(&mut self, blocks: u64) {
        self.unsynced_blocks += blocks;
    }

    /// The device failed: nobody is answered by a sync any more.
    pub(super) fn take_owners(&mut self) -> Vec<Owner> {
        self.sync_in_flight = false;
        let all = self.waiting.drain(..).chain(self.syncing.drain(..));
        all.filter_map(|flush| match flush.waiter {
            Waiter::Client(owner) | Waiter::Change(owner, _) => Some(owner),
            Waiter::Checkpoint | Waiter::Timer => None,
        })
        .collect()
    }
}

impl Core {
    pub(super) fn submit_flush(&mut self, owner: Owner) {
        self.statistics.flushes += 1;
        match self.failed.clone() {
            Some(error) => self.complete(owner, Err(error)),
            None => self.flush_for(Waiter::Client(owner)),
        }
    }

    pub(super) fn flush_for(&mut self, waiter: Waiter) {
        let (lsn, staged_mark) = (self.journal.next_lsn(), self.staging.mark());
        self.flushes.waiting.push_back(Flush { waiter, lsn, staged_mark, sequence: None });
    }

    /// Bounds what a recovery has to verify, and says in the journal how far it is durable.
    pub(super) fn flush_when_due(&mut self) {
        // A pool that closes ends its journal with its last checkpoint.
        if self.failed.is_some() || self.closing || self.flushes.is_waiting() || self.flushes.sync_in_flight {
            return;
        }
        let unsynced = self.journal.next_lsn() > self.flushes.last_sync_lsn.max(self.durable);
        let late = self.now_ms.saturating_sub(self.flushes.last_sync_ms) >= self.options.sync_interval_ms;
        if unsynced && (late || self.flushes.unsynced_blocks >= self.options.unsynced_blocks) {
            self.flush_for(Waiter::Timer);
        } else if late && self.flushes.stated < self.durable {
            self.flushes.stated = self.durable;
            self.flushes.last_sync_ms = self.now_ms;
            self.journal.beacon(self.catalog.epoch(), self.durable, &self.tail);
        }
    }

    /// Seals the journal once for all flushes that arrived since the last turn.
    pub(super) fn seal_for_flushes(&mut self) {
        if self.flushes.waiting.back().is_none_or(|flush| flush.sequence.is_some()) || self.failed.is_some() {
            return;
        }
        self.flushes.stated = self.durable;
        self.journal.seal(self.durable, &self.tail);
        let sequence = self.journal.sealed_to();
        for flush in self.flushes.waiting.iter_mut().filter(|flush| flush.sequence.is_none()) {
            flush.sequence = Some(sequence);
        }
    }

    /// Submits a sync when none is in flight and the device has what some flush waits for.
    pub(super) fn issue_sync(&mut self) {
        if self.flushes.sync_in_flight || self.failed.is_some() {
            return;
        }
        let ready = |flush: &Flush| {
            self.staging.is_written_to(flush.staged_mark)
                && flush.sequence.is_some_and(|sequence| self.journal.is_written_to(sequence))
        };
        let count = self.flushes.waiting.iter().take_while(|flush| ready(flush)).count();
        if count == 0 {
            return;
        }
        self.flushes.syncing = self.flushes.waiting.drain(..count).collect();
        // What an earlier sync made durable already needs no other.
        if self.flushes.syncing.iter().all(|flush| flush.lsn <= self.durable) {
            return self.answer_flushes();
        }
        self.flushes.sync_in_flight = true;
        self.flushes.last_sync_lsn = self.flushes.syncing.last().map_or(self.durable, |flush| flush.lsn);
        self.flushes.last_sync_ms = self.now_ms;
        self.flushes.unsynced_blocks = 0;
        self.statistics.syncs += 1;
        self.request(Pending::Sync, DeviceRequest::Sync);
    }

    pub(super) fn finish_sync(&mut self) {
        self.flushes.sync_in_flight = false;
        let lsn = self.flushes.syncing.iter().map(|flush| flush.lsn).max();
        self.durable = lsn.map_or(self.durable, |lsn| lsn.max(self.durable));
        self.answer_flushes();
    }

    fn answer_flushes(&mut self) {
        for flush in std::mem::take(&mut self.flushes.syncing) {
            match flush.waiter {
                Waiter::Client(owner) => self.complete(owner, Ok(Response::Done(flush.lsn))),
                Waiter::Change(owner, operation) => {
                    self.complete(owner, Ok(Response::Changed(*operation, flush.lsn)));
                }
                Waiter::Checkpoint => self.write_frozen(),
                Waiter::Timer => {}
            }
        }
    }

    /// Every record below this LSN is durable.
    pub fn durable_lsn(&self) -> Lsn {
        self.durable
    }

    /// Whether a flush, a sync or a checkpoint is under way.
    pub fn is_flushing(&self) -> bool {
        self.flushes.is_waiting() || self.flushes.sync_in_flight
    }
}
