//! The device: a handle of the disk, live until the disk crashes, is killed or opened again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::disk::SimDisk;
use crate::device::{Device, DeviceCompletion, DeviceRequest};
use crate::error::{Error, Result};
use crate::sys::{WakeState, Waker};

/// A handle of a [`SimDisk`], live until the disk crashes, is killed or opened again.
#[derive(Debug)]
pub struct SimDevice {
    disk: SimDisk,
    incarnation: u64,
    depth: usize,
    bytes: u64,
    wake: Arc<WakeState>,
}

impl SimDevice {
    /// Opens the disk for at most `depth` requests in flight. If the last handle still had some, its process counts
    /// as killed; if the power is cut, it is turned on.
    ///
    /// # Errors
    /// When the operating system has no waker to give.
    pub fn open(disk: &SimDisk, depth: usize) -> Result<Self> {
        let wake = WakeState::new().map_err(|error| Error::io("open simulated disk", "waker", error))?;
        let mut state = disk.lock();
        if state.is_cut {
            state.crash();
        } else if state.in_flight.is_empty() {
            state.incarnation += 1;
        } else {
            state.kill();
        }
        let (incarnation, bytes) = (state.incarnation, state.bytes());
        drop(state);
        Ok(Self { disk: disk.clone(), incarnation, depth, bytes, wake })
    }

    /// Answers what is refused and completes at least `least` requests of those in flight.
    fn complete(&mut self, least: usize, completions: &mut Vec<DeviceCompletion>) {
        let mut state = self.disk.lock();
        let refused = state.answer_refused(self.incarnation, completions);
        if state.is_live(self.incarnation) {
            let in_flight = state.in_flight.len();
            let least = if refused > 0 { 0 } else { least.min(in_flight) };
            let count = least + state.random.index(in_flight - least + 1);
            for _ in 0..count {
                completions.push(state.complete_one());
                if state.is_cut {
                    state.answer_refused(self.incarnation, completions);
                    break;
                }
            }
        }
    }
}

impl Drop for SimDevice {
    fn drop(&mut self) {
        self.disk.lock().refused.retain(|refused| refused.incarnation != self.incarnation);
    }
}

impl Device for SimDevice {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, token: u64, request: DeviceRequest) {
        let mut state = self.disk.lock();
        let has_room = state.in_flight.len() < self.depth || !state.is_live(self.incarnation);
        assert!(has_room, "more than {} requests in flight", self.depth);
        state.submit(self.incarnation, token, request);
    }

    fn poll(&mut self, completions: &mut Vec<DeviceCompletion>) {
        self.complete(0, completions);
    }

    /// Completes at least one request. With none in flight it returns at once: time is not simulated.
    fn wait(&mut self, _timeout: Option<Duration>, completions: &mut Vec<DeviceCompletion>) {
        self.complete(1, completions);
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn sync_now(&mut self) -> Option<io::Result<()>> {
        let mut state = self.disk.lock();
        if !state.in_flight.is_empty() || state.random.coin() {
            return None;
        }
        if !state.is_live(self.incarnation) {
            return Some(Err(io::Error::other(state.ending)));
        }
        let barrier = state.completed;
        let result = state.sync(barrier);
        state.count_completion();
        Some(result)
    }

    fn refresh_size(&mut self) -> io::Result<u64> {
        let state = self.disk.lock();
        if !state.is_live(self.incarnation) {
            return Err(io::Error::other(state.ending));
        }
        self.bytes = state.bytes();
        Ok(self.bytes)
    }

    fn describe(&self) -> String {
        "simulated".to_owned()
    }
}
