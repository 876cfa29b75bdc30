//! What every point stands on: settings, key slots and the log. Without it nobody can prove a point, and an encrypted
//! one can't be read, so in a vault that locks all of it is locked as long as the point that must be kept longest.
//!
//! 1. After an entry, settings, all slots and every entry up to it are locked at least until the latest date that a
//!    point had by then. An entry is put with its lock; what lies below is locked before an entry that needs it longer.
//! 2. Dates are rounded up to the end of a period of 28 days. So what lies below is locked anew once a period at most,
//!    and not for each point; it stays locked at most 28 days longer than a point asks for.
//! 3. The latest date only ever moves later, also when its point is gone: points leave after their date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::catalog::Catalog;
use super::lock::lock_objects;
use super::{Vault, workers};
use crate::error::{Kind, Result};
use crate::format::digest::{Digest, KeyId};
use crate::format::entry::{Action, Committed, Entry};
use crate::format::name;
use crate::policy::calendar::{self, DAY_MS};
use crate::policy::class::{DAYS_MAX, PERIOD_MS};
use crate::policy::lock;
use crate::store::{Key, Retention};

/// The end of the period in which a date lies.
fn period_end_ms(until_ms: u64) -> u64 {
    until_ms.div_ceil(PERIOD_MS).saturating_mul(PERIOD_MS)
}

/// The latest date that an entry gives to points; nothing when it gives none. No later than a date can be that firn
/// gives: else one entry with an impossible one would be the last that a store takes.
pub(super) fn date_given(action: &Action, time_ms: u64) -> Option<u64> {
    let dates = |point: &Committed| point.retain_until_ms.max(point.locked.map(|lock| lock.until_ms));
    let latest = match action {
        Action::Commit { points, .. } => points.iter().filter_map(dates).max(),
        Action::Forward { points } => points.iter().filter_map(|forwarded| dates(&forwarded.to)).max(),
        Action::Retain { until_ms, .. } => Some(*until_ms),
        _ => None,
    };
    latest.map(|until_ms| until_ms.min(time_ms.saturating_add(DAYS_MAX * DAY_MS + PERIOD_MS)))
}

/// How much of the log was locked, and until when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reached {
    number: u64,
    until_ms: u64,
}

impl Vault {
    /// Locks what `entry` needs before it is put, and says how it is to be locked itself. `reached` is what was locked
    /// for the same entry when it lost its place to another.
    ///
    /// # Errors
    /// As [`lock_objects`].
    pub(super) fn lock_below(
        &self,
        catalog: &Catalog,
        entry: &Entry,
        clock_ms: u64,
        reached: &mut Reached,
    ) -> Result<Option<Retention>> {
        let Some(mode) = self.settings.lock else { return Ok(None) };
        let given_ms = date_given(&entry.action, entry.time_ms);
        let before_ms = catalog.kept_until_ms.map_or(0, period_end_ms);
        let until_ms = given_ms.map_or(0, period_end_ms).max(before_ms);
        if until_ms <= clock_ms {
            return Ok(None);
        }
        let wanted = Retention { mode, until_ms };
        let mut objects = BTreeSet::new();
        if let Action::AddSlot { id, .. } = &entry.action {
            objects.insert(name::slot(*id));
        }
        if until_ms > before_ms {
            let first = if reached.until_ms >= until_ms { reached.number + 1 } else { 1 };
            objects.append(&mut foundation(catalog, first));
        }
        lock_objects(self.store.as_ref(), &objects, wanted)?;
        if until_ms > before_ms {
            *reached = Reached { number: catalog.head().number, until_ms };
        }
        Ok(Some(wanted))
    }

