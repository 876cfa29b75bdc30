//! A map entry and a map page, decoded.

use crate::units::{Epoch, PAGE_LEN, PhysicalBlock};

/// Where one block lies. Physical block 0 means a hole: the block reads as zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Where the block lies on the device, below 2^40; 0 for a hole.
    pub physical: PhysicalBlock,
    /// The epoch it was written in; 0 for a hole.
    pub birth: Epoch,
    /// The checksum of its 4096 bytes; 0 for a hole.
    pub checksum: u32,
}

impl Entry {
    /// The hole.
    pub const HOLE: Entry = Entry { physical: PhysicalBlock(0), birth: Epoch(0), checksum: 0 };

    /// An entry that maps data.
    pub fn data(physical: u64, birth: u32, checksum: u32) -> Self {
        Self { physical: PhysicalBlock(physical), birth: Epoch(birth), checksum }
    }

    /// Whether the block reads as zeros and takes no room.
    pub fn is_hole(&self) -> bool {
        self.physical.0 == 0
    }

    /// Whether `next` continues a run of `length` blocks that starts with `self`.
    pub fn followed_by(&self, length: usize, next: &Entry) -> bool {
        if self.is_hole() || next.is_hole() {
            return self.is_hole() && next.is_hole();
        }
        next.physical.0 == self.physical.0 + length as u64 && next.birth == self.birth
    }
}

/// The map of 64 consecutive blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page(pub Box<[Entry; PAGE_LEN]>);

impl Default for Page {
    fn default() -> Self {
        Self(Box::new([Entry::HOLE; PAGE_LEN]))
    }
}

impl Page {
    /// The mask of blocks that hold data.
    pub fn mapped(&self) -> u64 {
        self.0.iter().enumerate().fold(0, |mask, (slot, entry)| mask | u64::from(!entry.is_hole()) << slot)
    }
}
