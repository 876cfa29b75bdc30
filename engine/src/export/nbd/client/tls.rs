//! TLS to a server: the certificates, and a connection's two halves.
//!
//! 1. The state of the encryption is locked while bytes pass through it, never while the socket waits: what is sent
//!    can't keep answers from being received.
//! 2. Only the writing half writes to the socket. What TLS itself has to say goes with the next request.

use std::io::{self, IoSlice, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::lock;
use super::socket::Socket;
use super::uri::{Address, Uri};
use crate::error::{Error, Kind, Result};
use crate::export::nbd::tls::{certificates, invalid, unreadable};

/// Encrypted bytes that are received at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Whom a server's certificate names that is asked over a unix socket.
const LOCAL_NAME: &str = "localhost";

/// What connections to one server need.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads what a URI names: `ca-cert.pem`, whom to trust, and, where it is there, `client-cert.pem` with its key
    /// `client-key.pem`, who we are. The names are those of libnbd and qemu.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the URI names no directory, or a file there holds nothing of use.
    pub(super) fn of(uri: &Uri) -> Result<Self> {
        let refused = |why: &str| Error::new(Kind::Invalid, "connect to NBD server", format!("{uri}: {why}"));
        let folder = uri.certificates.as_deref().ok_or_else(|| {
            refused("TLS needs certificates").hint(
                "write ?tls-certificates=DIR, a directory with the authority's ca-cert.pem and, if the server asks \
                 for it, client-cert.pem and client-key.pem",
            )
        })?;
        let host = match &uri.address {
            Address::Tcp(host, _) => host,
            Address::Unix(_) => LOCAL_NAME,
        };
        let name = uri.certified_name.as_deref().unwrap_or(host).to_owned();
        let name =
            ServerName::try_from(name).map_err(|_| refused("no certificate can bear its host's name"))?;
        Ok(Self { config: Arc::new(configure(folder)?), name })
    }

    /// Speaks TLS on a socket from here on. It is the whole handshake, as far as the socket lets it wait.
    pub(super) fn begin(&self, socket: &Socket) -> io::Result<(TlsReader, TlsWriter)> {
        let connection = ClientConnection::new(self.config.clone(), self.name.clone());
        let mut connection = connection.map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket.clone())?;
        }
        let session = Arc::new(Mutex::new(connection));
        let reader =
            TlsReader { session: session.clone(), socket: socket.clone(), encrypted: Encrypted::new() };
        Ok((reader, TlsWriter { session, socket: socket.clone(), encrypted: Vec::new() }))
    }
}

fn configure(folder: &Path) -> Result<ClientConfig> {
    let authority = folder.join("ca-cert.pem");
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&authority)? {
        roots.add(certificate).map_err(|source| invalid(&authority, source))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| invalid(folder, source))?
        .with_root_certificates(roots);
    let (own, key) = (folder.join("client-cert.pem"), folder.join("client-key.pem"));
    if !own.exists() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates(&own)?;
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|source| unreadable(&key, source))?;
    builder.with_client_auth_cert(chain, key).map_err(|source| invalid(&own, source))
}

/// What the server says.
pub(super) struct TlsReader {
    session: Arc<Mutex<ClientConnection>>,
    socket: Socket,
    encrypted: Encrypted,
}

/// What was received and is not decrypted yet: from `start` to `end`.
struct Encrypted {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Encrypted {
    fn new() -> Self {
        Self { bytes: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Receives when nothing is left. A read that fails changes nothing: one that a signal interrupted, or that waited
    /// too long, is tried again.
    fn receive(&mut self, from: &mut impl Read) -> io::Result<usize> {
        let received = from.read(&mut self.bytes)?;
        (self.start, self.end) = (0, received);
        Ok(received)
    }
}

impl TlsReader {
    /// Passes some of what was received through the session, when it has nothing to read. Whether it had any.
    fn decrypt(&mut self, session: &mut ClientConnection) -> io::Result<bool> {
        let mut rest = self.encrypted.rest();
        if rest.is_empty() {
            return Ok(false);
        }
        self.encrypted.start += session.read_tls(&mut rest)?;
        session.process_new_packets().map_err(io::Error::other)?;
        Ok(true)
    }
}

impl Read for TlsReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let session = self.session.clone();
        loop {
            let mut session = lock(&session);
            match session.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.decrypt(&mut session)? {
                continue;
            }
            drop(session);
            if self.encrypted.receive(&mut self.socket)? == 0 {
                return Ok(0);
            }
        }
    }
}

/// What is said to the server.
pub(super) struct TlsWriter {
    session: Arc<Mutex<ClientConnection>>,
    socket: Socket,
    encrypted: Vec<u8>,
}

impl Write for TlsWriter {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(from)])
    }

    /// Takes as much as the session's buffer has room for, and sends all of it.
    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.encrypted.clear();
        let mut session = lock(&self.session);
        let taken = session.writer().write_vectored(from)?;
        while session.wants_write() {
            session.write_tls(&mut self.encrypted)?;
        }
        drop(session);
        self.socket.write_all(&self.encrypted)?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what it has one after the other.
    struct Script(Vec<io::Result<&'static [u8]>>);

    impl Read for Script {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let next = self.0.remove(0)?;
            into[..next.len()].copy_from_slice(next);
            Ok(next.len())
        }
    }

    /// A signal during a receive once had the bytes before it decrypted again, which ended the connection.
    #[test]
    fn an_interrupted_receive_brings_nothing_back() {
        let interrupted = Err(io::ErrorKind::Interrupted.into());
        let mut from = Script(vec![Ok(b"first"), interrupted, Ok(b"next")]);
        let mut encrypted = Encrypted::new();
        assert_eq!(encrypted.receive(&mut from).expect("received"), 5);
        assert_eq!(encrypted.rest(), b"first");
        encrypted.start += 5;
        let error = encrypted.receive(&mut from).expect_err("interrupted");
        assert_eq!((error.kind(), encrypted.rest()), (io::ErrorKind::Interrupted, &b""[..]));
        assert_eq!(encrypted.receive(&mut from).expect("received"), 4);
        assert_eq!(encrypted.rest(), b"next");
    }
}
