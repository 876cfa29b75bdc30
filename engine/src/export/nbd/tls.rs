//! TLS between a client and the rest of the server, on a thread of its own for each connection.
//!
//! The rest of the server sees plain bytes on a socket pair. So the reactor never does cryptography, by which one
//! client would hold up all others; connections that need none have no such hop.
//!
//! 1. Nothing reaches the plain side before the client is authenticated, where that is asked for.
//! 2. Memory is bounded: one buffer each way, and what rustls keeps of one record.
//! 3. When either side ends, what it had said before is delivered first, for at most [`LINGER`]. A client whose
//!    connection breaks, in TCP or in TLS, has not ended: what it had said is marked as not to be done any more.

use std::io::{self, IoSlice, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::options::TlsOptions;
use crate::error::{Error, Kind, Result};
use crate::sys::{Clock, Interest, Poller, Socket, SystemClock};

/// Size of the buffers, each way.
const BUFFER_BYTES: usize = 64 << 10;
/// How long the end of one side waits for the other to take what is left.
const LINGER: Duration = Duration::from_secs(5);

/// Reads the files and makes of them what connections need.
///
/// # Errors
/// [`Kind::Invalid`] when a file holds no certificate or key, or they do not fit; what the operating system said.
pub(super) fn configure(options: &TlsOptions) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&options.certificate)?;
    let key =
        PrivateKeyDer::from_pem_file(&options.key).map_err(|source| unreadable(&options.key, source))?;
    let failed = |source: rustls::Error| invalid(&options.certificate, source);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = match &options.client_authority {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|source| invalid(path, source))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|source| invalid(path, source))?)
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(builder.with_single_cert(chain, key).map_err(failed)?))
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<_, _>>);
    let found: Vec<_> = read.map_err(|source| unreadable(path, source))?;
    if found.is_empty() {
        return Err(unreadable(path, rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

pub(super) fn unreadable(path: &Path, source: rustls::pki_types::pem::Error) -> Error {
    match source {
        rustls::pki_types::pem::Error::Io(source) => Error::io("read TLS file", path.display(), source),
        other => invalid(path, other),
    }
}

pub(super) fn invalid(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Invalid, "set up TLS", path.display().to_string()).source(source)
}

/// Speaks TLS on `socket` from here on, on a thread; returns the plain side. `broken` is set before the plain side
/// ends if that is because the connection broke.
///
/// # Errors
/// What the operating system said (no more threads or file descriptors).
pub(super) fn begin(
    socket: Socket,
    config: Arc<ServerConfig>,
    broken: Arc<AtomicBool>,
) -> Result<(Socket, JoinHandle<()>)> {
    let failed = |source| Error::io("start TLS", "a connection", source);
    let (plain, ours) = Socket::pair().map_err(failed)?;
    let tls = ServerConnection::new(config)
        .map_err(|source| Error::new(Kind::Bug, "start TLS", "a connection").source(source))?;
    let poller = Poller::new().map_err(failed)?;
    poller.add(&socket, 0, Interest::ReadWrite).map_err(failed)?;
    poller.add(&ours, 1, Interest::ReadWrite).map_err(failed)?;
    let (inward, outward) = (Flow::default(), Flow::default());
    let bridge = Bridge { tls, client: socket, plain: ours, inward, outward, broken };
    let named = std::thread::Builder::new().name("firn-nbd-tls".to_owned()).stack_size(256 << 10);
    let thread = named.spawn(move || bridge.run(poller)).map_err(failed)?;
    Ok((plain, thread))
}

/// Plain bytes on their way in one direction.
#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    passed: usize,
    /// Nothing more comes into it.
    ended: bool,
    /// Its end was passed on.
    closed: bool,
}

impl Flow {
    fn is_empty(&self) -> bool {
        self.passed == self.bytes.len()
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.passed = 0;
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.passed..]
    }
}

