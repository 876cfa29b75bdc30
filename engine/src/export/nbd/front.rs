//! The front: one thread that accepts connections and leads all of their handshakes side by side.
//!
//! 1. It waits for readiness only, never for one client; what it asks the pool is answered by the reactor at once.
//! 2. A connection has a limited time for its handshake, and the memory of one option.
//! 3. A connection that has chosen an export leaves for the reactor's thread, with whatever it sent ahead.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use slab::Slab;

use super::exports::{Opened, PoolExports};
use super::handshake::{Entered, Handshake, Step, TlsState};
use super::listen::Listener;
use super::options::Limits;
use super::statistics::Counters;
use super::status::Context;
use super::tls;
use super::traffic::{Admitted, Command};
use crate::error::Result;
use crate::sys::{Clock, Interest, Poller, Readiness, Socket, SystemClock, Waker};

/// The number of the socket whose end means to stop.
const STOP: u64 = u64::MAX;
/// Listeners have numbers from here on.
const LISTENERS: u64 = 1 << 62;
/// Connections accepted from one listener before others have their turn.
const ACCEPTS_MAX: usize = 64;
/// Steps of one handshake before others have their turn.
const STEPS_MAX: usize = 16;
/// Bytes received at once.
const RECEIVE_BYTES: usize = 16 << 10;
/// How long it waits before it accepts again when the machine had no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the front is given to work with.
pub(super) struct Parts {
    pub(super) exports: PoolExports,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    pub(super) admitted: Sender<Command>,
    pub(super) reactor: Waker,
    /// It is stopped by the end of this one's other side.
    pub(super) stop: Socket,
}

/// A connection in its handshake.
struct Guest {
    socket: Socket,
    /// Set when what the socket still holds is not to be done.
    broken: Option<Arc<AtomicBool>>,
    handshake: Handshake,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// What is done once the output is sent.
    then: Then,
    deadline: Duration,
}

enum Then {
    GoOn,
    StartTls,
    Enter(Entered<Opened>),
    End,
}

/// What became of a guest in its turn.
enum Outcome {
    /// It waits for its socket.
    Waits,
    /// It has more to do.
    Again,
    Leaves,
    Enters(Entered<Opened>),
    StartsTls,
}

/// The front.
pub(super) struct Front {
    parts: Parts,
    poller: Poller,
    listeners: Vec<Listener>,
    guests: Slab<Guest>,
    /// Guests and listeners that have more to do, whatever the poller says.
    again: Vec<u64>,
    accept_at: Option<Duration>,
    bridges: Vec<JoinHandle<()>>,
}

