//! One connection that is made again when it breaks, and the requests under way on it.
//!
//! A request is in the table from when it is submitted until its callback was called. Its bytes are sent by whoever
//! submits it, under the writer's lock. The link's own thread makes connections and receives.
//!
//! 1. A request enters the table under the writer's lock, and a new connection's writer is put in place under it only
//!    after everything in the table was sent: each request is sent exactly once over each connection.
//! 2. Only the link's thread puts a writer in place; anybody takes it away when sending failed.
//! 3. While what was not answered is sent again, answers are received already: neither side waits for the other to
//!    make room.
//! 4. Callbacks are called with no lock held.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::connection::{Connection, OpenError, WriteHalf};
use super::handshake::Export;
use super::request::{Answer, Pending, Request};
use super::route::Route;
use super::socket::Socket;
use super::{Callback, ClientOptions, Event, Reconnect, closed, lock};
use crate::error::{Error, Result};
use crate::export::nbd::protocol::transmission::{self, command};
use crate::sys::{Clock, SystemClock};

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What the links of one client share.
pub(super) struct Shared {
    /// What the server said last.
    pub(super) export: Mutex<Export>,
    options: ClientOptions,
    pub(super) closing: AtomicBool,
    /// Ends the pauses of those who wait for the next try.
    paused: (Mutex<()>, Condvar),
}

