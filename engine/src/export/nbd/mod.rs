//! Volumes as NBD exports: `volume`, and read-only `volume@snapshot`; and a [client] of such exports.
//!
//! A connection begins in the `front`, a thread that leads all handshakes. When it has chosen an export its
//! socket moves to the reactor's thread, where the `traffic` serves all connections as one local client:
//! receive, core, send. Block status is found on threads of its own, and TLS is spoken on a thread between the client
//! and all of this.
//!
//! 1. Acknowledged, to a client, means acknowledged by the core: a write survives the process (I8), a flush the machine.
//! 2. Connections to one volume are coherent: they are served by one core, and a flush on one covers writes on all.
//! 3. What a client sends can neither stop the reactor nor make it take more memory than [`Limits`] say.

pub mod client;
mod connection;
mod exports;
mod finders;
mod front;
mod handshake;
mod listen;
mod offer;
mod options;
pub mod protocol;
mod receive;
mod reply;
mod request;
mod runs;
mod send;
mod server;
mod statistics;
mod status;
mod tls;
mod traffic;

pub use handshake::{Entered, Handshake, Step, TlsState};
pub use listen::Address;
pub use offer::{ExportInfo, Exports};
pub use options::{Limits, Listen, Security, ServerOptions, TlsOptions};
pub use server::Server;
pub use statistics::{KindStatistics, LATENCY_BUCKETS, Statistics, VolumeStatistics};
