//! One connection: opened, shaken hands over, then a half to read and a half to write.

use std::io::{self, BufReader, IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::handshake::{self, Export};
use super::route::Route;
use super::socket::Socket;
use super::uri::Uri;
use crate::error::{Error, Kind};

/// How long a server may take for one answer of the handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Many small replies come with one system call; long reads pass by the buffer.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// Bytes from the server.
pub(super) type ReadHalf = BufReader<Box<dyn Read + Send>>;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The server is there and does not have the export.
    Gone(Error),
    /// Another time it may work.
    Failed(Error),
}

impl OpenError {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Gone(error) | Self::Failed(error) => error,
        }
    }
}

/// Bytes to the server.
pub(super) struct WriteHalf {
    to: Box<dyn Write + Send>,
    socket: Socket,
}

impl WriteHalf {
    /// Sends a header and what follows it.
    pub(super) fn send(&mut self, header: &[u8], data: &[u8]) -> io::Result<()> {
        let mut parts = [IoSlice::new(header), IoSlice::new(data)];
        let mut left = &mut parts[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self.to.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => IoSlice::advance_slices(&mut left, sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.to.flush()
    }

    /// Breaks the connection, so that whoever reads from it notices.
    pub(super) fn shut_down(&self) {
        self.socket.shut_down();
    }
}

/// A connection to an export, ready for requests.
pub(super) struct Connection {
    pub(super) reader: ReadHalf,
    pub(super) writer: WriteHalf,
    pub(super) socket: Socket,
    pub(super) export: Export,
}

impl Connection {
    /// Connects and takes the export.
    pub(super) fn open(route: &Route) -> Result<Self, OpenError> {
        let uri = &route.uri;
        let failed = |source| OpenError::Failed(unreachable(uri, source));
        let socket = Socket::connect(&uri.address).map_err(failed)?;
        socket.set_read_time(Some(HANDSHAKE_TIME)).map_err(failed)?;
        let (mut reader, mut writer) = halves(&socket);
        handshake::greet(&mut reader, &mut writer, uri)?;
        if let Some(tls) = &route.tls {
            handshake::start_tls(&mut reader, &mut writer, uri)?;
            let failed = |source| OpenError::Failed(tls_failed(uri, source));
            let (encrypted, encrypting) = tls.begin(&socket).map_err(failed)?;
            reader = BufReader::with_capacity(READ_BUFFER_BYTES, Box::new(encrypted));
            writer.to = Box::new(encrypting);
        }
        let export = handshake::negotiate(&mut reader, &mut writer, route)?;
        socket.set_read_time(None).map_err(failed)?;
        Ok(Self { reader, writer, socket, export })
    }

    /// The socket alone, for somebody else to send requests over.
    pub(super) fn into_socket(self, uri: &Uri) -> Result<OwnedFd, Error> {
        if !self.reader.buffer().is_empty() {
            let detail = format!("{}: the server said something before it was asked", uri.address);
            return Err(Error::new(Kind::Invalid, "connect to NBD server", detail));
        }
        self.socket.duplicate().map_err(|source| unreachable(uri, source))
    }
}

fn halves(socket: &Socket) -> (ReadHalf, WriteHalf) {
    let reader =
        BufReader::with_capacity(READ_BUFFER_BYTES, Box::new(socket.clone()) as Box<dyn Read + Send>);
    (reader, WriteHalf { to: Box::new(socket.clone()), socket: socket.clone() })
}

fn tls_failed(uri: &Uri, source: io::Error) -> Error {
    let error = Error::new(Kind::Unavailable, "speak TLS with NBD server", uri.address.to_string());
    error.source(source).hint(
        "is the server's certificate from the authority in ca-cert.pem, and for this host? If not for the host, name \
         whose it is: &tls-hostname=NAME",
    )
}

fn unreachable(uri: &Uri, source: io::Error) -> Error {
    let nobody = matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    let error =
        Error::new(Kind::Unavailable, "connect to NBD server", uri.address.to_string()).source(source);
    if nobody { error.hint("is the server (`firn serve`) running there?") } else { error }
}
