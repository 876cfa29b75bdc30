//! The device on io_uring: direct I/O, one ring, used by one thread.
//!
//! 1. A request's memory is held until the kernel is done with it. `Drop` waits for that; where it can't (the ring
//!    is another thread's, or has failed) the memory is never freed.
//! 2. The device may be handed to another thread while no request is in flight: the ring is then made anew there.
//! 3. Once a call of the ring itself fails, every request in flight and every later one is answered with an error.
//! 4. A poll stays armed on the waker's eventfd. Its counter is never read back: each write to it fires the poll.
//!    Other descriptors that are watched have polls of their own; each keeps its number for ever.
//! 5. The kernel holds the pages of the memory that was prepared, if it may, and finds them anew for each request if not.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{opcode, types};

use super::requests::{Request, Requests, Verdict};
use super::ring::{Completed, Ring};
use super::waker::WakeState;
use super::{DeviceFile, Memory, Waker};
use crate::device::{Device, DeviceCompletion, DeviceRequest};
use crate::error::{Error, Kind, Result};

const DEPTH: u32 = 256;
/// Requests that are queued before the kernel gets them unasked: it works on them while the caller prepares more.
const SUBMIT_BATCH: usize = 8;
/// What the kernel knows the poll on the waker by; no slot has this number.
const WAKE: u64 = u64::MAX;
/// What the kernel knows the end of a poll by: nobody listens for it.
const FORGOTTEN: u64 = u64::MAX - 1;
/// Polls on watched descriptors have numbers above this one; no slot has.
const WATCHES: u64 = 1 << 63;
const POLL_IN: u32 = 1;

/// A descriptor that ends a wait when it becomes readable.
struct Watch {
    descriptor: Arc<OwnedFd>,
    number: u64,
    is_armed: bool,
}

/// A file or block device, driven by an io_uring of its own.
pub struct UringDevice {
    // Before the file: its requests use it.
    ring: Ring,
    requests: Requests,
    /// Slots of `requests` that the ring does not have yet.
    queue: VecDeque<usize>,
    /// Requests that the ring has.
    submitted: usize,
    wake_is_armed: bool,
    watches: Vec<Watch>,
    /// Watches that there were, ever.
    watches_made: u64,
    /// Numbers of polls that are to end.
    unwatched: Vec<u64>,
    /// Answers that did not come from the ring.
    refused: Vec<DeviceCompletion>,
    /// The error number that the ring failed with.
    failure: Option<i32>,
    reaped: Vec<Completed>,
    /// What the caller writes from most.
    prepared: Option<Arc<Memory>>,
    /// The kernel was asked to hold the pages of it for this ring, and holds them.
    is_settled: bool,
    is_registered: bool,
    wake: Arc<WakeState>,
    bytes: u64,
    file: Arc<DeviceFile>,
}

impl UringDevice {
    /// A device over `file`. It may be made on one thread and used on another.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where io_uring is forbidden or too old.
    pub fn new(file: Arc<DeviceFile>) -> Result<Self> {
        let failed = |source| {
            Error::new(Kind::Unavailable, "set up io_uring", file.path().display().to_string()).source(source)
        };
        let hint =
            "see kernel.io_uring_disabled and the container's seccomp profile, or choose the plain device";
        let ring = Ring::new(DEPTH).map_err(|source| failed(source).hint(hint))?;
        let wake = WakeState::new().map_err(failed)?;
        let bytes = file.bytes().map_err(failed)?;
        Ok(Self {
            ring,
            requests: Requests::default(),
            queue: VecDeque::new(),
            submitted: 0,
            wake_is_armed: false,
            watches: Vec::new(),
            watches_made: 0,
            unwatched: Vec::new(),
            refused: Vec::new(),
            failure: None,
            reaped: Vec::new(),
            prepared: None,
            is_settled: false,
            is_registered: false,
            wake,
            bytes,
            file,
        })
    }

