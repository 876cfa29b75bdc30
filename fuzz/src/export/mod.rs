//! The engine's exports.

pub(crate) mod nbd;
