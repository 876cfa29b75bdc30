//! The operating system: the only home of `unsafe`, io_uring, O_DIRECT, aligned memory, the clock and randomness.
//!
//! Memory that devices read into and write from is in `memory`, `buffer_pool` and `shared`; the pool's file, its lock
//! and the two devices over it in `file`, `lock`, `uring` and `plain`; files of others in `direct` and `write_out`; what
//! wakes a device's thread in `waker`; connections to other programs in `socket` and `poller`.

mod buffer_pool;
mod choice;
#[cfg(test)]
mod contract;
mod direct;
mod file;
mod host;
mod lock;
mod memory;
mod peer;
mod plain;
mod poller;
mod requests;
mod ring;
mod shared;
mod socket;
mod uring;
mod waker;
mod write_out;

pub use buffer_pool::BufferPool;
pub use choice::{DeviceKind, open_device};
pub use direct::open_again_direct;
pub use file::{CreateOptions, DeviceFile, OpenMode};
pub use host::{Clock, SystemClock, boot_id, free_bytes, random_bytes};
pub use lock::LockBeside;
pub use memory::{Memory, MemorySlice};
pub use peer::watch_peer;
pub use plain::PlainDevice;
pub use poller::{Interest, Poller, Readiness};
pub use shared::SharedFile;
pub use socket::{SEND_PARTS_MAX, Socket, is_listened_at, listen_unix};
pub use uring::UringDevice;
pub use waker::{WakeState, Waker};
pub use write_out::begin_writing_out;
