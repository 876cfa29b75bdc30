//! Keys: the names of objects, checked when they are made.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// Bytes in a key at most.
const KEY_BYTES_MAX: usize = 512;
/// Bytes in a segment at most; file systems allow 255.
const SEGMENT_BYTES_MAX: usize = 128;

/// The name of an object: segments with slashes between them. A segment is 1 to 128 letters, digits or `._-` and does
/// not start with a dot, so a key that is taken as a path stays below where it starts, and names that start with a dot
/// are left for a store's own use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when it can be no key.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.len() <= KEY_BYTES_MAX && name.split('/').all(is_segment) {
            return Ok(Self(name));
        }
        Err(Error::new(Kind::Invalid, "name object", format!("{name:?} can be no key")))
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=SEGMENT_BYTES_MAX).contains(&segment.len())
        && !segment.starts_with('.')
        && segment.bytes().all(allowed)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_leave_its_store() {
        for name in ["vault.json", "packs/none/0729/ab-c_d.e", "a"] {
            assert_eq!(Key::new(name).unwrap().as_str(), name);
        }
        let long = "a/".repeat(256) + "a";
        for name in
            ["", "/a", "a/", "a//b", "..", "a/../b", "a/.b", ".staging/x", "a\\b", "a b", "ä", "a\0", &long]
        {
            assert_eq!(Key::new(name).unwrap_err().kind(), Kind::Invalid, "{name:?}");
        }
    }
}
