//! The server: started on a pool, stopped without an error for whoever is connected.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::exports::PoolExports;
use super::finders::Finders;
use super::front::{Front, Parts};
use super::listen::{Address, Listener};
use super::options::{Limits, ServerOptions};
use super::statistics::{Counters, Statistics};
use super::tls;
use super::traffic::{Command, Traffic};
use crate::error::{Error, Result};
use crate::pool::Pool;
use crate::reactor::Handle;
use crate::sys::Socket;

/// How much longer than it promised the traffic may take to end before a stop gives it up.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A running NBD server. Dropping it stops it. It does not keep the pool open: stop it first.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Address>,
    counters: Arc<Counters>,
    handle: Handle,
    limits: Limits,
    /// `None` after it was stopped.
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    front: JoinHandle<Vec<JoinHandle<()>>>,
    /// Its drop stops the front.
    stop_front: Socket,
    traffic: Sender<Command>,
    /// Disconnected when the traffic has ended.
    ended: Receiver<()>,
}

impl Server {
    /// Listens, and serves the pool's volumes and snapshots until it is stopped or the pool is closed.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) when another server listens there,
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) when TLS is required and can't be spoken or its files hold
    /// nothing of use, what the operating system said.
    pub fn start(pool: &Pool, options: &ServerOptions) -> Result<Self> {
        let failed = |source| Error::io("start the NBD server", "its sockets", source);
        let config = options.tls.as_ref().map(tls::configure).transpose()?;
        let bind = |listen| Listener::bind(listen, config.is_some());
        let listeners = options.listen.iter().map(bind).collect::<Result<Vec<_>>>()?;
        let addresses = listeners.iter().map(|listener| listener.address.clone()).collect();
        let handle = pool.handle().clone();
        let counters = Arc::new(Counters::default());
        let (traffic, inbox) = channel();
        let (ending, ended) = channel();
        let finders = Finders::start(&handle, &traffic)?;
        let client =
            Traffic::new(inbox, finders, counters.clone(), options.limits, ending).map_err(failed)?;
        let (stop_front, stop) = Socket::pair().map_err(failed)?;
        let parts = Parts {
            exports: PoolExports::new(handle.clone()),
            tls: config,
            limits: options.limits,
            counters: counters.clone(),
            admitted: traffic.clone(),
            reactor: handle.waker(),
            stop,
        };
        let front = Front::new(parts, listeners).map_err(failed)?;
        let named = std::thread::Builder::new().name("firn-nbd".to_owned());
        let front = named.spawn(move || front.run()).map_err(failed)?;
        pool.attach_client(Box::new(client));
        let running = Mutex::new(Some(Running { front, stop_front, traffic, ended }));
        Ok(Self { addresses, counters, handle, limits: options.limits, running })
    }

    /// Where it can be reached, in the order of the options; a port that was left open is filled in.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The counters as they are now.
    pub fn statistics(&self) -> Statistics {
        let names = self.handle.look(|core| {
            core.catalog().volumes().map(|volume| (volume.id, volume.name.clone())).collect::<Vec<_>>()
        });
        // A pool that is closed has no names, and the counters are still true.
        let names = names.unwrap_or_default();
        self.counters.read(|id| names.iter().find(|(known, _)| *known == id).map(|(_, name)| name.clone()))
    }

    /// Stops: takes no more connections and requests, answers what is under way, closes every connection, and removes
    /// its unix sockets. Waits for that, at most [`Limits::stop_ms`] for clients that do not take their answers. A
    /// second stop does nothing.
    pub fn stop(&self) {
        let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let Running { front, stop_front, traffic, ended } = running;
        drop(stop_front);
        // A front that panicked has let go of its sockets all the same.
        let bridges = front.join().unwrap_or_default();
        let patience = Duration::from_millis(self.limits.stop_ms);
        // The pool may be closed already: then the traffic is gone, and `ended` says so.
        let _ = traffic.send(Command::Stop(patience));
        self.handle.waker().wake();
        drop(traffic);
        if ended.recv_timeout(patience + STOP_GRACE) == Err(RecvTimeoutError::Disconnected) {
            // Each ends by itself soon after the traffic has.
            bridges.into_iter().for_each(|bridge| _ = bridge.join());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
