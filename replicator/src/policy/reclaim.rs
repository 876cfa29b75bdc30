//! What reclaim does with each object of a vault. The log's order decides; clocks only spare work
//! ([ADR 29](../../../docs/adr/0029-reclaim.md)).
//!
//! 1. An object is deleted from the store only after a `delete` entry names it.
//! 2. A `delete` entry names only objects that, after all entries below it, no point reaches and no lock or hold
//!    binds, and that a `condemn` entry without a later `acquit` named at least [`Limits::condemn_ms`] before.
//!    Whoever lost the race for the entry's number decides anew.
//! 3. A `condemn` entry too names only what, after all entries below it, no point reaches.
//! 4. A name in a `delete` entry is dead for ever. Deleting it again is always allowed, so a killed reclaim is finished
//!    by the next one.
//! 5. What points reach is known only when every point that stands and all its runs were read. If one can't be read,
//!    nothing is condemned and nothing deleted.
//! 6. Only packs, runs and points are ever deleted, under names that this version gives. Settings, the log, keys and
//!    whatever else lies there are left alone.
//!
//! 7. What is reached is not deleted, whatever an entry says.
//!
//! A point stands while it is live, and after that until its own date and holds have ended. What points that stand reach
//! is *reached*. An object goes from *unreached* to *condemned* to *deleted*; *acquit* takes it back to the start.

use std::fmt;

use super::calendar::{self, DAY_MS};
use super::lock::{Bar, Locks};
use crate::format::name;
use crate::store::{Key, ObjectInfo};

/// The lengths of time that reclaim goes by. None of them is needed for a point to be safe; they give running
/// sends and restores the time to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long an object is condemned before it is deleted.
    pub condemn_ms: u64,
    /// How long a send may take: what is younger may belong to one that has not committed yet.
    pub session_ms_max: u64,
}

impl Default for Limits {
    /// A week each: a baseline of 10 TiB over 20 MB/s takes six days, and whoever pruned the wrong point has as long.
    fn default() -> Self {
        Self { condemn_ms: 7 * DAY_MS, session_ms_max: 7 * DAY_MS }
    }
}

/// What the log says of an object, all entries up to its end taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether a point that stands reaches it.
    pub is_reached: bool,
    /// The time of the entry that condemned it and was not taken back.
    pub condemned_ms: Option<u64>,
    /// Whether a `delete` entry names it.
    pub is_deleted: bool,
}

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Nothing.
    Keep(Why),
    /// To be named in a `condemn` entry.
    Condemn,
    /// To be named in an `acquit` entry: it was condemned, and is reached again.
    Acquit,
    /// To be named in a `delete` entry, and deleted once that is written.
    Delete,
    /// To be deleted at once: a `delete` entry names it already.
    Sweep,
}

/// Why an object stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A point that stands reaches it.
    Reached,
    /// It may belong to a send that has not committed yet.
    Young {
        /// Until when that is possible, in ms since 1970.
        until_ms: u64,
    },
    /// It has not been condemned for long enough.
    Waiting {
        /// Until when it has to be, in ms since 1970.
        until_ms: u64,
    },
    /// A lock or a hold is on it.
    Barred(Bar),
    /// Its locks could not be read.
    LocksUnknown,
    /// A point that stands reaches it and a `delete` entry names it, which nobody brings about who keeps the rules.
    Contradiction,
    /// It is no pack, run or point.
    NotOurs,
}

/// What becomes of an object at `now_ms`, by the store's clock. `locks` asks the store, which costs a request, and so
/// is called only when nothing but a lock stands against deletion; it returns nothing when the store does not say.
pub fn rule(
    object: &ObjectInfo,
    standing: Standing,
    limits: Limits,
    now_ms: u64,
    locks: impl FnOnce() -> Option<Locks>,
) -> Ruling {
    // A time ahead of the clock gives no age at all, so that a clock that went back only makes reclaim wait.
    let young_until_ms = object.modified_ms.saturating_add(limits.session_ms_max);
    match standing {
        _ if !is_ours(&object.key) => Ruling::Keep(Why::NotOurs),
        Standing { is_reached: true, is_deleted: true, .. } => Ruling::Keep(Why::Contradiction),
        Standing { is_deleted: true, .. } => Ruling::Sweep,
        Standing { is_reached: true, condemned_ms: Some(_), .. } => Ruling::Acquit,
        Standing { is_reached: true, .. } => Ruling::Keep(Why::Reached),
        _ if young_until_ms > now_ms => Ruling::Keep(Why::Young { until_ms: young_until_ms }),
        Standing { condemned_ms: None, .. } => Ruling::Condemn,
        Standing { condemned_ms: Some(condemned_ms), .. } => {
            let until_ms = condemned_ms.saturating_add(limits.condemn_ms);
            match until_ms > now_ms {
                true => Ruling::Keep(Why::Waiting { until_ms }),
                false => unlocked(locks(), now_ms),
            }
        }
    }
}

