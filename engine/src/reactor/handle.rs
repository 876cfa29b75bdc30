//! How other threads speak to the reactor.

use std::sync::mpsc::{Sender, sync_channel};
use std::sync::{Arc, OnceLock};

use super::LocalClient;
use crate::catalog::{Catalog, Operation};
use crate::core::{Core, Request, Response, WorkDone};
use crate::error::{Error, Kind, Result};
use crate::map::home::StoreHome;
use crate::map::store::StoreView;
use crate::sys::{BufferPool, MemorySlice, Waker};

/// What the reactor is told.
pub(super) enum Message {
    Request(Request, Reply),
    /// A worker did its work.
    Work(WorkDone),
    Attach(Box<dyn LocalClient>),
    /// The device was grown.
    RefreshSize(Reply),
    BeginClose,
    Finish,
    Abandon,
}

/// Why the reactor ended, once it has.
#[derive(Default)]
pub(super) struct EndState(OnceLock<Error>);

impl EndState {
    pub(super) fn set(&self, error: Error) {
        // The first reason is the true one.
        let _ = self.0.set(error);
    }

    pub(super) fn error(&self) -> Error {
        let unknown = || Error::new(Kind::Bug, "use pool", "the pool's reactor dropped a request");
        self.0.get().cloned().unwrap_or_else(unknown)
    }
}

/// Takes the answer to one request. Dropped without an answer, it gives the reason why the reactor ended.
pub(super) struct Reply {
    callback: Option<Callback>,
    ended: Arc<EndState>,
}

type Callback = Box<dyn FnOnce(Result<Response>) + Send>;

impl Reply {
    pub(super) fn answer(mut self, result: Result<Response>) {
        if let Some(callback) = self.callback.take() {
            callback(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(callback) = self.callback.take() {
            callback(Err(self.ended.error()));
        }
    }
}

/// Sends requests to an open pool's reactor from any thread. Cheap to clone. It does not keep the pool open: after
/// it was closed every call says so ([`Kind::Unavailable`]).
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    messages: Sender<Message>,
    waker: Waker,
    buffers: BufferPool,
    home: Arc<StoreHome>,
    ended: Arc<EndState>,
}

impl Handle {
    pub(super) fn new(
        messages: Sender<Message>,
        waker: Waker,
        buffers: BufferPool,
        home: Arc<StoreHome>,
        ended: Arc<EndState>,
    ) -> Self {
        Self(Arc::new(Shared { messages, waker, buffers, home, ended }))
    }

    fn send(&self, message: Message) {
        // A message that can't be sent is dropped, and its reply says why.
        let _ = self.0.messages.send(message);
        self.0.waker.wake();
    }

    fn reply(&self, callback: impl FnOnce(Result<Response>) + Send + 'static) -> Reply {
        Reply { callback: Some(Box::new(callback)), ended: self.0.ended.clone() }
    }

    /// Submits a request. `callback` is called exactly once, on the reactor's thread, and must not wait for anything
    /// nor use the blocking calls of this handle. The caller bounds how many requests it has under way.
    pub fn submit(&self, request: Request, callback: impl FnOnce(Result<Response>) + Send + 'static) {
        self.send(Message::Request(request, self.reply(callback)));
    }

    /// Submits a request and waits for its end. Not for the reactor's thread, which would wait for itself.
    ///
    /// # Errors
    /// Whatever the request says, [`Kind::Unavailable`] after the pool was closed.
    pub fn call(&self, request: Request) -> Result<Response> {
        self.wait_for(|reply| Message::Request(request, reply))
    }

    fn wait_for(&self, message: impl FnOnce(Reply) -> Message) -> Result<Response> {
        let (sender, receiver) = sync_channel(1);
        // Nobody else sends, so there is room; and the receiver waits right here.
        let reply = self.reply(move |result| _ = sender.send(result));
        self.send(message(reply));
        receiver.recv().unwrap_or_else(|_| Err(self.0.ended.error()))
    }

