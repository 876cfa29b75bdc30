//! The pool: one file or block device and its metadata directory, created, opened, grown and closed.
//!
//! 1. One process has a pool open: the lock is on the file or device, the metadata store has its own.
//! 2. What [`Pool::close`] did not finish is recovered at the next open, as after the death of the process: dropping
//!    a pool is such a death.
//! 3. The shared-memory file is removed only after the superblock says that the pool was closed cleanly.

mod check;
mod objects;
mod options;
mod status;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

pub use options::{CreateOptions, PoolOptions};
pub use status::PoolStatus;

use crate::core::{Core, Request};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::Superblock;
use crate::journal::Position;
use crate::map::home::StoreHome;
use crate::map::store::MapStore;
use crate::reactor::{self, Handle, LocalClient};
use crate::recovery::{self, RecoveryReport, TailPlace};
use crate::sys::{
    self, Clock, DeviceFile, DeviceKind, OpenMode, SharedFile, SystemClock, boot_id, open_device,
    random_bytes,
};
use crate::units::{BLOCK_BYTES, PoolId};

/// An open pool. Its methods wait for their end and may be called from any number of threads.
///
/// Dropping it without [`close`](Self::close) ends it as the death of the process would: nothing that was
/// acknowledged is lost, and the next open recovers it.
pub struct Pool {
    handle: Handle,
    /// `None` after it was closed.
    running: Mutex<Option<Running>>,
    /// Held while the superblock is written: by one grow or close at a time.
    superblock_turn: Mutex<()>,
}

struct Running {
    reactor: JoinHandle<Option<Position>>,
    home: Arc<StoreHome>,
    file: Arc<DeviceFile>,
    device_kind: DeviceKind,
    superblock: Superblock,
    recovery: RecoveryReport,
    device: String,
    tail_path: PathBuf,
    tail_bytes: u64,
}

impl Pool {
    /// Creates a pool on a file, which is made, or on a block device, and opens it. Durable on return.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the file, the device or the metadata directory is in use and `overwrite` was not said;
    /// [`Kind::Invalid`] for a size that can't be; [`Kind::OutOfSpace`]; what the operating system said.
    pub fn create(path: &Path, create: &CreateOptions, options: &PoolOptions) -> Result<Self> {
        let existed = fs::symlink_metadata(path).is_ok();
        let is_block_device = fs::metadata(path)
            .is_ok_and(|stat| std::os::unix::fs::FileTypeExt::is_block_device(&stat.file_type()));
        let meta = options.meta_directory(path, is_block_device)?;
        let old = old_metadata(&meta, create.overwrite, options)?;
        let device = sys::CreateOptions {
            bytes: create.bytes,
            preallocate: create.preallocate,
            overwrite: create.overwrite,
        };
        let file = DeviceFile::create(path, &device)?;
        if old {
            // Only now that the device is ours.
            fs::remove_dir_all(&meta).map_err(|source| metadata_error(&meta, source))?;
        }
        let made = lay_out(&file, &meta, create, options);
        if made.is_err() && !existed {
            // Best effort: what was made for a pool that is none.
            let _ = fs::remove_file(path);
            let _ = fs::remove_dir_all(&meta);
        }
        Self::start(file, made?, &meta, options)
    }

    /// Opens a pool and recovers it if it was not closed. On return everything that was acknowledged before the
    /// process died, or flushed before the machine did, is there.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such file or no metadata; [`Kind::Conflict`] when another process has it
    /// open or the metadata is of another pool; [`Kind::Damaged`] when something that was durable can't be read.
    pub fn open(path: &Path, options: &PoolOptions) -> Result<Self> {
        let file = DeviceFile::open(path, OpenMode::ReadWrite)?;
        let meta = options.meta_directory(path, file.is_block_device())?;
        let store = MapStore::open(&meta, false, &options.store)?;
        Self::start(file, store, &meta, options)
    }

    fn start(file: Arc<DeviceFile>, store: MapStore, meta: &Path, options: &PoolOptions) -> Result<Self> {
        let mut device = open_device(file.clone(), options.device)?;
        let pool_id = recovery::read_superblock(&mut *device)?.pool_id;
        let tail_path = options.tail_path(pool_id);
        let tail = TailPlace {
            left: SharedFile::open(&tail_path)?,
            boot_id: boot_id()?,
            shape: options.tail,
            buffers: crate::sys::BufferPool::new(options::IDLE_BUFFER_BYTES),
        };
        let opened =
            recovery::open(&mut *device, &store, tail, |bytes| SharedFile::create(&tail_path, bytes))?;
        let core = Core::new(opened.parts, options.core.clone());
        let home = Arc::new(StoreHome::new(store, meta, options.store.clone()));
        let description = device.describe();
        let started = reactor::start(core, device, &home, Box::new(SystemClock))?;
        let running = Running {
            reactor: started.thread,
            home,
            file,
            device_kind: options.device,
            superblock: opened.superblock,
            recovery: opened.report,
            device: description,
            tail_path,
            tail_bytes: options.tail.bytes() as u64,
        };
        let running = Mutex::new(Some(running));
        Ok(Self { handle: started.handle, running, superblock_turn: Mutex::default() })
    }

