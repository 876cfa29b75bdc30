//! Reclaim: objects that nothing reaches are condemned, and deleted a period later.
//!
//! 1. Every entry is decided by what all entries below it say: whoever comes second takes in the points that were
//!    committed meanwhile and decides anew.
//! 2. An object is deleted only after an entry that names it. One that is still there after that, because whoever wrote
//!    the entry was stopped, is deleted by the next reclaim, before anything else.
//! 3. When it is not known what points reach, nothing is condemned and nothing deleted, not even what a `delete` entry
//!    names: somebody else may have written that entry.
//! 4. Reached is what live points reach, and former ones that stand by the store's clock. It is not deleted whatever the
//!    log says of it; that the log says so is in the report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::catalog::Catalog;
use super::damage::Damage;
use super::lock::locks_on;
use super::reach::Reach;
use super::{Vault, workers};
use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;
use crate::format::entry::Action;
use crate::format::name;
use crate::policy::reclaim::{Amount, Limits, Plan, Ruling, Why, rule};
use crate::store::{Key, ObjectInfo, each_object};

/// Names in an entry at most, which keeps it well below its bound.
const NAMES_MAX: usize = 10_000;

/// What is to be done with an object, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRuling {
    /// The object.
    pub object: Key,
    /// Its length.
    pub bytes: u64,
    /// What, and why.
    pub ruling: String,
}

/// What a reclaim found and did. Objects that points reach are only counted. A point stands when it is live, or has left
/// before its date or with a hold that was not released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReclaimReport {
    /// Objects that points reach which stand.
    pub live_objects: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Objects that none reaches, before this reclaim.
    pub dead_objects: u64,
    /// Their bytes: they are paid for and serve nothing.
    pub dead_bytes: u64,
    /// Every object that is not simply reached.
    pub rulings: Vec<ObjectRuling>,
    /// Objects that were deleted from the store.
    pub deleted_objects: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Objects that the log says are deleted, and the store would not let go.
    pub refused: Vec<Key>,
    /// Why it is not known what points reach, if so.
    pub unknown: Option<String>,
    /// Objects that the log says are deleted though points reach them, and those points. They stay. Somebody who may sign
    /// broke the rules, or, where only former points reach one, the store's clock was ahead then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contradictions: Vec<Damage>,
}

impl Vault {
    /// What [`reclaim`](Self::reclaim) would do now.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the vault is locked; what the store said.
    pub fn plan_reclaim(&self, limits: Limits) -> Result<ReclaimReport> {
        Ok(Reclaim::survey(self, limits)?.report)
    }

    /// Deletes what no point reaches and was condemned for long enough, and condemns what no point reaches.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the vault is locked; as [`append`](Self::append). The next reclaim goes on where it ended.
    pub fn reclaim(&self, limits: Limits) -> Result<ReclaimReport> {
        let mut reclaim = Reclaim::survey(self, limits)?;
        let plan = std::mem::take(&mut reclaim.plan);
        let sweep = reclaim.still_unreached(plan.sweep)?;
        reclaim.delete(&sweep)?;
        let acquit = |objects| Action::Acquit { objects };
        for part in plan.acquit.chunks(NAMES_MAX) {
            reclaim.write(part, Ruling::Acquit, acquit)?;
        }
        let condemn = |objects| Action::Condemn { objects };
        for part in plan.condemn.chunks(NAMES_MAX) {
            reclaim.write(part, Ruling::Condemn, condemn)?;
        }
        let delete = |objects| Action::Delete { objects };
        for part in plan.delete.chunks(NAMES_MAX) {
            let named = reclaim.write(part, Ruling::Delete, delete)?;
            reclaim.delete(&named)?;
        }
        Ok(reclaim.report)
    }
}

/// A reclaim under way.
struct Reclaim<'a> {
    vault: &'a Vault,
    limits: Limits,
    reach: Reach,
    plan: Plan,
    report: ReclaimReport,
    contradictions: BTreeMap<Key, String>,
}

impl<'a> Reclaim<'a> {
    /// Looks at every object.
    fn survey(vault: &'a Vault, limits: Limits) -> Result<Self> {
        let catalog = vault.refresh()?;
        let mut reclaim = Self {
            vault,
            limits,
            reach: Reach::default(),
            plan: Plan::default(),
            report: ReclaimReport::default(),
            contradictions: BTreeMap::new(),
        };
        let clock_ms = vault.store().clock_ms()?;
        match reclaim.take_in(&catalog, clock_ms) {
            Err(error) if error.kind() == Kind::Damaged => reclaim.report.unknown = Some(error.to_string()),
            taken => taken?,
        }
        for prefix in [name::POINTS, name::RUNS, name::PACKS] {
            each_object(vault.store().as_ref(), prefix, |object| {
                reclaim.look_at(&catalog, object, clock_ms)
            })?;
        }
        let Plan { live: Amount { objects: live_objects, bytes: live_bytes }, dead, .. } = reclaim.plan;
        let contradictions = vault.affected(std::mem::take(&mut reclaim.contradictions));
        let report = std::mem::take(&mut reclaim.report);
        reclaim.report = ReclaimReport {
            live_objects,
            live_bytes,
            dead_objects: dead.objects,
            dead_bytes: dead.bytes,
            contradictions,
            ..report
        };
        Ok(reclaim)
    }

