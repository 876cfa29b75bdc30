//! The reactor: the one thread that owns the core and the device of an open pool. Everybody else sends it messages.
//!
//! 1. Nothing on this thread waits, except for the device when there is nothing else to do; for a wait that is likely to
//!    be short it stays awake (`patience`).
//! 2. Every request is answered exactly once: by the core, or with an error when the reactor ends before that.
//! 3. A panic here or on a worker thread becomes an error ([`Kind::Bug`]) for those who wait, never a hang.
//! 4. An idle pool costs one look at the core's timers every 100 ms.
//!
//! *running* -(`Handle::finish`)-> *finishing* (no new changes; what is under way ends) -> *ended*; or
//! *running* -(`Handle::abandon`)-> *ended* at once, as if the process had died.

mod client;
mod handle;
mod patience;
mod transfer;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;

use slab::Slab;

use crate::core::{Completion, Core, Owner, Response, WorkDone, WorkItem};
use crate::device::{Device, DeviceCompletion, DeviceRequest};
use crate::error::{Error, Kind, Result};
use crate::journal::Position;
use crate::map::home::StoreHome;
use crate::sys::Clock;
pub use client::{LocalClient, Port};
pub use handle::Handle;
use handle::{EndState, Message, Reply};
use patience::Patience;
use workers::Workers;

/// Messages taken in one cycle; the rest waits for the next, so that the device is looked at in between.
const MESSAGES_MAX: usize = 1024;
/// Completions handed out in one cycle, for the same reason.
const COMPLETIONS_MAX: usize = 256;
/// Device completions taken in one cycle. A device that has answered everything it had stands still until the first of
/// those answers has gone out and the requests that follow from it have come in.
const COMPLETIONS_STEP: usize = 2;
/// Longest sleep: the core has timers that count seconds.
const TICK: Duration = Duration::from_millis(100);
/// Longest sleep while the core gives back room or brings its cache up to a checkpoint, a part in each turn.
const BUSY_TICK: Duration = Duration::from_millis(1);
/// The client number of the other threads; local clients count from 1.
const THREADS: u64 = 0;

/// A started reactor.
pub struct Started {
    /// What sends it requests.
    pub handle: Handle,
    /// Its thread; the result is where the journal ended, when it was told to finish and did.
    pub thread: JoinHandle<Option<Position>>,
}

/// Starts the reactor's thread and its workers.
///
/// # Errors
/// What the operating system said (no more threads).
pub fn start(
    core: Core,
    mut device: Box<dyn Device>,
    home: &Arc<StoreHome>,
    clock: Box<dyn Clock>,
) -> Result<Started> {
    let (messages, inbox) = std::sync::mpsc::channel();
    let ended = Arc::new(EndState::default());
    let workers = Workers::start(home, &messages, &device.waker())?;
    let handle = Handle::new(messages, device.waker(), core.buffers().clone(), home.clone(), ended.clone());
    device.prepare(core.shared_memory());
    let reactor = Reactor {
        core,
        device,
        clock,
        now: Duration::ZERO,
        wall: (u64::MAX, 0),
        inbox,
        replies: Slab::new(),
        clients: BTreeMap::new(),
        next_client: THREADS + 1,
        workers,
        in_flight: 0,
        completions: Vec::new(),
        patience: Patience::default(),
        undelivered: Vec::new(),
        ending: None,
        free_blocks: 0,
    };
    let named = std::thread::Builder::new().name("firn-reactor".to_owned());
    let thread = named
        .spawn(move || reactor.live(&ended))
        .map_err(|source| Error::io("start the reactor's thread", "firn-reactor", source))?;
    Ok(Started { handle, thread })
}

fn closed() -> Error {
    Error::new(Kind::Unavailable, "use pool", "the pool is closed")
}

/// How the reactor is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// When nothing is under way any more.
    Finish,
    /// Now.
    Abandon,
}

