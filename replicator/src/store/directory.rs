//! A directory as a store: each object is a file, its key the path.
//!
//! 1. A body is written to a file in `.staging`, synced, and only then linked to its name: a name leads to a whole
//!    object or to none. `link` fails where something is, which makes it the conditional put.
//! 2. The directories from the object's up to the root are synced before a put says that it is done, also when it lost
//!    the race or found them there: who made them may have died before it came to that.
//! 3. A file in `.staging` is locked while its writer lives. Opening the store removes those that nobody has locked.
//! 4. A directory that may not be written to is opened for reading: each write to it says so.
//!
//! This is not write-once storage: whoever may write to the directory may delete from it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use firn_engine::sys::{Clock, SystemClock, begin_writing_out, random_bytes};

use super::{Capabilities, Key, LIST_MAX, ObjectInfo, Put, Stage, Store};
use crate::error::{Error, Kind, Result};

/// Where objects are written before they have a name. No key starts with a dot.
const STAGING: &str = ".staging";
/// How often a staging file is tried anew when somebody cleaned it away before it was locked.
const STAGE_TRIES: usize = 16;
/// Bytes of a body that are handed to the disk at once while it grows: the sync at its end would keep the disk from
/// everybody else for as long as it takes to write all of it.
const WRITE_OUT_BYTES: u64 = 4 << 20;

/// Objects in a directory of the local or a mounted file system.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
}

impl DirectoryStore {
    /// Opens the directory at `root`, and makes it when it is not there (readable by its owner only). One on read-only
    /// media, or of somebody else, can be read.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(root: &Path) -> Result<Self> {
        let store = Self { root: root.to_owned() };
        match make_directories(&root.join(STAGING)).and_then(|()| store.remove_abandoned()) {
            Err(error) if root.is_dir() && is_forbidden(&error) => Ok(store),
            ready => ready.map(|()| store),
        }
    }

    /// Removes what dead writers left in `.staging`.
    fn remove_abandoned(&self) -> Result<()> {
        let staging = self.root.join(STAGING);
        let failed = |source| Error::io("clean staging", staging.display(), source);
        for entry in fs::read_dir(&staging).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // Another opener may have removed it in between, and a living writer has it locked.
            if let Ok(file) = File::open(&path)
                && file.try_lock().is_ok()
            {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Syncs the directories above `path`, the root last.
    fn sync_above(&self, path: &Path) -> Result<()> {
        let mut above = path.ancestors().skip(1).take_while(|directory| directory.starts_with(&self.root));
        above.try_for_each(sync_directory)
    }

    fn create_stage(&self) -> Result<DirectoryStage<'_>> {
        for _ in 0..STAGE_TRIES {
            let name = u128::from_le_bytes(random_bytes::<16>()?);
            let path = self.root.join(STAGING).join(format!("{name:032x}"));
            let failed = |source| Error::io("stage object", path.display(), source);
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                // It could not be made when the store was opened.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_directories(&self.root.join(STAGING))?;
                    continue;
                }
                file => file.map_err(failed)?,
            };
            let is_ours = file.try_lock().is_ok() && file.metadata().map_err(failed)?.nlink() == 1;
            if is_ours {
                return Ok(DirectoryStage { store: self, file, path, bytes: 0, written_out: 0 });
            }
        }
        Err(Error::new(Kind::Retry, "stage object", format!("{}: files vanish", self.root.display())))
    }

    fn walk(&self, directory: &Path, prefix: &str, found: &mut Vec<ObjectInfo>) -> Result<()> {
        let failed = |source| Error::io("list objects", directory.display(), source);
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let name = path.strip_prefix(&self.root).ok().and_then(Path::to_str).map(str::to_owned);
            // What is no key was not put here by a store.
            let Some(Ok(key)) = name.map(Key::new) else { continue };
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(failed(error)),
            };
            let text = key.as_str();
            if metadata.is_dir() {
                if text.starts_with(prefix) || prefix.starts_with(text) {
                    self.walk(&path, prefix, found)?;
                }
            } else if text.starts_with(prefix) {
                found.push(info(key, &metadata)?);
            }
        }
        Ok(())
    }
}

impl Store for DirectoryStore {
    fn name(&self) -> String {
        format!("directory {}", self.root.display())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { conditional_put: true, ..Capabilities::default() }
    }

