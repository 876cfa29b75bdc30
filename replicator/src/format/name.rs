//! The names of objects in a store.
//!
//! A pack, run or point is named by the hash of its bytes. A name that a `delete` entry of the log ever held is never
//! used again, since a slow reclaim may still delete it: the same bytes then get the next generation, `HASH.1`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::codec::malformed;
use super::digest::{Digest, KeyId};
use crate::error::{Error, Kind, Result};
use crate::store::Key;

/// The settings' name.
pub const SETTINGS: &str = "vault.json";
/// What names of log entries start with.
pub const LOG: &str = "log/";
/// What names of packs start with.
pub const PACKS: &str = "packs/";
/// What names of runs start with.
pub const RUNS: &str = "runs/";
/// What names of points start with.
pub const POINTS: &str = "points/";
/// What names of keys start with.
pub const KEYS: &str = "keys/";

/// Bytes of a class's name at most.
pub const CLASS_BYTES: usize = 16;

fn key(name: String) -> Key {
    Key::new(name).expect("names are made of digits and checked classes")
}

/// The name of the settings.
pub fn settings() -> Key {
    key(SETTINGS.to_owned())
}

/// The name of entry `number` of the log; names are in the order of numbers.
pub fn entry(number: u64) -> Key {
    key(format!("{LOG}{number:016}"))
}

/// The number of the entry of this name.
pub fn entry_number(key: &Key) -> Option<u64> {
    let digits = key.as_str().strip_prefix(LOG)?;
    (digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The name of a point.
pub fn point(id: Digest) -> Key {
    key(format!("{POINTS}{id}"))
}

/// The name of a run.
pub fn run(id: Digest, generation: u32) -> Key {
    key(format!("{RUNS}{}", Generation(id, generation)))
}

/// The name of a key slot or data key.
pub fn slot(id: KeyId) -> Key {
    key(format!("{KEYS}{id}"))
}

/// The identity of the key slot or data key of this name.
pub fn key_id(key: &Key) -> Option<KeyId> {
    KeyId::parse(key.as_str().strip_prefix(KEYS)?).ok()
}

/// A retention class: packs of one class and period are locked until one date. 1 to 16 lower-case letters, digits or
/// `-`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Class(String);

impl Class {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when no class can be called so.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if starts && name.len() <= CLASS_BYTES && name.bytes().all(allowed) {
            return Ok(Self(name));
        }
        Err(Error::new(Kind::Invalid, "name class", format!("{name:?} can be no class")))
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// It in 16 bytes, padded with zeros.
    pub(crate) fn padded(&self) -> [u8; CLASS_BYTES] {
        let mut bytes = [0; CLASS_BYTES];
        bytes[..self.0.len()].copy_from_slice(self.0.as_bytes());
        bytes
    }

    pub(crate) fn from_padded(bytes: [u8; CLASS_BYTES]) -> Result<Self> {
        let text = str::from_utf8(&bytes).unwrap_or_default().trim_end_matches('\0');
        Self::new(text).map_err(|source| malformed("read class", "it can be no class").source(source))
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Class {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<Class> for String {
    fn from(class: Class) -> Self {
        class.0
    }
}

/// The name of a pack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackName {
    /// Its retention class.
    pub class: Class,
    /// The period it was written in.
    pub period: u32,
    /// The hash of its bytes.
    pub id: Digest,
    /// How often packs of these bytes were deleted before.
    pub generation: u32,
}

impl PackName {
    /// Its key.
    pub fn key(&self) -> Key {
        key(format!("{PACKS}{}/{:05}/{}", self.class, self.period, Generation(self.id, self.generation)))
    }

    /// The pack of this key; nothing when no pack is called so.
    pub fn of(key: &Key) -> Option<Self> {
        let mut parts = key.as_str().strip_prefix(PACKS)?.split('/');
        let (class, period, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (id, generation) = hash_of(name)?;
        let found = Self { class: Class::new(class).ok()?, period: period.parse().ok()?, id, generation };
        (parts.next().is_none() && found.key() == *key).then_some(found)
    }
}

/// The hash that an object called so must have; nothing for names without one.
pub fn hash_in(key: &Key) -> Option<Digest> {
    let name = key.as_str();
    let named = [PACKS, RUNS, POINTS].iter().any(|prefix| name.starts_with(prefix));
    named.then(|| hash_of(name.rsplit('/').next()?).map(|(id, _)| id))?
}

fn hash_of(name: &str) -> Option<(Digest, u32)> {
    match name.split_once('.') {
        None => Some((Digest::parse(name).ok()?, 0)),
        Some((id, generation)) => {
            Some((Digest::parse(id).ok()?, generation.parse().ok().filter(|n| *n > 0)?))
        }
    }
}

struct Generation(Digest, u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            0 => write!(f, "{}", self.0),
            generation => write!(f, "{}.{generation}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_nothing_else_is() {
        let id = Digest::of(b"pack");
        for generation in [0, 3] {
            let pack = PackName { class: Class::new("y7").unwrap(), period: 729, id, generation };
            assert_eq!(PackName::of(&pack.key()), Some(pack.clone()));
            assert_eq!(hash_in(&pack.key()), Some(id));
        }
        assert_eq!(entry(12).as_str(), "log/0000000000000012");
        assert_eq!(entry_number(&entry(12)), Some(12));
        for name in ["log/12", "log/+000000000000012", "packs/y7/729/x", "vault.json"] {
            let key = Key::new(name.replace('+', "x")).unwrap();
            assert_eq!((entry_number(&key), PackName::of(&key)), (None, None), "{name}");
        }
        for name in
            [format!("packs/y7/729/{id}"), format!("packs/y7/00729/{id}.0"), format!("packs/y7/00729/{id}/a")]
        {
            assert_eq!(PackName::of(&Key::new(name.clone()).unwrap()), None, "{name}");
        }
        for name in ["", "7y", "Y", "a_b", "seventeen-letters"] {
            assert_eq!(Class::new(name).unwrap_err().kind(), Kind::Invalid, "{name}");
        }
    }
}
