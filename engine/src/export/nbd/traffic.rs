//! The transmission phase of all connections, on the reactor's thread: between socket and core there is no hop.
//!
//! 1. A request is answered exactly once, while its connection lives; of a connection that has gone, what is under way
//!    ends unheard.
//! 2. Nothing here waits. One connection's turn is bounded; one that has more to do comes again after the others.
//! 3. Memory is bounded by [`Budget`]; a connection that may have no more is not received from.
//! 4. Answers of a cycle are sent together, after the core had its turn.

use std::sync::Arc;
use std::sync::mpsc::{Receiver as Inbox, Sender as Outbox};
use std::time::Duration;

use slab::Slab;

use super::connection::{Budget, Connection, Grant, Phase};
use super::exports::Opened;
use super::finders::{Finders, Question};
use super::options::Limits;
use super::protocol::transmission::{Request, StatusExtent, command, command_flags};
use super::protocol::{Malformed, errno};
use super::receive::{Next, Receiver};
use super::reply::Reply;
use super::request::{self, Refusal};
use super::send::Sender;
use super::statistics::Counters;
use super::status::{ANSWERED_MAX, Context, Range};
use crate::core::{self, Response, Target};
use crate::error::{Error, Kind, Result};
use crate::reactor::{LocalClient, Port};
use crate::sys::{Clock, Interest, MemorySlice, Poller, Readiness, Socket, SystemClock};

/// Bytes received from one connection before others have their turn.
const TURN_BYTES_MAX: usize = 1 << 20;
/// How often it is looked for connections that keep memory others wait for.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// A connection that has chosen its export.
pub(super) struct Admitted {
    pub(super) socket: Socket,
    /// What it sent already.
    pub(super) begun: Vec<u8>,
    pub(super) opened: Opened,
    pub(super) read_only: bool,
    pub(super) structured: bool,
    pub(super) contexts: Arc<Vec<Context>>,
}

