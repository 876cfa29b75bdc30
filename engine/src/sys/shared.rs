//! A shared-memory file (tmpfs) that outlives the process: where acknowledged writes survive its death (I8).
//!
//! 1. Its blocks are allocated before it is mapped, so that a full tmpfs is an error here and no SIGBUS later.
//! 2. It appears under its name complete or not at all: it is made aside and renamed.
//! 3. The pool's lock keeps a second process from replacing or shortening it while it is mapped.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, OFlags, fallocate, fstat, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use super::Memory;
use super::memory::ALIGNMENT;
use crate::error::{Error, Kind, Result};

/// The files that [`Memory`] can be shared through.
#[derive(Debug)]
pub enum SharedFile {}

impl SharedFile {
    /// A new, zeroed file of `bytes` bytes (a multiple of 4096, not zero) in the place of one that may be there,
    /// readable by this user only. It is mapped as long as the memory lives; dropping the memory leaves the file.
    ///
    /// # Errors
    /// [`Kind::OutOfSpace`] when its file system has no room for all of it, else what the operating system said.
    pub fn create(path: &Path, bytes: usize) -> Result<Arc<Memory>> {
        assert!(is_sane(bytes), "a shared file of {bytes} bytes");
        let aside = aside_of(path);
        remove_if_there(&aside).map_err(|source| create_error(path, source))?;
        let made = make(&aside, bytes).and_then(|memory| {
            fs::rename(&aside, path)?;
            Ok(memory)
        });
        made.map_err(|source| {
            let _ = remove_if_there(&aside);
            create_error(path, source)
        })
    }

    /// The memory of the file that an earlier process left, or `None` if there is no such file.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when what is there can't be ours: not a regular file, of another user, or of a size that is
    /// zero or no multiple of 4096.
    pub fn open(path: &Path) -> Result<Option<Arc<Memory>>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match openat(CWD, path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(foreign(path, "is a symbolic link")),
            Err(errno) => return Err(Error::io("open shared memory", path.display(), errno.into())),
        };
        let bytes = size_of_ours(path, &file)?;
        let memory = allocate_and_map(&file, bytes)
            .map_err(|errno| Error::io("map shared memory", path.display(), errno.into()))?;
        Ok(Some(memory))
    }

    /// Removes the file; it is no error if there is none. Memory that is mapped stays.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn remove(path: &Path) -> Result<()> {
        remove_if_there(path).map_err(|source| Error::io("remove shared memory", path.display(), source))
    }
}

fn make(path: &Path, bytes: usize) -> io::Result<Arc<Memory>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(allocate_and_map(&file, bytes)?)
}

/// Rule 1. On a file that is already whole the allocation changes nothing; it also sets the size of a new one. On tmpfs
/// it is given up for any signal, and for what io_uring has to say to this thread.
fn allocate_and_map(file: &OwnedFd, bytes: usize) -> rustix::io::Result<Arc<Memory>> {
    retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes as u64))?;
    Memory::shared(file, bytes)
}

fn size_of_ours(path: &Path, file: &OwnedFd) -> Result<usize> {
    let stat =
        fstat(file).map_err(|errno| Error::io("look at shared memory", path.display(), errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(foreign(path, "is not a regular file"));
    }
    if stat.st_uid != geteuid().as_raw() {
        return Err(foreign(path, "belongs to another user"));
    }
    match usize::try_from(stat.st_size) {
        Ok(bytes) if is_sane(bytes) => Ok(bytes),
        _ => Err(foreign(path, &format!("has an impossible size of {} bytes", stat.st_size))),
    }
}

fn is_sane(bytes: usize) -> bool {
    bytes > 0 && bytes.is_multiple_of(ALIGNMENT)
}

fn foreign(path: &Path, what: &str) -> Error {
    Error::new(Kind::Damaged, "open shared memory", format!("{} {what}", path.display()))
        .hint("firn did not leave it so; move it away if nothing else needs it")
}

fn create_error(path: &Path, source: io::Error) -> Error {
    Error::io("create shared memory", path.display(), source)
}

fn aside_of(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    aside.into()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_is_left_in_shared_memory_is_found_again() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let path = directory.path().join("pool");
        assert!(SharedFile::open(&path).expect("no file").is_none());
        let memory = SharedFile::create(&path, 8192).expect("created");
        memory.copy_in(8000, b"acknowledged");
        let again = SharedFile::open(&path).expect("opened").expect("there");
        assert_eq!((again.len(), again.bytes(8000, 12)), (8192, b"acknowledged".as_slice()));
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);

        let fresh = SharedFile::create(&path, 4096).expect("created again");
        assert_eq!(fresh.bytes(0, 4096), [0; 4096]);
        assert_eq!(again.bytes(8000, 12), b"acknowledged", "the old mapping stays whole");
        SharedFile::remove(&path).expect("removed");
        SharedFile::remove(&path).expect("nothing to remove");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 0);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let file = directory.path().join("file");
        let kind = |path: &Path| SharedFile::open(path).expect_err("refused").kind();
        for bytes in [0, 100, 4097] {
            fs::write(&file, vec![0; bytes]).expect("written");
            assert_eq!(kind(&file), Kind::Damaged);
        }
        let link = directory.path().join("link");
        symlink(&file, &link).expect("linked");
        assert_eq!(kind(&link), Kind::Damaged);
        assert_ne!(kind(directory.path()), Kind::NotFound);
    }

    #[test]
    fn a_full_file_system_is_an_error_and_leaves_nothing() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let path = directory.path().join("huge");
        let error = SharedFile::create(&path, 1 << 46).expect_err("no room");
        assert_eq!(error.kind(), Kind::OutOfSpace, "{error}");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 0);
    }
}
