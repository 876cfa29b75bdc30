//! firn's engine: a pool of copy-on-write volumes on one file or device, with instant snapshots and exact deltas.
//!
//! `docs/architecture.md` maps the modules; `docs/format.md` describes every byte that is stored.

pub mod catalog;
pub mod checkpoint;
pub mod checksum;
pub mod core;
pub mod device;
pub mod error;
pub mod format;
pub mod journal;
pub mod map;
pub mod recovery;
pub mod space;
pub mod sys;
pub mod units;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
