//! Clients that live on the reactor's thread: no hop between threads for a request or its answer.

use crate::catalog::Catalog;
use crate::core::{Core, Owner, Request, Response};
use crate::device::Device;
use crate::error::Result;
use crate::sys::{BufferPool, Waker};

/// A client on the reactor's thread. Its methods never wait: while one runs, the whole pool stands still. One that
/// panics takes the pool down as a crash would.
pub trait LocalClient: Send {
    /// Called in every cycle of the reactor: at least every 100 ms, and at once after [`Port::waker`] was used.
    /// Returns whether it wants to go on; if not it is dropped, and what it has under way is no longer answered.
    fn turn(&mut self, port: &mut Port<'_>) -> bool;

    /// A request has ended; `tag` is the client's own number for it.
    fn completed(&mut self, tag: u64, result: Result<Response>, port: &mut Port<'_>);
}

/// What a local client sees of the reactor.
pub struct Port<'a> {
    core: &'a mut Core,
    client: u64,
    device: &'a dyn Device,
    submitted: bool,
}

impl<'a> Port<'a> {
    pub(super) fn new(core: &'a mut Core, client: u64, device: &'a dyn Device) -> Self {
        Self { core, client, device, submitted: false }
    }

    pub(super) fn has_submitted(&self) -> bool {
        self.submitted
    }

    /// Submits a request; its end comes through [`LocalClient::completed`], never before this returns. The client
    /// bounds how many it has under way.
    pub fn submit(&mut self, tag: u64, request: Request) {
        self.submitted = true;
        self.core.submit(Owner { client: self.client, tag }, request);
    }

    /// Memory for what is written.
    pub fn buffers(&self) -> &BufferPool {
        self.core.buffers()
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
