//! The vault's formats: what lies in a store, to the byte. Values in, values out; no store, no clock, no randomness.
//!
//! 1. Lengths, versions and checksums are checked before anything that was read is used.
//! 2. Large things (blocks, extents) lie in *containers*: binary, compressed, one hash over everything stored, which is
//!    also the object's name, and one hash per frame over its content. Small things (settings, log entries, points,
//!    key slots) are JSON, so that a person can read them in twenty years.
//! 3. What is hashed or signed is the bytes as they are stored, never a value written out again.
//! 4. Each thing commits to everything below it: entry to points, point to runs, run to packs, each by a hash.
//!
//! `docs/format.md` describes each byte; `docs/reader` is an independent reader of it.

pub mod codec;
pub mod container;
pub mod digest;
pub mod entry;
pub mod extent;
pub mod frame;
#[cfg(any(test, feature = "sim"))]
pub mod hostile;
pub mod name;
pub mod pack_list;
pub mod point;
pub mod secret;
pub mod settings;
pub mod slot;

/// The version of all formats here. A reader refuses what is newer.
pub const VERSION: u16 = 1;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A value as the JSON that is stored: indented, with a line end.
fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("formats are made of what JSON has");
    bytes.push(b'\n');
    bytes
}

fn from_json<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|source| codec::malformed(what, "it is not what it should be").source(source))
}

/// The version that a JSON object says it has, before anything else in it is believed.
fn version_of(what: &'static str, bytes: &[u8]) -> Result<u16> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u16,
    }
    Ok(from_json::<Versioned>(what, bytes)?.format)
}
