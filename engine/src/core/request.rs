//! What the core is asked, and what it answers.

use crate::catalog::{Catalog, Operation, SnapshotKey};
use crate::error::Result;
use crate::sys::MemorySlice;
use crate::units::{BlockIndex, Lsn, VolumeId};

/// Who asked: the client and its own number for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The client.
    pub client: u64,
    /// The client's number for the request.
    pub tag: u64,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A volume as it is.
    Volume(VolumeId),
    /// A snapshot.
    Snapshot(SnapshotKey),
}

/// Builds an operation from the catalog as it is when the request's turn comes; the second argument is the wall
/// clock in ms.
pub type Plan = Box<dyn FnOnce(&Catalog, u64) -> Result<Operation> + Send>;
/// Looks at the core between two requests.
pub type Look = Box<dyn FnOnce(&super::Core) + Send>;

/// A request. Offsets and lengths are in bytes and multiples of 512.
pub enum Request {
    /// Reads; answered by [`Response::Data`].
    Read {
        /// What.
        target: Target,
        /// From where.
        offset: u64,
        /// How much, at most [`READ_BYTES_MAX`].
        length: u64,
    },
    /// Writes; aligned to 4096 and up to 64 KiB it is untorn (I3).
    Write {
        /// The volume.
        volume: VolumeId,
        /// Where.
        offset: u64,
        /// What.
        data: MemorySlice,
        /// Answered only when it is durable.
        fua: bool,
    },
    /// Makes a range read as zeros and gives its room back (trim and write-zeroes).
    Unmap {
        /// The volume.
        volume: VolumeId,
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
        /// Answered only when it is durable.
        fua: bool,
    },
    /// Makes durable everything that was acknowledged before.
    Flush,
    /// Changes the catalog; durable when answered, by [`Response::Changed`].
    Change(Plan),
    /// Makes a checkpoint of everything acknowledged before; answered when RocksDB holds it.
    Checkpoint,
    /// Keeps a snapshot from being deleted while a reader needs it, or lets it go.
    Pin {
        /// The snapshot.
        key: SnapshotKey,
        /// Keep it or let it go.
        pinned: bool,
    },
    /// Looks at the state.
    Look(Look),
    /// Writes a volume's block again as it is, so that a clone has its own copy of it.
    Rewrite {
        /// The volume.
        volume: VolumeId,
        /// The block.
        block: BlockIndex,
    },
    /// Takes room that was added to the device.
    Grow {
        /// Blocks in the pool from now on.
        pool_blocks: u64,
    },
}

/// Most bytes one read asks for.
pub const READ_BYTES_MAX: u64 = 32 << 20;

/// The answer to a request.
#[derive(Debug)]
pub enum Response {
    /// What was read.
    Data(MemorySlice),
    /// Done; everything up to this LSN had taken effect.
    Done(Lsn),
    /// The operation that was done.
    Changed(Operation, Lsn),
}

/// A finished request.
#[derive(Debug)]
pub struct Completion {
    /// Who asked.
    pub owner: Owner,
    /// What came of it.
    pub result: Result<Response>,
}
