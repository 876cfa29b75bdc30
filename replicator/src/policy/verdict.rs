//! What a policy says of a point, with all its reasons, in words that a person can check against the list of points.

use std::fmt;

use super::calendar::{self, Bucket};
use super::keep::{Keep, Rule};
use crate::format::digest::{Digest, PoolId};

/// A recovery point, as far as policies look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The point.
    pub id: Digest,
    /// The pool it comes from.
    pub pool: PoolId,
    /// The volume's identity in its pool.
    pub volume: u64,
    /// The log entry that committed it. Points of one entry are one consistency group's.
    pub entry: u64,
    /// When that was, by the store's clock.
    pub time_ms: u64,
    /// Until when it must be kept.
    pub retain_until_ms: Option<u64>,
    /// The holds on it.
    pub holds: Vec<String>,
}

/// What becomes of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The point.
    pub id: Digest,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a point, and why: there is always a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays, for each of these reasons.
    Kept(Vec<Kept>),
    /// It may go, since each class has passed it by.
    Expired(Vec<Expired>),
}

/// A reason to keep a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The policy says nothing.
    NoPolicy,
    /// It is one of the newest.
    Last {
        /// How many of the newest are kept.
        count: u32,
    },
    /// It is the newest of an hour, day, week, month or year.
    Newest {
        /// The class that keeps it.
        rule: Rule,
        /// What it is the newest of.
        bucket: Bucket,
        /// Whether that is over, so that nothing newer can take its place.
        settled: bool,
    },
    /// It is the oldest, and a class is not full: until then history reaches back as far as it can.
    Oldest {
        /// The class.
        rule: Rule,
        /// How many points of the class there are.
        present: u32,
        /// How many there may be.
        count: u32,
    },
    /// It is young enough.
    Within {
        /// The age.
        age: String,
    },
    /// It was promised until a date.
    RetainUntil {
        /// The date, in ms since 1970.
        until_ms: u64,
    },
    /// Somebody holds it.
    Held {
        /// The hold's name.
        reason: String,
    },
    /// Without it its volume would have no point.
    NewestOfVolume,
    /// It was committed later than now: the store's clock has gone back.
    Ahead,
    /// A point that was committed with it, as one consistency group, is kept.
    Together {
        /// That point.
        with: Digest,
    },
}

/// Why a class does not keep a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expired {
    /// A newer point of the same hour, day, week, month or year is kept.
    Represented {
        /// The class.
        rule: Rule,
        /// What both are of.
        bucket: Bucket,
        /// The newer point.
        by: Digest,
    },
    /// The class has as many newer points as it may.
    Full {
        /// The class.
        rule: Rule,
        /// How many.
        count: u32,
    },
    /// It is too old.
    Older {
        /// The age.
        age: String,
    },
    /// The date until which it was promised has passed.
    Passed {
        /// The date, in ms since 1970.
        until_ms: u64,
    },
}

impl Verdict {
    /// Whether the point stays.
    pub fn is_kept(&self) -> bool {
        matches!(self.fate, Fate::Kept(_))
    }

    /// The reasons alone, with commas between them.
    pub fn reasons(&self) -> String {
        let words: Vec<String> = match &self.fate {
            Fate::Kept(reasons) => reasons.iter().map(Kept::to_string).collect(),
            Fate::Expired(reasons) => reasons.iter().map(Expired::to_string).collect(),
        };
        words.join(", ")
    }

    /// Until when the point is kept for certain, whatever is committed later, so that its lock may be moved there;
    /// nothing when nothing is certain. Only what is over counts: the newest point of today can still be replaced.
    /// The date may be later than a lock can be ([`class::DAYS_MAX`](super::class::DAYS_MAX)).
    pub fn wanted_until_ms(&self, keep: &Keep, point: &Candidate) -> Option<u64> {
        let Fate::Kept(reasons) = &self.fate else { return None };
        let certain = reasons.iter().filter_map(|reason| match reason {
            Kept::Newest { rule, bucket, settled: true } => Some(bucket.until_ms(keep.count(*rule))),
            Kept::Within { .. } => keep.young_until_ms(point.time_ms),
            Kept::RetainUntil { until_ms } => Some(*until_ms),
            _ => None,
        });
        certain.max()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = if self.is_kept() { "kept" } else { "expired" };
        write!(f, "{fate} because: {}", self.reasons())
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("no policy says what may go"),
            Self::Last { count: 1 } => f.write_str("the last"),
            Self::Last { count } => write!(f, "one of the last {count}"),
            Self::Newest { rule, bucket, .. } => write!(f, "{} {bucket}", rule.name()),
            Self::Oldest { rule, present, count } => {
                write!(f, "oldest point, and {} has {present} of {count}", rule.name())
            }
            Self::Within { age } => write!(f, "not older than {age}"),
            Self::RetainUntil { until_ms } => write!(f, "retain-until {}", calendar::text(*until_ms)),
            Self::Held { reason } => write!(f, "legal hold {reason}"),
            Self::NewestOfVolume => f.write_str("newest point of its volume"),
            Self::Ahead => f.write_str("committed later than the store's clock shows now"),
            Self::Together { with } => write!(f, "its group's point {} is kept", with.short()),
        }
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Represented { rule, bucket, by } => write!(f, "{} {bucket} is {}", rule.name(), by.short()),
            Self::Full { rule: Rule::Last, count } => write!(f, "not one of the last {count}"),
            Self::Full { rule, count } => write!(f, "{count} newer {} points are kept", rule.name()),
            Self::Older { age } => write!(f, "older than {age}"),
            Self::Passed { until_ms } => write!(f, "retain-until {} has passed", calendar::text(*until_ms)),
        }
    }
}
