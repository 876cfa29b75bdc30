//! Retention classes: how long packs are locked, so that one date serves many points.
//!
//! A pack belongs to a class and to the period of 28 days that it was written in, and is locked until one date: the
//! class's length after the period's end. A point of a class is wanted for at most that length after its commit, so
//! every pack that its period wrote or extended for the class is locked long enough for it. Locks are moved once a
//! period, not once a point.
//!
//! 1. An object is locked at least as long as each point that reaches it ([`too_short`]).
//! 2. A class's length is in whole days, so an object stays locked at most 29 days longer than a point asks for. In a
//!    store that nobody can unlock, each day too many is paid for, and may be against the law.
//! 3. A date more than 100 years ahead is refused: in a store that nobody can unlock a slip of the pen would last.

use super::calendar::DAY_MS;
use crate::error::{Error, Kind, Result};
use crate::format::name::Class;
use crate::store::{Key, LockMode, Retention};

/// Milliseconds of a period.
pub const PERIOD_MS: u64 = 28 * DAY_MS;
/// Days that a class may have.
pub const DAYS_MAX: u64 = 36_525;
/// Live blocks in a hundred from which on a pack is worth a longer lock.
const WORTH_PERCENT: u64 = 70;

/// The class of packs that are not locked.
const NONE: &str = "none";

/// The period that a time lies in, counted from 1970 on.
pub fn period(time_ms: u64) -> u32 {
    u32::try_from(time_ms / PERIOD_MS).unwrap_or(u32::MAX)
}

/// The class whose packs are not locked.
pub fn unlocked() -> Class {
    class(NONE.to_owned())
}

/// The class for points that are wanted from now on until a date, or not locked at all.
///
/// # Errors
/// [`Kind::Invalid`] for a date more than [`DAYS_MAX`] days ahead.
pub fn for_date(now_ms: u64, until_ms: Option<u64>) -> Result<Class> {
    let days = until_ms.map_or(0, |until_ms| until_ms.saturating_sub(now_ms)).div_ceil(DAY_MS);
    match days {
        0 => Ok(unlocked()),
        1..=DAYS_MAX => Ok(class(format!("d{days}"))),
        _ => Err(Error::new(Kind::Invalid, "choose retention class", format!("{days} days are too long"))
            .hint(format!("choose a date at most {DAYS_MAX} days ahead"))),
    }
}

/// The length of a class in days; nothing when its packs are not locked.
///
/// # Errors
/// [`Kind::Invalid`] when it is no class of this version's.
pub fn days(class: &Class) -> Result<Option<u64>> {
    if class.as_str() == NONE {
        return Ok(None);
    }
    let days = class.as_str().strip_prefix('d').and_then(|digits| digits.parse().ok());
    // Written again, so that d07 and d7 are not two names of one class.
    let known = days.filter(|days| (1..=DAYS_MAX).contains(days) && class.as_str() == format!("d{days}"));
    match known {
        Some(days) => Ok(Some(days)),
        None => {
            Err(Error::new(Kind::Invalid, "read retention class", format!("{class} is no class of ours"))
                .hint("a newer version of firn may know it"))
        }
    }
}

/// Until when objects of a class are locked that are written, or extended, in a period; nothing when they are not.
///
/// # Errors
/// As [`days`].
pub fn lock_until_ms(class: &Class, period: u32) -> Result<Option<u64>> {
    let end_ms = (u64::from(period) + 1) * PERIOD_MS;
    Ok(days(class)?.map(|days| end_ms + days * DAY_MS))
}

/// What a pack that is locked too short needs for a point that is wanted longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// Nothing: it is locked long enough.
    Enough,
    /// Its lock is moved to the class's date.
    Extend,
    /// What lives of it is copied into packs of the class. A longer lock would keep its dead blocks as well.
    CopyForward,
}

/// What a pack of `blocks`, of which the points in question reach `live_blocks`, needs to be locked until a date.
pub fn promotion(blocks: u32, live_blocks: u32, locked_until_ms: Option<u64>, until_ms: u64) -> Promotion {
    match locked_until_ms {
        Some(locked_ms) if locked_ms >= until_ms => Promotion::Enough,
        _ if is_worth_keeping(blocks, live_blocks) => Promotion::Extend,
        _ => Promotion::CopyForward,
    }
}

/// Whether enough of a pack lives for it to be kept as it is.
pub fn is_worth_keeping(blocks: u32, live_blocks: u32) -> bool {
    u64::from(live_blocks) * 100 >= u64::from(blocks) * WORTH_PERCENT
}

