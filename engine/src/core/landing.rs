//! Slots of the tail that a large write is received into, so that its bytes are where they are staged: nobody copies them.
//!
//! 1. A landing is taken before its bytes come, and goes back when the last who has it lets go: whoever receives, the
//!    write, or a staged run whose bytes the device does not have. So a slot is filled anew only after its word is free.
//! 2. While it is filled its words say that it is free: of a process that dies then, nothing is left.
//! 3. A slow client keeps its landings, and nobody waits for one: without one a write is copied to the ring.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Core;
use crate::format::journal::WRITE_BLOCKS_MAX;
use crate::sys::MemorySlice;
use crate::units::BLOCK_LEN;

/// Slots that are taken together.
const UNIT_SLOTS: u64 = 16;

/// A chunk of a write needs room twice, for the end of the ring that it may leave unused.
const RING_SLOTS_MIN: u64 = 2 * WRITE_BLOCKS_MAX as u64;

/// The part of the tail that landings are in.
pub(super) struct Landings {
    first_slot: u64,
    units: Arc<Mutex<Units>>,
}

struct Units {
    taken: Vec<bool>,
    /// Where the next search begins: neighbours in time are neighbours here, and leave in one device write.
    next: usize,
}

/// Whether a write may be received where it will be staged.
pub enum Landing {
    /// Here.
    Lent(MemorySlice),
    /// Not now: all are lent.
    Taken,
    /// No write of this size is.
    Unfit,
}

/// Units that somebody has.
struct Lease {
    units: Arc<Mutex<Units>>,
    first: usize,
    count: usize,
}

impl Landings {
    /// Half of `slots`, in whole units, but what the ring needs for a chunk.
    pub(super) fn new(slots: u64) -> Self {
        let units = (slots / 2).min(slots.saturating_sub(RING_SLOTS_MIN)) / UNIT_SLOTS;
        let taken = vec![false; usize::try_from(units).expect("slots fit memory")];
        let first_slot = slots - units * UNIT_SLOTS;
        Self { first_slot, units: Arc::new(Mutex::new(Units { taken, next: 0 })) }
    }

    /// Slots before this one are the ring's.
    pub(super) fn first_slot(&self) -> u64 {
        self.first_slot
    }

    fn take(&self, slots: u64) -> Option<(u64, Lease)> {
        let count = usize::try_from(slots.div_ceil(UNIT_SLOTS)).ok().filter(|count| *count > 0)?;
        let first = lock(&self.units).take(count)?;
        let lease = Lease { units: Arc::clone(&self.units), first, count };
        Some((self.first_slot + first as u64 * UNIT_SLOTS, lease))
    }
}

impl Units {
    fn take(&mut self, count: usize) -> Option<usize> {
        let last = self.taken.len().checked_sub(count)?;
        let begin = self.next.min(last);
        let is_free = |first: usize| !self.taken[first..first + count].contains(&true);
        let first = (begin..=last).chain(0..begin).find(|&first| is_free(first))?;
        self.taken[first..first + count].fill(true);
        self.next = first + count;
        Some(first)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.units).taken[self.first..self.first + self.count].fill(false);
    }
}

fn lock(units: &Mutex<Units>) -> MutexGuard<'_, Units> {
    units.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    /// Memory for one write of so many bytes, a multiple of 4096, that covers whole blocks; its contents are arbitrary.
    /// Whoever has it fills it before the write is submitted, once, and leaves it alone after that.
    pub fn landing(&self, bytes: usize) -> Landing {
        if !bytes.is_multiple_of(BLOCK_LEN) || bytes as u64 >= self.options.direct_bytes {
            return Landing::Unfit;
        }
        match self.landings.take((bytes / BLOCK_LEN) as u64) {
            Some((slot, lease)) => Landing::Lent(self.tail.part(slot, bytes, Box::new(lease))),
            None => Landing::Taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_lent_beside_each_other_and_come_back() {
        let landings = Landings::new(8 * UNIT_SLOTS + 3);
        assert_eq!(landings.first_slot(), 4 * UNIT_SLOTS + 3);
        let used = |landings: &Landings| lock(&landings.units).taken.iter().filter(|taken| **taken).count();
        let slot = |taken: &Option<(u64, Lease)>| taken.as_ref().map(|(slot, _)| *slot);
        let first = landings.take(UNIT_SLOTS + 1);
        let second = landings.take(1);
        assert_eq!(slot(&first), Some(landings.first_slot()));
        assert_eq!(slot(&second), Some(landings.first_slot() + 2 * UNIT_SLOTS));
        assert_eq!(slot(&landings.take(2 * UNIT_SLOTS)), None, "only one unit is left");
        assert_eq!(used(&landings), 3);
        drop(first);
        assert_eq!(slot(&landings.take(2 * UNIT_SLOTS)), Some(landings.first_slot()));
        assert!(landings.take(5 * UNIT_SLOTS).is_none() && landings.take(0).is_none());
        drop(second);
        assert_eq!(used(&landings), 0);
        assert_eq!(Landings::new(RING_SLOTS_MIN + 1).first_slot(), RING_SLOTS_MIN + 1);
        assert!(Landings::new(7).take(1).is_none());
    }
}
