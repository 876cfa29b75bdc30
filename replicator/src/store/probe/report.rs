//! What a probe says.

use serde::{Deserialize, Serialize};

/// How a store may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreMode {
    /// Write once: what is locked can be neither changed nor deleted, not even by who has the credentials.
    Worm,
    /// It keeps objects; who has the credentials may change and delete them.
    Plain,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// The store's time moves forward and is near this machine's.
    Clock,
    /// Of many who create one object at the same time, one succeeds.
    ConditionalPut,
    /// A part of an object is read, and a part that is not there is refused.
    RangedGet,
    /// A list shows what was written and not what was deleted.
    ListAfterWrite,
    /// A put by somebody else destroys nothing.
    Versions,
    /// A locked object can't be deleted, not even by a privileged user.
    LockedDelete,
    /// A lock's date can be moved later.
    LockExtended,
    /// A lock's date can't be moved earlier.
    LockNotShortened,
    /// A compliance lock can't become a governance lock.
    LockNotWeakened,
    /// An object under legal hold can't be deleted until it is released.
    LegalHold,
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The store does it.
    Passed,
    /// The store does not offer it, and says so.
    Lacking,
    /// The store offers it and does something else.
    Broken,
}

/// One property of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub property: Property,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen, in words.
    pub detail: String,
}

/// All that a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The store's name.
    pub store: String,
    /// What was looked at, in the order of [`Property`]. What follows a property that is broken may be missing.
    pub findings: Vec<Finding>,
    /// The store's time less this machine's.
    pub skew_ms: i64,
    /// The strongest mode that the store can honestly be used in; none when it must not be used.
    pub mode: Option<StoreMode>,
}

impl ProbeReport {
    pub(super) fn new(store: String, findings: Vec<Finding>, skew_ms: i64) -> Self {
        let has = |outcome| findings.iter().any(|finding| finding.outcome == outcome);
        let mode = match (has(Outcome::Broken), has(Outcome::Lacking)) {
            (true, _) => None,
            (false, true) => Some(StoreMode::Plain),
            (false, false) => Some(StoreMode::Worm),
        };
        Self { store, findings, skew_ms, mode }
    }

    /// What the store lacks or does wrong, a sentence each.
    pub fn lacks(&self) -> impl Iterator<Item = &str> {
        let wanting = self.findings.iter().filter(|finding| finding.outcome != Outcome::Passed);
        wanting.map(|finding| finding.detail.as_str())
    }
}