impl Shared {
    pub(super) fn new(export: Export, options: ClientOptions) -> Self {
        let paused = (Mutex::new(()), Condvar::new());
        Self { export: Mutex::new(export), options, closing: AtomicBool::new(false), paused }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Wakes those who pause, after `closing` was set.
    pub(super) fn wake(&self) {
        // Whoever looked at `closing` before it was set waits by the time the lock is had.
        let _held = lock(&self.paused.0);
        self.paused.1.notify_all();
    }

    /// Waits, and says whether to go on.
    fn pause(&self, time: Duration) -> bool {
        let held = lock(&self.paused.0);
        if !self.is_closing() {
            let waited = self.paused.1.wait_timeout(held, time);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
        !self.is_closing()
    }

    fn tell(&self, event: &Event) {
        if let Some(observer) = &self.options.observer {
            observer(event);
        }
    }
}

/// What is under way on one connection.
#[derive(Default)]
struct Table {
    pending: BTreeMap<u64, Pending>,
    next_cookie: u64,
    /// Why requests fail at once.
    fate: Option<Error>,
}

pub(super) struct State {
    shared: Arc<Shared>,
    route: Route,
    table: Mutex<Table>,
    writer: Mutex<Option<WriteHalf>>,
    /// The connection that is in use.
    socket: Mutex<Option<Socket>>,
    in_flight: AtomicUsize,
}

/// A link and its thread.
pub(super) struct Link {
    state: Arc<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Begins with a connection that was just made, on this way.
    pub(super) fn start(shared: &Arc<Shared>, route: Route, connection: Connection) -> Result<Self> {
        let state = Arc::new(State {
            shared: shared.clone(),
            route,
            table: Mutex::default(),
            writer: Mutex::default(),
            socket: Mutex::default(),
            in_flight: AtomicUsize::new(0),
        });
        let own = state.clone();
        let thread =
            thread::Builder::new().name("firn-nbd-client".to_owned()).spawn(move || own.run(connection));
        let thread = thread.map_err(|source| Error::io("start thread", "NBD client", source))?;
        Ok(Self { state, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn submit(&self, request: Request, callback: Callback) {
        self.state.submit(request, callback);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Relaxed)
    }

    /// Says goodbye, disconnects and waits for the thread. `closing` is set before.
    pub(super) fn close(&self) {
        // Somebody who sends just now is interrupted by the shutdown; the goodbye is a courtesy.
        if let Ok(mut writer) = self.state.writer.try_lock()
            && let Some(writer) = writer.as_mut()
        {
            let goodbye = transmission::Request {
                extended: false,
                flags: 0,
                command: command::DISC,
                cookie: 0,
                offset: 0,
                length: 0,
            };
            let _ = writer.send(&goodbye.encode(), &[]);
        }
        if let Some(socket) = lock(&self.state.socket).as_ref() {
            socket.shut_down();
        }
        if let Some(thread) = lock(&self.thread).take() {
            // A panic on it was printed where it happened.
            let _ = thread.join();
        }
    }
}

impl State {
    fn run(&self, first: Connection) {
        let mut next = Some(first);
        while let Some(connection) = next.take() {
            let why = self.serve(connection);
            if !self.shared.is_closing() {
                next = self.reconnect(why);
            }
        }
        if self.shared.is_closing() {
            self.fail(closed());
        }
    }

    fn submit(&self, request: Request, callback: Callback) {
        let mut writer = lock(&self.writer);
        let request = Arc::new(request);
        let pending = Pending { request: request.clone(), callback, answer: Answer::default() };
        let cookie = match self.enter(pending) {
            Ok(cookie) => cookie,
            Err((pending, error)) => {
                drop(writer);
                return (pending.callback)(Err(error));
            }
        };
        if let Some(half) = writer.as_mut()
            && send(half, cookie, &request).is_err()
        {
            // Whoever receives notices, and it is sent again over the next connection.
            half.shut_down();
            *writer = None;
        }
    }

    fn enter(&self, pending: Pending) -> std::result::Result<u64, (Pending, Error)> {
        let mut table = lock(&self.table);
        if let Some(fate) = &table.fate {
            let fate = fate.clone();
            return Err((pending, fate));
        }
        let cookie = table.next_cookie;
        table.next_cookie += 1;
        table.pending.insert(cookie, pending);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(cookie)
    }

    /// Takes a request out while its answer is read.
    pub(super) fn take(&self, cookie: u64) -> Option<Pending> {
        lock(&self.table).pending.remove(&cookie)
    }

    /// Puts back what was taken, when its answer is not whole yet.
    pub(super) fn put_back(&self, cookie: u64, pending: Pending) {
        let mut table = lock(&self.table);
        match table.fate.clone() {
            None => _ = table.pending.insert(cookie, pending),
            Some(error) => {
                drop(table);
                self.answer(pending.callback, Err(error));
            }
        }
    }

    /// Calls the callback of a request that is out of the table.
    pub(super) fn answer(&self, callback: Callback, result: Result<super::Response>) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        callback(result);
    }

    /// Uses a connection until it breaks, and says why it did.
    fn serve(&self, connection: Connection) -> Error {
        let Connection { mut reader, writer, socket, .. } = connection;
        *lock(&self.socket) = Some(socket.clone());
        if self.shared.is_closing() {
            // Closing may have looked for the socket before it was put there.
            socket.shut_down();
        }
        let why = thread::scope(|scope| {
            let mut place = lock(&self.writer);
            let unanswered = self.unanswered();
            if unanswered.is_empty() {
                *place = Some(writer);
                drop(place);
            } else {
                // The new thread can't be given a lock that is held here, and needs it first: whatever is submitted
                // in between is in the table, and sent by it.
                drop(place);
                scope.spawn(move || self.resume(writer));
            }
            let why = self.receive(&mut reader);
            socket.shut_down();
            why
        });
        *lock(&self.writer) = None;
        *lock(&self.socket) = None;
        why
    }

    /// Sends what was not answered, then puts the writer in place.
    fn resume(&self, mut half: WriteHalf) {
        let mut place = lock(&self.writer);
        let sent =
            self.unanswered().into_iter().try_for_each(|(cookie, request)| send(&mut half, cookie, &request));
        match sent {
            Ok(()) => *place = Some(half),
            Err(_) => half.shut_down(),
        }
    }

    fn unanswered(&self) -> Vec<(u64, Arc<Request>)> {
        let table = lock(&self.table);
        table.pending.iter().map(|(cookie, pending)| (*cookie, pending.request.clone())).collect()
    }

    /// Makes the connection anew. `None` when that is over for good.
    fn reconnect(&self, why: Error) -> Option<Connection> {
        if self.shared.options.reconnect == Reconnect::Never {
            self.give_up(why);
            return None;
        }
        self.shared.tell(&Event::Lost(why));
        let start = SystemClock.monotonic();
        let mut pause = PAUSE_MIN;
        let mut is_failing = false;
        loop {
            let error = match Connection::open(&self.route) {
                Ok(connection) => return self.restored(connection),
                Err(OpenError::Gone(error)) => {
                    self.give_up(error);
                    return None;
                }
                Err(OpenError::Failed(error)) => error,
            };
            if let Reconnect::Within(limit) = self.shared.options.reconnect
                && !is_failing
                && SystemClock.monotonic().saturating_sub(start) >= limit
            {
                is_failing = true;
                self.fail(error.clone());
                self.shared.tell(&Event::Failing { error, is_final: false });
            }
            if !self.shared.pause(pause) {
                return None;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Looks whether the server has what it had.
    fn restored(&self, connection: Connection) -> Option<Connection> {
        let mut export = lock(&self.shared.export);
        if let Err(error) = connection.export.check_still(&export, &self.route.uri) {
            drop(export);
            self.give_up(error);
            return None;
        }
        *export = connection.export.clone();
        drop(export);
        let mut table = lock(&self.table);
        table.fate = None;
        table.pending.values_mut().for_each(|pending| pending.answer = Answer::default());
        let resent = table.pending.len();
        drop(table);
        self.shared.tell(&Event::Restored { resent, bytes: connection.export.bytes });
        Some(connection)
    }

    fn give_up(&self, error: Error) {
        self.fail(error.clone());
        self.shared.tell(&Event::Failing { error, is_final: true });
    }

    /// Answers everything with `error`, and from now on.
    fn fail(&self, error: Error) {
        let mut table = lock(&self.table);
        table.fate = Some(error.clone());
        let failed = std::mem::take(&mut table.pending);
        drop(table);
        failed.into_values().for_each(|pending| self.answer(pending.callback, Err(error.clone())));
    }
}

fn send(half: &mut WriteHalf, cookie: u64, request: &Request) -> std::io::Result<()> {
    let data = match request {
        Request::Write { data, .. } => data.as_slice(),
        _ => &[],
    };
    half.send(&request.encode(cookie), data)
}
