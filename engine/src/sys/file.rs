//! The file or block device that a pool lies on: opened for direct I/O, locked, sized, filled with zeros.
//!
//! 1. One process has it: see [`lock`](super::lock).
//! 2. On a file, zeros are really written where asked for: a first write into a hole or an unwritten extent would
//!    cost the file system a transaction, a write into a written one does not.
//! 3. A created file is durable, name included, when `create` returns.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, OFlags, SeekFrom, fallocate, fdatasync, fstat, fstatvfs, fsync,
    ftruncate, ioctl_blksszget, openat, seek,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::lock::{LOCK_WAIT, lock, open_direct};
use super::{Memory, MemorySlice};
use crate::error::{Error, Kind, Result};
use crate::units::{BLOCK_BYTES, BLOCK_LEN};

const ZEROS_BYTES: usize = 4 << 20;
const BLANK_BYTES: usize = 1 << 20;

/// What an opened device may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reads and writes.
    ReadWrite,
    /// Reads only. The lock is exclusive all the same.
    ReadOnly,
}

/// How a device is created.
#[derive(Clone, Copy, Debug, Default)]
pub struct CreateOptions {
    /// The size of a file, a multiple of 4096. A block device has its own; if given, it must have at least that.
    pub bytes: Option<u64>,
    /// Write zeros through the whole file now.
    pub preallocate: bool,
    /// Take a file or block device that is not empty, and lose what is in it.
    pub overwrite: bool,
}

/// A file or block device, open for direct I/O and locked as long as this lives.
#[derive(Debug)]
pub struct DeviceFile {
    path: PathBuf,
    descriptor: OwnedFd,
    is_block_device: bool,
}

impl DeviceFile {
    /// Opens and locks an existing file or block device, waiting up to 5 seconds for another process to let go.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Conflict`] if another process has it or it is mounted; [`Kind::Invalid`] if it is
    /// something else or its file system refuses direct I/O; else what the operating system said.
    pub fn open(path: &Path, mode: OpenMode) -> Result<Arc<Self>> {
        Self::open_within(path, mode, LOCK_WAIT)
    }

    /// As [`open`](Self::open) with another time to wait.
    pub(super) fn open_within(path: &Path, mode: OpenMode, wait: Duration) -> Result<Arc<Self>> {
        let stat = fs::metadata(path).map_err(|source| Error::io("open device", path.display(), source))?;
        // Looked at before it is opened, because opening a pipe or a tape does things.
        let is_block_device = is_block_device(path, rustix_type(&stat))?;
        let access = match mode {
            OpenMode::ReadWrite => OFlags::RDWR,
            OpenMode::ReadOnly => OFlags::RDONLY,
        };
        // On a block device O_EXCL is refused while it is mounted or part of another.
        let exclusive = if is_block_device { OFlags::EXCL } else { OFlags::empty() };
        Self::locked(path, open_direct(path, access | exclusive, wait)?, wait)
    }

    /// Creates a file, or takes a block device, for a new pool, and locks it. A file is of the size asked for and
    /// reads as zeros; a file that was made is removed again if this fails.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it is not empty (a block device: its first MiB not blank) and `overwrite` was not said;
    /// [`Kind::OutOfSpace`]; [`Kind::Invalid`] for a size that can't be; else as [`open`](Self::open).
    pub fn create(path: &Path, options: &CreateOptions) -> Result<Arc<Self>> {
        if fs::metadata(path).is_ok_and(|stat| rustix_type(&stat) == FileType::BlockDevice) {
            return Self::take_block_device(path, options);
        }
        let bytes = options.bytes.filter(|bytes| *bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES));
        let Some(bytes) = bytes.filter(|bytes| i64::try_from(*bytes).is_ok()) else {
            let detail = format!("{}: a size of {:?} bytes", path.display(), options.bytes);
            return Err(Error::new(Kind::Invalid, "create device", detail).hint("give a multiple of 4096"));
        };
        if fs::symlink_metadata(path).is_ok() {
            let file = Self::open(path, OpenMode::ReadWrite)?;
            file.refuse_unless(options.overwrite || file.size("create device")? == 0, "is not empty")?;
            file.fill(bytes, options.preallocate)?;
            return Ok(file);
        }
        let opened = open_direct(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, Duration::ZERO);
        if opened.as_ref().is_err_and(|error| error.kind() == Kind::Invalid) {
            // A file system that refuses O_DIRECT does so after it has made the file.
            let _ = fs::remove_file(path);
        }
        let file = Self::locked(path, opened?, LOCK_WAIT)?;
        let filled = file.fill(bytes, options.preallocate);
        if filled.is_err() {
            let _ = fs::remove_file(path);
        }
        filled.map(|()| file)
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a block device and no file.
    pub fn is_block_device(&self) -> bool {
        self.is_block_device
    }

