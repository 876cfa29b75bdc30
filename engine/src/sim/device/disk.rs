//! The disk: what outlives handles, crashes and restarts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::block::bytes_of;
use super::state::State;
use super::{blocks_in, for_each_block};
use crate::sim::faults::{Faults, InjectedFault};

/// What a disk was asked to do since it was made. Requests that failed are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStatistics {
    /// Completed reads.
    pub reads: u64,
    /// Bytes they returned.
    pub read_bytes: u64,
    /// Acknowledged writes, lost and misdirected ones included.
    pub writes: u64,
    /// Bytes they wrote.
    pub written_bytes: u64,
    /// Completed syncs.
    pub syncs: u64,
    /// Writes submitted while another request for the same bytes was in flight: a bug of the caller
    /// ([`Device`](crate::device), rule 3).
    pub overlaps: u64,
}

/// The disk, which outlives the handles, crashes and restarts of those who use it. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// A disk of `bytes` zero bytes, a multiple of 4096. Memory is taken for what is written only.
    ///
    /// # Panics
    /// When `bytes` isn't a multiple of 4096.
    pub fn new(bytes: u64, seed: u64) -> Self {
        let blocks = blocks_in(bytes);
        Self { state: Arc::new(Mutex::new(State::new(vec![None; blocks], seed))) }
    }

    /// Another disk, powered and idle, whose medium now equals this one's. Its memory is shared until written.
    #[must_use]
    pub fn duplicate(&self, seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(self.lock().medium.clone(), seed))) }
    }

    /// Makes the disk larger; a handle learns of it by [`Device::refresh_size`].
    ///
    /// # Panics
    /// When `bytes` isn't a multiple of 4096.
    pub fn grow(&self, bytes: u64) {
        self.lock().grow(blocks_in(bytes));
    }

    /// Cuts the power and turns it on again (invariant 5). A cut that was scheduled is off the schedule.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// Kills the process that holds the handle (invariant 6). Without effect on a disk whose power is cut.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// Cuts the power when `completions` more requests have completed, 0 for at once. Everything after them fails
    /// until [`SimDisk::crash`] or the next [`SimDevice::open`] turns the power on again.
    pub fn cut_after(&self, completions: u64) {
        let mut state = self.lock();
        state.completions_until_cut = Some(completions);
        state.cut_when_due();
    }

    /// Takes a scheduled cut off the schedule. A cut that has happened stays.
    pub fn cancel_cut(&self) {
        self.lock().completions_until_cut = None;
    }

    /// Whether a scheduled cut has happened and the power is still off.
    pub fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// Orders faults, sets their rates or clears them.
    pub fn faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut self.lock().faults)
    }

    /// What faults have struck, oldest first.
    pub fn fault_log(&self) -> Vec<InjectedFault> {
        self.lock().faults.log().to_vec()
    }

    /// Reads what is durable, past the cache, at any alignment.
    ///
    /// # Panics
    /// Beyond the disk's end.
    pub fn read_medium(&self, offset: u64, into: &mut [u8]) {
        let state = self.lock();
        for_each_block(offset, into.len(), |block, within, at| {
            let length = within.len();
            into[at..at + length].copy_from_slice(&bytes_of(&state.medium[block])[within]);
        });
    }

    /// Overwrites the medium at any alignment. A read sees it, except where the cache holds a newer block.
    ///
    /// # Panics
    /// Beyond the disk's end.
    pub fn write_medium(&self, offset: u64, from: &[u8]) {
        let mut state = self.lock();
        for_each_block(offset, from.len(), |block, within, at| {
            let length = within.len();
            state.edit(block, |bytes| bytes[within].copy_from_slice(&from[at..at + length]));
        });
    }

    /// Flips a bit (0 to 7) of a byte on the medium, as [`SimDisk::write_medium`] would, and logs it.
    ///
    /// # Panics
    /// Beyond the disk's end, or when there is no such bit.
    pub fn flip_bit(&self, offset: u64, bit: u32) {
        assert!(bit < 8, "a byte has no bit {bit}");
        let mut state = self.lock();
        for_each_block(offset, 1, |block, within, _| {
            state.edit(block, |bytes| bytes[within.start] ^= 1 << bit)
        });
        state.faults.record_flip(offset);
    }

    /// What it was asked to do so far.
    pub fn statistics(&self) -> DiskStatistics {
        self.lock().statistics
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
