//! The threads that may wait: they read map pages and write checkpoints, so that the reactor never does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::{Message, WorkDone, WorkItem};
use crate::checkpoint;
use crate::error::{Error, Kind, Result};
use crate::map::home::StoreHome;
use crate::sys::Waker;

/// Threads that read map pages.
const LOADERS: usize = 2;

/// The workers. They end, and are waited for, when this is dropped.
pub(super) struct Workers {
    /// `None` only while this is dropped.
    channels: Option<Channels>,
    threads: Vec<JoinHandle<()>>,
}

struct Channels {
    checkpoints: Sender<WorkItem>,
    loads: Sender<WorkItem>,
}

impl Workers {
    /// One thread for checkpoints and for letting go of memory, and a few for map pages.
    pub(super) fn start(home: &Arc<StoreHome>, messages: &Sender<Message>, waker: &Waker) -> Result<Self> {
        let (checkpoints, checkpoint_queue) = channel();
        let (loads, load_queue) = channel();
        let mut workers = Self { channels: Some(Channels { checkpoints, loads }), threads: Vec::new() };
        let load_queue = Arc::new(Mutex::new(load_queue));
        let mut queues = vec![("firn-checkpoint".to_owned(), Arc::new(Mutex::new(checkpoint_queue)))];
        queues.extend((0..LOADERS).map(|number| (format!("firn-map-{number}"), load_queue.clone())));
        for (name, queue) in queues {
            let worker = Worker { home: home.clone(), messages: messages.clone(), waker: waker.clone() };
            let named = std::thread::Builder::new().name(name.clone());
            let thread = named
                .spawn(move || worker.work(&queue))
                .map_err(|source| Error::io("start a thread", name, source))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Hands work to the threads whose it is; gives it back as failed when they are gone.
    pub(super) fn give(&self, item: WorkItem) -> Option<WorkDone> {
        let Some(channels) = &self.channels else { return None };
        let channel = match item {
            WorkItem::Load { .. } => &channels.loads,
            WorkItem::Checkpoint(_) | WorkItem::Drop(_) => &channels.checkpoints,
        };
        let gone = || Error::new(Kind::Bug, "work for the pool", "the worker threads are gone");
        match channel.send(item).err()?.0 {
            WorkItem::Load { view, page, chain, generation } => {
                Some(WorkDone::Loaded { view, page, chain, generation, result: Err(gone()) })
            }
            WorkItem::Checkpoint(_) => Some(WorkDone::Checkpointed(Err(gone()))),
            WorkItem::Drop(_) => None,
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.channels = None;
        for thread in self.threads.drain(..) {
            // A worker catches its panics, so there is nothing to hear.
            let _ = thread.join();
        }
    }
}

struct Worker {
    home: Arc<StoreHome>,
    messages: Sender<Message>,
    waker: Waker,
}

impl Worker {
    fn work(&self, queue: &Mutex<Receiver<WorkItem>>) {
        loop {
            // Nothing panics while it holds the lock.
            let item = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(item) = item else { return };
            if let Some(done) = self.one(item) {
                // The reactor may be gone; then nobody needs the answer.
                let _ = self.messages.send(Message::Work(done));
                self.waker.wake();
            }
        }
    }

    fn one(&self, item: WorkItem) -> Option<WorkDone> {
        match item {
            WorkItem::Load { view, page, chain, generation } => {
                let look = || self.home.look(|store| store.view().resolve(&chain, page));
                let result = guarded("a map page's reader", look);
                Some(WorkDone::Loaded { view, page, chain, generation, result })
            }
            WorkItem::Checkpoint(work) => {
                let write = || {
                    self.home.mend()?;
                    self.home.look(|store| checkpoint::run(store, &work))
                };
                let result = guarded("the checkpointer", write);
                Some(WorkDone::Checkpointed(result))
            }
            WorkItem::Drop(overlay) => {
                drop(overlay);
                None
            }
        }
    }
}

/// Runs `work`; a panic becomes an error.
fn guarded<T>(who: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The work only reads shared state, and the store keeps its own whole.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(who, &*panic)))
}

/// The error for those who waited for a thread that panicked.
pub(super) fn panicked(who: &str, panic: &(dyn Any + Send)) -> Error {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::new(Kind::Bug, "run pool", format!("{who} panicked: {said}"))
        .hint("open the pool again: it recovers everything that was acknowledged; please report this")
}
