//! What is written down of an attached device: a directory and a lock beside it.
//!
//! ```text
//! RUNTIME/attach/NAME.lock        held while NAME's helper lives; never deleted, so that two can't hold one each
//! RUNTIME/attach/NAME/record.json what is attached where
//!                    /health.json how the connection is
//!                    /log         what the helper said
//!                    /ending      it is being taken away, and gets no other connection
//!                    /export/     where FUSE is mounted
//! ```
//!
//! Files are written beside and renamed, so that a reader sees an old one or a new one.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use firn_engine::checksum::checksum;
use firn_engine::error::{Error, Kind};
use firn_engine::export::nbd::client::Uri;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What is attached where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The volume or snapshot, as the export is named.
    pub(crate) name: String,
    /// Where the export is.
    pub(crate) uri: String,
    /// How the kernel sees it.
    pub(crate) transport: String,
    /// The block device.
    pub(crate) device: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) is_read_only: bool,
    /// The helper.
    pub(crate) pid: u32,
    pub(crate) attached_ms: u64,
}

/// How the connection is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(crate) state: State,
    /// Since when, in ms since 1970.
    pub(crate) since_ms: u64,
    /// What went wrong.
    pub(crate) reason: Option<String>,
    /// How often the connection was made anew.
    pub(crate) reconnects: u64,
}

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Requests are answered.
    Connected,
    /// The server is away, and requests wait.
    Waiting,
    /// The server is away for longer than was allowed, and requests fail until it is back.
    Failing,
    /// The export is gone or is another one now; requests fail for good.
    Gone,
    /// The helper died, and with it the device.
    Dead,
}

impl State {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Gone => "gone",
            Self::Dead => "dead",
        }
    }
}

/// The place of one attached device.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    folder: PathBuf,
}

impl Entry {
    /// The place for an export under `runtime`. Two servers may have exports of one name.
    pub(crate) fn of(runtime: &Path, uri: &Uri) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._:-+@".contains(c) { c } else { '_' };
        let name: String = uri.export.chars().take(128).map(plain).collect();
        let number = checksum(uri.to_string().as_bytes());
        Self { folder: folder(runtime).join(format!("{name}-{number:08x}")) }
    }

    /// The place that is this directory.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// All places under `runtime`, in the order of their names.
    pub(crate) fn all(runtime: &Path) -> Result<Vec<Self>, Error> {
        let folder = folder(runtime);
        let failed = |source| Error::io("list what is attached", folder.display(), source);
        let listed = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(failed)?,
        };
        let mut entries = Vec::new();
        for item in listed {
            let item = item.map_err(failed)?;
            if item.file_type().map_err(failed)?.is_dir() {
                entries.push(Self::at(item.path()));
            }
        }
        entries.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(entries)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the kernel knows its device by. Containers may have an entry of the same path each, and share the kernel's
    /// devices: the lock's file is one entry's alone, for as long as its file system is there.
    pub(crate) fn identifier(&self) -> Result<String, Error> {
        let path = self.lock_path();
        let found = fs::metadata(&path);
        let found = found.map_err(|source| Error::io("look at what is attached", path.display(), source))?;
        Ok(format!("firn:{:x}:{:x}:{}", found.dev(), found.ino(), self.folder.display()))
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.with_added_extension("lock")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Where FUSE is mounted.
    pub(crate) fn export_path(&self) -> PathBuf {
        self.folder.join("export")
    }

    /// Takes the lock, which is held until the last copy of the file is closed. `None` when a helper has it.
    pub(crate) fn lock(&self) -> Result<Option<File>, Error> {
        let path = self.lock_path();
        let failed = |source| Error::io("lock what is attached", path.display(), source);
        if let Some(parent) = path.parent() {
            // Only what is attached is ours alone: the runtime directory also has the daemon's sockets.
            parent.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Makes the directory. The lock is held.
    pub(crate) fn create(&self) -> Result<(), Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(self.export_path());
        made.map_err(|source| Error::io("write down what is attached", self.folder.display(), source))
    }

    /// Removes the directory, without what is mounted in it. The lock is held, or the helper is the caller.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let failed = |source| Error::io("forget what was attached", self.folder.display(), source);
        let [record, health] = [RECORD, HEALTH].map(|name| self.folder.join(name));
        // A helper that was killed in the middle of writing left the new file beside the old one.
        let halves = [&record, &health].map(|path| path.with_added_extension(NEW));
        for path in halves.into_iter().chain([self.log_path(), self.folder.join(ENDING), record, health]) {
            absent(fs::remove_file(path)).map_err(failed)?;
        }
        for path in [self.export_path(), self.folder.clone()] {
            absent(fs::remove_dir(path)).map_err(failed)?;
        }
        Ok(())
    }

    pub(crate) fn record(&self) -> Result<Option<Record>, Error> {
        self.read(RECORD)
    }

    pub(crate) fn set_record(&self, record: &Record) -> Result<(), Error> {
        self.write(RECORD, record)
    }

    pub(crate) fn health(&self) -> Result<Option<Health>, Error> {
        self.read(HEALTH)
    }

    pub(crate) fn set_health(&self, health: &Health) -> Result<(), Error> {
        self.write(HEALTH, health)
    }

    /// Writes down that it is being taken away.
    pub(crate) fn set_ending(&self) -> Result<(), Error> {
        let path = self.folder.join(ENDING);
        let made = File::create(&path).map(drop);
        made.map_err(|source| Error::io("write down what is attached", path.display(), source))
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.folder.join(ENDING).exists()
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.folder.join(name);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| Error::io("read what is attached", path.display(), source))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| {
            Error::new(Kind::Damaged, "read what is attached", path.display().to_string()).source(source)
        })
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let path = self.folder.join(name);
        let text = serde_json::to_vec_pretty(value).map_err(io::Error::other);
        let new = path.with_added_extension(NEW);
        let written = text.and_then(|text| fs::write(&new, text)).and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| Error::io("write down what is attached", path.display(), source))
    }
}

