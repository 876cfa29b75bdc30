//! Verifying: proving that what points need, live ones and former ones that stand, is there and is what was written.
//!
//! 1. Without keys everything is held against the hashes of what is stored; with keys each frame is opened too.
//! 2. Damage is named with the points that it affects, and does not end the work.

mod content;
mod reach;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};

use self::reach::{Object, Reach, wrong};
use super::Vault;
use super::damage::{Damage, Judge, Notes};
use super::foundation::NeededLock;
use super::hidden::{self, uncovering};
use super::progress::Progress;
use crate::error::{Error, Kind, Result};
use crate::store::Key;

/// Objects that are looked at at once.
const THREADS: usize = 4;

/// How much is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Each live point's object is what the log says.
    Catalog,
    /// And every run is, and every pack is there, with its length; they, the points, settings, keys and the log are locked
    /// as long as the log says of the points, former ones that stand included.
    Objects,
    /// And every byte of them is what was written.
    Content,
}

/// What was proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct VerifyReport {
    /// How deep it went.
    pub depth: Depth,
    /// Live points that were looked at.
    pub points: u64,
    /// Points whose runs can't be opened for want of a key: which packs they need is not known. Their runs, and by depth
    /// `content` all packs that are there, were held against their hashes.
    pub locked_points: u64,
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read of them at depth `content`.
    pub bytes: u64,
    /// What is missing, too short, locked too short, or not what was written.
    pub damaged: Vec<Damage>,
}

impl Vault {
    /// Verifies what all live points need, and what former points need that stand.
    ///
    /// # Errors
    /// What the store said. Damage is in the report.
    pub fn verify(&self, depth: Depth, progress: &dyn Progress) -> Result<VerifyReport> {
        self.refresh()?;
        let notes = Notes::default();
        let reach = Reach::of(self, depth, &notes)?;
        let objects: Vec<Object> = reach.objects.into_values().collect();
        progress
            .expect(objects.iter().map(|object| object.shape.map_or(0, |shape| shape.stored_bytes)).sum());
        let bytes = AtomicU64::new(0);
        let mut unlocked = Vec::new();
        if depth > Depth::Catalog {
            unlocked = self.lock_faults(&self.catalog())?;
            let next = AtomicUsize::new(0);
            let worker = || {
                while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verify = || self.verify_object(object, depth, Judge::Note(&notes), progress);
                    match uncovering(self.store().as_ref(), &object.key, verify) {
                        Ok(read) => _ = bytes.fetch_add(read, Ordering::Relaxed),
                        Err(error) => Judge::Note(&notes).pass(&object.key, error)?,
                    }
                }
                Ok(())
            };
            let ended = || Error::new(Kind::Bug, "verify vault", "a thread ended before its work");
            thread::scope(|scope| {
                let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
                let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(ended())));
                joined.collect::<Result<Vec<()>>>()
            })?;
        }
        for key in self.store().hidden() {
            Judge::Note(&notes).pass(&key, wrong(&key, hidden::DETAIL))?;
        }
        let mut damaged = self.affected(notes.objects());
        damaged.extend(unlocked.into_iter().map(|(object, fault, point)| {
            let detail = wrong(&object, &fault).to_string();
            Damage { object, detail, points: vec![point] }
        }));
        Ok(VerifyReport {
            depth,
            points: reach.points,
            locked_points: reach.locked_points,
            objects: reach.points + reach.former + objects.len() as u64,
            bytes: bytes.into_inner(),
            damaged,
        })
    }

    /// Verifies one run or pack, and says how many bytes of it were read.
    fn verify_object(
        &self,
        object: &Object,
        depth: Depth,
        judge: Judge<'_>,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let store = self.store().as_ref();
        let key = &object.key;
        let Some(info) = store.head(key)? else { return Err(wrong(key, "it is missing")) };
        if let Some(shape) = object.shape
            && shape.stored_bytes != info.bytes
        {
            let detail = format!("it has {} bytes instead of {}", info.bytes, shape.stored_bytes);
            return Err(wrong(key, &detail));
        }
        if let Some(needed) = object.lock
            && let Some(fault) = self.lock_fault(key, needed)?
        {
            judge.pass(key, wrong(key, &fault))?;
        }
        match depth {
            Depth::Content => content::verify(store, object, info.bytes, progress),
            _ => Ok(0),
        }
    }

    /// What is wrong with the lock of a run or pack.
    fn lock_fault(&self, key: &Key, needed: NeededLock) -> Result<Option<String>> {
        let (store, catalog) = (self.store().as_ref(), self.catalog());
        let mut fault = needed.fault(&catalog, store.retention(key)?);
        if fault.is_some() && store.uncover(key)? {
            fault = needed.fault(&catalog, store.retention(key)?);
        }
        Ok(fault)
    }
}
