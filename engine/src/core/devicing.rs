//! Device requests in flight, and what each completion means.

use super::Core;
use super::read::Segment;
use crate::device::{DeviceCompletion, DeviceRequest};

/// Most device writes of staged data in flight while nobody waits for a flush.
const FRAGMENTS_IN_FLIGHT: usize = 32;

/// What a device request was for.
pub(super) enum Pending {
    /// Part of a read.
    Read(Segment),
    /// Staged runs.
    Staged { first_run: u64, runs: u64 },
    /// Part of a write that does not go through the tail.
    Direct { job: usize },
    /// Journal blocks.
    Journal { first: u64, count: u64 },
    /// A sync.
    Sync,
}

impl Core {
    pub(super) fn request(&mut self, pending: Pending, request: DeviceRequest) {
        let token = self.pending.insert(pending) as u64;
        self.device_requests.push_back((token, request));
    }

    pub(super) fn finish_pending(&mut self, completion: DeviceCompletion) {
        let token = usize::try_from(completion.token).ok();
        let Some(pending) = token.and_then(|token| self.pending.try_remove(token)) else {
            debug_assert!(false, "a completion for no request");
            return;
        };
        match pending {
            Pending::Read(segment) => self.finish_segment(segment, completion.result),
            Pending::Staged { first_run, runs } => {
                self.stage_writes_in_flight -= 1;
                match completion.result {
                    Ok(()) => self.staging.completed(first_run, runs, &self.tail),
                    Err(error) => self.fail("a write of data", error),
                }
            }
            Pending::Direct { job } => self.finish_direct(job, completion.result),
            Pending::Journal { first, count } => match completion.result {
                Ok(()) => self.journal.completed(first, count, &self.tail),
                Err(error) => self.fail("a write of the journal", error),
            },
            Pending::Sync => match completion.result {
                Ok(()) => self.finish_sync(),
                Err(error) => self.fail("a sync", error),
            },
        }
    }

    /// Hands staged data to the device: a few large writes at a time, so that what arrives meanwhile becomes the
    /// next one; more where free space is in fragments, since no wait makes those writes longer; all that a flush waits
    /// for, but not what was written after it.
    pub(super) fn issue_staged(&mut self) {
        if self.failed.is_some() {
            return;
        }
        let waited_for = self.flushes.staged_mark();
        loop {
            let flushing = !self.staging.is_issued_to(waited_for);
            if !flushing && self.stage_writes_in_flight >= FRAGMENTS_IN_FLIGHT {
                break;
            }
            let unfinished = flushing || self.stage_writes_in_flight < self.options.writes_in_flight;
            let Some(write) = self.staging.next_write(&self.tail, unfinished) else { break };
            self.stage_writes_in_flight += 1;
            self.statistics.data_writes += 1;
            self.statistics.data_bytes_written += write.from.len() as u64;
            let pending = Pending::Staged { first_run: write.first_run, runs: write.runs };
            self.request(pending, DeviceRequest::Write { offset: write.physical.offset(), from: write.from });
        }
    }

    pub(super) fn issue_journal(&mut self) {
        if self.failed.is_some() {
            return;
        }
        while let Some((offset, first, from)) = self.journal.next_write(&self.tail) {
            let count = (from.len() / crate::units::BLOCK_LEN) as u64;
            self.statistics.journal_writes += 1;
            self.statistics.journal_bytes_written += from.len() as u64;
            self.request(Pending::Journal { first, count }, DeviceRequest::Write { offset, from });
        }
    }
}
