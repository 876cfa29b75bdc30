//! Where the open store is found. Everybody asks here for each operation, so that a store that RocksDB does not get
//! over a full file system with can be opened anew, in place.
//!
//! 1. A store that no longer takes batches is opened anew before the next one (`mend`), once there is room.
//! 2. Nobody has the old store when it is closed, and RocksDB never has two of one directory.
//! 3. A look ([`StoreHome::look`]) waits for nothing but RocksDB. It goes on until the store is about to be closed, then
//!    it waits for the new one; it never fails because of that.
//! 4. A walk ([`StoreHome::walk`]) may wait for the core between its reads. It is told to let go first, and goes on
//!    in the new store. One that does not let go in time puts the opening off, and stops nobody else.
//! 5. When the store can't be opened for writing it is opened for reading, so that reads go on.
//!
//! *open* -(`mend`)-> *recalled* (walks let go, new ones wait) -> *closing* (looks end, new ones wait) -> *open* again,
//! or *broken* when it can't even be read, until `mend` succeeds. *closed* for good by `close`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::store::{MapStore, StoreOptions, StoreView};
use crate::error::{Error, Kind, Result};

/// How long walks have to let go.
const RECALL: Duration = Duration::from_secs(5);

/// The store's home.
pub struct StoreHome {
    path: PathBuf,
    options: StoreOptions,
    state: Mutex<State>,
    changed: Condvar,
    reopened: AtomicU64,
}

struct State {
    place: Place,
    recall: Recall,
    walks: usize,
    looks: usize,
}

enum Place {
    Open(Arc<MapStore>),
    Broken(Error),
    Closed,
}

/// Who waits for the new store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recall {
    Nobody,
    Walks,
    Everybody,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Look,
    Walk,
}

/// A use of the store; over when dropped.
struct Lease<'a> {
    home: &'a StoreHome,
    store: Option<Arc<MapStore>>,
    of: Use,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // The store first: when nobody is counted, nobody has it.
        self.store = None;
        let mut state = self.home.lock();
        match self.of {
            Use::Look => state.looks -= 1,
            Use::Walk => state.walks -= 1,
        }
        self.home.changed.notify_all();
    }
}

/// Whoever waits goes on, however the opening ends.
struct Opening<'a>(&'a StoreHome);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.recall(&mut self.0.lock(), Recall::Nobody);
    }
}

fn closed() -> Error {
    Error::new(Kind::Unavailable, "use pool", "the pool is closed")
}

impl StoreHome {
    /// The home of a store that was opened from `path` with `options`.
    pub fn new(store: MapStore, path: &Path, options: StoreOptions) -> Self {
        let place = Place::Open(Arc::new(store));
        Self {
            path: path.to_owned(),
            options,
            state: Mutex::new(State { place, recall: Recall::Nobody, walks: 0, looks: 0 }),
            changed: Condvar::new(),
            reopened: 0.into(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self, of: Use) -> Result<Lease<'_>> {
        let waits = |state: &mut State| match state.recall {
            Recall::Nobody => false,
            Recall::Walks => of == Use::Walk,
            Recall::Everybody => true,
        };
        let mut state = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        let store = match &state.place {
            Place::Open(store) => store.clone(),
            Place::Broken(error) => return Err(error.clone()),
            Place::Closed => return Err(closed()),
        };
        match of {
            Use::Look => state.looks += 1,
            Use::Walk => state.walks += 1,
        }
        Ok(Lease { home: self, store: Some(store), of })
    }

    /// Lets `look` use the store. It must wait for nothing but RocksDB.
    ///
    /// # Errors
    /// What `look` says; [`Kind::Unavailable`] after the pool was closed; why the store can't be opened again.
    pub fn look<T>(&self, look: impl FnOnce(&MapStore) -> Result<T>) -> Result<T> {
        let lease = self.lease(Use::Look)?;
        lease.store.as_deref().map_or_else(|| Err(closed()), look)
    }

    /// Lets `walk` read the store as it is now. When the store is opened anew meanwhile, a read fails; `walk` passes
    /// that on and is called again, with a later view, to go on where it was.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn walk<T>(&self, mut walk: impl FnMut(&StoreView<'_>) -> Result<T>) -> Result<T> {
        loop {
            let lease = self.lease(Use::Walk)?;
            let Some(store) = lease.store.as_deref() else { return Err(closed()) };
            let view = store.walk();
            match walk(&view) {
                Err(_) if view.was_interrupted() => {}
                ended => return ended,
            }
        }
    }

    /// Opens the store anew when it takes no batches. For the one thread that writes checkpoints.
    ///
    /// # Errors
    /// [`Kind::OutOfSpace`] while there is no room for what is to be written, [`Kind::Retry`] when a walk does not let
    /// go, what RocksDB said. Reads go on as before, if they can.
    pub fn mend(&self) -> Result<()> {
        let mut state = self.lock();
        match &state.place {
            Place::Open(store) if store.is_writable() => return Ok(()),
            Place::Open(store) => store.check_room(0)?,
            Place::Broken(_) => {}
            Place::Closed => return Err(closed()),
        }
        let opening = Opening(self);
        self.recall(&mut state, Recall::Walks);
        let walked = self.changed.wait_timeout_while(state, RECALL, |state| state.walks > 0);
        let (mut state, timeout) = walked.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            // The guard takes the lock again.
            drop(state);
            return Err(Error::new(Kind::Retry, "open metadata again", "somebody is still reading it"));
        }
        self.recall(&mut state, Recall::Everybody);
        let looked = self.changed.wait_while(state, |state| state.looks > 0);
        let mut state = looked.unwrap_or_else(PoisonError::into_inner);
        if matches!(state.place, Place::Closed) {
            drop(state);
            return Err(closed());
        }
        let unfinished = Error::new(Kind::Unavailable, "open metadata again", "it did not come to an end");
        let old = std::mem::replace(&mut state.place, Place::Broken(unfinished));
        drop(state);
        // Outside the lock: RocksDB ends its threads and gives up the directory here.
        drop(old);
        let result = self.open_anew();
        drop(opening);
        result
    }

    /// Opens the store and puts it in its place; nobody has the old one.
    fn open_anew(&self) -> Result<()> {
        let (place, result) = match MapStore::open(&self.path, false, &self.options) {
            Ok(store) => (Place::Open(Arc::new(store)), Ok(())),
            Err(error) => {
                let readable = MapStore::open_read_only(&self.path, &self.options);
                let place = readable.map_or_else(Place::Broken, |store| Place::Open(Arc::new(store)));
                (place, Err(error))
            }
        };
        if result.is_ok() {
            self.reopened.fetch_add(1, Ordering::Relaxed);
        }
        let mut state = self.lock();
        if !matches!(state.place, Place::Closed) {
            state.place = place;
        }
        result
    }

    fn recall(&self, state: &mut State, recall: Recall) {
        state.recall = recall;
        if let Place::Open(store) = &state.place {
            store.recall(recall != Recall::Nobody);
        }
        self.changed.notify_all();
    }

    /// How often the store was opened anew.
    pub fn reopened(&self) -> u64 {
        self.reopened.load(Ordering::Relaxed)
    }

    /// Closes the store, at once or when the last who uses it has ended. Later uses are refused.
    pub fn close(&self) {
        let mut state = self.lock();
        // Walks end now, and find it closed.
        self.recall(&mut state, Recall::Walks);
        let old = std::mem::replace(&mut state.place, Place::Closed);
        self.recall(&mut state, Recall::Nobody);
        drop(state);
        drop(old);
    }
}

#[cfg(test)]
mod tests;
