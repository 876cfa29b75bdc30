//! The connection's socket: read by one thread, written by others, shut down by any.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::uri::Address;
use crate::sys::watch_peer;

/// How long one address of a host may take to answer.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long a silent TCP peer is believed to be there.
const PEER_SILENCE: Duration = Duration::from_secs(20);

/// A stream socket, of which every clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct Socket(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(super) fn connect(address: &Address) -> io::Result<Self> {
        let kind = match address {
            Address::Unix(path) => Kind::Unix(UnixStream::connect(path)?),
            Address::Tcp(host, port) => Kind::Tcp(connect(host, *port)?),
        };
        Ok(Self(Arc::new(kind)))
    }

    /// How long a read may wait.
    pub(super) fn set_read_time(&self, limit: Option<Duration>) -> io::Result<()> {
        match &*self.0 {
            Kind::Unix(stream) => stream.set_read_timeout(limit),
            Kind::Tcp(stream) => stream.set_read_timeout(limit),
        }
    }

    /// The socket under another number, which stays open when this one is closed.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        match &*self.0 {
            Kind::Unix(stream) => stream.try_clone().map(OwnedFd::from),
            Kind::Tcp(stream) => stream.try_clone().map(OwnedFd::from),
        }
    }

    /// Ends every read and write that waits, and all to come.
    pub(super) fn shut_down(&self) {
        // It fails when the other side did so first.
        let _ = match &*self.0 {
            Kind::Unix(stream) => stream.shutdown(Shutdown::Both),
            Kind::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIME) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                watch_peer(&stream, PEER_SILENCE)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Does it again when a signal came in between: with a limit on its time the kernel does not by itself.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| match &*self.0 {
            Kind::Unix(stream) => (&mut &*stream).read(into),
            Kind::Tcp(stream) => (&mut &*stream).read(into),
        })
    }
}

impl Write for Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        uninterrupted(|| match &*self.0 {
            Kind::Unix(stream) => (&mut &*stream).write(from),
            Kind::Tcp(stream) => (&mut &*stream).write(from),
        })
    }

    fn write_vectored(&mut self, from: &[io::IoSlice<'_>]) -> io::Result<usize> {
        uninterrupted(|| match &*self.0 {
            Kind::Unix(stream) => (&mut &*stream).write_vectored(from),
            Kind::Tcp(stream) => (&mut &*stream).write_vectored(from),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
