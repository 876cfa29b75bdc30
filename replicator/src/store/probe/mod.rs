//! Trying what a store can do before a vault trusts it.
//!
//! 1. Nothing is believed that was not seen: a service that accepts a lock and then shortens it looks like one with
//!    locks until one tries.
//! 2. All objects of a probe lie under `probe/` and a random name, and are deleted at its end, after errors too. Locks
//!    are seconds long; one whose date has passed before it was tried is said to be too slow, not broken.
//! 3. A property that the store offers and breaks makes it unusable; one that it does not offer makes it plain.

mod locks;
mod report;

pub use report::{Finding, Outcome, ProbeReport, Property, StoreMode};

use std::sync::Barrier;
use std::time::Duration;

use firn_engine::sys::{Clock, SystemClock, random_bytes};

use super::waiting::wait;
use super::{Key, Put, Store, each_object};
use crate::error::{Error, Kind, Result};

const OPERATION: &str = "probe store";
/// Writers in a race for one key.
const RACERS: usize = 16;
/// Such races.
const RACES: usize = 4;
/// How far the store's clock may be from this machine's. S3 refuses requests from further away.
const SKEW_MAX_MS: u64 = 15 * 60 * 1000;
/// How long the store's clock may take to move. Services tell whole seconds.
const TICK: Duration = Duration::from_millis(2_100);

/// What a probe needs beside the store.
pub struct Surroundings<'a> {
    /// This machine's clock.
    pub clock: &'a dyn Clock,
    /// Lets time pass.
    pub wait: &'a dyn Fn(Duration),
}

/// Probes a store, for about 15 seconds when it has locks.
///
/// # Errors
/// What the store said to requests that any store must answer; [`Kind::Retry`] when it is too slow for locks of
/// seconds. What it does wrong is in the report and no error.
pub fn probe(store: &dyn Store) -> Result<ProbeReport> {
    probe_in(store, &Surroundings { clock: &SystemClock, wait: &wait })
}

/// The same with another clock.
///
/// # Errors
/// As [`probe`].
pub fn probe_in(store: &dyn Store, surroundings: &Surroundings<'_>) -> Result<ProbeReport> {
    let name = format!("probe/{:016x}", u64::from_le_bytes(random_bytes()?));
    let probe = Probe { store, surroundings, name };
    let found = probe.run();
    // The first error says more than one that follows from it.
    let removed = probe.remove();
    let report = found?;
    removed?;
    Ok(report)
}

struct Probe<'a> {
    store: &'a dyn Store,
    surroundings: &'a Surroundings<'a>,
    /// Where its objects lie.
    name: String,
}

