//! What of NBD reads bytes, without what serves them.

#[path = "../../../engine/src/export/nbd/client/mod.rs"]
pub(crate) mod client;
#[path = "../../../engine/src/export/nbd/handshake.rs"]
mod handshake;
#[path = "../../../engine/src/export/nbd/offer.rs"]
mod offer;
#[path = "../../../engine/src/export/nbd/options.rs"]
mod options;
#[path = "../../../engine/src/export/nbd/protocol/mod.rs"]
pub(crate) mod protocol;
#[path = "../../../engine/src/export/nbd/receive.rs"]
mod receive;
#[path = "../../../engine/src/export/nbd/request.rs"]
mod request;
#[path = "../../../engine/src/export/nbd/statistics.rs"]
mod statistics;
pub(crate) mod targets;
#[path = "../../../engine/src/export/nbd/tls.rs"]
mod tls;