/// Bytes of headers, errors and block status that wait to be sent before a connection is received from again.
const HEAD_BYTES_MAX: usize = 256 << 10;

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
    under_way: Slab<UnderWay>,
    budget: Budget,
    /// Connections that have something to do.
    listed: Vec<usize>,
    /// Connections that have something to send.
    dirty: Vec<usize>,
    /// Connections that wait for memory that others have.
    short: Vec<usize>,
    stalls_checked: Duration,
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
            under_way: Slab::new(),
            budget: Budget::new(limits.bytes, limits.bytes_per_connection),
            listed: Vec::new(),
            dirty: Vec::new(),
            short: Vec::new(),
            stalls_checked: Duration::ZERO,
            now: Duration::ZERO,
            stop_at: None,
            _ended: ended,
        })
    }

    fn take_commands(&mut self, port: &Port<'_>) {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Admit(admitted) => self.admit(*admitted, port),
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
        let Admitted { socket, begun, opened, read_only, structured, contexts } = admitted;
        let counters = self.counters.volume(opened.volume);
        counters.connections_open.add(1);
        let key = self.connections.insert(Connection {
            socket: Some(socket),
            phase: Phase::Open,
            opened,
            read_only,
            structured,
            contexts,
            counters,
            receiver: Receiver::new(port.buffers(), &begun),
            sender: Sender::default(),
            under_way: 0,
            bytes: 0,
            readable: true,
            hung_up: false,
            send_blocked: false,
            is_listed: false,
            is_dirty: false,
            is_short_of_memory: false,
            moved_at: self.now,
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

    /// One connection's turn: its requests are handed on, then it is received from.
    fn serve(&mut self, key: usize, port: &mut Port<'_>) {
        let mut received = 0;
        loop {
            match self.hand_on(key, port) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    self.counters.protocol_faults.add(1);
                    return self.kill(key);
                }
            }
            let connection = &mut self.connections[key];
            let (true, Some(socket)) = (connection.readable, &connection.socket) else { return };
            if received >= TURN_BYTES_MAX {
                port.stay_awake();
                return self.list(key);
            }
            match connection.receiver.receive(socket, port.buffers()) {
                Ok(here) if here.bytes == 0 => return self.drain(key),
                Ok(here) => {
                    received += here.bytes;
                    connection.moved_at = self.now;
                    // After a hang-up no readiness comes any more: read on until the end is seen.
                    connection.readable = !here.drained || connection.hung_up;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => connection.readable = false,
                Err(_) => return self.kill(key),
            }
        }
    }

    /// Hands on what was received. Whether more may be received.
    fn hand_on(&mut self, key: usize, port: &mut Port<'_>) -> std::result::Result<bool, Malformed> {
        loop {
            let connection = &mut self.connections[key];
            let is_full = connection.under_way >= self.limits.requests_per_connection
                || connection.sender.head_bytes() > HEAD_BYTES_MAX;
            if connection.phase != Phase::Open || is_full {
                return Ok(false);
            }
            let contexts = connection.contexts.len();
            let (budget, held) = (&mut self.budget, &mut connection.bytes);
            let mut refused = Grant::Yes;
            let mut grant = |request: &Request| {
                let bytes = memory_of(request, contexts);
                refused = budget.ask(*held, bytes);
                if refused == Grant::Yes {
                    budget.take(bytes);
                    *held += bytes;
                }
                refused == Grant::Yes
            };
            match connection.receiver.next(port.buffers(), &mut grant)? {
                Next::More => return Ok(true),
                Next::NoMemory => {
                    // Its own memory comes back when it is answered or has taken an answer, which lists it.
                    if refused == Grant::NotNow
                        && !std::mem::replace(&mut connection.is_short_of_memory, true)
                    {
                        self.short.push(key);
                    }
                    return Ok(false);
                }
                Next::Request(request, _) if request.command == command::DISC => {
                    self.drain(key);
                    return Ok(false);
                }
                Next::Request(request, data) => self.begin(key, request, data, port),
            }
        }
    }

    /// Begins a request, whose memory was granted.
    fn begin(&mut self, key: usize, request: Request, data: Option<MemorySlice>, port: &mut Port<'_>) {
        let connection = &mut self.connections[key];
        connection.under_way += 1;
        let (volume, target) = (connection.opened.volume, connection.opened.target);
        let bytes = match target {
            Target::Volume(volume) => port.catalog().volume(volume).map(|volume| volume.bytes),
            Target::Snapshot(snapshot) => port.catalog().snapshot(snapshot).map(|snapshot| snapshot.bytes),
        };
        let checked = bytes
            .map_err(|error| Refusal::of(&error))
            .and_then(|bytes| request::check(&request, &connection.serving(bytes)));
        let contexts = connection.contexts.clone();
        let under_way = UnderWay {
            connection: key,
            request,
            started: self.now,
            bytes: memory_of(&request, contexts.len()),
        };
        let tag = self.under_way.insert(under_way);
        if let Err(refusal) = checked {
            return self.finish(tag, Err(refusal));
        }
        let (offset, length) = (request.offset, u64::from(request.length));
        let fua = request.flags & command_flags::FUA != 0;
        let submitted = match (request.command, data) {
            (command::READ | command::CACHE, _) => {
                let length = length.min(core::request::READ_BYTES_MAX);
                core::Request::Read { target, offset, length }
            }
            (command::WRITE, Some(data)) => core::Request::Write { volume, offset, data, fua },
            (command::TRIM | command::WRITE_ZEROES, _) => {
                core::Request::Unmap { volume, offset, length, fua }
            }
            (command::FLUSH, _) => core::Request::Flush,
            _ => {
                let one = request.flags & command_flags::REQ_ONE != 0;
                let range = Range { offset, length: request.length, one };
                if !self.finders.ask(Question { tag, volume, target, contexts, range }) {
                    self.finish(tag, Err(Refusal::new(errno::EIO, "block status can't be found now")));
                }
                return;
            }
        };
        port.submit(tag as u64, submitted);
    }

    fn status_found(&mut self, tag: usize, found: Result<Vec<Vec<StatusExtent>>>) {
        match found {
            Ok(contexts) => self.finish(tag, Ok(Answer::Status(contexts))),
            Err(error) => self.finish(tag, Err(Refusal::of(&error))),
        }
    }

    /// A request has ended: counts it, answers it, and lets go of its memory.
    fn finish(&mut self, tag: usize, result: Answered) {
        let Some(done) = self.under_way.try_remove(tag) else {
            debug_assert!(false, "the end of no request");
            return;
        };
        let key = done.connection;
        let connection = &mut self.connections[key];
        connection.under_way -= 1;
        let took = SystemClock.monotonic().saturating_sub(done.started);
        let bytes = u64::from(done.request.length);
        connection.counters.answered(request::kind(&done.request), bytes, result.is_err(), took);
        if connection.phase == Phase::Dead {
            self.give_back(key, done.bytes);
            return self.forget_if_over(key);
        }
        let before = connection.sender.charge();
        let reply = Reply {
            sender: &mut connection.sender,
            cookie: done.request.cookie,
            structured: connection.structured,
        };
        match result {
            Ok(Answer::Done) => reply.done(),
            Ok(Answer::Data(data)) => reply.data(&done.request, data),
            Ok(Answer::Status(contexts)) => reply.status(&contexts),
            Err(refusal) => reply.refused(&refusal),
        }
        // What waits to be sent keeps its part of the memory.
        let kept = connection.sender.charge() - before;
        self.give_back(key, done.bytes.saturating_sub(kept));
        self.mark_dirty(key);
        self.list(key);
    }

    fn give_back(&mut self, key: usize, bytes: usize) {
        self.budget.give_back(bytes);
        self.connections[key].bytes -= bytes;
    }

    /// Sends what a connection has to send.
    fn send(&mut self, key: usize, port: &mut Port<'_>) {
        let connection = &mut self.connections[key];
        let (false, Some(socket)) = (connection.send_blocked, &connection.socket) else { return };
        let flushed = match connection.sender.flush(socket) {
            Ok(flushed) => flushed,
            Err(_) => return self.kill(key),
        };
        if flushed.moved {
            connection.moved_at = self.now;
        }
        if flushed.blocked {
            connection.send_blocked = true;
            if self.poller.change(socket, key as u64, Interest::ReadWrite).is_err() {
                return self.kill(key);
            }
        }
        let more = !connection.sender.is_empty() && !connection.send_blocked;
        self.give_back(key, flushed.charge);
        if flushed.moved {
            self.list(key);
        }
        if more {
            self.mark_dirty(key);
            port.stay_awake();
        }
        self.close_if_drained(key);
    }

    /// Receives no more; closes when everything is answered and sent.
    fn drain(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.phase == Phase::Open {
            connection.phase = Phase::Draining;
            connection.readable = false;
            self.close_if_drained(key);
        }
    }

    fn close_if_drained(&mut self, key: usize) {
        let connection = &self.connections[key];
        let is_drained = connection.under_way == 0 && connection.sender.is_empty();
        if connection.phase == Phase::Draining && is_drained {
            self.kill(key);
        }
    }

    /// Closes the socket and drops what would be sent or is half received.
    fn kill(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.phase != Phase::Dead {
            connection.phase = Phase::Dead;
            connection.socket = None;
            connection.sender = Sender::default();
            // What is under way gives its own part back when it ends.
            let kept: usize = self
                .under_way
                .iter()
                .filter(|(_, request)| request.connection == key)
                .map(|(_, request)| request.bytes)
                .sum();
            let over = self.connections[key].bytes.saturating_sub(kept);
            self.give_back(key, over);
        }
        self.forget_if_over(key);
    }

    fn forget_if_over(&mut self, key: usize) {
        let connection = &self.connections[key];
        let is_named = connection.is_listed || connection.is_dirty || connection.is_short_of_memory;
        if connection.phase == Phase::Dead && connection.under_way == 0 && !is_named {
            let gone = self.connections.remove(key);
            gone.counters.connections_open.sub(1);
            self.counters.connections_open.sub(1);
        }
    }

    /// Lets those try again who wait for memory, and closes who keeps it from them.
    fn look_after_memory(&mut self) {
        self.counters.bytes_in_memory.set(self.budget.used() as u64);
        if self.short.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.short) {
            self.connections[key].is_short_of_memory = false;
            self.list(key);
        }
        if self.now.saturating_sub(self.stalls_checked) < STALL_CHECK {
            return;
        }
        self.stalls_checked = self.now;
        let patience = Duration::from_millis(self.limits.stall_ms);
        let is_stalled = |connection: &Connection| {
            connection.is_holding() && self.now.saturating_sub(connection.moved_at) >= patience
        };
        let stalled: Vec<usize> =
            self.connections.iter().filter(|(_, one)| is_stalled(one)).map(|(key, _)| key).collect();
        for key in stalled {
            self.counters.stalled.add(1);
            self.kill(key);
        }
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

/// What a request has of the budget: what it writes, or what its answer holds.
fn memory_of(request: &Request, contexts: usize) -> usize {
    match request.command {
        command::BLOCK_STATUS => contexts * ANSWERED_MAX * size_of::<StatusExtent>(),
        command::READ | command::WRITE | command::CACHE => {
            let most = u32::try_from(core::request::READ_BYTES_MAX).unwrap_or(u32::MAX);
            usize::try_from(request.length.min(most)).unwrap_or(usize::MAX)
        }
        _ => 0,
    }
}

type Answered = std::result::Result<Answer, Refusal>;

/// What a request ended with.
enum Answer {
    Done,
    Data(MemorySlice),
    Status(Vec<Vec<StatusExtent>>),
}

impl LocalClient for Traffic {
    fn turn(&mut self, port: &mut Port<'_>) -> bool {
        self.now = SystemClock.monotonic();
        if !std::mem::replace(&mut self.is_watched, true) {
            port.watch(&self.poller);
        }
        self.take_commands(port);
        self.poll();
        self.look_after_memory();
        self.serve_listed(port);
        // What is refused or found without the core is sent without waiting for it.
        if !self.dirty.is_empty() {
            port.stay_awake();
        }
        let Some(stop_at) = self.stop_at else { return true };
        let is_over = self.connections.is_empty() || self.now >= stop_at;
        if is_over {
            port.unwatch(&self.poller);
        }
        !is_over
    }

    fn answered(&mut self, port: &mut Port<'_>) {
        self.send_dirty(port);
    }

    fn completed(&mut self, tag: u64, result: Result<Response>, _: &mut Port<'_>) {
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
    }
}