    fn take_in(&mut self, catalog: &Catalog, clock_ms: u64) -> Result<()> {
        for id in catalog.points().keys() {
            match self.reach.add(self.vault, *id) {
                // It was pruned and reclaimed by somebody else since. The log went on, so nothing comes of what is
                // decided by this catalog.
                Err(error) if error.kind() == Kind::Damaged && !self.stands(*id, clock_ms)? => {}
                added => added?,
            }
        }
        catalog.standing_former(clock_ms).try_for_each(|former| self.reach.add_former(self.vault, former.id))
    }

    /// Whether the point stands by what the log says now.
    fn stands(&self, id: Digest, clock_ms: u64) -> Result<bool> {
        let catalog = self.vault.refresh()?;
        let is_former = catalog.standing_former(clock_ms).any(|former| former.id == id);
        Ok(is_former || catalog.points().contains_key(&id))
    }

    /// Those of `objects`, which the log says are deleted, that no point reaches by what it says now.
    fn still_unreached(&mut self, objects: Vec<ObjectInfo>) -> Result<Vec<ObjectInfo>> {
        if objects.is_empty() {
            return Ok(objects);
        }
        let catalog = self.vault.refresh()?;
        let clock_ms = self.vault.store().clock_ms()?;
        self.take_in(&catalog, clock_ms)?;
        let mut unreached = Vec::new();
        for object in objects {
            if self.rule(&catalog, &object, clock_ms)? == Ruling::Sweep {
                unreached.push(object);
            }
        }
        Ok(unreached)
    }

    fn look_at(&mut self, catalog: &Catalog, object: ObjectInfo, clock_ms: u64) -> Result<()> {
        let is_unknown = self.report.unknown.is_some();
        let ruling = self.rule(catalog, &object, clock_ms)?;
        if ruling == Ruling::Keep(Why::Contradiction) {
            self.contradictions
                .extend(contradiction(catalog, &object.key).map(|why| (object.key.clone(), why)));
        }
        let is_quiet = ruling == Ruling::Keep(Why::Reached);
        if !is_quiet {
            let text = if is_unknown {
                "kept because: what points reach is not known".to_owned()
            } else {
                ruling.to_string()
            };
            let (key, bytes) = (object.key.clone(), object.bytes);
            self.report.rulings.push(ObjectRuling { object: key, bytes, ruling: text });
        }
        if !is_unknown {
            self.plan.add(object, ruling);
        }
        Ok(())
    }

    fn rule(&self, catalog: &Catalog, object: &ObjectInfo, clock_ms: u64) -> Result<Ruling> {
        let key = &object.key;
        let is_reached = self.reach.contains(self.vault, key)?;
        let locks = || locks_on(self.vault.store().as_ref(), key).ok();
        Ok(rule(object, catalog.standing(key, is_reached), self.limits, clock_ms, locks))
    }

    /// Names in an entry those of `objects` of which `ruling` is still true, and says which.
    fn write(
        &mut self,
        objects: &[ObjectInfo],
        ruling: Ruling,
        action: impl Fn(Vec<Key>) -> Action,
    ) -> Result<Vec<ObjectInfo>> {
        let mut named = Vec::new();
        let vault = self.vault;
        vault.append(&mut |catalog, clock_ms| {
            self.take_in(catalog, clock_ms)?;
            named.clear();
            for object in objects {
                if self.rule(catalog, object, clock_ms)? == ruling {
                    named.push(object.clone());
                }
            }
            let keys: Vec<Key> = named.iter().map(|object| object.key.clone()).collect();
            Ok((!keys.is_empty()).then(|| action(keys)))
        })?;
        Ok(named)
    }

    /// Deletes objects that an entry names.
    fn delete(&mut self, objects: &[ObjectInfo]) -> Result<()> {
        let refused = std::sync::Mutex::new(Vec::new());
        workers::each(objects, |object| match self.vault.store().delete(&object.key) {
            Err(error) if error.kind() == Kind::Conflict => {
                let mut refused = refused.lock().map_err(|_| poisoned())?;
                refused.push(object.key.clone());
                Ok(())
            }
            deleted => deleted,
        })?;
        let refused = refused.into_inner().map_err(|_| poisoned())?;
        for object in objects.iter().filter(|object| !refused.contains(&object.key)) {
            self.report.deleted_objects += 1;
            self.report.deleted_bytes += object.bytes;
        }
        self.report.refused.extend(refused);
        Ok(())
    }
}

/// What is said of an object that points reach though a `delete` entry names it; nothing when none does.
pub(super) fn contradiction(catalog: &Catalog, key: &Key) -> Option<String> {
    let entry = catalog.deleted().get(key)?;
    Some(format!(
        "entry {entry} says that it is deleted, and a point reaches it: somebody who may sign broke the rules, or, where only \
         former points reach it, the store's clock was ahead then. Look at that entry; to take the right to sign from who \
         signed it is `firn vault keys remove-signer`"
    ))
}

fn poisoned() -> Error {
    Error::new(Kind::Bug, "delete objects", "a worker panicked")
}
