//! The device on positional reads and writes of a few threads, for where io_uring is not permitted.
//!
//! Each thread takes the oldest request, does it and reports it. `Drop` lets the threads finish what they have begun;
//! what none has begun is dropped.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::waker::WakeState;
use super::{DeviceFile, Waker};
use crate::device::{Device, DeviceCompletion, DeviceRequest};
use crate::error::{Error, Result};

const DEPTH: usize = 256;
const WORKERS: usize = 8;

/// A file or block device, driven by threads.
pub struct PlainDevice {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    in_flight: usize,
    bytes: u64,
    file: Arc<DeviceFile>,
    wake: Arc<WakeState>,
    watched: Vec<Arc<OwnedFd>>,
}

struct Shared {
    todo: Mutex<Todo>,
    is_work_there: Condvar,
    done: Mutex<Vec<DeviceCompletion>>,
}

#[derive(Default)]
struct Todo {
    requests: VecDeque<(u64, DeviceRequest)>,
    is_closed: bool,
}

impl PlainDevice {
    /// A device over `file`, with threads of its own.
    ///
    /// # Errors
    /// What the operating system said (no more threads or file descriptors).
    pub fn new(file: Arc<DeviceFile>) -> Result<Self> {
        let failed = |source| Error::io("start device threads", file.path().display(), source);
        let shared = Shared { todo: Mutex::default(), is_work_there: Condvar::new(), done: Mutex::default() };
        let mut device = Self {
            shared: Arc::new(shared),
            workers: Vec::new(),
            in_flight: 0,
            bytes: file.bytes().map_err(failed)?,
            wake: WakeState::new().map_err(failed)?,
            watched: Vec::new(),
            file: Arc::clone(&file),
        };
        for number in 0..WORKERS {
            let (shared, file, waker) =
                (Arc::clone(&device.shared), Arc::clone(&device.file), device.wake.waker());
            let name = format!("firn-device-{number}");
            let worker = thread::Builder::new().name(name).spawn(move || shared.work(&file, &waker));
            device.workers.push(worker.map_err(failed)?);
        }
        Ok(device)
    }

    fn collect(&mut self, completions: &mut Vec<DeviceCompletion>) {
        let mut done = held(&self.shared.done);
        self.in_flight -= done.len();
        completions.append(&mut done);
    }
}

impl Shared {
    fn work(&self, file: &DeviceFile, waker: &Waker) {
        while let Some((token, request)) = self.next() {
            let result = match &request {
                DeviceRequest::Read { offset, into } => file.read_at(*offset, into),
                DeviceRequest::Write { offset, from } => file.write_at(*offset, from),
                DeviceRequest::Sync => file.sync(),
            };
            // The memory is let go before the caller hears that it may have it back.
            drop(request);
            held(&self.done).push(DeviceCompletion { token, result });
            waker.wake();
        }
    }

    fn next(&self) -> Option<(u64, DeviceRequest)> {
        let mut todo = held(&self.todo);
        loop {
            if todo.is_closed {
                return None;
            }
            if let Some(next) = todo.requests.pop_front() {
                return Some(next);
            }
            todo = self.is_work_there.wait(todo).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Nothing panics while it holds one of these locks, and if it did, what they guard would still be whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device for PlainDevice {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn submit(&mut self, token: u64, request: DeviceRequest) {
        assert!(self.in_flight < DEPTH, "more requests than the device's depth");
        self.in_flight += 1;
        held(&self.shared.todo).requests.push_back((token, request));
        self.shared.is_work_there.notify_one();
    }

    fn poll(&mut self, completions: &mut Vec<DeviceCompletion>) {
        self.collect(completions);
    }

    /// May also return early with nothing.
    fn wait(&mut self, timeout: Option<Duration>, completions: &mut Vec<DeviceCompletion>) {
        let before = completions.len();
        self.collect(completions);
        if completions.len() == before {
            self.wake.sleep(timeout, &self.watched);
            self.collect(completions);
        }
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn watch(&mut self, descriptor: &Arc<OwnedFd>) {
        self.watched.push(Arc::clone(descriptor));
    }

    fn unwatch(&mut self, descriptor: &Arc<OwnedFd>) {
        self.watched.retain(|watched| !Arc::ptr_eq(watched, descriptor));
    }

    fn sync_now(&mut self) -> Option<io::Result<()>> {
        (self.in_flight == 0).then(|| self.file.sync())
    }

    fn refresh_size(&mut self) -> io::Result<u64> {
        self.bytes = self.file.bytes()?;
        Ok(self.bytes)
    }

    fn describe(&self) -> String {
        format!("{WORKERS} threads, O_DIRECT")
    }
}

impl Drop for PlainDevice {
    fn drop(&mut self) {
        held(&self.shared.todo).is_closed = true;
        self.shared.is_work_there.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has let go of its memory all the same.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    #[test]
    fn keeps_the_contract_of_a_device() {
        contract::contract(|file| PlainDevice::new(file).expect("threads"));
    }
}
