//! Clients that live on the reactor's thread: no hop between threads for a request or its answer.

use std::time::Duration;

use crate::catalog::Catalog;
use crate::core::{Core, Landing, Owner, Request, Response};
use crate::device::Device;
use crate::error::Result;
use crate::sys::{BufferPool, Poller, Waker};

/// A client on the reactor's thread. Its methods never wait: while one runs, the whole pool stands still. One that
/// panics takes the pool down as a crash would.
pub trait LocalClient: Send {
    /// Called in every cycle of the reactor: at least every 100 ms, and at once after [`Port::waker`] was used.
    /// Returns whether it wants to go on; if not it is dropped, and what it has under way is no longer answered.
    fn turn(&mut self, port: &mut Port<'_>) -> bool;

    /// Called after the answers of a cycle were handed out and before the reactor waits for anything: the moment to
    /// pass them on together.
    fn answered(&mut self, _port: &mut Port<'_>) {}

    /// A request has ended; `tag` is the client's own number for it.
    fn completed(&mut self, tag: u64, result: Result<Response>, port: &mut Port<'_>);
}

/// What a local client sees of the reactor.
pub struct Port<'a> {
    core: &'a mut Core,
    client: u64,
    device: &'a mut dyn Device,
    now: Duration,
    is_busy: bool,
}

impl<'a> Port<'a> {
    pub(super) fn new(core: &'a mut Core, client: u64, device: &'a mut dyn Device, now: Duration) -> Self {
        Self { core, client, device, now, is_busy: false }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// The time of the reactor's clock when it began this cycle, or began to hand out its answers.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Submits a request; its end comes through [`LocalClient::completed`], never before this returns. The client
    /// bounds how many it has under way.
    pub fn submit(&mut self, tag: u64, request: Request) {
        self.is_busy = true;
        self.core.submit(Owner { client: self.client, tag }, request);
    }

    /// Asks for another cycle before the reactor sleeps, because the client has left something to do.
    pub fn stay_awake(&mut self) {
        self.is_busy = true;
    }

    /// From now on the reactor's sleep ends when one of the poller's sockets is ready.
    pub fn watch(&mut self, poller: &Poller) {
        self.device.watch(poller.descriptor());
    }

    /// Ends a [`watch`](Self::watch).
    pub fn unwatch(&mut self, poller: &Poller) {
        self.device.unwatch(poller.descriptor());
    }

    /// Memory for what is written.
    pub fn buffers(&self) -> &BufferPool {
        self.core.buffers()
    }

    /// Memory for one write of so many bytes that covers whole blocks, from which they need not be copied, if there is
    /// any. It is filled before the write is submitted, and left alone after that.
    pub fn landing(&self, bytes: usize) -> Landing {
        self.core.landing(bytes)
    }

    /// The catalog as it is now.
    pub fn catalog(&self) -> &Catalog {
        self.core.catalog()
    }

    /// Wakes the reactor's thread, from any other, so that [`LocalClient::turn`] is called.
    pub fn waker(&self) -> Waker {
        self.device.waker()
    }
}
