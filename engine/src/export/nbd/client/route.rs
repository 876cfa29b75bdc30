//! How one link reaches its export, each time anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::tls::Tls;
use super::uri::Uri;
use crate::error::Result;
use crate::export::nbd::protocol::handshake::Fence;
use crate::sys::random_bytes;

/// The way to an export for one link, which has one connection at a time.
pub(super) struct Route {
    pub(super) uri: Uri,
    pub(super) tls: Option<Arc<Tls>>,
    /// Who says, at a server that understands it, that its earlier connections are over. Only for a link that connects
    /// again: another never has an earlier one.
    client: Option<[u8; 16]>,
    /// Whether structured replies, and what they carry, are asked for.
    pub(super) is_structured: bool,
    connections: AtomicU64,
}

impl Route {
    /// A way that has not been taken yet.
    pub(super) fn new(uri: &Uri, tls: Option<Arc<Tls>>, is_taken_again: bool) -> Result<Self> {
        let client = is_taken_again.then(random_bytes).transpose()?;
        Ok(Self { uri: uri.clone(), tls, client, is_structured: true, connections: AtomicU64::new(0) })
    }

    /// The same way, for somebody who only reads simple replies.
    pub(super) fn simple(self) -> Self {
        Self { is_structured: false, ..self }
    }

    /// What the next connection says of itself.
    pub(super) fn next_fence(&self) -> Option<Fence> {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        self.client.map(|client| Fence { client, connection })
    }
}
