//! The one trait under everything that is stored: reads, writes and syncs of a block device, completed out of order.
//!
//! Implementations: `sys::UringDevice` (io_uring, O_DIRECT), `sys::PlainDevice` (positional I/O on threads, where
//! io_uring is not permitted) and `sim::SimDevice` (faults and crashes on demand).
//!
//! 1. A completed write is in the device's cache, not necessarily on its medium.
//! 2. A completed sync puts every write that completed before the sync was submitted on the medium.
//! 3. Requests in flight together may take effect in any order; the caller keeps overlapping ones apart.
//! 4. The memory of a request is not touched by the caller until its completion was reaped.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::sys::{Memory, MemorySlice, Waker};

/// One request. Offsets and lengths are in bytes and multiples of 4096.
#[derive(Debug)]
pub enum DeviceRequest {
    /// Fill the whole slice from the device.
    Read {
        /// Where on the device, in bytes.
        offset: u64,
        /// Where the bytes go.
        into: MemorySlice,
    },
    /// Write the whole slice.
    Write {
        /// Where on the device, in bytes.
        offset: u64,
        /// What is written.
        from: MemorySlice,
    },
    /// Put every write that completed before on the medium (`fdatasync`).
    Sync,
}

/// The end of a request. A short read or write is an error.
#[derive(Debug)]
pub struct DeviceCompletion {
    /// The token that the request was submitted with.
    pub token: u64,
    /// Whether the whole request was done.
    pub result: io::Result<()>,
}

/// A block device.
pub trait Device: Send {
    /// Bytes on the device, a multiple of 4096.
    fn bytes(&self) -> u64;

    /// Most requests that may be in flight at once.
    fn depth(&self) -> usize;

    /// Says that much of what will be written lies in this memory, which a device may make ready once and for all. It
    /// holds the memory from then on.
    fn prepare(&mut self, _memory: &Arc<Memory>) {}

    /// Queues a request. The caller keeps at most [`depth`](Device::depth) in flight.
    fn submit(&mut self, token: u64, request: DeviceRequest);

    /// Hands what is queued to the device and collects what has completed, without waiting.
    fn poll(&mut self, completions: &mut Vec<DeviceCompletion>);

    /// Like [`poll`](Device::poll), but waits until something completes, the waker is called or `timeout` is over.
    fn wait(&mut self, timeout: Option<Duration>, completions: &mut Vec<DeviceCompletion>);

    /// Wakes a thread that is in [`wait`](Device::wait), from any thread.
    fn waker(&self) -> Waker;

    /// From now on [`wait`](Device::wait) also returns when something becomes readable on the descriptor: looked at
    /// before the wait, it is not told again. A device that does not sleep has nothing to do.
    fn watch(&mut self, _descriptor: &Arc<OwnedFd>) {}

    /// Ends a [`watch`](Device::watch).
    fn unwatch(&mut self, _descriptor: &Arc<OwnedFd>) {}

    /// Makes a sync right here, when nothing else is in flight, where that is faster than a queued one.
    /// `None` when the device has no such way.
    fn sync_now(&mut self) -> Option<io::Result<()>>;

    /// Looks at the size again, after the file or device was grown.
    ///
    /// # Errors
    /// What the operating system said.
    fn refresh_size(&mut self) -> io::Result<u64>;

    /// What it is, in a few words for the log ("io_uring, O_DIRECT").
    fn describe(&self) -> String;
}
