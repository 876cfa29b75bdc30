//! Probing stores that are at hand, and one that lies in each way.

use std::time::Duration;

use firn_engine::sys::Clock;
use firn_replicator::error::Result;
use firn_replicator::store::probe::{
    Outcome, ProbeReport, Property, StoreMode, Surroundings, probe, probe_in,
};
use firn_replicator::store::{
    Capabilities, DirectoryStore, Key, MemoryStore, ObjectInfo, ObjectVersion, Put, Retention, Stage, Store,
};

const NOW_MS: u64 = 1_700_000_000_000;

/// What the store in front of the one in memory gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    Nothing,
    EveryPutCreates,
    RangesFromTheStart,
    ListsLag,
    ClockIsFarOff,
    LockedDeletes,
    LocksStay,
    LocksMoveBack,
    LocksWeaken,
    HoldsDoNothing,
}

/// The store in memory, a clock that waits move, and a lie.
struct Liar {
    memory: MemoryStore,
    lie: Lie,
}

impl Clock for Liar {
    fn now_ms(&self) -> u64 {
        self.memory.clock_ms().expect("a clock") - if self.lie == Lie::ClockIsFarOff { 3_600_000 } else { 0 }
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now_ms())
    }
}

impl Liar {
    /// Makes the store anew with the lock that the lie leaves: memory itself is strict.
    fn force_retention(&self, key: &Key, retention: Option<Retention>) -> Result<()> {
        let body = self.memory.get(key)?;
        self.memory.tamper(key, None);
        match retention {
            Some(retention) => self.memory.put_if_absent_locked(key, &body, retention).map(|_| ()),
            None => self.memory.put(key, &body),
        }
    }
}

impl Store for Liar {
    fn name(&self) -> String {
        format!("{:?}", self.lie)
    }

    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    fn clock_ms(&self) -> Result<u64> {
        self.memory.clock_ms()
    }

    fn stage(&self) -> Result<Box<dyn Stage + '_>> {
        self.memory.stage()
    }

    fn put_if_absent(&self, key: &Key, body: &[u8]) -> Result<Put> {
        let put = self.memory.put_if_absent(key, body)?;
        Ok(if self.lie == Lie::EveryPutCreates { Put::Created } else { put })
    }

    fn put(&self, key: &Key, body: &[u8]) -> Result<()> {
        self.memory.put(key, body)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        self.memory.get(key)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.memory.get_range(key, if self.lie == Lie::RangesFromTheStart { 0 } else { offset }, length)
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.memory.head(key)
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        let mut listed = self.memory.list(prefix, after)?;
        if self.lie == Lie::ListsLag && prefix.ends_with("list/") {
            listed.pop();
        }
        Ok(listed)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        match self.lie {
            Lie::LockedDeletes
                if self.memory.head(key)?.is_some() && self.memory.retention(key)?.is_some() =>
            {
                self.memory.tamper(key, None);
            }
            Lie::HoldsDoNothing if self.memory.head(key)?.is_some() && self.memory.legal_hold(key)? => {
                self.memory.tamper(key, None);
            }
            _ => return self.memory.delete(key),
        }
        Ok(())
    }

    fn delete_governed(&self, key: &Key) -> Result<()> {
        self.memory.delete_governed(key)
    }

    fn versions(&self, key: &Key) -> Result<Vec<ObjectVersion>> {
        self.memory.versions(key)
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        self.memory.retention(key)
    }

    fn set_retention(&self, key: &Key, retention: Retention) -> Result<()> {
        let Some(present) = self.memory.retention(key)? else {
            return self.memory.set_retention(key, retention);
        };
        match self.lie {
            Lie::LocksStay => Ok(()),
            Lie::LocksMoveBack if retention.until_ms < present.until_ms => {
                self.force_retention(key, Some(retention))
            }
            Lie::LocksWeaken if retention.mode != present.mode => self.force_retention(key, Some(retention)),
            _ => self.memory.set_retention(key, retention),
        }
    }

    fn legal_hold(&self, key: &Key) -> Result<bool> {
        self.memory.legal_hold(key)
    }

    fn set_legal_hold(&self, key: &Key, held: bool) -> Result<()> {
        self.memory.set_legal_hold(key, held)
    }
}

/// Probes a store that tells this lie.
fn probed(lie: Lie) -> (ProbeReport, Liar) {
    let liar = Liar { memory: MemoryStore::new(NOW_MS), lie };
    let wait = |time: Duration| {
        let passed_ms = u64::try_from(time.as_millis()).expect("a short wait");
        liar.memory.set_clock_ms(liar.memory.clock_ms().expect("a clock") + passed_ms);
    };
    let report = probe_in(&liar, &Surroundings { clock: &liar, wait: &wait });
    (report.unwrap_or_else(|error| panic!("{lie:?}: {error}")), liar)
}

/// Every lie is found as what it is, makes the store unusable, and nothing of the probe stays.
#[test]
fn a_store_that_lies_is_refused() {
    for (lie, property) in [
        (Lie::EveryPutCreates, Property::ConditionalPut),
        (Lie::RangesFromTheStart, Property::RangedGet),
        (Lie::ListsLag, Property::ListAfterWrite),
        (Lie::ClockIsFarOff, Property::Clock),
        (Lie::LockedDeletes, Property::LockedDelete),
        (Lie::LocksStay, Property::LockExtended),
        (Lie::LocksMoveBack, Property::LockNotShortened),
        (Lie::LocksWeaken, Property::LockNotWeakened),
        (Lie::HoldsDoNothing, Property::LegalHold),
    ] {
        let (report, liar) = probed(lie);
        let broken: Vec<Property> = report
            .findings
            .iter()
            .filter(|finding| finding.outcome == Outcome::Broken)
            .map(|finding| finding.property)
            .collect();
        assert_eq!(broken, [property], "{lie:?}: {report:?}");
        assert_eq!(report.mode, None, "{lie:?}");
        assert!(liar.memory.list("", None).unwrap().is_empty(), "{lie:?}: something stayed");
    }
}

#[test]
fn a_store_in_memory_lacks_versions_and_nothing_else() {
    let (report, liar) = probed(Lie::Nothing);
    let lacking: Vec<Property> = report
        .findings
        .iter()
        .filter(|finding| finding.outcome != Outcome::Passed)
        .map(|finding| finding.property)
        .collect();
    assert_eq!(lacking, [Property::Versions], "{report:?}");
    assert_eq!(report.mode, Some(StoreMode::Plain));
    assert_eq!(report.skew_ms, 0);
    assert!(liar.memory.list("", None).unwrap().is_empty());
}

#[test]
fn under_a_clock_that_stands_nothing_is_locked() {
    let liar = Liar { memory: MemoryStore::new(NOW_MS), lie: Lie::Nothing };
    let report = probe_in(&liar, &Surroundings { clock: &liar, wait: &|_| {} }).unwrap();
    assert_eq!(report.mode, None);
    assert_eq!(report.lacks().collect::<Vec<_>>(), ["the store's clock stands still"]);
    assert!(liar.memory.list("", None).unwrap().is_empty());
}

#[test]
fn a_directory_is_plain() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(directory.path()).unwrap();
    let report = probe(&store).unwrap();
    assert_eq!(report.mode, Some(StoreMode::Plain), "{report:?}");
    assert!(report.lacks().any(|lack| lack.contains("no object lock")), "{report:?}");
    assert!(store.list("", None).unwrap().is_empty());
}