impl Probe<'_> {
    fn run(&self) -> Result<ProbeReport> {
        let (clock, skew_ms) = self.clock()?;
        if clock.outcome == Outcome::Broken {
            // A lock of seconds would last for hours, or for ever.
            return Ok(ProbeReport::new(self.store.name(), vec![clock], skew_ms));
        }
        let mut findings = vec![clock, self.conditional_put()?, self.ranged_get()?, self.list_after_write()?];
        findings.push(self.versions()?);
        findings.extend(self.locks()?);
        findings.push(self.legal_hold()?);
        Ok(ProbeReport::new(self.store.name(), findings, skew_ms))
    }

    fn key(&self, name: &str) -> Result<Key> {
        Key::new(format!("{}/{name}", self.name))
    }

    fn wait(&self, time: Duration) {
        (self.surroundings.wait)(time);
    }

    fn conditional_put(&self) -> Result<Finding> {
        if !self.store.capabilities().conditional_put {
            return Ok(broken(Property::ConditionalPut, "the store has no conditional put"));
        }
        for race in 0..RACES {
            let key = self.key(&format!("race-{race}"))?;
            let start = Barrier::new(RACERS);
            let run = |racer: usize| {
                start.wait();
                self.store.put_if_absent(&key, format!("racer {racer}").as_bytes())
            };
            let puts: Result<Vec<Put>> = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..RACERS).map(|racer| scope.spawn(move || run(racer))).collect();
                let joined = racers.into_iter().map(|racer| racer.join());
                joined
                    .map(|put| put.map_err(|_| Error::new(Kind::Bug, OPERATION, "a racer panicked"))?)
                    .collect()
            });
            let puts = puts?;
            let winners: Vec<usize> = (0..RACERS).filter(|racer| puts[*racer] == Put::Created).collect();
            let is_kept =
                |racer: usize| Ok::<_, Error>(self.store.get(&key)? == format!("racer {racer}").as_bytes());
            let is_right = match winners.as_slice() {
                [winner] => {
                    is_kept(*winner)?
                        && self.store.put_if_absent(&key, b"late")? == Put::Exists
                        && is_kept(*winner)?
                }
                _ => false,
            };
            if !is_right {
                let detail = format!(
                    "{} of {RACERS} who created the same object were told that they did",
                    winners.len()
                );
                return Ok(broken(Property::ConditionalPut, detail));
            }
        }
        Ok(passed(Property::ConditionalPut, format!("one of {RACERS} won, {RACES} times")))
    }

    fn ranged_get(&self) -> Result<Finding> {
        let key = self.key("range")?;
        let body: Vec<u8> = (0..=255).collect();
        self.store.put(&key, &body)?;
        let is_right = self.store.get(&key)? == body
            && self.store.get_range(&key, 100, 50)? == body[100..150]
            && self.store.get_range(&key, 250, 7).is_err_and(|error| error.kind() == Kind::Damaged);
        Ok(match is_right {
            true => passed(Property::RangedGet, "parts of an object are read"),
            false => broken(Property::RangedGet, "a part of an object came back wrong"),
        })
    }

    fn list_after_write(&self) -> Result<Finding> {
        let prefix = format!("{}/list/", self.name);
        for round in 0..8 {
            let key = self.key(&format!("list/{round}"))?;
            for is_there in [true, false] {
                match is_there {
                    true => self.store.put(&key, b"listed")?,
                    false => self.store.delete(&key)?,
                }
                let listed = self.store.list(&prefix, None)?;
                if listed.iter().any(|object| object.key == key) != is_there {
                    return Ok(broken(Property::ListAfterWrite, "a list is behind what was written"));
                }
            }
        }
        Ok(passed(Property::ListAfterWrite, "lists show what was written and deleted"))
    }

    /// The finding, and how far the store's clock is before this machine's.
    fn clock(&self) -> Result<(Finding, i64)> {
        let host_ms = || i64::try_from(self.surroundings.clock.now_ms()).unwrap_or(i64::MAX);
        let (before_ms, first_ms, after_ms) = (host_ms(), self.store.clock_ms()?, host_ms());
        let host_ms = before_ms.midpoint(after_ms);
        let skew_ms = i64::try_from(first_ms).unwrap_or(i64::MAX).saturating_sub(host_ms);
        self.wait(TICK);
        let finding = if self.store.clock_ms()? <= first_ms {
            broken(Property::Clock, "the store's clock stands still")
        } else if skew_ms.unsigned_abs() > SKEW_MAX_MS {
            let detail =
                format!("the store's clock and this machine's are {} s apart", skew_ms.unsigned_abs() / 1000);
            broken(Property::Clock, detail)
        } else {
            passed(Property::Clock, format!("the store's clock is {skew_ms} ms before this machine's"))
        };
        Ok((finding, skew_ms))
    }

    fn versions(&self) -> Result<Finding> {
        if !self.store.capabilities().versions {
            return Ok(lacking(Property::Versions, "no versions: what is overwritten or deleted is gone"));
        }
        let key = self.key("version")?;
        self.store.put(&key, b"version")?;
        let versions = self.store.versions(&key)?;
        let read = versions.first().map(|version| self.store.get_version(&key, &version.id)).transpose()?;
        Ok(match versions.len() == 1 && read.as_deref() == Some(b"version") {
            true => passed(Property::Versions, "versions are kept"),
            false => broken(Property::Versions, "the version of an object came back wrong"),
        })
    }

    /// Deletes whatever the probe has put, and waits for the last lock if it must.
    fn remove(&self) -> Result<()> {
        let mut keys = Vec::new();
        each_object(self.store, &format!("{}/", self.name), |object| {
            keys.push(object.key);
            Ok(())
        })?;
        for key in keys {
            self.remove_object(&key)?;
        }
        Ok(())
    }
}

fn passed(property: Property, detail: impl Into<String>) -> Finding {
    Finding { property, outcome: Outcome::Passed, detail: detail.into() }
}

fn lacking(property: Property, detail: impl Into<String>) -> Finding {
    Finding { property, outcome: Outcome::Lacking, detail: detail.into() }
}

fn broken(property: Property, detail: impl Into<String>) -> Finding {
    Finding { property, outcome: Outcome::Broken, detail: detail.into() }
}