struct Reactor {
    core: Core,
    device: Box<dyn Device>,
    clock: Box<dyn Clock>,
    /// When the cycle began, or began to hand out answers: the clock is asked no more often.
    now: Duration,
    /// The time of day, of the millisecond of `now` that stands beside it.
    wall: (u64, u64),
    inbox: Receiver<Message>,
    replies: Slab<Reply>,
    clients: BTreeMap<u64, Box<dyn LocalClient>>,
    next_client: u64,
    workers: Workers,
    in_flight: usize,
    completions: Vec<DeviceCompletion>,
    patience: Patience,
    /// Answers of the core that did not fit into one cycle, newest first.
    undelivered: Vec<Completion>,
    ending: Option<Ending>,
    /// Free blocks at the last look, to see whether the core is giving back more.
    free_blocks: u64,
}

impl Reactor {
    /// Runs until told to end. On a panic, whoever waits gets an error from the replies that are dropped here.
    fn live(mut self, ended: &EndState) -> Option<Position> {
        // What the panic left of the reactor is only dropped.
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run()));
        let position = match ran {
            Ok(position) => {
                ended.set(closed());
                position
            }
            Err(panic) => {
                ended.set(workers::panicked("the pool's reactor", &*panic));
                None
            }
        };
        // The device first: it waits for what the kernel has.
        let Self { device, core, .. } = self;
        drop(device);
        drop(core);
        position
    }

    fn run(&mut self) -> Option<Position> {
        // The core knows the time before it takes the first change, which notes it.
        self.now = self.clock.monotonic();
        self.turn();
        loop {
            let progress = self.cycle();
            match self.ending {
                Some(Ending::Abandon) => return None,
                Some(Ending::Finish) if !progress && self.is_quiet() => {
                    return self.core.failure().is_none().then(|| self.core.journal_position());
                }
                _ if !progress => self.rest(),
                _ if self.patience.is_waiting() => self.patience.ended(self.now),
                _ => {}
            }
        }
    }

    /// Does once all there is to do; returns whether there was anything.
    fn cycle(&mut self) -> bool {
        self.now = self.clock.monotonic();
        let mut progress = self.take_messages();
        progress |= self.reap_device();
        progress |= self.turn_clients();
        self.turn();
        progress |= self.submit_to_device();
        progress |= self.deliver();
        progress |= self.end_cycle_of_clients();
        for item in self.core.take_work() {
            progress = true;
            if let Some(refused) = self.workers.give(item) {
                self.core.work_done(refused);
            }
        }
        progress | self.sync_alone()
    }

    fn turn(&mut self) {
        let now_ms = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        if self.wall.0 != now_ms {
            self.wall = (now_ms, self.clock.now_ms());
        }
        self.core.turn(now_ms, self.wall.1);
    }

    /// Whether nothing is under way. After a failure some of it never ends; what the device has must.
    fn is_quiet(&self) -> bool {
        let settled = self.core.is_idle() && !self.core.is_flushing();
        // What was collected and not taken yet still counts as in flight.
        self.in_flight == 0 && self.undelivered.is_empty() && (settled || self.core.failure().is_some())
    }

    /// There is nothing to do: looks again for a moment, then sleeps.
    fn rest(&mut self) {
        if self.patience.is_over(self.now) {
            return self.sleep();
        }
        // Whoever else wants this processor, maybe the one that is waited for, goes first.
        std::thread::yield_now();
    }

    fn sleep(&mut self) {
        let free_blocks = self.core.statistics().free_blocks;
        let releasing = std::mem::replace(&mut self.free_blocks, free_blocks) != free_blocks;
        let limit = if releasing || self.core.is_checkpointing() { BUSY_TICK } else { TICK };
        self.device.wait(Some(limit), &mut self.completions);
    }

    fn take_messages(&mut self) -> bool {
        for taken in 0..MESSAGES_MAX {
            let Ok(message) = self.inbox.try_recv() else { return taken > 0 };
            match message {
                Message::Request(_, reply) if self.ending.is_some() => reply.answer(Err(closed())),
                Message::Request(request, reply) => {
                    let tag = self.replies.insert(reply) as u64;
                    self.core.submit(Owner { client: THREADS, tag }, request);
                }
                Message::Work(done) => self.core.work_done(done),
                Message::Attach(client) => {
                    self.clients.insert(self.next_client, client);
                    self.next_client += 1;
                }
                Message::RefreshSize(reply) => {
                    let failed = |source| Error::io("look at the size", "the pool's device", source);
                    let refreshed = self.device.refresh_size().map_err(failed);
                    reply.answer(refreshed.map(|_| Response::Done(self.core.next_lsn())));
                }
                Message::BeginClose => self.core.begin_close(),
                Message::Finish => {
                    self.ending = Some(Ending::Finish);
                    self.clients.clear();
                }
                Message::Abandon => {
                    self.ending = Some(Ending::Abandon);
                    return true;
                }
            }
        }
        true
    }

    /// Takes some of what the device has done; the rest has its turn in the next cycles.
    fn reap_device(&mut self) -> bool {
        self.device.poll(&mut self.completions);
        let step = self.completions.len().min(COMPLETIONS_STEP);
        self.in_flight -= step;
        for completion in self.completions.drain(..step) {
            self.core.device_completed(completion);
        }
        step > 0
    }

    fn turn_clients(&mut self) -> bool {
        let mut progress = false;
        let Self { clients, core, device, now, .. } = self;
        clients.retain(|&client, local| {
            let mut port = Port::new(core, client, &mut **device, *now);
            let alive = local.turn(&mut port);
            progress |= port.is_busy() || !alive;
            alive
        });
        progress
    }

    fn end_cycle_of_clients(&mut self) -> bool {
        let mut progress = false;
        for (&client, local) in &mut self.clients {
            let mut port = Port::new(&mut self.core, client, &mut *self.device, self.now);
            local.answered(&mut port);
            progress |= port.is_busy();
        }
        progress
    }

    /// Gives the device what the core wants of it, but for a sync that is all there is: see `sync_alone`.
    fn submit_to_device(&mut self) -> bool {
        let mut progress = false;
        while self.in_flight < self.device.depth() && !self.is_sync_alone() {
            let Some((token, request)) = self.core.device_requests().pop_front() else { break };
            self.device.submit(token, request);
            self.in_flight += 1;
            progress = true;
        }
        progress
    }

    fn is_sync_alone(&mut self) -> bool {
        let requests = self.core.device_requests();
        self.in_flight == 0 && requests.len() == 1 && matches!(requests[0].1, DeviceRequest::Sync)
    }

    /// A sync with nothing beside it is made here: there is nothing that this thread could do meanwhile but sleep,
    /// and a call is cheaper than a queued request that the kernel hands to a thread of its own.
    fn sync_alone(&mut self) -> bool {
        if !self.is_sync_alone() {
            return false;
        }
        let Some((token, request)) = self.core.device_requests().pop_front() else { return false };
        match self.device.sync_now() {
            Some(result) => self.core.device_completed(DeviceCompletion { token, result }),
            None => {
                self.device.submit(token, request);
                self.in_flight += 1;
            }
        }
        true
    }

    /// Hands out answers; a local client may ask anew at once and is answered in the same cycle.
    fn deliver(&mut self) -> bool {
        let mut left = COMPLETIONS_MAX;
        while left > 0 {
            if self.undelivered.is_empty() {
                self.undelivered = self.core.take_completions();
                self.undelivered.reverse();
            }
            let Some(completion) = self.undelivered.pop() else { break };
            if left == COMPLETIONS_MAX {
                self.now = self.clock.monotonic();
            }
            self.answer(completion);
            left -= 1;
        }
        left < COMPLETIONS_MAX
    }

    fn answer(&mut self, Completion { owner, result }: Completion) {
        if owner.client != THREADS {
            // A client that has left does not hear of what it had under way.
            if let Some(client) = self.clients.get_mut(&owner.client) {
                let mut port = Port::new(&mut self.core, owner.client, &mut *self.device, self.now);
                client.completed(owner.tag, result, &mut port);
            }
            return;
        }
        let reply = usize::try_from(owner.tag).ok().and_then(|tag| self.replies.try_remove(tag));
        debug_assert!(reply.is_some(), "an answer to no request");
        if let Some(reply) = reply {
            reply.answer(result);
        }
    }
}