    /// Changes the catalog; durable on return. `plan` is called once on the reactor's thread with the catalog as it
    /// is then and the wall clock in ms, and may give something back besides the operation.
    ///
    /// # Errors
    /// Whatever `plan` or the check of the operation says.
    pub(crate) fn change<T: Send + 'static>(
        &self,
        plan: impl FnOnce(&Catalog, u64) -> Result<(Operation, T)> + Send + 'static,
    ) -> Result<(Operation, T)> {
        let (sender, receiver) = sync_channel(1);
        let plan = move |catalog: &Catalog, wall_ms: u64| {
            let (operation, extra) = plan(catalog, wall_ms)?;
            // Called once, so there is room.
            let _ = sender.send(extra);
            Ok(operation)
        };
        match (self.call(Request::Change(Box::new(plan)))?, receiver.try_recv()) {
            (Response::Changed(operation, _), Ok(extra)) => Ok((operation, extra)),
            _ => Err(Error::new(Kind::Bug, "change catalog", "the change was answered as something else")),
        }
    }

    /// Looks at the core between two requests.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] after the pool was closed.
    pub fn look<T: Send + 'static>(&self, look: impl FnOnce(&Core) -> T + Send + 'static) -> Result<T> {
        let (sender, receiver) = sync_channel(1);
        let look = move |core: &Core| _ = sender.send(look(core));
        self.call(Request::Look(Box::new(look)))?;
        receiver.try_recv().map_err(|_| Error::new(Kind::Bug, "look at the pool", "nothing was seen"))
    }

    /// As [`look`](Self::look), for a look that may not find what it looks for.
    ///
    /// # Errors
    /// Whatever `look` says, [`Kind::Unavailable`] after the pool was closed.
    pub fn try_look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.look(look)?
    }

    /// Makes a checkpoint of everything acknowledged before; on return the metadata store holds it.
    ///
    /// # Errors
    /// What the device or the metadata store said.
    pub fn checkpoint(&self) -> Result<()> {
        self.call(Request::Checkpoint).map(drop)
    }

    /// Makes durable everything acknowledged before, on every volume.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the device failed.
    pub fn flush(&self) -> Result<()> {
        self.call(Request::Flush).map(drop)
    }

    /// Wakes the reactor's thread, so that its local clients have a turn.
    pub fn waker(&self) -> Waker {
        self.0.waker.clone()
    }

    /// Memory of exactly `bytes` bytes for a write, with arbitrary content.
    pub fn buffer(&self, bytes: usize) -> MemorySlice {
        MemorySlice::new(self.0.buffers.get(bytes), 0, bytes)
    }

    /// Lets `walk` read the metadata store as it is now; it may be called again, to go on where it was, with a later
    /// view (see [`StoreHome::walk`]). It must not wait for a checkpoint.
    ///
    /// # Errors
    /// What `walk` and the store say; [`Kind::Unavailable`] after the pool was closed.
    pub(crate) fn walk<T>(&self, walk: impl FnMut(&StoreView<'_>) -> Result<T>) -> Result<T> {
        self.0.home.walk(walk)
    }

    /// Lets a client live on the reactor's thread.
    pub(crate) fn attach(&self, client: Box<dyn LocalClient>) {
        self.send(Message::Attach(client));
    }

    /// Has the device look at its size again.
    ///
    /// # Errors
    /// What the operating system said.
    pub(crate) fn refresh_size(&self) -> Result<()> {
        self.wait_for(Message::RefreshSize).map(drop)
    }

    /// From now on changes are refused; reads, flushes and checkpoints go on.
    pub(crate) fn begin_close(&self) {
        self.send(Message::BeginClose);
    }

    /// Ends the reactor when nothing is under way any more.
    pub(crate) fn finish(&self) {
        self.send(Message::Finish);
    }

    /// Ends the reactor at once; what is under way is answered with an error.
    pub(crate) fn abandon(&self) {
        self.send(Message::Abandon);
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}