fn unlocked(locks: Option<Locks>, now_ms: u64) -> Ruling {
    match locks.map(|locks| locks.bar(now_ms)) {
        Some(None) => Ruling::Delete,
        Some(Some(bar)) => Ruling::Keep(Why::Barred(bar)),
        None => Ruling::Keep(Why::LocksUnknown),
    }
}

/// Invariant 6.
fn is_ours(key: &Key) -> bool {
    let prefixes = [name::RUNS, name::POINTS];
    let is_flat = key.as_str().matches('/').count() == 1;
    let is_listed = is_flat && prefixes.iter().any(|prefix| key.as_str().starts_with(prefix));
    name::PackName::of(key).is_some() || (is_listed && name::hash_in(key).is_some())
}

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, object: &ObjectInfo) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(object.bytes);
    }
}

/// What a whole reclaim would do. Objects that are reached are only counted, so that its size goes by what is dead.
#[derive(Debug, Default)]
pub struct Plan {
    /// To be deleted at once, before anything else.
    pub sweep: Vec<ObjectInfo>,
    /// To be named in `acquit` entries.
    pub acquit: Vec<ObjectInfo>,
    /// To be named in `condemn` entries.
    pub condemn: Vec<ObjectInfo>,
    /// To be named in `delete` entries, and then deleted.
    pub delete: Vec<ObjectInfo>,
    /// Dead, or no object of ours, and left as it is, and why.
    pub waiting: Vec<(ObjectInfo, Why)>,
    /// What points reach.
    pub live: Amount,
    /// What none reaches: bytes that are paid for and serve nothing.
    pub dead: Amount,
}