    /// Whether this process may use io_uring, and the kernel's is new enough.
    pub fn permitted() -> bool {
        Ring::new(1).is_ok()
    }

    /// Hands what is queued to the kernel and waits for `want` completions, which may be none.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) {
        if self.failure.is_some() {
            return;
        }
        let entered = self.bind_here().and_then(|()| {
            self.push_queued();
            self.ring.enter(want, timeout)
        });
        if let Err(error) = entered {
            self.fail(&error);
        }
    }

    /// Rule 2.
    fn bind_here(&mut self) -> io::Result<()> {
        if self.ring.is_bound_here() {
            self.register();
            return Ok(());
        }
        if self.ring.is_bound() {
            assert!(self.submitted == 0, "a device was moved to another thread with requests in flight");
            self.ring = Ring::new(DEPTH)?;
            self.wake_is_armed = false;
            self.is_registered = false;
            self.is_settled = false;
            self.watches.iter_mut().for_each(|watch| watch.is_armed = false);
        }
        self.ring.bind()?;
        self.register();
        Ok(())
    }

    /// Tries it once for each ring; without it the device is only slower.
    fn register(&mut self) {
        let Some(memory) = self.prepared.as_ref().filter(|_| !self.is_settled) else { return };
        self.is_settled = true;
        // SAFETY: `prepared` is changed only while nothing is registered, and is dropped after the ring.
        self.is_registered = unsafe { self.ring.register(memory) };
    }

    fn push_queued(&mut self) {
        if !self.wake_is_armed {
            let event = types::Fd(self.wake.event().as_raw_fd());
            let poll = opcode::PollAdd::new(event, POLL_IN).multi(true).build().user_data(WAKE);
            // SAFETY: the entry points to no memory. The eventfd is ours for as long as the ring is.
            self.wake_is_armed = unsafe { self.ring.push(&poll) };
        }
        self.push_watches();
        let file = types::Fd(self.file.descriptor().as_raw_fd());
        let registered = self.prepared.as_ref().filter(|_| self.is_registered);
        while let Some(slot) = self.queue.front().copied() {
            if let Some(request) = self.requests.get_mut(slot) {
                let entry = request.entry(file, registered).user_data(slot as u64);
                // SAFETY: the entry points into the request's memory slice, which `requests` keeps until the
                // completion was reaped (rule 1) and which the caller leaves alone for so long (rule 4 of a device).
                if !unsafe { self.ring.push(&entry) } {
                    return;
                }
                self.submitted += 1;
            }
            self.queue.pop_front();
        }
    }

    fn push_watches(&mut self) {
        for watch in self.watches.iter_mut().filter(|watch| !watch.is_armed) {
            let descriptor = types::Fd(watch.descriptor.as_raw_fd());
            let poll = opcode::PollAdd::new(descriptor, POLL_IN).multi(true).build().user_data(watch.number);
            // SAFETY: the entry points to no memory. The kernel holds the file for as long as the poll lives.
            watch.is_armed = unsafe { self.ring.push(&poll) };
        }
        while let Some(&number) = self.unwatched.last() {
            let remove = opcode::PollRemove::new(number).build().user_data(FORGOTTEN);
            // SAFETY: the entry points to no memory.
            if !unsafe { self.ring.push(&remove) } {
                return;
            }
            self.unwatched.pop();
        }
    }

    /// Takes the completions that are there and answers the requests that are over with them. Says whether something was
    /// told of a watched descriptor.
    fn collect(&mut self, completions: &mut Vec<DeviceCompletion>) -> bool {
        let mut told = false;
        completions.append(&mut self.refused);
        let mut reaped = std::mem::take(&mut self.reaped);
        self.ring.reap(&mut reaped);
        for completed in reaped.drain(..) {
            if completed.user_data == WAKE {
                self.wake_is_armed &= completed.more;
            } else if completed.user_data > WATCHES {
                let watch = self.watches.iter_mut().find(|watch| watch.number == completed.user_data);
                watch.into_iter().for_each(|watch| watch.is_armed &= completed.more);
                told = true;
            } else if let Some(completion) = self.settle(completed) {
                completions.push(completion);
            }
        }
        self.reaped = reaped;
        told
    }

    fn settle(&mut self, completed: Completed) -> Option<DeviceCompletion> {
        // A slot that is gone belonged to a ring that has failed.
        let slot = usize::try_from(completed.user_data).ok()?;
        let verdict = self.requests.get_mut(slot)?.answer(completed.result);
        self.submitted -= 1;
        match verdict {
            Verdict::Again => {
                self.queue.push_back(slot);
                None
            }
            Verdict::Done(result) => {
                let request = self.requests.remove(slot)?;
                Some(DeviceCompletion { token: request.token, result })
            }
        }
    }

    /// Rule 3.
    fn fail(&mut self, error: &io::Error) {
        let number = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
        self.failure = Some(number);
        self.queue.clear();
        self.submitted = 0;
        for token in self.requests.abandon() {
            self.refuse(token, number);
        }
    }

    fn refuse(&mut self, token: u64, number: i32) {
        self.refused.push(DeviceCompletion { token, result: Err(io::Error::from_raw_os_error(number)) });
    }
}