struct Bridge {
    tls: ServerConnection,
    client: Socket,
    plain: Socket,
    /// From the client to the server.
    inward: Flow,
    /// From the server to the client.
    outward: Flow,
    broken: Arc<AtomicBool>,
}

impl Bridge {
    fn run(mut self, poller: Poller) {
        let mut ready = Vec::new();
        let mut ends_at = None;
        loop {
            match self.step() {
                // One more attempt, so that the client hears what was wrong.
                Err(_) => {
                    let _ = self.tls.write_tls(&mut Stream(&self.client));
                    self.broken.store(true, Ordering::Release);
                    return;
                }
                Ok(true) => continue,
                Ok(false) if self.inward.closed && self.outward.closed && !self.tls.wants_write() => return,
                Ok(false) => {}
            }
            let now = SystemClock.monotonic();
            if self.inward.ended || self.outward.ended {
                let limit = *ends_at.get_or_insert(now + LINGER);
                if now >= limit {
                    return;
                }
            }
            ready.clear();
            if poller.wait(ends_at.map(|limit: Duration| limit.saturating_sub(now)), &mut ready).is_err() {
                return;
            }
        }
    }

    /// Moves what can be moved; says whether anything was.
    fn step(&mut self) -> io::Result<bool> {
        let mut moved = self.hear_client()?;
        moved |= self.pass_inward()?;
        moved |= self.hear_server()?;
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Stream(&self.client)) {
                Ok(_) => moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    fn hear_client(&mut self) -> io::Result<bool> {
        if self.inward.ended || !self.inward.is_empty() {
            return Ok(false);
        }
        let mut moved = false;
        if self.tls.wants_read() {
            match self.tls.read_tls(&mut Stream(&self.client)) {
                Ok(bytes) => {
                    moved = true;
                    // After the end of the stream the reader below says how it ended.
                    self.inward.ended |= bytes == 0;
                    self.tls.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; 16 << 10];
        match self.tls.reader().read(&mut buffer) {
            Ok(0) => {
                moved |= !std::mem::replace(&mut self.inward.ended, true);
            }
            Ok(bytes) => {
                moved = true;
                self.inward.fill(&buffer[..bytes]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The client went without saying so: for us it is an end like any other.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.inward.ended = true,
            Err(error) => return Err(error),
        }
        Ok(moved)
    }

    fn pass_inward(&mut self) -> io::Result<bool> {
        let mut moved = false;
        while !self.inward.is_empty() {
            match self.plain.send(&[IoSlice::new(self.inward.rest())]) {
                Ok(bytes) => {
                    self.inward.passed += bytes;
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                Err(error) => return Err(error),
            }
        }
        if self.inward.ended && !self.inward.closed {
            self.plain.end();
            self.inward.closed = true;
            moved = true;
        }
        Ok(moved)
    }

    fn hear_server(&mut self) -> io::Result<bool> {
        let mut moved = false;
        if self.outward.is_empty() && !self.outward.ended {
            let mut buffer = [0; BUFFER_BYTES];
            match self.plain.receive_bytes(&mut buffer) {
                Ok(0) => (self.outward.ended, moved) = (true, true),
                Ok(bytes) => {
                    self.outward.fill(&buffer[..bytes]);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // The server is gone: nobody needs the rest of a handshake.
        if self.outward.ended && self.tls.is_handshaking() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if !self.outward.is_empty() && !self.tls.is_handshaking() && !self.tls.wants_write() {
            let bytes = self.tls.writer().write(self.outward.rest())?;
            self.outward.passed += bytes;
            moved |= bytes > 0;
        }
        if self.outward.ended && self.outward.is_empty() && !self.outward.closed {
            self.tls.send_close_notify();
            (self.outward.closed, moved) = (true, true);
            // Nothing that the client still says is heard.
            (self.inward.ended, self.inward.closed) = (true, true);
        }
        Ok(moved)
    }
}

/// A socket as rustls wants it.
struct Stream<'a>(&'a Socket);

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.receive_bytes(into)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