impl Plan {
    /// Takes in one object.
    pub fn add(&mut self, object: ObjectInfo, ruling: Ruling) {
        match ruling {
            Ruling::Acquit | Ruling::Keep(Why::Reached | Why::Contradiction) => self.live.add(&object),
            Ruling::Keep(Why::NotOurs) => {}
            _ => self.dead.add(&object),
        }
        match ruling {
            Ruling::Keep(Why::Reached) => {}
            Ruling::Keep(why) => self.waiting.push((object, why)),
            Ruling::Condemn => self.condemn.push(object),
            Ruling::Acquit => self.acquit.push(object),
            Ruling::Delete => self.delete.push(object),
            Ruling::Sweep => self.sweep.push(object),
        }
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(why) => write!(f, "kept because: {why}"),
            Self::Condemn => f.write_str("condemned because: no point reaches it"),
            Self::Acquit => f.write_str("acquitted because: a point reaches it again"),
            Self::Delete => {
                f.write_str("deleted because: condemned for long enough, and no point reaches it")
            }
            Self::Sweep => f.write_str("deleted because: the log says so already"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reached => f.write_str("a point reaches it"),
            Self::Young { until_ms } => {
                write!(f, "a running send may need it until {}", calendar::text(*until_ms))
            }
            Self::Waiting { until_ms } => write!(f, "condemned until {}", calendar::text(*until_ms)),
            Self::Barred(bar) => bar.fmt(f),
            Self::LocksUnknown => f.write_str("its locks could not be read"),
            Self::Contradiction => f.write_str("a point reaches it, though the log says that it is deleted"),
            Self::NotOurs => f.write_str("it is no pack, run or point"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::digest::{Digest, KeyId};
    use crate::store::LockMode;

    const LIMITS: Limits = Limits { condemn_ms: 100, session_ms_max: 10 };

    fn object(key: Key, modified_ms: u64) -> ObjectInfo {
        ObjectInfo { key, bytes: 5, modified_ms }
    }

    fn run(modified_ms: u64) -> ObjectInfo {
        object(name::run(Digest::of(b"run"), 0), modified_ms)
    }

    #[test]
    fn an_object_waits_is_condemned_waits_and_goes() {
        let free = || Some(Locks::default());
        let condemned = Standing { condemned_ms: Some(1000), ..Standing::default() };
        for (standing, now_ms, ruling) in [
            (Standing::default(), 909, Ruling::Keep(Why::Young { until_ms: 910 })),
            (Standing::default(), 910, Ruling::Condemn),
            (condemned, 1099, Ruling::Keep(Why::Waiting { until_ms: 1100 })),
            (condemned, 1100, Ruling::Delete),
            (condemned, 5, Ruling::Keep(Why::Young { until_ms: 910 })),
            (Standing { is_reached: true, ..condemned }, 1100, Ruling::Acquit),
            (Standing { is_reached: true, ..Standing::default() }, 1100, Ruling::Keep(Why::Reached)),
            (Standing { is_deleted: true, ..Standing::default() }, 0, Ruling::Sweep),
            (
                Standing { is_deleted: true, is_reached: true, ..condemned },
                1100,
                Ruling::Keep(Why::Contradiction),
            ),
        ] {
            assert_eq!(rule(&run(900), standing, LIMITS, now_ms, free), ruling, "{standing:?} at {now_ms}");
        }
        let last = rule(&run(u64::MAX), condemned, LIMITS, u64::MAX - 1, free);
        assert_eq!(last, Ruling::Keep(Why::Young { until_ms: u64::MAX }), "no overflow");
    }

    #[test]
    fn a_lock_a_hold_and_a_store_that_does_not_say_keep_what_is_due() {
        let due = Standing { condemned_ms: Some(1000), ..Standing::default() };
        let dated = Locks { until_ms: Some(2000), mode: Some(LockMode::Compliance), is_held: false };
        let held = Locks { is_held: true, ..dated };
        let at = |now_ms, locks: Option<Locks>| rule(&run(0), due, LIMITS, now_ms, || locks);
        assert_eq!(at(1999, Some(dated)), Ruling::Keep(Why::Barred(dated.bar(1999).unwrap())));
        assert_eq!(at(2000, Some(dated)), Ruling::Delete);
        assert_eq!(at(2000, Some(held)), Ruling::Keep(Why::Barred(Bar::Held)));
        assert_eq!(at(2000, None), Ruling::Keep(Why::LocksUnknown));
        let asked =
            rule(&run(0), Standing::default(), LIMITS, 2000, || unreachable!("a lock costs a request"));
        assert_eq!(asked, Ruling::Condemn);
    }

    /// Invariant 6, in the standing in which everything else would be deleted.
    #[test]
    fn only_packs_runs_and_points_are_ever_deleted() {
        let id = Digest::of(b"object");
        let due = Standing { condemned_ms: Some(0), is_deleted: true, ..Standing::default() };
        let deleted = |key: &str| {
            let found = object(Key::new(key).unwrap(), 0);
            rule(&found, due, LIMITS, 5000, || Some(Locks::default())) != Ruling::Keep(Why::NotOurs)
        };
        for key in [format!("packs/d7/00742/{id}.1"), format!("runs/{id}"), format!("points/{id}")] {
            assert!(deleted(&key), "{key}");
        }
        let slot = name::slot(KeyId([7; 16])).to_string();
        for key in ["vault.json", "log/0000000000000001", &slot, "packs/notes.txt", "runs/new", "other"] {
            assert!(!deleted(key), "{key}");
        }
        for key in [format!("packs/{id}"), format!("keys/{id}"), format!("runs/kept/{id}")] {
            assert!(!deleted(&key), "{key}");
        }
    }

    #[test]
    fn a_plan_counts_what_is_dead() {
        let mut plan = Plan::default();
        for ruling in [
            Ruling::Keep(Why::Reached),
            Ruling::Acquit,
            Ruling::Condemn,
            Ruling::Delete,
            Ruling::Sweep,
            Ruling::Keep(Why::LocksUnknown),
            Ruling::Keep(Why::NotOurs),
        ] {
            plan.add(run(0), ruling);
        }
        assert_eq!(
            (plan.live, plan.dead),
            (Amount { objects: 2, bytes: 10 }, Amount { objects: 4, bytes: 20 },)
        );
        let lists = [&plan.sweep, &plan.acquit, &plan.condemn, &plan.delete];
        assert!(lists.iter().all(|list| list.len() == 1));
        assert_eq!(plan.waiting.len(), 2);
    }
}
