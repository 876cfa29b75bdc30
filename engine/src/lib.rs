//! firn's engine: a pool of copy-on-write volumes on one file or device, with instant snapshots and exact deltas.
//!
//! `docs/architecture.md` maps the modules; `docs/format.md` describes every byte that is stored.

pub mod catalog;
pub mod check;
pub mod checkpoint;
pub mod checksum;
pub mod clone;
pub mod core;
pub mod delta;
pub mod device;
pub mod error;
pub mod export;
pub mod format;
pub mod group;
pub mod journal;
pub mod map;
pub mod pool;
pub mod reactor;
pub mod recovery;
pub mod scrub;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod snapshot;
pub mod space;
pub mod sys;
pub mod units;
pub mod volume;
