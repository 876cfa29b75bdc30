//! The transmission phase of all connections, on the reactor's thread: between socket and core there is no hop.
//!
//! 1. A request is answered exactly once, while its connection lives; of a connection that has gone, what is under way
//!    ends unheard.
//! 2. Nothing here waits. One connection's turn is bounded; one that has more to do comes again after the others.
//! 3. Memory is bounded by [`Budget`]; a connection that may have no more is not received from. Those who wait for it
//!    get it in the order in which they asked, and who keeps it from them has to go on at a least rate (`stalls`).
//! 4. A connection that named its client is served only when nothing of that client's earlier ones can still be done.
//! 5. Answers of a cycle are sent together, after the core had its turn.

mod answer;
mod fence;
mod leave;
mod serve;
mod stalls;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver as Inbox, Sender as Outbox};
use std::time::Duration;

use slab::Slab;

use crate::core::Response;
use crate::error::{Error, Kind, Result};
use crate::export::nbd::connection::{Budget, Connection, Phase};
use crate::export::nbd::exports::Opened;
use crate::export::nbd::finders::Finders;
use crate::export::nbd::options::Limits;
use crate::export::nbd::protocol::handshake::Fence;
use crate::export::nbd::protocol::transmission::{Mode, Request, StatusExtent, command};
use crate::export::nbd::receive::Receiver;
use crate::export::nbd::request::Refusal;
use crate::export::nbd::send::Sender;
use crate::export::nbd::statistics::Counters;
use crate::export::nbd::status::Context;
use crate::reactor::{LocalClient, Port};
use crate::sys::{Interest, Poller, Readiness, Socket};
use answer::Answer;
use stalls::Stalls;

/// A connection that has chosen its export.
pub(super) struct Admitted {
    pub(super) socket: Socket,
    /// What it sent already.
    pub(super) begun: Vec<u8>,
    pub(super) opened: Opened,
    pub(super) read_only: bool,
    pub(super) mode: Mode,
    pub(super) contexts: Arc<Vec<Context>>,
    pub(super) fence: Option<Fence>,
    pub(super) broken: Option<Arc<AtomicBool>>,
}

/// What other threads tell the traffic.
pub(super) enum Command {
    Admit(Box<Admitted>),
    /// What was found for a question about block status.
    Status(usize, Result<Vec<Vec<StatusExtent>>>),
    /// End when everything is answered and sent, or after this long.
    Stop(Duration),
}

/// A request that the engine has.
struct UnderWay {
    connection: usize,
    request: Request,
    started: Duration,
    /// What it has of the budget.
    bytes: usize,
}

/// All connections.
pub(super) struct Traffic {
    inbox: Inbox<Command>,
    finders: Finders,
    counters: Arc<Counters>,
    limits: Limits,
    poller: Poller,
    is_watched: bool,
    ready: Vec<Readiness>,
    connections: Slab<Connection>,
    /// Connections that wait for the end of earlier ones.
    held_back: Vec<Admitted>,
    under_way: Slab<UnderWay>,
    budget: Budget,
    /// Connections that have something to do.
    listed: Vec<usize>,
    /// Connections that have something to send.
    dirty: Vec<usize>,
    /// Connections that wait for memory that others have, in the order in which they get it.
    short: VecDeque<usize>,
    stalls: Stalls,
    /// A large write could have no landing.
    lacked_landing: Cell<bool>,
    landings_freed: Duration,
    now: Duration,
    stop_at: Option<Duration>,
    /// Its drop tells the server that it has ended.
    _ended: Outbox<()>,
}

