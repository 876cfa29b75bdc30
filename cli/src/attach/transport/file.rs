//! A FUSE file system with one file, whose content is the export.
//!
//! The session's thread reads a request from the kernel, hands it to the client and reads the next; the answer goes to
//! the kernel from the thread on which the client receives. Nobody waits.
//!
//! 1. A hole that is punched reads as zeros afterwards: the loop device does write-zeroes in that way too. So it is
//!    never a trim, of which the protocol promises nothing.
//! 2. No zeros keep their room: the engine never writes in place, so that would be of no use to any later write.
//! 3. The kernel has at most `BACKGROUND_MAX` requests of at most `REQUEST_BYTES_MAX` under way, which bounds what the
//!    client keeps.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use firn_engine::error::{Error, Kind, Result};
use firn_engine::export::nbd::client::{Callback, Client, Export, Request, Response};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    WriteFlags,
};

/// The file's name.
pub(super) const FILE_NAME: &str = "volume";

const FILE: INodeNo = INodeNo(2);
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// A loop device has 128 requests under way; those of other kinds come on top.
const BACKGROUND_MAX: u16 = 192;
/// Modes of fallocate(2).
const KEEP_SIZE: i32 = 1;
const PUNCH_HOLE: i32 = 2;
const ZERO_RANGE: i32 = 16;

/// The file system.
pub(super) struct ExportFile {
    client: Arc<Client>,
}

impl ExportFile {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client }
    }

    fn attributes(&self, node: INodeNo) -> Option<FileAttr> {
        let export = self.client.export();
        let (kind, perm, size) = match node {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            FILE if export.has(Export::READ_ONLY) => (FileType::RegularFile, 0o400, export.bytes),
            FILE => (FileType::RegularFile, 0o600, export.bytes),
            _ => return None,
        };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Some(FileAttr {
            ino: node,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            blksize: export.preferred,
            flags: 0,
        })
    }
}

/// The size may change, so what the kernel was told is not kept for long.
const LIFETIME: Duration = Duration::from_secs(1);

impl Filesystem for ExportFile {
    fn init(&mut self, _request: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |what: &str| io::Error::other(format!("the kernel refuses {what}"));
        config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).map_err(|_| refused("asynchronous direct I/O"))?;
        config.set_max_write(REQUEST_BYTES_MAX).map_err(|_| refused("long writes"))?;
        config.set_max_background(BACKGROUND_MAX).map_err(|_| refused("many requests"))?;
        config.set_congestion_threshold(BACKGROUND_MAX).map_err(|_| refused("many requests"))?;
        Ok(())
    }

    fn lookup(&self, _request: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE) {
            Some(attributes) if parent == INodeNo::ROOT && name == FILE_NAME => {
                reply.entry(&LIFETIME, &attributes, Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _request: &fuser::Request,
        node: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.attributes(node) {
            Some(attributes) => reply.attr(&LIFETIME, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &fuser::Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO
            | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
            | FopenFlags::FOPEN_NOFLUSH;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _request: &fuser::Request,
        _node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let callback: Callback = Box::new(move |result| match result {
            Ok(Response::Data(data)) => reply.data(&data),
            Ok(_) => reply.error(Errno::EIO),
            Err(error) => reply.error(errno(&error)),
        });
        self.client.submit(Request::Read { offset, bytes: size }, callback);
    }

    fn write(
        &self,
        _request: &fuser::Request,
        _node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The kernel sends at most what `init` asked for.
        let bytes = u32::try_from(data.len()).unwrap_or_default();
        let callback: Callback = Box::new(move |result| match result {
            Ok(_) => reply.written(bytes),
            Err(error) => reply.error(errno(&error)),
        });
        self.client.submit(Request::Write { offset, data: data.to_vec(), is_durable: false }, callback);
    }

    fn fsync(
        &self,
        _request: &fuser::Request,
        _node: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        match self.client.export().has(Export::SEND_FLUSH) {
            true => self.client.submit(Request::Flush, empty(reply)),
            // A server without a flush keeps what it answered.
            false => reply.ok(),
        }
    }

    fn fallocate(
        &self,
        _request: &fuser::Request,
        _node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let is_zeroing =
            mode & (PUNCH_HOLE | ZERO_RANGE) != 0 && mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) == 0;
        match u32::try_from(length) {
            Ok(bytes) if is_zeroing && self.client.export().has(Export::SEND_WRITE_ZEROES) => {
                self.client.submit(Request::Zero { offset, bytes }, empty(reply));
            }
            // The kernel then writes the zeros itself, and does without discards.
            _ => reply.error(Errno::EOPNOTSUPP),
        }
    }
}

fn empty(reply: ReplyEmpty) -> Callback {
    Box::new(move |result: Result<Response>| match result {
        Ok(_) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    })
}

/// What the kernel makes of an error: a block device knows of little more than these.
fn errno(error: &Error) -> Errno {
    match error.kind() {
        Kind::OutOfSpace => Errno::ENOSPC,
        _ => Errno::EIO,
    }
}
