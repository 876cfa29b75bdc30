//! Block locks: a write that does not cover whole blocks reads their other parts first, and nobody else may write
//! those blocks in between.
//!
//! A write waits for locks and for the writes that wait already, if they share a block: so a wide trim behind a stream
//! of large writes gets its turn. Who holds a lock never waits for one, and who waits holds none, so nobody waits for
//! ever.

use super::write::WriteJob;
use crate::units::VolumeId;

/// Ranges of blocks under lock, and the writes that wait for one. Both are bounded by the requests in flight.
#[derive(Default)]
pub(super) struct Locks {
    held: Vec<(VolumeId, u64, u64)>,
    waiters: Vec<WriteJob>,
    released: bool,
}

impl Locks {
    /// Whether a write of this range (first block, block after the last) must wait.
    pub(super) fn is_taken(&self, volume: VolumeId, first: u64, end: u64) -> bool {
        let waiting = self.waiters.iter().map(|job| (job.volume, job.first(), job.end()));
        self.held.iter().copied().chain(waiting).any(|range| meets(range, volume, first, end))
    }

    pub(super) fn lock(&mut self, volume: VolumeId, first: u64, end: u64) {
        debug_assert!(!self.held.iter().any(|&range| meets(range, volume, first, end)));
        self.held.push((volume, first, end));
    }

    pub(super) fn unlock(&mut self, volume: VolumeId, first: u64, end: u64) {
        if let Some(at) = self.held.iter().position(|held| *held == (volume, first, end)) {
            self.held.swap_remove(at);
            self.released = true;
        }
    }

    pub(super) fn wait(&mut self, job: WriteJob) {
        self.waiters.push(job);
    }

    /// The writes to try again, when a lock was released since the last call.
    pub(super) fn take_released(&mut self) -> Vec<WriteJob> {
        if std::mem::take(&mut self.released) { self.take_waiters() } else { Vec::new() }
    }

    pub(super) fn take_waiters(&mut self) -> Vec<WriteJob> {
        std::mem::take(&mut self.waiters)
    }
}

fn meets((other, start, stop): (VolumeId, u64, u64), volume: VolumeId, first: u64, end: u64) -> bool {
    other == volume && first < stop && start < end
}
