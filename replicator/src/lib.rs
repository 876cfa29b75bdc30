//! firn's replicator: recovery points of volumes, kept where the volumes are not.
//!
//! Today that is the ground a vault will stand on: the trait of object stores, and a directory as one.

pub mod error;
pub mod format;
pub mod policy;
pub mod store;
pub mod vault;

/// The key that a machine signs a vault's log with.
pub use ed25519_dalek::SigningKey;
