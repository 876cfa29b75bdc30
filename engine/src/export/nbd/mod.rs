//! Volumes as NBD exports: `volume`, and read-only `volume@snapshot`; and a client of such exports.

pub mod client;
pub mod protocol;