    /// Closes the pool: makes everything durable, makes a last checkpoint, and marks the pool as clean. Requests under
    /// way end, new ones are refused with [`Kind::Unavailable`], and so may be large writes that are still on their way
    /// to the device; so is a second close.
    ///
    /// # Errors
    /// What the device or the metadata store said; the pool is closed all the same, and the next open recovers it.
    pub fn close(&self) -> Result<()> {
        let _turn = self.superblock_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.lock().take().ok_or_else(closed)?;
        self.handle.begin_close();
        let settled = self.handle.flush().and_then(|()| self.handle.checkpoint());
        match settled {
            Ok(()) => self.handle.finish(),
            Err(_) => self.handle.abandon(),
        }
        let Running { reactor, home, file, device_kind, superblock, tail_path, .. } = running;
        let ended = reactor.join().unwrap_or(None);
        home.close();
        settled?;
        let Some(end) = ended else {
            return Err(Error::new(
                Kind::Unavailable,
                "close pool",
                "it failed before everything was written",
            )
            .hint("open the pool again: it recovers everything that was acknowledged"));
        };
        let mut device = open_device(file, device_kind)?;
        recovery::close(&mut *device, &superblock, end.next_lsn, end.next_sequence)?;
        SharedFile::remove(&tail_path)
    }

    /// Grows the pool to `bytes` (a multiple of 4096): a file is made longer, with written zeros if `preallocate`; a
    /// block device must have grown already. Durable on return.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when it would shrink or the device is smaller; [`Kind::OutOfSpace`].
    pub fn grow(&self, bytes: u64, preallocate: bool) -> Result<()> {
        let _turn = self.superblock_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let parts =
            |running: &Running| (running.file.clone(), running.device_kind, running.superblock.clone());
        let (file, device_kind, superblock) = self.with_running(parts)?;
        file.grow(bytes, preallocate)?;
        let pool_blocks = bytes / BLOCK_BYTES;
        if pool_blocks == superblock.pool_blocks {
            return Ok(());
        }
        // A device of its own: the superblocks are nobody else's, and the reactor's goes on meanwhile.
        let mut device = open_device(file, device_kind)?;
        let grown = recovery::grow(&mut *device, &superblock, pool_blocks)?;
        if let Some(running) = self.lock().as_mut() {
            running.superblock = grown;
        }
        self.handle.refresh_size()?;
        self.handle.call(Request::Grow { pool_blocks }).map(drop)
    }

    /// Makes durable everything acknowledged before, on every volume.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the device failed or the pool is closed.
    pub fn flush(&self) -> Result<()> {
        self.handle.flush()
    }

    /// Makes a checkpoint of everything acknowledged before; on return the metadata store holds it, and room that
    /// overwrites and deletes gave up is on its way back.
    ///
    /// # Errors
    /// What the device or the metadata store said.
    pub fn checkpoint(&self) -> Result<()> {
        self.handle.checkpoint()
    }

    /// Lets a client live on the reactor's thread.
    pub fn attach_client(&self, client: Box<dyn LocalClient>) {
        self.handle.attach(client);
    }

    /// What sends requests to the pool without going through its volumes.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        // What it guards is replaced whole, so a panic leaves nothing half done.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_running<T>(&self, look: impl FnOnce(&Running) -> T) -> Result<T> {
        self.lock().as_ref().map(look).ok_or_else(closed)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(running) = self.lock().take() {
            self.handle.abandon();
            // Whether it ended well makes no difference: the next open recovers.
            let _ = running.reactor.join();
            running.home.close();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.with_running(|running| running.superblock.pool_id);
        write!(f, "Pool({})", id.map_or("closed".to_owned(), |id| id.to_string()))
    }
}

fn closed() -> Error {
    Error::new(Kind::Unavailable, "use pool", "the pool is closed")
}

/// Whether a metadata store lies in the directory that may be overwritten. Refuses one that is in use, and a
/// directory with anything else in it: that is not ours to delete.
fn old_metadata(meta: &Path, overwrite: bool, options: &PoolOptions) -> Result<bool> {
    let mut entries = match fs::read_dir(meta) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(metadata_error(meta, error)),
    };
    if entries.next().is_none() {
        return Ok(false);
    }
    if !overwrite || !meta.join("CURRENT").exists() {
        let detail = format!("the metadata directory {} is not empty", meta.display());
        return Err(Error::new(Kind::Conflict, "create pool", detail)
            .hint("name another directory, or say that the old pool may be overwritten"));
    }
    // Opening it takes its lock; one that is too damaged to open is in nobody's use.
    match MapStore::open(meta, false, &options.store) {
        Err(error) if error.kind() != Kind::Damaged => Err(error),
        _ => Ok(true),
    }
}

fn metadata_error(meta: &Path, source: io::Error) -> Error {
    Error::io("create metadata directory", meta.display(), source)
}

fn lay_out(
    file: &Arc<DeviceFile>,
    meta: &Path,
    create: &CreateOptions,
    options: &PoolOptions,
) -> Result<MapStore> {
    fs::create_dir_all(meta).map_err(|source| metadata_error(meta, source))?;
    let store = MapStore::open(meta, true, &options.store)?;
    let mut device = open_device(file.clone(), options.device)?;
    let shape = create.shape(device.bytes());
    let pool_id = PoolId(random_bytes()?);
    recovery::create(&mut *device, &store, pool_id, &shape, SystemClock.now_ms())?;
    Ok(store)
}
