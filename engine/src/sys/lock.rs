//! One process per pool: opening for direct I/O and the lock on what was opened; and a lock for what can't be locked
//! itself.
//!
//! The pool's lock (`flock`) is on the open file description that does the I/O. When a process is killed, the kernel lets go
//! of it only after that process's requests in flight are over, so the next opener can't be overtaken by them. That
//! is also why an opener tries for a while before it gives up.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::{Errno, Result as SystemResult};

use crate::error::{Error, Kind, Result};

/// How long an opener waits for another to let go.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Opens `path` for direct I/O with `flags` besides. While a block device is in use elsewhere it is tried again.
pub(super) fn open_direct(path: &Path, flags: OFlags, wait: Duration) -> Result<OwnedFd> {
    let flags = flags | OFlags::DIRECT | OFlags::CLOEXEC;
    let opened = retry_while(Errno::BUSY, wait, || openat(CWD, path, flags, Mode::RUSR | Mode::WUSR));
    opened.map_err(|errno| match errno {
        Errno::INVAL => {
            Error::new(Kind::Invalid, "open device", format!("{} refuses O_DIRECT", path.display()))
                .hint("put the pool on ext4, xfs or a block device")
        }
        Errno::BUSY => Error::new(Kind::Conflict, "open device", format!("{} is in use", path.display()))
            .hint("is it mounted, part of another device, or open in another firn process?"),
        other => Error::io("open device", path.display(), other.into()),
    })
}

/// Takes the lock, or says who may have it.
pub(super) fn lock(path: &Path, file: &OwnedFd, wait: Duration) -> Result<()> {
    let locked =
        retry_while(Errno::WOULDBLOCK, wait, || flock(file, FlockOperation::NonBlockingLockExclusive));
    locked.map_err(|errno| match errno {
        Errno::WOULDBLOCK => {
            Error::new(Kind::Conflict, "lock device", format!("{} is locked", path.display()))
                .hint("another firn process has it open; stop that one first")
        }
        other => Error::io("lock device", path.display(), other.into()),
    })
}

/// A lock on the file `PATH.lock`, which says that this process has what is at `PATH`. It ends with the process. The
/// file stays: who removed it could remove another's lock.
#[derive(Debug)]
pub struct LockBeside(#[expect(dead_code, reason = "held for its lock")] File);

impl LockBeside {
    /// Takes it; `None` when somebody else has it. Only this user may open the file: whoever can open it can lock it.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn take(path: &Path) -> Result<Option<Self>> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let failed = |source| Error::io("lock", Path::new(&beside).display(), source);
        let file = File::options().create(true).append(true).mode(0o600).open(&beside).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the kernel has no lock that waits with a time limit")]
fn retry_while<T>(busy: Errno, wait: Duration, attempt: impl Fn() -> SystemResult<T>) -> SystemResult<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(errno) if errno == Errno::INTR => {}
            Err(errno) if errno == busy && start.elapsed() < wait => thread::sleep(LOCK_PAUSE),
            done => return done,
        }
    }
}
