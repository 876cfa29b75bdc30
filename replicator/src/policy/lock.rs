//! Locks on points and objects: none, governance or compliance until a date, and legal holds without one.
//!
//! | | firn, whoever asks | who may write to the store | who may bypass governance there | the store's owner |
//! |---|---|---|---|---|
//! | none, before its date | refuses | can delete | can delete | can delete |
//! | governance, before its date | refuses | can't | can delete | can delete |
//! | compliance, before its date | refuses | can't | can't | can't |
//! | legal hold | refuses until it is released | can't | may release it | may release it |
//!
//! 1. A lock only ever gets stronger: its date moves later, its mode from governance to compliance, never back.
//! 2. firn itself weakens no lock, in no mode; it has no switch for it. What the table allows others, they must do with
//!    the store's own tools.
//! 3. A hold and a date don't know of each other. What either forbids is forbidden.

use std::fmt;

use super::calendar;
use super::class::is_as_strong;
use crate::error::{Error, Kind, Result};
use crate::store::{LockMode, Retention};

/// The locks on a point or an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    /// The date, by the store's clock, in ms since 1970.
    pub until_ms: Option<u64>,
    /// How the store keeps to it; nothing where the date is firn's promise alone.
    pub mode: Option<LockMode>,
    /// Whether somebody holds it.
    pub is_held: bool,
}

/// Why something may not be deleted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Its date has not passed.
    Until {
        /// The date, in ms since 1970.
        until_ms: u64,
        /// How the store keeps to it.
        mode: Option<LockMode>,
    },
    /// Somebody holds it.
    Held,
}

impl Locks {
    /// What forbids to delete it at `now_ms`, by the store's clock. The moment of its date itself is free.
    pub fn bar(self, now_ms: u64) -> Option<Bar> {
        let until_ms = self.until_ms.filter(|until_ms| *until_ms > now_ms);
        match self.is_held {
            true => Some(Bar::Held),
            false => until_ms.map(|until_ms| Bar::Until { until_ms, mode: self.mode }),
        }
    }
}

impl From<Retention> for Locks {
    fn from(retention: Retention) -> Self {
        Self { until_ms: Some(retention.until_ms), mode: Some(retention.mode), is_held: false }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("under legal hold"),
            Self::Until { until_ms, mode } => {
                write!(f, "locked until {} ({})", calendar::text(*until_ms), mode_name(*mode))
            }
        }
    }
}

/// A mode's name, as users write it.
pub fn mode_name(mode: Option<LockMode>) -> &'static str {
    match mode {
        None => "none",
        Some(LockMode::Governance) => "governance",
        Some(LockMode::Compliance) => "compliance",
    }
}

/// The mode that users call so.
///
/// # Errors
/// [`Kind::Invalid`] when there is none.
pub fn mode(name: &str) -> Result<Option<LockMode>> {
    let modes = [None, Some(LockMode::Governance), Some(LockMode::Compliance)];
    modes.into_iter().find(|mode| mode_name(*mode) == name).ok_or_else(|| {
        Error::new(Kind::Invalid, "read lock mode", format!("there is no mode {name:?}"))
            .hint("choose none, governance or compliance")
    })
}

/// What a lock of this mode is worth, for those who choose one.
pub fn promise(mode: Option<LockMode>) -> &'static str {
    match mode {
        None => "firn keeps to dates and holds; whoever may write to the store can delete all the same",
        Some(LockMode::Governance) => {
            "the store refuses to delete before the date, except for those who may bypass governance"
        }
        Some(LockMode::Compliance) => "the store refuses everybody until the date, its owner included",
    }
}

/// The lock to set so that an object is locked as asked for; nothing when it is already. Invariant 1: what comes of it
/// is never weaker than what is there.
pub fn raise(present: Option<Retention>, wanted: Retention) -> Option<Retention> {
    let Some(present) = present else { return Some(wanted) };
    let mode = if is_as_strong(present.mode, wanted.mode) { present.mode } else { wanted.mode };
    let raised = Retention { mode, until_ms: present.until_ms.max(wanted.until_ms) };
    (raised != present).then_some(raised)
}

/// The date to set when a user asks for one; nothing when it is there already.
///
/// # Errors
/// [`Kind::Conflict`] for an earlier date.
pub fn move_date(present_ms: Option<u64>, asked_ms: u64) -> Result<Option<u64>> {
    match present_ms {
        Some(present_ms) if asked_ms < present_ms => {
            let detail = format!(
                "{} is before {}, until when it must be kept",
                calendar::text(asked_ms),
                calendar::text(present_ms)
            );
            Err(Error::new(Kind::Conflict, "set retain-until", detail)
                .hint("a retain-until date only ever moves later"))
        }
        Some(present_ms) if asked_ms == present_ms => Ok(None),
        _ => Ok(Some(asked_ms)),
    }
}

