//! The NBD protocol as numbers and bytes, for a server and for a client: no input or output happens here.
//!
//! Names follow the protocol document (doc/proto.md of the NBD project) without the prefix `NBD_`. All numbers on the
//! wire are big-endian.
//!
//! 1. Lengths are checked before anything is read or allocated by them.
//! 2. A decoder takes bytes that came from anybody: it returns an error, it never panics.
//! 3. What an encoder here makes, the decoder here reads back as the same value.

pub mod handshake;
mod reader;
pub mod transmission;

pub use reader::{Malformed, Reader};

/// Longest string on the wire, in bytes: export names, descriptions, context names, messages.
pub const STRING_BYTES_MAX: usize = 4096;
/// The port that NBD has of IANA.
pub const PORT: u16 = 10_809;

/// The answer to "what is at this place" that the context `base:allocation` gives.
pub mod allocation {
    /// Nothing is allocated; a write may find no room.
    pub const HOLE: u32 = 1;
    /// It reads as zeros.
    pub const ZERO: u32 = 2;
}

/// The answer of the context `qemu:dirty-bitmap:NAME` for what changed.
pub const DIRTY: u32 = 1;

/// The error numbers of replies. They are Linux's, on every machine.
pub mod errno {
    /// Not permitted: a write to a read-only export.
    pub const EPERM: u32 = 1;
    /// The device failed, or what was read is not what was written.
    pub const EIO: u32 = 5;
    /// No memory.
    pub const ENOMEM: u32 = 12;
    /// The request can't be: a wrong flag, range or alignment.
    pub const EINVAL: u32 = 22;
    /// There is no room.
    pub const ENOSPC: u32 = 28;
    /// An answer in one piece would be too long.
    pub const EOVERFLOW: u32 = 75;
    /// Not done that way: a fast zero that would be slow.
    pub const ENOTSUP: u32 = 95;
    /// The server is about to end.
    pub const ESHUTDOWN: u32 = 108;
}
