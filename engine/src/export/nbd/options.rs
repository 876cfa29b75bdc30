//! How a server is started.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where and how a server listens.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Where it listens; nowhere is allowed.
    pub listen: Vec<Listen>,
    /// With what it speaks TLS; without, it does not.
    pub tls: Option<TlsOptions>,
    /// What clients may take.
    pub limits: Limits,
}

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket, for its user and group. TLS is offered when there is a
    /// certificate. The file of a server that is gone is replaced.
    Unix(PathBuf),
    /// A TCP port; 0 takes a free one.
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Whether everybody on the network may read along.
        security: Security,
    },
}

/// What is asked of a connection over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS before anything else.
    TlsRequired,
    /// Plain text too, in which everybody on the way can read and change what is written.
    PlaintextAllowed,
}

/// The files that TLS needs, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The server's certificate, and those between it and a root that clients know.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Certificates of authorities; when given, a client must show a certificate from one of them.
    pub client_authority: Option<PathBuf>,
}

/// What clients may take of the server. Every limit makes clients wait, except for `connections` and the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, handshakes included; further ones are closed at once.
    pub connections: usize,
    /// Requests under way on one connection.
    pub requests_per_connection: usize,
    /// Bytes of requests and answers in memory for one connection, one request of the largest size always included.
    pub bytes_per_connection: usize,
    /// The same for all connections together. Each connection may have 256 KiB
    /// whatever the others have.
    pub bytes: usize,
    /// Longest time for a handshake, in ms.
    pub handshake_ms: u64,
    /// A connection that has begun to send or to take something large, while others wait for the memory, is closed
    /// when it moves less than 1 MiB a second over a time this long, in ms.
    pub stall_ms: u64,
    /// Longest time that a stop waits for requests under way and for clients to take their answers, in ms.
    pub stop_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            requests_per_connection: 256,
            bytes_per_connection: 64 << 20,
            bytes: 256 << 20,
            handshake_ms: 10_000,
            stall_ms: 10_000,
            stop_ms: 5_000,
        }
    }
}
