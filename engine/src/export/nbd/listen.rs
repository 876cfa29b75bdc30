//! Listening sockets: bound, and a dead server's unix socket replaced.
//!
//! 1. The lock on `PATH.lock` says which server has a unix socket: two that start at once can't replace each other's.
//! 2. A unix socket is for its user and group from the first moment.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::handshake::TlsState;
use super::options::{Listen, Security};
use crate::error::{Error, Kind, Result};
use crate::sys::{LockBeside, Socket, is_listened_at, listen_unix};

/// Reads and writes for the user and the group.
const SOCKET_MODE: u32 = 0o660;

/// Where a server can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port, and whether it speaks TLS only.
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Whether TLS is required.
        tls: bool,
    },
}

impl Address {
    /// The NBD URI of an export at this address.
    pub fn uri(&self, export: &str) -> String {
        match self {
            Self::Unix(path) => {
                format!("nbd+unix:///{}?socket={}", escaped(export), escaped(&path.to_string_lossy()))
            }
            Self::Tcp { address, tls } => {
                let scheme = if *tls { "nbds" } else { "nbd" };
                format!("{scheme}://{address}/{}", escaped(export))
            }
        }
    }
}

/// What may not stand in a URI as it is, by its bytes in hexadecimal.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/@:".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// A listening socket. Its unix socket file goes with it.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Bound,
    pub(super) address: Address,
    pub(super) tls: TlsState,
}

#[derive(Debug)]
enum Bound {
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] LockBeside),
    Tcp(TcpListener),
}

impl Listener {
    pub(super) fn bind(listen: &Listen, has_tls: bool) -> Result<Self> {
        match listen {
            Listen::Unix(path) => {
                let (socket, lock) = bind_unix(path)?;
                let socket = Bound::Unix(socket, lock);
                let tls = if has_tls { TlsState::Offered } else { TlsState::Absent };
                Ok(Self { socket, address: Address::Unix(path.clone()), tls })
            }
            Listen::Tcp { address, security } => {
                let tls = match security {
                    Security::TlsRequired if !has_tls => {
                        let detail = format!("{address} needs TLS, and there is no certificate");
                        return Err(Error::new(Kind::Invalid, "listen for NBD", detail).hint(
                            "give a certificate and its key, or say that plain text is allowed there",
                        ));
                    }
                    Security::TlsRequired => TlsState::Required,
                    Security::PlaintextAllowed if has_tls => TlsState::Offered,
                    Security::PlaintextAllowed => TlsState::Absent,
                };
                let failed = |source| failed(address, source);
                let socket = TcpListener::bind(address).map_err(failed)?;
                socket.set_nonblocking(true).map_err(failed)?;
                let address = socket.local_addr().map_err(failed)?;
                let address = Address::Tcp { address, tls: tls == TlsState::Required };
                Ok(Self { socket: Bound::Tcp(socket), address, tls })
            }
        }
    }

    /// The next connection; `None` when there is none now.
    pub(super) fn accept(&self) -> io::Result<Option<Socket>> {
        let accepted = match &self.socket {
            Bound::Unix(socket, _) => socket.accept().map(|(stream, _)| Socket::new(stream)),
            Bound::Tcp(socket) => socket.accept().map(|(stream, _)| Socket::new(stream)),
        };
        match accepted {
            Ok(socket) => {
                let socket = socket?;
                if matches!(self.socket, Bound::Tcp(_)) {
                    socket.send_at_once();
                    socket.keep_alive();
                }
                Ok(Some(socket))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Bound::Unix(socket, _) => socket.as_fd(),
            Bound::Tcp(socket) => socket.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            // One that is gone already needs nothing more.
            let _ = fs::remove_file(path);
        }
    }
}

fn failed(address: impl std::fmt::Display, source: io::Error) -> Error {
    Error::io("listen for NBD", address, source)
}

fn bind_unix(path: &Path) -> Result<(UnixListener, LockBeside)> {
    let failed = |source| failed(path.display(), source);
    let taken = || {
        let detail = format!("another server listens at {}", path.display());
        Error::new(Kind::Conflict, "listen for NBD", detail).hint("stop it, or choose another path")
    };
    let lock = LockBeside::take(path)?.ok_or_else(taken)?;
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        // A program that knows nothing of the lock may have it.
        if is_listened_at(path).map_err(failed)? {
            return Err(taken());
        }
        fs::remove_file(path).map_err(failed)?;
    }
    Ok((listen_unix(path, SOCKET_MODE).map_err(failed)?, lock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_dead_servers_socket_is_replaced_and_a_live_ones_is_not() {
        let place = tempfile::tempdir().expect("a directory");
        let listen = Listen::Unix(place.path().join("nbd"));
        let path = place.path().join("nbd");
        drop(UnixListener::bind(&path).expect("bound"));
        let live = Listener::bind(&listen, false).expect("the dead one's file is replaced");
        let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert_eq!(Listener::bind(&listen, false).expect_err("refused").kind(), Kind::Conflict);
        let _client = UnixStream::connect(&path).expect("connected");
        assert!(live.accept().expect("asked").is_some());
        drop(live);
        assert!(!path.exists());
        // Another program's, which accepts nobody: its queue is full, and who asks must not wait in it.
        let strange = UnixListener::bind(&path).expect("bound");
        let waiting: Vec<bool> = (0..10_000).map(|_| is_listened_at(&path).expect("asked")).collect();
        assert!(waiting.iter().all(|is_live| *is_live));
        assert_eq!(Listener::bind(&listen, false).expect_err("refused").kind(), Kind::Conflict);
        drop(strange);
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(place.path().join("nbd"), b"precious").expect("written");
        assert!(Listener::bind(&listen, false).is_err(), "what is no socket is left alone");
        assert_eq!(std::fs::read(place.path().join("nbd")).expect("read"), b"precious");
    }

    #[test]
    fn tls_that_is_required_needs_a_certificate() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listen = Listen::Tcp { address, security: Security::TlsRequired };
        assert_eq!(Listener::bind(&listen, false).expect_err("refused").kind(), Kind::Invalid);
        assert_eq!(Listener::bind(&listen, true).expect("bound").tls, TlsState::Required);
    }

    #[test]
    fn a_uri_names_export_and_place() {
        let unix = Address::Unix("/run/a b/nbd".into());
        assert_eq!(unix.uri("pg@one"), "nbd+unix:///pg@one?socket=/run/a%20b/nbd");
        let tcp = Address::Tcp { address: "[::1]:10809".parse().expect("an address"), tls: true };
        assert_eq!(tcp.uri("pg"), "nbds://[::1]:10809/pg");
    }
}