impl Traffic {
    pub(super) fn new(
        inbox: Inbox<Command>,
        finders: Finders,
        counters: Arc<Counters>,
        limits: Limits,
        ended: Outbox<()>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            inbox,
            finders,
            counters,
            limits,
            poller: Poller::new()?,
            is_watched: false,
            ready: Vec::new(),
            connections: Slab::new(),
            held_back: Vec::new(),
            under_way: Slab::new(),
            budget: Budget::new(limits.bytes, limits.bytes_per_connection),
            listed: Vec::new(),
            dirty: Vec::new(),
            short: VecDeque::new(),
            stalls: Stalls::default(),
            lacked_landing: Cell::new(false),
            landings_freed: Duration::ZERO,
            now: Duration::ZERO,
            stop_at: None,
            _ended: ended,
        })
    }

    fn take_commands(&mut self, port: &Port<'_>) {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Admit(admitted) => self.pass_fence(*admitted, port),
                Command::Status(tag, found) => self.status_found(tag, found),
                Command::Stop(patience) => {
                    self.stop_at = Some(self.now + patience);
                    let all: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
                    all.into_iter().for_each(|key| self.drain(key));
                }
            }
        }
    }

    fn admit(&mut self, admitted: Admitted, port: &Port<'_>) {
        let Admitted { socket, begun, opened, read_only, mode, contexts, fence, broken } = admitted;
        let counters = self.counters.volume(opened.volume);
        counters.connections_open.add(1);
        let key = self.connections.insert(Connection {
            socket: Some(socket),
            phase: Phase::Open,
            opened,
            read_only,
            mode,
            contexts,
            fence,
            broken,
            counters,
            receiver: Receiver::new(port.buffers(), mode, &begun),
            sender: Sender::default(),
            under_way: 0,
            bytes: 0,
            readable: true,
            hung_up: false,
            send_blocked: false,
            is_listed: false,
            is_dirty: false,
            is_short_of_memory: false,
            moved: 0,
        });
        let added = self.connections[key]
            .socket
            .as_ref()
            .map(|socket| self.poller.add(socket, key as u64, Interest::Read));
        match added {
            Some(Ok(())) if self.stop_at.is_none() => self.list(key),
            _ => self.kill(key),
        }
    }

    /// Puts a connection in the list of those that have something to do.
    fn list(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !std::mem::replace(&mut connection.is_listed, true) {
            self.listed.push(key);
        }
    }

    /// Puts a connection in the list of those that have something to send.
    fn mark_dirty(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !std::mem::replace(&mut connection.is_dirty, true) {
            self.dirty.push(key);
        }
    }

    fn poll(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        // What fails here fails for all sockets and comes back by their ends.
        let _ = self.poller.wait(Some(Duration::ZERO), &mut ready);
        for readiness in ready.drain(..) {
            let Ok(key) = usize::try_from(readiness.token) else { continue };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.readable |= readiness.readable;
            connection.hung_up |= readiness.hung_up;
            if readiness.broken && connection.phase == Phase::Open {
                // Requests that it still holds were given up by whoever sent them, and may have been sent again.
                self.kill(key);
                continue;
            }
            if readiness.readable {
                self.list(key);
            }
            if readiness.writable && std::mem::take(&mut self.connections[key].send_blocked) {
                if let Some(socket) = &self.connections[key].socket {
                    // What fails here is seen when the socket is used.
                    let _ = self.poller.change(socket, readiness.token, Interest::Read);
                }
                self.mark_dirty(key);
            }
        }
        self.ready = ready;
    }

    fn give_back(&mut self, key: usize, bytes: usize) {
        self.budget.give_back(bytes);
        self.connections[key].bytes -= bytes;
    }

    fn serve_listed(&mut self, port: &mut Port<'_>) {
        for key in std::mem::take(&mut self.listed) {
            self.connections[key].is_listed = false;
            self.serve(key, port);
            if self.connections.contains(key) {
                self.forget_if_over(key);
            }
        }
    }

    fn send_dirty(&mut self, port: &mut Port<'_>) {
        for key in std::mem::take(&mut self.dirty) {
            self.connections[key].is_dirty = false;
            self.send(key, port);
            if self.connections.contains(key) {
                self.forget_if_over(key);
            }
        }
    }
}

impl LocalClient for Traffic {
    fn turn(&mut self, port: &mut Port<'_>) -> bool {
        self.now = port.now();
        if !std::mem::replace(&mut self.is_watched, true) {
            port.watch(&self.poller);
        }
        self.take_commands(port);
        self.let_in(port);
        self.poll();
        self.look_after_memory();
        self.free_landings(port);
        self.serve_listed(port);
        // What is refused or found without the core is sent without waiting for it.
        if !self.dirty.is_empty() {
            port.stay_awake();
        }
        let Some(stop_at) = self.stop_at else { return true };
        let is_empty = self.connections.is_empty() && self.held_back.is_empty();
        let is_over = is_empty || self.now >= stop_at;
        if is_over {
            port.unwatch(&self.poller);
        }
        !is_over
    }

    fn answered(&mut self, port: &mut Port<'_>) {
        self.send_dirty(port);
    }

    fn completed(&mut self, tag: u64, result: Result<Response>, port: &mut Port<'_>) {
        self.now = port.now();
        let Ok(tag) = usize::try_from(tag) else { return };
        let is_read = self.under_way.get(tag).is_some_and(|request| request.request.command == command::READ);
        let answer = match result {
            Ok(Response::Data(data)) if is_read => Ok(Answer::Data(data)),
            Ok(_) if is_read => {
                let error = Error::new(Kind::Bug, "read", "a read was answered without data");
                Err(Refusal::of(&error))
            }
            Ok(_) => Ok(Answer::Done),
            Err(error) => Err(Refusal::of(&error)),
        };
        self.finish(tag, answer);
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for (_, connection) in &self.connections {
            connection.counters.connections_open.sub(1);
            self.counters.connections_open.sub(1);
        }
        self.held_back.iter().for_each(|_| self.counters.connections_open.sub(1));
    }
}