    /// The file system's time: that of a file server, when the directory is on one. Where nothing can be written nothing
    /// can be decided by it either, and the machine's own does.
    fn clock_ms(&self) -> Result<u64> {
        let stage = match self.create_stage() {
            Err(error) if is_forbidden(&error) => return Ok(SystemClock.now_ms()),
            stage => stage?,
        };
        let failed = |source| Error::io("read clock", stage.path.display(), source);
        (&stage.file).write_all(b"clock").map_err(failed)?;
        modified_ms(&stage.file.metadata().map_err(failed)?).map_err(failed)
    }

    fn stage(&self) -> Result<Box<dyn Stage + '_>> {
        Ok(Box::new(self.create_stage()?))
    }

    fn put(&self, key: &Key, body: &[u8]) -> Result<()> {
        let mut stage = self.create_stage()?;
        stage.append(body)?;
        stage.make_durable(key)?;
        let path = self.path(key);
        fs::rename(&stage.path, &path).map_err(|source| Error::io("put object", key, source))?;
        self.sync_above(&path)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        fs::read(self.path(key)).map_err(|source| read_error(key, source))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        let file = File::open(self.path(key)).map_err(|source| read_error(key, source))?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).map_err(|source| read_error(key, source))?;
        Ok(bytes)
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        match fs::metadata(self.path(key)) {
            Ok(metadata) if metadata.is_dir() => Ok(None),
            Ok(metadata) => info(key.clone(), &metadata).map(Some),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Error::io("look at object", key, error)),
        }
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        self.walk(&self.root, prefix, &mut found)?;
        found.retain(|object| after.is_none_or(|after| object.key > *after));
        found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        found.truncate(LIST_MAX);
        Ok(found)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(Error::io("delete object", key, error)),
        }
    }
}

/// A file in `.staging`; removed when it is dropped, unless it was renamed away.
struct DirectoryStage<'a> {
    store: &'a DirectoryStore,
    file: File,
    path: PathBuf,
    /// Bytes of the body so far, and how many of them the disk has or is getting.
    bytes: u64,
    written_out: u64,
}

impl DirectoryStage<'_> {
    /// Syncs the body, and makes the directory that its name will stand in.
    fn make_durable(&self, key: &Key) -> Result<()> {
        self.file.sync_all().map_err(|source| Error::io("sync object", key, source))?;
        let path = self.store.path(key);
        path.parent().map_or(Ok(()), make_directories)
    }
}

impl Stage for DirectoryStage<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|source| Error::io("write object", self.path.display(), source))?;
        self.bytes += bytes.len() as u64;
        // Whole parts: a page that is not full yet would be written twice.
        let end = self.bytes - self.bytes % WRITE_OUT_BYTES;
        begin_writing_out(&self.file, self.written_out..end);
        self.written_out = end;
        Ok(())
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Put> {
        self.make_durable(key)?;
        let path = self.store.path(key);
        let put = match fs::hard_link(&self.path, &path) {
            Ok(()) => Put::Created,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Put::Exists,
            Err(error) => return Err(Error::io("put object", key, error)),
        };
        self.store.sync_above(&path)?;
        Ok(put)
    }
}

impl Drop for DirectoryStage<'_> {
    fn drop(&mut self) {
        // What can't be removed is removed when the store is opened the next time.
        let _ = remove(&self.path);
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(Error::io("remove staged object", path.display(), error)),
        _ => Ok(()),
    }
}

/// Makes a directory and those above it, each durable before something is put into it.
fn make_directories(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_directories)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        // Somebody else made it, and may not have synced it yet.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(Error::io("make directory", path.display(), error)),
    }
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_directory(parent)
}

fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|source| Error::io("sync directory", path.display(), source))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether the file system lets nobody write, or not us.
fn is_forbidden(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| {
        matches!(source.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
    })
}

fn read_error(key: &Key, source: io::Error) -> Error {
    match source.kind() {
        // An offset that no file can have is refused by the kernel as an invalid one.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            Error::new(Kind::Damaged, "read object", format!("{key} is shorter than it must be"))
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            Error::new(Kind::NotFound, "read object", key.to_string()).source(source)
        }
        _ => Error::io("read object", key, source),
    }
}

fn modified_ms(metadata: &fs::Metadata) -> io::Result<u64> {
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn info(key: Key, metadata: &fs::Metadata) -> Result<ObjectInfo> {
    let modified_ms = modified_ms(metadata).map_err(|source| Error::io("look at object", &key, source))?;
    Ok(ObjectInfo { bytes: metadata.len(), modified_ms, key })
}