impl Front {
    pub(super) fn new(parts: Parts, listeners: Vec<Listener>) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&parts.stop, STOP, Interest::Read)?;
        for (number, listener) in (LISTENERS..).zip(&listeners) {
            poller.add(listener, number, Interest::Read)?;
        }
        let (guests, again, bridges) = (Slab::new(), Vec::new(), Vec::new());
        Ok(Self { parts, poller, listeners, guests, again, accept_at: None, bridges })
    }

    /// Runs until it is stopped; returns the threads that speak TLS for connections that go on.
    pub(super) fn run(mut self) -> Vec<JoinHandle<()>> {
        let mut ready: Vec<Readiness> = Vec::new();
        loop {
            ready.clear();
            if self.poller.wait(self.patience(), &mut ready).is_err() {
                break;
            }
            let mut turns: Vec<u64> = ready.iter().map(|ready| ready.token).collect();
            turns.append(&mut self.again);
            if turns.contains(&STOP) {
                break;
            }
            turns.sort_unstable();
            turns.dedup();
            for token in turns {
                if token >= LISTENERS { self.accept(token) } else { self.serve(token) }
            }
            self.dismiss_the_late();
        }
        for _ in self.guests.drain() {
            self.parts.counters.connections_open.sub(1);
        }
        self.bridges
    }

    fn patience(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadlines = self.guests.iter().map(|(_, guest)| guest.deadline).chain(self.accept_at);
        deadlines.min().map(|deadline| deadline.saturating_sub(SystemClock.monotonic()))
    }

    fn dismiss_the_late(&mut self) {
        let now = SystemClock.monotonic();
        if self.accept_at.take_if(|at| *at <= now).is_some() {
            self.again.extend((LISTENERS..).zip(&self.listeners).map(|(number, _)| number));
        }
        let late: Vec<usize> =
            self.guests.iter().filter(|(_, guest)| guest.deadline <= now).map(|(key, _)| key).collect();
        late.into_iter().for_each(|key| self.leaves(key));
        self.bridges.retain(|bridge| !bridge.is_finished());
    }

    fn leaves(&mut self, key: usize) {
        drop(self.guests.remove(key));
        self.parts.counters.handshakes_ended.add(1);
        self.parts.counters.connections_open.sub(1);
    }

    fn accept(&mut self, token: u64) {
        let index = usize::try_from(token - LISTENERS).expect("few listeners");
        for _ in 0..ACCEPTS_MAX {
            match self.listeners[index].accept() {
                Ok(Some(socket)) => {
                    let tls = self.listeners[index].tls;
                    self.welcome(socket, tls);
                }
                Ok(None) => return,
                // The client left at once, or the machine is out of file descriptors: others may come.
                Err(_) => {
                    self.accept_at = Some(SystemClock.monotonic() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.again.push(token);
    }

    fn welcome(&mut self, socket: Socket, tls: TlsState) {
        let counters = &self.parts.counters;
        counters.connections.add(1);
        let open = usize::try_from(counters.connections_open.get()).unwrap_or(usize::MAX);
        if open >= self.parts.limits.connections {
            return counters.connections_refused.add(1);
        }
        let (handshake, output) = Handshake::new(tls);
        let deadline = SystemClock.monotonic() + Duration::from_millis(self.parts.limits.handshake_ms);
        let guest = Guest {
            socket,
            broken: None,
            handshake,
            input: Vec::new(),
            output,
            sent: 0,
            then: Then::GoOn,
            deadline,
        };
        let key = self.guests.insert(guest);
        self.parts.counters.connections_open.add(1);
        match self.poller.add(&self.guests[key].socket, key as u64, Interest::ReadWrite) {
            Ok(()) => self.again.push(key as u64),
            Err(_) => self.leaves(key),
        }
    }

    fn serve(&mut self, token: u64) {
        let Ok(key) = usize::try_from(token) else { return };
        // One that left in this round may still be told of.
        let Some(guest) = self.guests.get_mut(key) else { return };
        match guest.turn(&self.parts.exports) {
            Outcome::Waits => {}
            Outcome::Again => self.again.push(token),
            Outcome::Leaves => self.leaves(key),
            Outcome::StartsTls => {
                if self.start_tls(key).is_err() {
                    self.leaves(key);
                }
            }
            Outcome::Enters(entered) => self.enters(key, entered),
        }
    }

    fn start_tls(&mut self, key: usize) -> io::Result<()> {
        let guest = &mut self.guests[key];
        // Nothing that was said in plain text is taken for something said inside TLS.
        let (Some(config), true) = (&self.parts.tls, guest.input.is_empty()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        self.poller.remove(&guest.socket)?;
        // The socket moves to the bridge, and the bridge's other side takes its place.
        let (placeholder, _) = Socket::pair()?;
        let socket = std::mem::replace(&mut guest.socket, placeholder);
        let broken = Arc::new(AtomicBool::new(false));
        let begun = tls::begin(socket, config.clone(), broken.clone());
        let (plain, bridge) = begun.map_err(io::Error::other)?;
        self.poller.add(&plain, key as u64, Interest::ReadWrite)?;
        guest.socket = plain;
        guest.broken = Some(broken);
        guest.handshake.established();
        self.bridges.push(bridge);
        Ok(())
    }

    fn enters(&mut self, key: usize, entered: Entered<Opened>) {
        let guest = self.guests.remove(key);
        let admitted = self.poller.remove(&guest.socket).is_ok();
        let contexts: Result<Vec<Context>> = entered
            .contexts
            .iter()
            .map(|name| Context::open(&self.parts.exports, &entered.opened, name))
            .collect();
        let (true, Ok(contexts)) = (admitted, contexts) else {
            self.parts.counters.handshakes_ended.add(1);
            return self.parts.counters.connections_open.sub(1);
        };
        let admitted = Admitted {
            socket: guest.socket,
            begun: guest.input,
            opened: entered.opened,
            read_only: entered.info.read_only,
            mode: entered.mode,
            contexts: Arc::new(contexts),
            fence: entered.fence,
            broken: guest.broken,
        };
        if self.parts.admitted.send(Command::Admit(Box::new(admitted))).is_err() {
            // The pool was closed.
            self.parts.counters.connections_open.sub(1);
        }
        self.parts.reactor.wake();
    }
}

impl Guest {
    fn turn(&mut self, exports: &PoolExports) -> Outcome {
        for _ in 0..STEPS_MAX {
            match self.step(exports) {
                Ok(None) => {}
                Ok(Some(outcome)) => return outcome,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Waits,
                Err(_) => return Outcome::Leaves,
            }
        }
        Outcome::Again
    }

    /// Sends, else goes on with what was received, else receives.
    fn step(&mut self, exports: &PoolExports) -> io::Result<Option<Outcome>> {
        if self.sent < self.output.len() {
            self.sent += self.socket.send(&[IoSlice::new(&self.output[self.sent..])])?;
            return Ok(None);
        }
        self.output.clear();
        self.sent = 0;
        match std::mem::replace(&mut self.then, Then::GoOn) {
            Then::GoOn => {}
            Then::End => return Ok(Some(Outcome::Leaves)),
            Then::StartTls => return Ok(Some(Outcome::StartsTls)),
            Then::Enter(entered) => return Ok(Some(Outcome::Enters(entered))),
        }
        let (taken, step) = self.handshake.advance(&self.input, &mut self.output, exports);
        self.input.drain(..taken);
        self.then = match step {
            Step::More => Then::GoOn,
            Step::StartTls => Then::StartTls,
            Step::Enter(entered) => Then::Enter(entered),
            Step::End => Then::End,
        };
        if taken == 0 {
            self.receive()?;
        }
        Ok(None)
    }

    fn receive(&mut self) -> io::Result<()> {
        let before = self.input.len();
        self.input.resize(before + RECEIVE_BYTES, 0);
        let received = self.socket.receive_bytes(&mut self.input[before..]);
        self.input.truncate(before + received.as_ref().copied().unwrap_or(0));
        match received? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
