//! The runtime directory: where sockets are, and which daemon serves which pool.
//!
//! 1. It is `$FIRN_RUNTIME`, else `/run/firn` for root, else `$XDG_RUNTIME_DIR/firn`, which is `/run/user/UID/firn` unless
//!    something else was said. Never a place where another user could make it first.
//! 2. A daemon notes there which socket serves its pool. The note is for the error of who finds the pool locked, so one
//!    that a killed daemon left does no harm: nobody finds that pool locked.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The runtime directory. It may not exist yet.
pub(crate) fn directory() -> PathBuf {
    if let Some(directory) = variable("FIRN_RUNTIME") {
        return directory;
    }
    let user = rustix::process::geteuid();
    match variable("XDG_RUNTIME_DIR") {
        _ if user.is_root() => "/run/firn".into(),
        Some(directory) => directory.join("firn"),
        None => format!("/run/user/{}/firn", user.as_raw()).into(),
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where a daemon listens, and the command line asks, unless it was said.
pub(crate) fn default_socket() -> PathBuf {
    directory().join("firn.sock")
}

/// The socket of the daemon that has the pool at `path`, when one noted it.
pub(crate) fn serving(path: &Path) -> Option<PathBuf> {
    fs::read_to_string(note(path).ok()?).ok().map(PathBuf::from)
}

/// A note that a pool is served. It is taken away when it is dropped.
pub(crate) struct Serving(PathBuf);

impl Serving {
    /// Notes that the pool at `path` is served at `socket`.
    pub(crate) fn note(path: &Path, socket: &Path) -> io::Result<Self> {
        let note = note(path)?;
        fs::create_dir_all(note.parent().unwrap_or(Path::new("/")))?;
        fs::write(&note, std::path::absolute(socket)?.as_os_str().as_encoded_bytes())?;
        Ok(Self(note))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Best effort: see 2.
        let _ = fs::remove_file(&self.0);
    }
}

/// A name by what the file or device is, not by one of the paths to it.
fn note(path: &Path) -> io::Result<PathBuf> {
    let stat = fs::metadata(path)?;
    let name = match stat.file_type().is_block_device() {
        true => format!("device-{}", stat.rdev()),
        false => format!("file-{}-{}", stat.dev(), stat.ino()),
    };
    Ok(directory().join("serving").join(name))
}
