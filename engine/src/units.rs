//! The units the engine counts in. Each is a type of its own, so that an index is never taken for an offset.
//!
//! A *block* is 4096 bytes, the unit of allocation, mapping and checksum. A *map page* maps 64 consecutive blocks
//! (256 KiB) of one layer. A *sector* is 512 bytes, the finest alignment a request may have.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes in a block.
pub const BLOCK_BYTES: u64 = 4096;
/// Bytes in a block, for sizes in memory.
pub const BLOCK_LEN: usize = 4096;
/// Bytes in a sector, the alignment that every request must have.
pub const SECTOR_BYTES: u64 = 512;
/// Blocks that one map page maps.
pub const PAGE_BLOCKS: u64 = 64;
/// Blocks that one map page maps, for sizes in memory.
pub const PAGE_LEN: usize = 64;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

unit! {
    /// A block's place in a layer's address space, counted from 0.
    BlockIndex(u64)
}
unit! {
    /// A block's place on the device, counted from 0. Block 0 holds a superblock, so 0 never maps data.
    PhysicalBlock(u64)
}
unit! {
    /// A map page's place in a layer: block index / 64.
    PageIndex(u64)
}
unit! {
    /// The pool's count of snapshot points, from 1, only ever rising. A block's birth is the epoch it was written in.
    Epoch(u32)
}
unit! {
    /// The number of a record in the pool's journal, from 1, dense and in the order in which writes took effect.
    Lsn(u64)
}
unit! {
    /// One map: a head and its history. A volume has one that is written to; rollback gives it another.
    LayerId(u32)
}
unit! {
    /// A volume, for as long as the pool lives; never given twice.
    VolumeId(u64)
}
unit! {
    /// A consistency group, for as long as the pool lives; never given twice.
    GroupId(u64)
}

impl BlockIndex {
    /// The page that maps this block.
    pub fn page(self) -> PageIndex {
        PageIndex(self.0 / PAGE_BLOCKS)
    }

    /// The block's place within its page, 0 to 63.
    pub fn slot(self) -> usize {
        (self.0 % PAGE_BLOCKS) as usize
    }
}

impl PageIndex {
    /// The first block the page maps.
    pub fn first_block(self) -> BlockIndex {
        BlockIndex(self.0 * PAGE_BLOCKS)
    }
}

impl PhysicalBlock {
    /// Where the block lies on the device, in bytes.
    pub fn offset(self) -> u64 {
        self.0 * BLOCK_BYTES
    }
}

impl Lsn {
    /// The record after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A pool's identity, drawn at random when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PoolId(pub [u8; 16]);

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolId({self})")
    }
}