    /// Its size now, in bytes, rounded down to a multiple of 4096.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn bytes(&self) -> io::Result<u64> {
        let bytes = if self.is_block_device {
            // The file position is used by nothing else.
            seek(&self.descriptor, SeekFrom::End(0))?
        } else {
            u64::try_from(fstat(&self.descriptor)?.st_size).unwrap_or(0)
        };
        Ok(bytes - bytes % BLOCK_BYTES)
    }

    /// Makes a file `bytes` long (a multiple of 4096), with written zeros if `preallocate`; durable on return. May
    /// run beside other I/O. If it fails, the file has its old size. A block device must have the size already.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if that would shrink it or it is a block device that is smaller; [`Kind::OutOfSpace`].
    pub fn grow(&self, bytes: u64, preallocate: bool) -> Result<()> {
        let before = self.size("grow device")?;
        if bytes < before || !bytes.is_multiple_of(BLOCK_BYTES) || (self.is_block_device && bytes > before) {
            let detail = format!("{}: {before} bytes can't become {bytes}", self.path.display());
            return Err(Error::new(Kind::Invalid, "grow device", detail)
                .hint("a block device is grown by its own tools first; nothing can be shrunk"));
        }
        if bytes == before {
            return Ok(());
        }
        self.extend(before, bytes, preallocate).map_err(|source| {
            let _ = ftruncate(&self.descriptor, before);
            Error::io("grow device", self.path.display(), source)
        })
    }

    /// Writes zeros over `bytes` bytes from `offset`, both multiples of 4096. Not durable until the next sync.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn write_zeros(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(ZEROS_BYTES);
        let zeros = MemorySlice::whole(Memory::heap(length));
        let mut done = 0;
        while done < bytes {
            let part = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(length);
            self.write_at(offset + done, &zeros.slice(0, part))?;
            done += part as u64;
        }
        Ok(())
    }

    /// Fills the whole slice from `offset`. The slice's address and length and the offset are multiples of 4096,
    /// and until it returns nobody else touches the slice.
    ///
    /// # Errors
    /// `UnexpectedEof` beyond the end, else what the operating system said.
    pub fn read_at(&self, offset: u64, into: &MemorySlice) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            let length = (into.len() - done).min(TRANSFER_MAX);
            // SAFETY: `address` checked that `done` is inside the slice, and so are the `length` bytes from there; the
            // slice keeps the memory alive and its bytes are initialised; nobody else has a reference to them for
            // the time of the call, which is the caller's duty and rule 4 of a device.
            let buffer = unsafe { std::slice::from_raw_parts_mut(into.address(done), length) };
            match pread(&self.descriptor, buffer, offset + done as u64) {
                Ok(count) => done = progress(done, count, into.len()).ok_or(io::ErrorKind::UnexpectedEof)?,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Writes the whole slice to `offset`; aligned as for [`read_at`](Self::read_at).
    ///
    /// # Errors
    /// What the operating system said.
    pub fn write_at(&self, offset: u64, from: &MemorySlice) -> io::Result<()> {
        let mut done = 0;
        while done < from.len() {
            let length = (from.len() - done).min(TRANSFER_MAX);
            match pwrite(&self.descriptor, from.bytes(done, length), offset + done as u64) {
                Ok(count) => done = progress(done, count, from.len()).ok_or(io::ErrorKind::WriteZero)?,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Puts every write that has completed on the medium (`fdatasync`).
    ///
    /// # Errors
    /// What the operating system said; after that nothing is known about any write since the last sync.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.descriptor)?)
    }

    /// What the kernel knows it by.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn locked(path: &Path, descriptor: OwnedFd, wait: Duration) -> Result<Arc<Self>> {
        let stat =
            fstat(&descriptor).map_err(|errno| Error::io("open device", path.display(), errno.into()))?;
        let is_block_device = is_block_device(path, FileType::from_raw_mode(stat.st_mode))?;
        if is_block_device && !ioctl_blksszget(&descriptor).is_ok_and(|bytes| u64::from(bytes) <= BLOCK_BYTES)
        {
            let detail = format!("{} has sectors of more than 4096 bytes", path.display());
            return Err(Error::new(Kind::Invalid, "open device", detail));
        }
        lock(path, &descriptor, wait)?;
        Ok(Arc::new(Self { path: path.to_owned(), descriptor, is_block_device }))
    }

    fn take_block_device(path: &Path, options: &CreateOptions) -> Result<Arc<Self>> {
        let file = Self::open(path, OpenMode::ReadWrite)?;
        let bytes = file.size("create device")?;
        if bytes < options.bytes.unwrap_or(BLOCK_BYTES) {
            let detail = format!("{} has only {bytes} bytes", path.display());
            return Err(Error::new(Kind::Invalid, "create device", detail));
        }
        let blank =
            file.is_blank(bytes).map_err(|source| Error::io("create device", path.display(), source))?;
        file.refuse_unless(options.overwrite || blank, "has something on it")?;
        Ok(file)
    }

    fn is_blank(&self, bytes: u64) -> io::Result<bool> {
        let start =
            MemorySlice::whole(Memory::heap(usize::try_from(bytes).unwrap_or(BLANK_BYTES).min(BLANK_BYTES)));
        self.read_at(0, &start)?;
        Ok(start.bytes(0, start.len()).iter().all(|byte| *byte == 0))
    }

    fn refuse_unless(&self, fine: bool, what: &str) -> Result<()> {
        if fine {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, "create device", format!("{} {what}", self.path.display()))
            .hint("name another, or say that it may be overwritten"))
    }

    fn size(&self, operation: &'static str) -> Result<u64> {
        self.bytes().map_err(|source| Error::io(operation, self.path.display(), source))
    }

    /// Rule 3: empties a file, makes it `bytes` long and its name durable.
    fn fill(&self, bytes: u64, preallocate: bool) -> Result<()> {
        let filled = ftruncate(&self.descriptor, 0)
            .map_err(io::Error::from)
            .and_then(|()| self.extend(0, bytes, preallocate))
            .and_then(|()| sync_directory_of(&self.path));
        filled.map_err(|source| Error::io("create device", self.path.display(), source))
    }

    fn extend(&self, from: u64, to: u64, preallocate: bool) -> io::Result<()> {
        ftruncate(&self.descriptor, to)?;
        if preallocate {
            // Asked first: some file systems take all the room there is before they say that it is not enough, and
            // everybody else on them is out of space for so long.
            let room = fstatvfs(&self.descriptor)?;
            if room.f_bavail.saturating_mul(room.f_frsize) < to - from {
                return Err(io::ErrorKind::StorageFull.into());
            }
            // All at once, for few extents.
            let empty = FallocateFlags::empty();
            match retry_on_intr(|| fallocate(&self.descriptor, empty, from, to - from)) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.write_zeros(from, to - from)?;
        }
        Ok(fsync(&self.descriptor)?)
    }
}

/// Most bytes that one request asks the kernel for; it never does more than just under 2 GiB.
pub(super) const TRANSFER_MAX: usize = 1 << 30;

/// How much of `length` bytes is done when `count` more were after `done`, in whole blocks so that the rest stays
/// aligned. `None` if that got nothing done.
pub(super) fn progress(done: usize, count: usize, length: usize) -> Option<usize> {
    let reached = done.checked_add(count)?.min(length);
    let whole = if reached == length { reached } else { reached - reached % BLOCK_LEN };
    (whole > done).then_some(whole)
}

fn rustix_type(stat: &fs::Metadata) -> FileType {
    FileType::from_raw_mode(std::os::unix::fs::MetadataExt::mode(stat))
}

fn is_block_device(path: &Path, kind: FileType) -> Result<bool> {
    match kind {
        FileType::BlockDevice => Ok(true),
        FileType::RegularFile => Ok(false),
        other => Err(Error::new(Kind::Invalid, "open device", format!("{} is a {other:?}", path.display()))
            .hint("a pool lies on a file or a block device")),
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = openat(CWD, parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(fsync(directory)?)
}

#[cfg(test)]
mod tests;
