//! Listening sockets: bound, and a dead server's unix socket replaced.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::handshake::TlsState;
use super::options::{Listen, Security};
use crate::error::{Error, Kind, Result};
use crate::sys::Socket;

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
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    pub(super) fn bind(listen: &Listen, has_tls: bool) -> Result<Self> {
        match listen {
            Listen::Unix(path) => {
                let socket = Bound::Unix(bind_unix(path)?);
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
            Bound::Unix(socket) => socket.accept().map(|(stream, _)| Socket::new(stream)),
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
            Bound::Unix(socket) => socket.as_fd(),
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

fn bind_unix(path: &Path) -> Result<UnixListener> {
    let failed = |source| failed(path.display(), source);
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        match UnixStream::connect(path) {
            Ok(_) => {
                let detail = format!("another server listens at {}", path.display());
                return Err(Error::new(Kind::Conflict, "listen for NBD", detail)
                    .hint("stop it, or choose another path"));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    let socket = UnixListener::bind(path).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_servers_socket_is_replaced_and_a_live_ones_is_not() {
        let place = tempfile::tempdir().expect("a directory");
        let listen = Listen::Unix(place.path().join("nbd"));
        drop(UnixListener::bind(place.path().join("nbd")).expect("bound"));
        let live = Listener::bind(&listen, false).expect("the dead one's file is replaced");
        assert_eq!(Listener::bind(&listen, false).expect_err("refused").kind(), Kind::Conflict);
        assert!(live.accept().expect("asked").is_some(), "the second one had to connect to see it");
        drop(live);
        assert!(!place.path().join("nbd").exists());
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
