//! The requests that an io_uring device has accepted and not yet answered.
//!
//! A request holds its memory slice from `insert` to `remove`; it is removed only once the kernel is done with it or
//! never got it. That is what makes its address in the submission entry valid.

use std::io;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};

use super::file::{TRANSFER_MAX, progress};
use super::{Memory, MemorySlice};
use crate::device::DeviceRequest;

/// How often a request that the kernel sent back to be tried again is, before that is reported.
const ATTEMPTS_MAX: u32 = 10_000;

/// What becomes of a request after the kernel has answered.
pub(super) enum Verdict {
    /// It is over.
    Done(io::Result<()>),
    /// The rest, or all of it, has to go out again.
    Again,
}

pub(super) struct Request {
    pub(super) token: u64,
    work: Work,
    attempts: u32,
}

enum Work {
    Read(Transfer),
    Write(Transfer),
    Sync,
}

struct Transfer {
    offset: u64,
    slice: MemorySlice,
    done: usize,
}

impl Request {
    pub(super) fn new(token: u64, request: DeviceRequest) -> Self {
        let work = match request {
            DeviceRequest::Read { offset, into } => Work::Read(Transfer { offset, slice: into, done: 0 }),
            DeviceRequest::Write { offset, from } => Work::Write(Transfer { offset, slice: from, done: 0 }),
            DeviceRequest::Sync => Work::Sync,
        };
        Self { token, work, attempts: 0 }
    }

    /// The submission entry for what is left of it. What is written from `registered`, the ring's only registered
    /// memory, needs no look-up of its pages.
    pub(super) fn entry(&self, file: types::Fd, registered: Option<&Arc<Memory>>) -> squeue::Entry {
        match &self.work {
            Work::Read(rest) => {
                let (address, length, offset) = rest.place();
                opcode::Read::new(file, address, length).offset(offset).build()
            }
            Work::Write(rest) => {
                let (address, length, offset) = rest.place();
                if registered.is_some_and(|memory| Arc::ptr_eq(memory, rest.slice.memory())) {
                    return opcode::WriteFixed::new(file, address, length, 0).offset(offset).build();
                }
                opcode::Write::new(file, address, length).offset(offset).build()
            }
            Work::Sync => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
        }
    }

    /// Takes note of the kernel's answer: bytes done, or a negative error number.
    pub(super) fn answer(&mut self, result: i32) -> Verdict {
        let Ok(count) = usize::try_from(result) else {
            let error = io::Error::from_raw_os_error(result.saturating_neg());
            let passing = matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock);
            self.attempts += 1;
            return if passing && self.attempts < ATTEMPTS_MAX {
                Verdict::Again
            } else {
                Verdict::Done(Err(error))
            };
        };
        let (transfer, nothing) = match &mut self.work {
            Work::Read(transfer) => (transfer, io::ErrorKind::UnexpectedEof),
            Work::Write(transfer) => (transfer, io::ErrorKind::WriteZero),
            Work::Sync => return Verdict::Done(Ok(())),
        };
        let length = transfer.slice.len();
        match progress(transfer.done, count, length) {
            _ if length == 0 => Verdict::Done(Ok(())),
            Some(done) if done == length => Verdict::Done(Ok(())),
            Some(done) => {
                transfer.done = done;
                Verdict::Again
            }
            None => Verdict::Done(Err(nothing.into())),
        }
    }
}

impl Transfer {
    fn place(&self) -> (*mut u8, u32, u64) {
        let length = (self.slice.len() - self.done).min(TRANSFER_MAX);
        let length = u32::try_from(length).expect("TRANSFER_MAX fits");
        (self.slice.address(self.done), length, self.offset + self.done as u64)
    }
}

/// Requests by slot number, which is what the kernel knows them by.
#[derive(Default)]
pub(super) struct Requests {
    slots: Vec<Option<Request>>,
    free: Vec<usize>,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, request: Request) -> usize {
        if let Some(slot) = self.free.pop() {
            self.slots[slot] = Some(request);
            return slot;
        }
        self.slots.push(Some(request));
        self.slots.len() - 1
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Request> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<Request> {
        let request = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(request)
    }

    /// Gives up all requests, keeping their memory for ever, because the kernel may still be at work in it.
    pub(super) fn abandon(&mut self) -> Vec<u64> {
        self.free.clear();
        let lost: Vec<Request> = self.slots.drain(..).flatten().collect();
        let tokens = lost.iter().map(|request| request.token).collect();
        std::mem::forget(lost);
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Memory;

    fn read(bytes: usize) -> Request {
        Request::new(7, DeviceRequest::Read { offset: 8192, into: MemorySlice::whole(Memory::heap(bytes)) })
    }

    #[test]
    fn a_short_read_goes_on_with_the_rest_in_whole_blocks() {
        let mut request = read(16_384);
        assert!(matches!(request.answer(5000), Verdict::Again));
        let Work::Read(rest) = &request.work else { panic!("a read") };
        let (address, length, offset) = rest.place();
        assert_eq!((address, length, offset), (rest.slice.address(4096), 12_288, 12_288));
        assert!(matches!(request.answer(12_288), Verdict::Done(Ok(()))));
    }

    #[test]
    fn no_progress_is_an_error() {
        let Verdict::Done(Err(error)) = read(4096).answer(100) else { panic!("an error") };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let slice = MemorySlice::whole(Memory::heap(4096));
        let mut write = Request::new(0, DeviceRequest::Write { offset: 0, from: slice });
        let Verdict::Done(Err(error)) = write.answer(0) else { panic!("an error") };
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn passing_errors_are_tried_again_but_not_for_ever() {
        let mut request = read(4096);
        let mut rounds = 0;
        let error = loop {
            match request.answer(-rustix::io::Errno::AGAIN.raw_os_error()) {
                Verdict::Again => rounds += 1,
                Verdict::Done(result) => break result.expect_err("an error"),
            }
        };
        assert_eq!((rounds, error.kind()), (ATTEMPTS_MAX - 1, io::ErrorKind::WouldBlock));
        assert!(matches!(read(4096).answer(-5), Verdict::Done(Err(_))));
    }

    #[test]
    fn slots_are_used_again_and_abandoned_memory_is_kept() {
        let mut requests = Requests::default();
        let memory = Memory::heap(4096);
        let slice = MemorySlice::whole(std::sync::Arc::clone(&memory));
        let first = requests.insert(read(4096));
        let second = requests.insert(Request::new(9, DeviceRequest::Read { offset: 0, into: slice }));
        assert_eq!(requests.remove(first).map(|request| request.token), Some(7));
        assert!(requests.remove(first).is_none());
        assert_eq!(requests.len(), 1);
        assert_ne!(first, second);
        assert_eq!(requests.abandon(), [9]);
        assert_eq!(requests.len(), 0);
        assert_eq!(std::sync::Arc::strong_count(&memory), 2);
    }
}
