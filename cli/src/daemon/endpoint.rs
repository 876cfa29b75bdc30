//! The API's unix socket, which one daemon has at a time.
//!
//! 1. The lock on `SOCKET.lock` says who has the socket. It ends with the process, so a socket file without a lock was
//!    left by a daemon that died, and is replaced.
//!    Only the daemon's user may open that file: whoever can open it can lock it.
//! 2. The socket is for the daemon's user and group only.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use firn_engine::error::{Error, Kind};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Reads and writes for the user and the group.
const MODE: u32 = 0o660;

/// A socket that this process has. Its file is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    path: PathBuf,
    _lock: File,
}

impl Endpoint {
    /// Listens at `path`, in a directory that is made if there is none.
    pub(super) fn listen(path: &Path) -> Result<(Self, UnixListener), Error> {
        let failed = |source| Error::io("listen", path.display(), source);
        // An absolute path goes on naming the file, whatever becomes of the working directory.
        let path = &std::path::absolute(path).map_err(failed)?;
        make_directory(path).map_err(failed)?;
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(stat) if stat.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
            Ok(_) => {
                let detail = format!("{} is there and is no socket", path.display());
                return Err(Error::new(Kind::Conflict, "listen", detail).hint("name another socket"));
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        restrict(path).map_err(failed)?;
        Ok((Self { path: path.clone(), _lock: lock }, listener))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Best effort: the next daemon replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the directory that a socket is to be in.
pub(super) fn make_directory(socket: &Path) -> io::Result<()> {
    socket.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Lets the user and the group use a socket, and nobody else.
fn restrict(socket: &Path) -> io::Result<()> {
    fs::set_permissions(socket, Permissions::from_mode(MODE))
}

fn lock(path: &Path) -> Result<File, Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let failed = |source| Error::io("lock the socket", Path::new(&beside).display(), source);
    let file = File::options().create(true).append(true).mode(0o600).open(&beside).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            Err(Error::new(Kind::Conflict, "listen", format!("a daemon listens at {}", path.display()))
                .hint("stop that one first, or name another --socket"))
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_socket_is_kept_and_a_dead_one_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/firn.sock");
        let (live, _listener) = Endpoint::listen(&path).expect("it listens");
        assert_eq!(fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, MODE);
        let refused = Endpoint::listen(&path).expect_err("another daemon has it");
        assert_eq!(refused.kind(), Kind::Conflict, "{refused}");
        drop(live);
        assert!(!path.exists(), "it takes its file with it");

        drop(UnixListener::bind(&path).expect("what a killed daemon leaves"));
        assert!(path.exists());
        drop(Endpoint::listen(&path).expect("it is replaced"));
        fs::write(&path, "a file").expect("a file");
        assert_eq!(Endpoint::listen(&path).expect_err("no socket").kind(), Kind::Conflict);
    }
}