/// Whether a volume's data key may be destroyed, which deletes every point under it in effect. `points`: the locks on
/// all of them, also those that were pruned, as long as their objects are locked.
///
/// # Errors
/// [`Kind::Conflict`] when one of them may not be deleted yet.
pub fn may_destroy_key(points: impl IntoIterator<Item = Locks>, now_ms: u64) -> Result<()> {
    let bars: Vec<Bar> = points.into_iter().filter_map(|locks| locks.bar(now_ms)).collect();
    let is_held = bars.contains(&Bar::Held);
    let last = bars.iter().filter_map(|bar| match bar {
        Bar::Until { until_ms, .. } => Some(*until_ms),
        Bar::Held => None,
    });
    let detail = match (is_held, last.max()) {
        (false, None) => return Ok(()),
        (true, None) => format!("{} of its points are under legal hold", bars.len()),
        (_, Some(until_ms)) => format!(
            "{} of its points may not be deleted yet, the last until {}{}",
            bars.len(),
            calendar::text(until_ms),
            if is_held { ", and there are legal holds" } else { "" }
        ),
    };
    Err(Error::new(Kind::Conflict, "destroy data key", detail).hint(
        "destroying a key deletes its points in effect: wait for their dates and release their holds first",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockMode::{Compliance, Governance};

    fn lock(mode: LockMode, until_ms: u64) -> Retention {
        Retention { mode, until_ms }
    }

    /// Invariant 1, for each pair of locks there is in a small world.
    #[test]
    fn a_lock_only_ever_gets_stronger() {
        let locks: Vec<Retention> = [Governance, Compliance]
            .into_iter()
            .flat_map(|mode| (1..5).map(move |at| lock(mode, at)))
            .collect();
        for present in &locks {
            for wanted in &locks {
                let result = raise(Some(*present), *wanted).unwrap_or(*present);
                for asked in [present, wanted] {
                    assert!(result.until_ms >= asked.until_ms, "{present:?} {wanted:?}");
                    assert!(asked.mode == Governance || result.mode == Compliance, "{present:?} {wanted:?}");
                }
                assert_eq!(raise(Some(result), *wanted), None, "asked for twice, set once");
            }
        }
        assert_eq!(raise(None, lock(Governance, 3)), Some(lock(Governance, 3)));
    }

    #[test]
    fn a_date_only_ever_moves_later() {
        assert_eq!(move_date(None, 5).unwrap(), Some(5));
        assert_eq!(move_date(Some(5), 6).unwrap(), Some(6));
        assert_eq!(move_date(Some(5), 5).unwrap(), None);
        let error = move_date(Some(86_400_000), 0).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains("1970-01-01T00:00:00Z is before 1970-01-02T00:00:00Z"), "{error}");
    }

    /// Invariant 3.
    #[test]
    fn a_hold_and_a_date_each_forbid_deletion() {
        let dated = Locks::from(lock(Compliance, 10));
        assert_eq!(dated.bar(9), Some(Bar::Until { until_ms: 10, mode: Some(Compliance) }));
        assert_eq!(dated.bar(10), None);
        assert_eq!(Locks { is_held: true, ..dated }.bar(10), Some(Bar::Held));
        assert_eq!(Locks::default().bar(0), None);
        assert_eq!(dated.bar(9).unwrap().to_string(), "locked until 1970-01-01T00:00:00Z (compliance)");
    }

    #[test]
    fn a_key_is_not_destroyed_while_one_of_its_points_must_live() {
        let free = Locks::from(lock(Compliance, 5));
        let locked = Locks { until_ms: Some(86_400_000), ..Locks::default() };
        let held = Locks { is_held: true, ..Locks::default() };
        assert!(may_destroy_key([], 0).is_ok());
        assert!(may_destroy_key([free, Locks::default()], 5).is_ok());
        for (points, detail) in [
            (
                vec![free, locked],
                "1 of its points may not be deleted yet, the last until 1970-01-02T00:00:00Z",
            ),
            (vec![held], "1 of its points are under legal hold"),
            (vec![held, locked], "the last until 1970-01-02T00:00:00Z, and there are legal holds"),
        ] {
            let error = may_destroy_key(points, 5).unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict);
            assert!(error.to_string().contains(detail), "{error}");
        }
    }

    #[test]
    fn modes_are_called_by_their_names() {
        for mode_of in [None, Some(Governance), Some(Compliance)] {
            assert_eq!(mode(mode_name(mode_of)).unwrap(), mode_of);
        }
        assert_eq!(mode("worm").unwrap_err().kind(), Kind::Invalid);
        assert!(promise(Some(Compliance)).contains("its owner included"));
    }
}
