//! A simulated disk with a volatile cache, and the [`Device`] that drives it. Everything random comes from one seed.
//!
//! 1. The same seed and the same calls give the same outcome, byte for byte.
//! 2. Requests complete in random order; those in flight together take effect in any order. A write's bytes are taken
//!    at random when it is submitted or when it completes, so that memory reused too early is found out.
//! 3. A read sees every completed write, whether durable or not.
//! 4. A completed sync has made durable what completed before the sync was submitted, and the medium never goes back.
//! 5. A power cut ([`SimDisk::crash`], [`SimDisk::cut_after`]) keeps, drops or tears, at 512 bytes, each write that is
//!    not durable, completed or in flight. Of overlapping ones any may win, sector by sector.
//! 6. The death of the process ([`SimDisk::kill`]) loses no completed write. One in flight is done, not done, or done
//!    for some of its 4 KiB blocks; what was done is as volatile as before.
//! 7. After either, the requests of the old handle fail and touch neither disk nor memory. A disk has one live handle.
//! 8. Other than that it does only what [`Faults`] was asked for.
//!
//! Bounds: in flight at most the depth; the cache holds what was written since the last sync.
//!
//! ```text
//! submit -> in flight -> complete -> cache (seen by reads) -> sync -> medium
//!               \________________________\___ cut_power ______/
//! ```

#[cfg(test)]
pub(super) mod bench;
mod block;
mod disk;
mod ending;
mod handle;
mod state;
#[cfg(test)]
mod tests;
mod work;

use std::ops::Range;

pub use disk::{DiskStatistics, SimDisk};
pub use handle::SimDevice;

use crate::units::{BLOCK_BYTES, BLOCK_LEN};

const ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];
const SECTOR_LEN: usize = 512;
const POWER_CUT: &str = "power cut";
const KILLED: &str = "the process was killed";

fn blocks_in(bytes: u64) -> usize {
    assert!(bytes.is_multiple_of(BLOCK_BYTES), "a disk of {bytes} bytes has no whole number of blocks");
    usize::try_from(bytes / BLOCK_BYTES).expect("a disk's blocks fit the address space")
}

fn device_offset(block: usize) -> u64 {
    u64::try_from(block).expect("an index fits 64 bits") * BLOCK_BYTES
}

/// Calls `visit` with each block that the bytes touch, the range within it, and where that starts in the buffer.
fn for_each_block(offset: u64, length: usize, mut visit: impl FnMut(usize, Range<usize>, usize)) {
    let mut place = usize::try_from(offset).expect("an offset fits the address space");
    let (start, end) = (place, place + length);
    while place < end {
        let within = place % BLOCK_LEN;
        let count = (BLOCK_LEN - within).min(end - place);
        visit(place / BLOCK_LEN, within..within + count, place - start);
        place += count;
    }
}
