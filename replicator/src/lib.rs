//! firn's replicator: recovery points of volumes, kept where the volumes are not.
//!
//! `vault` holds them, on any store behind the trait in `store`, in the formats of `format`, as `policy` says.

pub mod error;
pub mod format;
pub mod policy;
pub mod store;
pub mod vault;

/// The key that a machine signs a vault's log with.
pub use ed25519_dalek::SigningKey;
