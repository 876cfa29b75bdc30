//! Names as people write them: `pg` is a volume, `pg@before-upgrade` one of its snapshots.
//!
//! Which characters a name may have is the engine's to say; here it is only taken apart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A snapshot of a volume, or of a consistency group: `pg@before-upgrade`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SnapshotName {
    pub(crate) of: String,
    pub(crate) snapshot: String,
}

/// A volume as it is now, or one of its snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum PointName {
    Volume(String),
    Snapshot(SnapshotName),
}

/// A tag: `env=production`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for SnapshotName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('@') {
            Some((of, snapshot)) if !of.is_empty() && !snapshot.is_empty() && !snapshot.contains('@') => {
                Ok(Self { of: of.to_owned(), snapshot: snapshot.to_owned() })
            }
            _ => Err(format!("{text:?} names no snapshot: write it as pg@before-upgrade")),
        }
    }
}

impl FromStr for PointName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.contains('@') {
            true => text.parse().map(Self::Snapshot),
            false => Ok(Self::Volume(text.to_owned())),
        }
    }
}

impl FromStr for Tag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("{text:?} is no tag: write it as env=production")),
        }
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.of, self.snapshot)
    }
}

impl fmt::Display for PointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => f.write_str(name),
            Self::Snapshot(name) => name.fmt(f),
        }
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for PointName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.to_string()
    }
}

impl From<PointName> for String {
    fn from(name: PointName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        for text in ["pg", "pg@before-upgrade", "a.b_c@2026-11-23T04:00+01"] {
            assert_eq!(text.parse::<PointName>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
        for text in ["pg", "@a", "pg@", "pg@a@b"] {
            assert!(text.parse::<SnapshotName>().is_err(), "{text}");
        }
        let tag = Tag { key: "a".to_owned(), value: "b=c".to_owned() };
        assert_eq!("a=b=c".parse(), Ok(tag));
        assert!("=b".parse::<Tag>().is_err() && "a".parse::<Tag>().is_err());
    }
}
