//! What is run on bytes that came from anybody: the body of each fuzz target.
//!
//! The modules under test are the engine's own sources, compiled once more into this crate. So RocksDB, which the engine
//! needs and none of them does, is not built with the fuzzer's instrumentation, which would take a quarter of an hour.
//! A module that is listed here may import only what is listed here too.
//!
//! A body panics on a fault, and does nothing else: `tests/smoke.rs` runs all of them in `make test`, and `make fuzz`
//! under libFuzzer. The vault's formats are in `firn-fuzz-vault`.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each part of the engine is here for a part of itself"
)]

#[path = "../../engine/src/checksum.rs"]
mod checksum;
#[path = "../../engine/src/device.rs"]
mod device;
#[path = "../../engine/src/error.rs"]
mod error;
mod export;
#[path = "../../engine/src/format/mod.rs"]
mod format;
mod formats;
#[path = "../../engine/src/sys/mod.rs"]
mod sys;
#[path = "../../engine/src/units.rs"]
mod units;

pub use firn_fuzz_vault::vault_formats;

pub use export::nbd::targets::{nbd_handshake, nbd_replies, nbd_requests};
pub use formats::engine_formats;

/// A target's body.
pub type Body = fn(&[u8]);

/// Every target, by its name.
pub const TARGETS: &[(&str, Body)] = &[
    ("engine_formats", engine_formats),
    ("nbd_handshake", nbd_handshake),
    ("nbd_replies", nbd_replies),
    ("nbd_requests", nbd_requests),
    ("vault_formats", vault_formats),
];

/// Inputs of a target that are right, to begin with.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "engine_formats" => formats::seeds(),
        "nbd_handshake" => export::nbd::targets::handshake_seeds(),
        "nbd_replies" => export::nbd::targets::reply_seeds(),
        "nbd_requests" => export::nbd::targets::request_seeds(),
        "vault_formats" => firn_fuzz_vault::seeds(),
        _ => Vec::new(),
    }
}
