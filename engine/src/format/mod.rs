//! Every byte the pool writes, on the device and as keys and values in RocksDB. `docs/format.md` says it in words.
//!
//! 1. Encoding never fails; decoding checks every length, count and range before it uses them.
//! 2. Integers on the device are little-endian; integers in keys are big-endian, so that keys sort by value.
//! 3. A published version's bytes never change their meaning (golden files under `tests/golden`).

pub mod bytes;
pub mod dead;
pub mod head;
pub mod journal;
pub mod keys;
pub mod page;
pub mod superblock;
pub mod undo;

/// The version that this program writes, and the only one so far.
pub const FORMAT_VERSION: u32 = 1;

/// What was read does not follow the format; says which rule it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);