/// Of the objects that a point reaches, those that are not locked as long as it is wanted, or less strongly. A commit
/// with one of them must not be made.
pub fn too_short<'a>(
    wanted: Retention,
    reached: impl IntoIterator<Item = (&'a Key, Option<Retention>)>,
) -> Vec<&'a Key> {
    let lasts = |lock: Retention| lock.until_ms >= wanted.until_ms && is_as_strong(lock.mode, wanted.mode);
    let short = reached.into_iter().filter(|(_, lock)| !lock.is_some_and(lasts));
    short.map(|(key, _)| key).collect()
}

/// Whether one mode binds at least as much as another.
pub(super) fn is_as_strong(mode: LockMode, as_mode: LockMode) -> bool {
    mode == LockMode::Compliance || as_mode == LockMode::Governance
}

fn class(name: String) -> Class {
    Class::new(name).expect("a letter and at most five digits can be a class")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_its_days_and_nothing_else() {
        let now_ms = 1_795_500_000_000;
        for (wait_ms, name) in [(0, "none"), (1, "d1"), (DAY_MS, "d1"), (DAY_MS + 1, "d2")] {
            assert_eq!(for_date(now_ms, Some(now_ms + wait_ms)).unwrap().as_str(), name);
        }
        assert_eq!(for_date(now_ms, None).unwrap(), unlocked());
        assert_eq!(for_date(now_ms, Some(now_ms - 1)).unwrap(), unlocked(), "a date that has passed");
        let last_ms = now_ms + DAYS_MAX * DAY_MS;
        assert_eq!(days(&for_date(now_ms, Some(last_ms)).unwrap()).unwrap(), Some(DAYS_MAX));
        assert_eq!(for_date(now_ms, Some(last_ms + 1)).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(for_date(now_ms, Some(u64::MAX)).unwrap_err().kind(), Kind::Invalid);
        for name in ["d", "d0", "d07", "d36526", "d99999999999999", "y7", "daily"] {
            assert_eq!(days(&Class::new(name).unwrap()).unwrap_err().kind(), Kind::Invalid, "{name}");
        }
    }

    /// Invariants 1 and 2, at each hour of a period and for lengths around days and periods.
    #[test]
    fn a_period_s_date_is_late_enough_for_each_of_its_points_and_little_later() {
        let start_ms = 742 * PERIOD_MS;
        let lengths = [1, DAY_MS - 1, DAY_MS, DAY_MS + 1, PERIOD_MS, 365 * DAY_MS, DAYS_MAX * DAY_MS];
        for at_ms in (start_ms..start_ms + PERIOD_MS).step_by(3_600_000).chain([start_ms + PERIOD_MS - 1]) {
            assert_eq!(period(at_ms), 742);
            for until_ms in lengths.map(|length_ms| at_ms + length_ms) {
                let class = for_date(at_ms, Some(until_ms)).unwrap();
                let locked_ms = lock_until_ms(&class, period(at_ms)).unwrap().unwrap();
                assert!(locked_ms >= until_ms, "{class} at {at_ms}");
                assert!(locked_ms - until_ms < 29 * DAY_MS, "{class} at {at_ms}");
            }
        }
        assert_eq!(lock_until_ms(&unlocked(), 742).unwrap(), None);
        assert!(lock_until_ms(&for_date(0, Some(1)).unwrap(), u32::MAX).unwrap().is_some(), "no overflow");
        assert_eq!(period(u64::MAX), u32::MAX);
    }

    #[test]
    fn a_pack_is_extended_from_seven_tenths_on_and_copied_below() {
        assert_eq!(promotion(100, 0, Some(20), 20), Promotion::Enough);
        assert_eq!(promotion(100, 70, Some(19), 20), Promotion::Extend);
        assert_eq!(promotion(100, 69, Some(19), 20), Promotion::CopyForward);
        assert_eq!(promotion(u32::MAX, u32::MAX, None, 20), Promotion::Extend);
    }

    /// Invariant 1.
    #[test]
    fn what_is_locked_too_short_or_too_weakly_is_named() {
        let keys =
            ["packs/a", "packs/b", "packs/c", "packs/d", "packs/e"].map(|name| Key::new(name).unwrap());
        let lock = |mode, until_ms| Some(Retention { mode, until_ms });
        let locks = [
            lock(LockMode::Compliance, 20),
            lock(LockMode::Compliance, 19),
            lock(LockMode::Governance, 21),
            lock(LockMode::Compliance, 21),
            None,
        ];
        let named = |mode| too_short(Retention { mode, until_ms: 20 }, keys.iter().zip(locks));
        assert_eq!(named(LockMode::Compliance), [&keys[1], &keys[2], &keys[4]]);
        assert_eq!(named(LockMode::Governance), [&keys[1], &keys[4]]);
    }
}
