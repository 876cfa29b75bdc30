//! The load: a client that lives on the reactor's thread, as the NBD server does, and keeps a number of requests
//! under way.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use firn_engine::core::{Request, Response, Target};
use firn_engine::pool::Pool;
use firn_engine::reactor::{LocalClient, Port};
use firn_engine::sys::{Clock, MemorySlice, SystemClock};
use firn_engine::units::{BLOCK_BYTES, BLOCK_LEN, VolumeId};

use crate::figure::float;
use crate::random::Random;

/// What is asked, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    RandomWrite,
    /// Writes of zeros, which become holes: records without data.
    RandomHole,
    RandomRead,
    SequentialWrite,
    SequentialRead,
}

/// When it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    After(Duration),
    Operations(u64),
}

/// A load on one volume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) volume: VolumeId,
    /// Bytes of the volume that are used, from its start.
    pub(crate) bytes: u64,
    pub(crate) pattern: Pattern,
    /// Bytes of each request.
    pub(crate) request_bytes: u64,
    /// Requests under way.
    pub(crate) depth: u64,
    /// A flush after each write, waited for before the next.
    pub(crate) flush_each: bool,
    pub(crate) stop: Stop,
    pub(crate) seed: u64,
}

/// What a load reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    pub(crate) operations: u64,
    /// From the first request to the last answer and, for writes, a flush after that: what lies in memory counts
    /// only when it is on the device.
    pub(crate) seconds: f64,
}

impl Reached {
    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        float(self.operations) / self.seconds
    }
}

impl Load {
    /// 4 KiB requests.
    pub(crate) fn small(volume: VolumeId, bytes: u64, pattern: Pattern, depth: u64, stop: Stop) -> Self {
        Self { volume, bytes, pattern, request_bytes: BLOCK_BYTES, depth, flush_each: false, stop, seed: 1 }
    }

    /// 1 MiB requests, 4 under way.
    pub(crate) fn large(volume: VolumeId, bytes: u64, pattern: Pattern, stop: Stop) -> Self {
        Self { request_bytes: 1 << 20, ..Self::small(volume, bytes, pattern, 4, stop) }
    }

    /// Runs it to its end.
    pub(crate) fn run(self, pool: &Pool) -> Result<Reached> {
        let (report, reports) = channel();
        pool.attach_client(Box::new(Running::new(self, report)));
        reports.recv().context("the reactor ended while it was under load")?.context("under load")
    }
}

/// The tag of the flush at the end; the others are those of the workers.
const LAST_FLUSH: u64 = u64::MAX;

struct Running {
    load: Load,
    random: Random,
    places: u64,
    buffers: Vec<MemorySlice>,
    /// Whether each worker waits for its flush.
    flushing: Vec<bool>,
    started: Duration,
    submitted: u64,
    under_way: u64,
    completed: u64,
    ended: bool,
    report: Sender<firn_engine::error::Result<Reached>>,
}

impl Running {
    fn new(load: Load, report: Sender<firn_engine::error::Result<Reached>>) -> Self {
        Self {
            load,
            random: Random::new(load.seed),
            places: load.bytes / load.request_bytes,
            buffers: Vec::new(),
            flushing: Vec::new(),
            started: Duration::ZERO,
            submitted: 0,
            under_way: 0,
            completed: 0,
            ended: false,
            report,
        }
    }

    fn begin(&mut self, port: &mut Port<'_>) {
        let length = usize::try_from(self.load.request_bytes).expect("a request fits memory");
        for worker in 0..self.load.depth {
            let memory = MemorySlice::new(port.buffers().get(length), 0, length);
            memory.copy_in(0, &self.random.bytes(length));
            self.buffers.push(memory);
            self.flushing.push(false);
            if worker == 0 {
                self.started = SystemClock.monotonic();
            }
            self.ask(worker, port);
        }
    }

    fn is_over(&self) -> bool {
        match self.load.stop {
            Stop::Operations(most) => self.submitted >= most,
            Stop::After(time) => SystemClock.monotonic() - self.started >= time,
        }
    }

    fn ask(&mut self, worker: u64, port: &mut Port<'_>) {
        if self.is_over() {
            return;
        }
        let place = match self.load.pattern {
            Pattern::RandomWrite | Pattern::RandomHole | Pattern::RandomRead => {
                self.random.below(self.places)
            }
            Pattern::SequentialWrite | Pattern::SequentialRead => self.submitted % self.places,
        };
        let (volume, offset) = (self.load.volume, place * self.load.request_bytes);
        let request = match self.load.pattern {
            Pattern::RandomRead | Pattern::SequentialRead => {
                Request::Read { target: Target::Volume(volume), offset, length: self.load.request_bytes }
            }
            _ => Request::Write { volume, offset, data: self.data(worker), fua: false },
        };
        self.submitted += 1;
        self.under_way += 1;
        port.submit(worker, request);
    }

    /// The worker's buffer, of random bytes, with every block made unlike what was written before.
    fn data(&self, worker: u64) -> MemorySlice {
        let buffer = &self.buffers[usize::try_from(worker).expect("a worker's number")];
        if self.load.pattern == Pattern::RandomHole {
            buffer.fill_zero(0, buffer.len());
            return buffer.clone();
        }
        for block in (0..buffer.len()).step_by(BLOCK_LEN) {
            buffer.copy_in(block, &self.submitted.to_le_bytes());
        }
        buffer.clone()
    }

    fn end(&mut self) {
        let seconds = (SystemClock.monotonic() - self.started).as_secs_f64();
        self.ended = true;
        // Nobody listens any more when the run was given up.
        let _ = self.report.send(Ok(Reached { operations: self.completed, seconds }));
    }

    fn is_reading(&self) -> bool {
        matches!(self.load.pattern, Pattern::RandomRead | Pattern::SequentialRead)
    }
}

impl LocalClient for Running {
    fn turn(&mut self, port: &mut Port<'_>) -> bool {
        if self.buffers.is_empty() {
            self.begin(port);
        }
        !self.ended
    }

    fn completed(&mut self, tag: u64, result: firn_engine::error::Result<Response>, port: &mut Port<'_>) {
        if let Err(error) = result {
            self.ended = true;
            let _ = self.report.send(Err(error));
            return;
        }
        if tag == LAST_FLUSH {
            return self.end();
        }
        let worker = usize::try_from(tag).expect("a worker's number");
        if self.load.flush_each {
            self.flushing[worker] = !self.flushing[worker];
            if self.flushing[worker] {
                return port.submit(tag, Request::Flush);
            }
        }
        self.completed += 1;
        self.under_way -= 1;
        self.ask(tag, port);
        if self.under_way == 0 && !self.ended {
            if self.is_reading() { self.end() } else { port.submit(LAST_FLUSH, Request::Flush) }
        }
    }
}
