//! Errors: the engine's one type, so that a caller of both libraries meets the same kinds and hints.
//!
//! [`Kind::Damaged`] always names the object in question, [`Kind::Retry`] says that a store did not answer and that
//! the same call may be made again.

pub use firn_engine::error::{Error, Kind, Result};