impl Device for UringDevice {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn depth(&self) -> usize {
        DEPTH as usize
    }

    fn prepare(&mut self, memory: &Arc<Memory>) {
        if self.prepared.is_none() {
            self.prepared = Some(Arc::clone(memory));
        }
    }

    fn submit(&mut self, token: u64, request: DeviceRequest) {
        if let Some(number) = self.failure {
            return self.refuse(token, number);
        }
        assert!(self.requests.len() < self.depth(), "more requests than the device's depth");
        let slot = self.requests.insert(Request::new(token, request));
        self.queue.push_back(slot);
        if self.queue.len() >= SUBMIT_BATCH {
            self.enter(0, None);
        }
    }

    fn poll(&mut self, completions: &mut Vec<DeviceCompletion>) {
        if !self.queue.is_empty() || self.ring.is_work_due() {
            self.enter(0, None);
        }
        self.collect(completions);
    }

    /// May also return early with nothing.
    fn wait(&mut self, timeout: Option<Duration>, completions: &mut Vec<DeviceCompletion>) {
        let before = completions.len();
        // A kernel that knows no deferred work tells of a descriptor at any time: also since the caller looked at it.
        let told = self.collect(completions);
        // A ring that has failed has nothing to wait for but the waker.
        if self.failure.is_some() && completions.len() == before {
            let watched: Vec<_> = self.watches.iter().map(|watch| Arc::clone(&watch.descriptor)).collect();
            return self.wake.sleep(timeout, &watched);
        }
        if completions.len() > before || told || !self.wake.fall_asleep() {
            return self.poll(completions);
        }
        self.enter(1, timeout);
        self.wake.awake();
        self.collect(completions);
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn watch(&mut self, descriptor: &Arc<OwnedFd>) {
        self.watches_made += 1;
        let number = WATCHES + self.watches_made;
        self.watches.push(Watch { descriptor: Arc::clone(descriptor), number, is_armed: false });
    }

    fn unwatch(&mut self, descriptor: &Arc<OwnedFd>) {
        let gone = self.watches.extract_if(.., |watch| Arc::ptr_eq(&watch.descriptor, descriptor));
        self.unwatched.extend(gone.filter(|watch| watch.is_armed).map(|watch| watch.number));
    }

    fn sync_now(&mut self) -> Option<io::Result<()>> {
        if let Some(number) = self.failure {
            return Some(Err(io::Error::from_raw_os_error(number)));
        }
        (self.requests.len() == 0).then(|| self.file.sync())
    }

    fn refresh_size(&mut self) -> io::Result<u64> {
        self.bytes = self.file.bytes()?;
        Ok(self.bytes)
    }

    fn describe(&self) -> String {
        "io_uring, O_DIRECT".to_owned()
    }
}

impl Drop for UringDevice {
    fn drop(&mut self) {
        let mut dropped = Vec::new();
        while self.submitted > 0 {
            if !self.ring.is_bound_here() {
                self.requests.abandon();
                return;
            }
            // What the kernel does not have yet it does not get any more.
            for slot in self.queue.drain(..) {
                self.requests.remove(slot);
            }
            self.enter(1, None);
            self.collect(&mut dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::{self, Disk};
    use super::*;
    use crate::sys::MemorySlice;
    use std::thread;

    fn uring(file: Arc<DeviceFile>) -> UringDevice {
        UringDevice::new(file).expect("io_uring is permitted here")
    }

    #[test]
    fn keeps_the_contract_of_a_device() {
        assert!(UringDevice::permitted());
        contract::contract(uring);
    }

    #[test]
    fn an_idle_device_moves_between_threads() {
        let disk = Disk::new(1 << 20);
        let mut device = uring(disk.file());
        let slice = MemorySlice::whole(Memory::heap(4096));
        for round in 0..3 {
            device = thread::spawn(move || {
                contract::run(&mut device, vec![(round, DeviceRequest::Sync)]);
                device
            })
            .join()
            .expect("used on a second thread");
            contract::run(&mut device, vec![(round, DeviceRequest::Read { offset: 0, into: slice.clone() })]);
        }
    }

    #[test]
    fn prepared_memory_is_written_from_on_whatever_thread_the_device_is() {
        let disk = Disk::new(1 << 20);
        let mut device = uring(disk.file());
        let (prepared, other) = (Memory::heap(64 << 10), Memory::heap(4096));
        device.prepare(&prepared);
        for round in 0..3_u8 {
            let fill = |value: u8| [value; 4096];
            prepared.copy_in(40 << 10, &fill(10 + round));
            other.copy_in(0, &fill(20 + round));
            let write = |memory: &Arc<Memory>, at: usize, offset| DeviceRequest::Write {
                offset,
                from: MemorySlice::new(Arc::clone(memory), at, 4096),
            };
            let writes = vec![(1, write(&prepared, 40 << 10, 8192)), (2, write(&other, 0, 0))];
            device = thread::spawn(move || {
                contract::run(&mut device, writes);
                assert!(device.is_registered, "this process may lock so little memory");
                device
            })
            .join()
            .expect("used on another thread");
            let back = MemorySlice::whole(Memory::heap(12 << 10));
            let mut device = uring(disk.file());
            contract::run(&mut device, vec![(1, DeviceRequest::Read { offset: 0, into: back.clone() })]);
            assert_eq!(back.bytes(0, 4096), fill(20 + round));
            assert_eq!(back.bytes(8192, 4096), fill(10 + round));
        }
    }

    #[test]
    fn memory_outlives_a_device_that_another_thread_drops() {
        let disk = Disk::new(1 << 20);
        let mut device = uring(disk.file());
        let memory = Memory::heap(1 << 20);
        device.submit(1, DeviceRequest::Read { offset: 0, into: MemorySlice::whole(Arc::clone(&memory)) });
        device.poll(&mut Vec::new());
        let in_flight = device.submitted;
        thread::spawn(move || drop(device)).join().expect("dropped");
        assert_eq!(Arc::strong_count(&memory), 1 + in_flight);
    }

    #[test]
    fn after_a_failure_everything_is_refused() {
        let disk = Disk::new(1 << 20);
        let mut device = uring(disk.file());
        device.submit(1, DeviceRequest::Sync);
        device.fail(&io::Error::from_raw_os_error(5));
        device.submit(2, DeviceRequest::Sync);
        let mut completions = Vec::new();
        device.wait(None, &mut completions);
        let refused: Vec<_> = completions.iter().map(|one| (one.token, one.result.is_err())).collect();
        assert_eq!(refused, [(1, true), (2, true)]);
        device.wait(Some(Duration::from_millis(1)), &mut completions);
        assert_eq!(completions.len(), 2);
    }
}