    /// Points themselves, and what they stand on, that are not locked as long as the log says, in a store with locks.
    /// Former points that stand are locked as they were when they left.
    ///
    /// # Errors
    /// What the store said.
    pub(super) fn lock_faults(&self, catalog: &Catalog) -> Result<Vec<Fault>> {
        let store = self.store.as_ref();
        if !store.capabilities().retention {
            return Ok(Vec::new());
        }
        let needed: Vec<_> = needed_locks(catalog, store.clock_ms()?).into_iter().collect();
        let faults = Mutex::new(Vec::new());
        workers::each(&needed, |(key, needed)| {
            let look = || match store.retention(key) {
                Ok(present) => Ok(needed.fault(catalog, present)),
                // A point that is missing is found by whoever reads it, or was given back.
                Err(error) if error.kind() == Kind::NotFound && key.as_str().starts_with(name::POINTS) => {
                    Ok(None)
                }
                Err(error) if error.kind() == Kind::NotFound => Ok(Some("it is missing".to_owned())),
                Err(error) => Err(error),
            };
            let mut fault = look()?;
            if fault.is_some() && store.uncover(key)? {
                fault = look()?;
            }
            if let Some(fault) = fault {
                let fault = (key.clone(), fault, needed.point);
                faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
            }
            Ok(())
        })?;
        Ok(faults.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks everything that points stand on, as it must be already.
    ///
    /// # Errors
    /// As [`lock_objects`].
    pub(super) fn lock_foundation(&self, catalog: &Catalog) -> Result<()> {
        let until_ms = catalog.kept_until_ms.map_or(0, period_end_ms);
        match self.settings.lock {
            Some(mode) if until_ms > self.store.clock_ms()? => {
                lock_objects(self.store.as_ref(), &foundation(catalog, 1), Retention { mode, until_ms })
            }
            _ => Ok(()),
        }
    }
}

/// An object, what is wrong with its lock, and a point that needs it.
pub(super) type Fault = (Key, String, Digest);

/// Settings, slots, and the entries from `first` on.
fn foundation(catalog: &Catalog, first: u64) -> BTreeSet<Key> {
    let entries = (first..=catalog.head().number).map(name::entry);
    let slots = catalog.slots().keys().map(|slot| name::slot(*slot));
    entries.chain(slots).chain([name::settings()]).collect()
}

/// How an object must be locked.
#[derive(Clone, Copy, Debug)]
pub(super) struct NeededLock {
    lock: Retention,
    /// The point that needs it so.
    point: Digest,
}

impl NeededLock {
    /// What a point needs that the log has locked so, at `now_ms`. A lock that has ended binds nobody.
    pub(super) fn of(point: Digest, locked: Option<Retention>, now_ms: u64) -> Option<Self> {
        let lock = locked.filter(|locked| locked.until_ms > now_ms)?;
        Some(Self { lock, point })
    }

    pub(super) fn until_ms(&self) -> u64 {
        self.lock.until_ms
    }

    /// The one of the two that ends later; the first when neither does.
    pub(super) fn longer(self, other: Self) -> Self {
        if other.until_ms() > self.until_ms() { other } else { self }
    }

    /// What is wrong with the lock `present` of the object; nothing when it is locked as it must be.
    pub(super) fn fault(&self, catalog: &Catalog, present: Option<Retention>) -> Option<String> {
        lock::raise(present, self.lock)?;
        let shown = |lock: Retention| {
            format!("{} ({})", calendar::text(lock.until_ms), lock::mode_name(Some(lock.mode)))
        };
        let found = present.map_or_else(|| "not at all".to_owned(), |lock| format!("until {}", shown(lock)));
        let short = self.point.short();
        let (who, remedy) = match catalog.points().contains_key(&self.point) {
            true => (
                "a point".to_owned(),
                "`firn vault retain` with the date that the point has locks it again".to_owned(),
            ),
            false => (
                format!("former point {short}"),
                format!(
                    "lock it with the store's own tools, or restore former/{short} and send that: firn locks nothing anew \
                     for a point that left"
                ),
            ),
        };
        Some(format!("{who} needs it locked until {}, and it is locked {found}; {remedy}", shown(self.lock)))
    }
}

/// How points, settings, keys and the log must be locked at `now_ms`.
fn needed_locks(catalog: &Catalog, now_ms: u64) -> BTreeMap<Key, NeededLock> {
    let mut locks = BTreeMap::<Key, NeededLock>::new();
    let mut need = |key: Key, needed: NeededLock| {
        locks.entry(key).and_modify(|there| *there = there.longer(needed)).or_insert(needed);
    };
    let mut longest = None::<NeededLock>;
    let live = catalog.points().values().map(|live| (live.committed.id, live.committed.key, live.locked));
    let former = catalog.standing_former(now_ms).map(|former| (former.id, former.key, former.locked));
    for (id, key, locked) in live.chain(former) {
        let Some(needed) = NeededLock::of(id, locked, now_ms) else { continue };
        longest = Some(longest.map_or(needed, |longest| longest.longer(needed)));
        need(name::point(id), needed);
        if key != KeyId::default() {
            need(name::slot(key), needed);
        }
    }
    if let Some(longest) = longest {
        locks.extend(foundation(catalog, 1).into_iter().map(|key| (key, longest)));
    }
    locks
}
