//! A client of NBD servers that outlives them: firn's own, and any that speaks the fixed newstyle handshake.
//!
//! A [`Client`] has one or several connections to one export. [`Client::submit`] sends a request and returns; the
//! callback gets the answer on the connection's thread. When a connection breaks, its thread connects again and sends
//! every request that was not answered once more, so that whoever waits notices nothing but the time.
//!
//! 1. A callback is called exactly once: with the answer, or with the reason why there will be none.
//! 2. A request is sent over one connection, and again only after that connection is closed.
//! 3. What a request carries is kept until it is answered. The caller bounds how much that is.
//! 4. Only the export that the client began with is served: when the server does not have it any more, or says that
//!    it became another one, requests fail from then on, and nothing is sent to what has its name now.
//! 5. Nothing that a server sends makes the client panic, or allocate more than a request asked for and 64 KiB.
//!
//! A server that dies has answered writes which it had not flushed. firn keeps those (its own rule I8); another server
//! may lose them, and a client that reconnects can't know. A server that lives on while only the connection broke may
//! still be doing a request that is sent again; both do the same, but a later write to the same place can be overtaken.
//! firn's server prevents that: a client that connects again names itself, and what its earlier connection holds is
//! given up before the new one is served (`FENCE`). Over TCP to another server the danger stays.

mod blocking;
mod connection;
mod handover;
mod handshake;
mod link;
mod receive;
mod request;
mod route;
mod socket;
mod tls;
mod uri;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use blocking::Extent;
pub use handover::{Handed, Handover, Refused};
pub use handshake::Export;
pub use request::{Request, Response};
pub use uri::{Address, Uri};

pub use super::protocol::transmission::StatusExtent;
use crate::error::{Error, Kind, Result};
use connection::{Connection, OpenError};
use link::{Link, Shared};
use route::Route;
use tls::Tls;

/// Takes the answer to one request. It runs on the thread that receives, so it must not wait for another answer.
pub type Callback = Box<dyn FnOnce(Result<Response>) + Send>;

/// Takes what happens to the connections.
pub type Observer = Box<dyn Fn(&Event) + Send + Sync>;

/// Whether a broken connection is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// No: requests fail when the connection breaks.
    Never,
    /// Until it works. Requests wait this long and then fail, until there is a connection again.
    Within(Duration),
    /// Until it works. Requests wait.
    Forever,
}

/// How a client behaves.
pub struct ClientOptions {
    /// How many connections are made, at least one. A server that does not say that several connections see one
    /// another's writes and flushes gets one.
    pub connections: usize,
    /// What happens when one breaks.
    pub reconnect: Reconnect,
    /// Is told what happens to the connections, on their threads.
    pub observer: Option<Observer>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { connections: 1, reconnect: Reconnect::Never, observer: None }
    }
}

/// What happens to a connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// It broke, and is being made anew.
    Lost(Error),
    /// It is there again, and this many requests are being sent once more. The export's size may have changed.
    Restored {
        /// Requests that had not been answered.
        resent: usize,
        /// The export's size now.
        bytes: u64,
    },
    /// Requests fail from now on: until the connection is there again or, if `is_final`, for good.
    Failing {
        /// Why.
        error: Error,
        /// There will be no other try.
        is_final: bool,
    },
}

/// One export, over one or several connections. Dropping it disconnects.
pub struct Client {
    uri: Uri,
    shared: Arc<Shared>,
    links: Vec<Link>,
}

impl Client {
    /// Connects and takes the export.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without such an export, [`Kind::Unavailable`] when nobody listens or the server refuses,
    /// [`Kind::Invalid`] when client and server have no way to speak with each other, or the files that TLS needs are of
    /// no use.
    pub fn connect(uri: &Uri, options: ClientOptions) -> Result<Self> {
        let tls = uri.is_tls.then(|| Tls::of(uri).map(Arc::new)).transpose()?;
        let open = || {
            let route = Route::new(uri, tls.clone(), options.reconnect != Reconnect::Never)?;
            let connection = Connection::open(&route).map_err(OpenError::into_error)?;
            Ok::<_, Error>((route, connection))
        };
        let first = open()?;
        let export = first.1.export.clone();
        let count = if export.has(Export::CAN_MULTI_CONN) { options.connections.max(1) } else { 1 };
        let mut connections = vec![first];
        while connections.len() < count {
            connections.push(open()?);
        }
        let shared = Arc::new(Shared::new(export, options));
        let links =
            connections.into_iter().map(|(route, connection)| Link::start(&shared, route, connection));
        let links = links.collect::<Result<_>>()?;
        Ok(Self { uri: uri.clone(), shared, links })
    }

    /// What the export is: its size may have grown or shrunk while a connection was broken.
    pub fn export(&self) -> Export {
        lock(&self.shared.export).clone()
    }

    /// Sends a request, or keeps it until there is a connection. It waits while the server takes no more.
    ///
    /// The answer to a request that can't be (beyond the end, not aligned to the smallest block, longer than the
    /// server takes, a write to a read-only export) is an error of [`Kind::Invalid`], and the server never sees it.
    pub fn submit(&self, request: Request, callback: Callback) {
        match request.check(&lock(&self.shared.export)) {
            Ok(()) => self.link().submit(request, callback),
            Err(error) => callback(Err(error)),
        }
    }

    /// The connection with the least under way.
    fn link(&self) -> &Link {
        let least = self.links.iter().min_by_key(|link| link.in_flight());
        least.expect("a client has at least one connection")
    }

    /// Requests that are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.links.iter().map(Link::in_flight).sum()
    }

    /// Disconnects; what is not answered by then gets an error. For a clean end wait for all answers first.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.wake();
        self.links.iter().for_each(Link::close);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let connections = self.links.len();
        write!(
            f,
            "Client {{ uri: {}, connections: {connections}, in_flight: {} }}",
            self.uri,
            self.in_flight()
        )
    }
}

/// Locks what no panic can leave half done: everything under these locks is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> Error {
    Error::new(Kind::Unavailable, "use NBD export", "the client was closed")
}
