//! Of the replicator's stores what its formats name.

#[path = "../../../replicator/src/store/key.rs"]
mod key;
#[path = "../../../replicator/src/store/retention.rs"]
mod retention;

pub use key::Key;
pub use retention::{LockMode, Retention};