const RECORD: &str = "record.json";
const HEALTH: &str = "health.json";
const ENDING: &str = "ending";
/// What is put to a name while the file is written.
const NEW: &str = "new";

fn folder(runtime: &Path) -> PathBuf {
    runtime.join("attach")
}

/// What is not there need not be removed.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_had_once_and_free_again_when_its_file_is_closed() {
        let runtime = tempfile::tempdir().expect("a folder");
        let entry = Entry::of(runtime.path(), &Uri::unix("/run/a", "pg"));
        let held = entry.lock().expect("locked").expect("free");
        assert!(entry.lock().expect("looked at").is_none());
        let other = Entry::of(runtime.path(), &Uri::unix("/run/b", "pg"));
        assert!(other.lock().expect("locked").is_some(), "another server's volume is another entry");
        drop(held);
        assert!(entry.lock().expect("locked").is_some());
    }

    #[test]
    fn what_is_written_down_is_read_back_and_forgotten() {
        let runtime = tempfile::tempdir().expect("a folder");
        assert!(Entry::all(runtime.path()).expect("listed").is_empty());
        let entry = Entry::of(runtime.path(), &Uri::unix("/run/a", "a/b"));
        entry.create().expect("created");
        assert_eq!(entry.record().expect("read"), None);
        let health = Health { state: State::Waiting, since_ms: 5, reason: None, reconnects: 2 };
        entry.set_health(&health).expect("written");
        assert_eq!(entry.health().expect("read"), Some(health));
        let all = Entry::all(runtime.path()).expect("listed");
        assert_eq!(all.iter().map(Entry::folder).collect::<Vec<_>>(), [entry.folder()]);
        entry.remove().expect("removed");
        assert!(Entry::all(runtime.path()).expect("listed").is_empty());
    }
}
