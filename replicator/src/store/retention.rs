//! Locks with a date, as stores and the log have them.

use serde::{Deserialize, Serialize};

/// How strongly an object is locked against deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// A privileged user may still delete it.
    Governance,
    /// Nobody may delete it before its date.
    Compliance,
}

/// A lock with a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// How strong it is.
    pub mode: LockMode,
    /// Until when by the store's clock, in ms since 1970. A store may keep it to the second, and then rounds up.
    pub until_ms: u64,
}
