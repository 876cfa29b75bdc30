//! Connected stream sockets that never wait, read into and written from a device's memory.

#![allow(unsafe_code)]

use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg};

use super::MemorySlice;

/// Most parts that one call sends.
pub const SEND_PARTS_MAX: usize = 64;

/// A connected stream socket that never waits: what can't be done now is `WouldBlock`.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Takes a connected stream socket.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        let socket = socket.into();
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(socket))
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self::new(one)?, Self::new(other)?))
    }

    /// Sends small answers at once instead of waiting for more to go with them. For what is no TCP it does nothing.
    pub fn send_at_once(&self) {
        // A socket that is no TCP refuses, and one that refuses is only slower.
        let _ = rustix::net::sockopt::set_tcp_nodelay(&self.0, true);
    }

    /// Has the kernel look after a peer that fell silent. For what is no TCP it does nothing.
    pub fn keep_alive(&self) {
        // One that refuses only keeps a dead peer for longer.
        let _ = rustix::net::sockopt::set_socket_keepalive(&self.0, true);
    }

    /// Receives into memory, in the order of the slices; 0 is the end of the stream.
    ///
    /// The caller owns these ranges: nobody looks at them meanwhile (rule 3 of [`Memory`](super::Memory)).
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, else what the operating system said.
    pub fn receive(&self, into: &[&MemorySlice]) -> io::Result<usize> {
        let mut parts: Vec<IoSliceMut<'_>> = into
            .iter()
            .map(|slice| {
                // SAFETY: the slice's range lies in live, initialised memory, which `into` keeps alive for longer than
                // this call; its owner lends it to us alone, and different slices do not overlap.
                let bytes = unsafe { std::slice::from_raw_parts_mut(slice.address(0), slice.len()) };
                IoSliceMut::new(bytes)
            })
            .collect();
        let mut control = RecvAncillaryBuffer::default();
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        loop {
            match recvmsg(&self.0, &mut parts, &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                done => return Ok(done?.bytes),
            }
        }
    }

    /// Receives into bytes; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, else what the operating system said.
    pub fn receive_bytes(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.0, &mut *into, RecvFlags::DONTWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                done => return Ok(done?.0),
            }
        }
    }

    /// Sends the parts one after the other, as much of them as there is room for; at most [`SEND_PARTS_MAX`].
    ///
    /// # Errors
    /// `WouldBlock` when there is no room at all, else what the operating system said.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let parts = &parts[..parts.len().min(SEND_PARTS_MAX)];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match sendmsg(&self.0, parts, &mut SendAncillaryBuffer::default(), flags) {
                Err(rustix::io::Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }

    /// Tells the other side that nothing more will be sent.
    pub fn end(&self) {
        // A socket whose other side has gone refuses, and then there is nobody to tell.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Listens at `path`, where there is no file yet. Who may connect is what `mode` says from the first moment that
/// somebody can. Accepting never waits.
///
/// # Errors
/// What the operating system said.
pub fn listen_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = unix_socket()?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let permissions = std::fs::set_permissions(path, Permissions::from_mode(mode));
    permissions.and_then(|()| Ok(listen(&socket, BACKLOG)?)).inspect_err(|_| {
        // Nobody could connect to it; one that can't be removed is found dead by the next.
        let _ = std::fs::remove_file(path);
    })?;
    Ok(UnixListener::from(socket))
}

/// Whether somebody listens at `path`. It never waits, also not for one who has stopped accepting.
///
/// # Errors
/// What the operating system said (no permission, not a socket for streams).
pub fn is_listened_at(path: &Path) -> io::Result<bool> {
    match connect(&unix_socket()?, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Interest, Memory, Poller};
    use std::time::Duration;

    #[test]
    fn bytes_go_from_memory_to_memory_in_order() {
        let (one, other) = Socket::pair().expect("a pair");
        assert_eq!(one.send(&[IoSlice::new(b"abc"), IoSlice::new(b"defgh")]).expect("sent"), 8);
        let memory = Memory::heap(4096);
        let slices = [MemorySlice::new(memory.clone(), 100, 2), MemorySlice::new(memory.clone(), 0, 50)];
        assert_eq!(other.receive(&[&slices[0], &slices[1]]).expect("received"), 8);
        assert_eq!((memory.bytes(100, 2), memory.bytes(0, 6)), (&b"ab"[..], &b"cdefgh"[..]));
        let nothing = other.receive(&[&slices[1]]).expect_err("nothing is there");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        one.end();
        assert_eq!(other.receive_bytes(&mut [0; 9]).expect("the end"), 0);
    }

    #[test]
    fn a_poller_tells_once_what_became_ready() {
        let (one, other) = Socket::pair().expect("a pair");
        let poller = Poller::new().expect("a poller");
        poller.add(&other, 7, Interest::Read).expect("added");
        let mut ready = Vec::new();
        poller.wait(Some(Duration::ZERO), &mut ready).expect("waited");
        assert_eq!(ready, []);
        one.send(&[IoSlice::new(b"x")]).expect("sent");
        poller.wait(None, &mut ready).expect("waited");
        assert_eq!(ready.len(), 1);
        assert!(ready[0].token == 7 && ready[0].readable && !ready[0].writable && !ready[0].hung_up);
        ready.clear();
        poller.wait(Some(Duration::ZERO), &mut ready).expect("waited");
        assert_eq!(ready, [], "it was told already");
        poller.change(&other, 7, Interest::ReadWrite).expect("changed");
        poller.wait(None, &mut ready).expect("waited");
        assert!(ready[0].readable && ready[0].writable, "told anew: {ready:?}");
        drop(one);
        ready.clear();
        poller.wait(None, &mut ready).expect("waited");
        assert!(ready[0].hung_up);
    }
}
