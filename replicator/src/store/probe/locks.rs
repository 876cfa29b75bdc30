//! Locks: what is refused while one holds.

use std::time::Duration;

use super::{Finding, OPERATION, Probe, Property, broken, lacking, passed};
use crate::error::{Error, Kind, Result};
use crate::store::{Key, LockMode, Put, Retention};

/// How long the object is locked at first.
const LOCK_MS: u64 = 10_000;
/// How much longer afterwards.
const EXTENSION_MS: u64 = 3_000;
/// The longest that is waited for a lock to end: both, and a second for rounding.
const LOCK_WAITS_MAX: usize = 16;

impl Probe<'_> {
    /// Locks an object for seconds and tries what must be refused.
    pub(super) fn locks(&self) -> Result<Vec<Finding>> {
        if !self.store.capabilities().retention {
            let lack = |property, detail| lacking(property, detail);
            return Ok(vec![
                lack(Property::LockedDelete, "no object lock: who has the credentials may delete everything"),
                lack(Property::LockExtended, "no object lock that could be extended"),
                lack(Property::LockNotShortened, "no object lock that could keep its date"),
                lack(Property::LockNotWeakened, "no object lock that could keep its mode"),
            ]);
        }
        let key = self.key("locked")?;
        let until_ms = (self.store.clock_ms()? / 1000) * 1000 + LOCK_MS;
        let first = Retention { mode: LockMode::Compliance, until_ms };
        let later = Retention { until_ms: until_ms + EXTENSION_MS, ..first };
        let is_put = self.store.put_if_absent_locked(&key, b"locked", first)? == Put::Created;
        if !is_put || self.store.retention(&key)? != Some(first) {
            return Ok(vec![broken(
                Property::LockedDelete,
                "a lock that was put with an object is not there",
            )]);
        }
        let deleted = self.locked_delete(&key, first)?;
        if self.store.head(&key)?.is_none() {
            return Ok(vec![deleted]);
        }
        let extended = match self.store.set_retention(&key, later).and_then(|()| self.store.retention(&key)) {
            Ok(found) if found == Some(later) => passed(Property::LockExtended, "a lock is extended"),
            Err(error) if error.kind() == Kind::Retry => return Err(error),
            _ => return Ok(vec![deleted, broken(Property::LockExtended, "a lock can't be extended")]),
        };
        let shorten = |present: Retention| Retention { until_ms: present.until_ms - EXTENSION_MS, ..present };
        let weaken = |present: Retention| Retention { mode: LockMode::Governance, ..present };
        let shortened = self.kept(&key, shorten, Property::LockNotShortened)?;
        let weakened = self.kept(&key, weaken, Property::LockNotWeakened)?;
        Ok(vec![deleted, extended, shortened, weakened])
    }

    fn locked_delete(&self, key: &Key, lock: Retention) -> Result<Finding> {
        for delete in [self.store.delete(key), self.store.delete_governed(key)] {
            match delete {
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.check_in_time(lock)?;
                    return Ok(broken(Property::LockedDelete, "a locked object was deleted"));
                }
            }
        }
        Ok(passed(Property::LockedDelete, "a locked object can't be deleted"))
    }

    /// Tries to put something less in the place of a lock, which must stay.
    fn kept(
        &self,
        key: &Key,
        lessen: impl Fn(Retention) -> Retention,
        property: Property,
    ) -> Result<Finding> {
        let Some(lock) = self.store.retention(key)? else {
            return Ok(broken(property, "a lock is gone"));
        };
        match self.store.set_retention(key, lessen(lock)) {
            Err(error) if matches!(error.kind(), Kind::Retry | Kind::NotFound) => return Err(error),
            _ => {}
        }
        let found = self.store.retention(key)?;
        if found != Some(lock) {
            self.check_in_time(lock)?;
        }
        Ok(match (found == Some(lock), property) {
            (true, Property::LockNotWeakened) => passed(property, "a lock keeps its mode"),
            (true, _) => passed(property, "a lock keeps its date"),
            (false, Property::LockNotWeakened) => broken(property, "a compliance lock was weakened"),
            (false, _) => broken(property, "a lock was shortened"),
        })
    }

    /// What happened to the object counts only while its lock held.
    fn check_in_time(&self, lock: Retention) -> Result<()> {
        if self.store.clock_ms()? < lock.until_ms {
            return Ok(());
        }
        let detail =
            format!("{}: a lock of {} s ended before it was tried", self.store.name(), LOCK_MS / 1000);
        Err(Error::new(Kind::Retry, OPERATION, detail).hint("try again when the store answers faster"))
    }

    pub(super) fn legal_hold(&self) -> Result<Finding> {
        if !self.store.capabilities().legal_hold {
            return Ok(lacking(Property::LegalHold, "no legal hold"));
        }
        let key = self.key("held")?;
        self.store.put(&key, b"held")?;
        self.store.set_legal_hold(&key, true)?;
        let is_held = self.store.legal_hold(&key)?;
        let deleted = self.store.delete(&key);
        if self.store.head(&key)?.is_none() {
            return Ok(broken(Property::LegalHold, "an object under legal hold was deleted"));
        }
        self.store.set_legal_hold(&key, false)?;
        self.store.delete(&key)?;
        Ok(match is_held && deleted.is_err_and(|error| error.kind() == Kind::Conflict) {
            true => passed(Property::LegalHold, "an object under legal hold can't be deleted"),
            false => broken(Property::LegalHold, "a legal hold is not kept"),
        })
    }

    /// Deletes an object of the probe; a lock that is on it is waited for.
    pub(super) fn remove_object(&self, key: &Key) -> Result<()> {
        let capabilities = self.store.capabilities();
        if capabilities.legal_hold && self.store.legal_hold(key)? {
            self.store.set_legal_hold(key, false)?;
        }
        for _ in 0..LOCK_WAITS_MAX {
            match self.store.delete(key) {
                Err(error) if error.kind() == Kind::Conflict => self.wait(Duration::from_secs(1)),
                deleted => return deleted,
            }
        }
        self.store.delete(key)
    }
}
