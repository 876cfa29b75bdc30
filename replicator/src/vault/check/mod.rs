//! Check: the log is unbroken from its first entry, and everything that the vault names is there.
//!
//! It reads the log, settings, keys, points and the runs' lists of packs; of packs it looks at names and lengths.
//! `verify` reads what is in them.
//!
//! Each point is read once and each run opened once, however many points share it; once more for what is held in the
//! store.

mod holds;
mod points;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use self::points::Looks;
use super::catalog::Catalog;
use super::{Vault, hidden, keyring, log};
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, KeyId};
use crate::format::name;
use crate::store::{Key, each_object};

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The object.
    pub object: Key,
    /// What is wrong.
    pub detail: String,
    /// The points that need it.
    pub points: BTreeSet<Digest>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Entries of the log that follow each other without a gap, from the first.
    pub entries: u64,
    /// Live points.
    pub points: u64,
    /// Objects that were looked at.
    pub objects: u64,
    /// Whether runs could be read: those of an encrypted vault only with its keys.
    pub with_packs: bool,
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
    /// What deserves a look and harms no point.
    pub notes: Vec<String>,
}

impl Vault {
    /// Checks the vault from the first entry on, whatever a cache says.
    ///
    /// # Errors
    /// What the store said when it did not answer. What is wrong in the vault is in the report.
    pub fn check(&self) -> Result<CheckReport> {
        let mut catalog = Catalog::new(self.settings.vault, self.settings.founder);
        let mut check = Check { vault: self, report: CheckReport::default(), found: BTreeMap::new() };
        match log::read_on(self.store.as_ref(), &mut catalog, &mut |_, _| {}) {
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Invalid) => {
                check.find(name::entry(catalog.head().number + 1), error.to_string(), None);
            }
            read => read?,
        }
        check.report.entries = catalog.head().number;
        check.look_at_log(&catalog);
        check.look_at_keys(&catalog)?;
        let present = check.list()?;
        check.look_at_points(&mut Looks::new(&catalog, &present))?;
        check.look_at_rest(&catalog, &present);
        check.look_at_holds(&catalog)?;
        check.look_at_locks(&catalog)?;
        for key in self.store.hidden() {
            check.find(key, hidden::DETAIL.to_owned(), None);
        }
        check.report.points = catalog.points().len() as u64;
        check.report.findings = check.found.into_values().collect();
        Ok(check.report)
    }
}

/// A check under way.
struct Check<'a> {
    vault: &'a Vault,
    report: CheckReport,
    found: BTreeMap<Key, Finding>,
}

impl Check<'_> {
    fn find(&mut self, object: Key, detail: String, point: Option<Digest>) {
        let finding = self.found.entry(object.clone()).or_insert_with(|| Finding {
            object,
            detail,
            points: BTreeSet::new(),
        });
        finding.points.extend(point);
    }

    fn look_at_log(&mut self, catalog: &Catalog) {
        for void in catalog.void() {
            self.report.notes.push(format!("entry {} counts for nothing: {}", void.number, void.why));
        }
        let settings = Digest::of(&self.vault.settings.encode());
        if catalog.settings().is_some_and(|logged| logged != settings) {
            self.find(name::settings(), "it is not the one that the log begins with".to_owned(), None);
        }
    }

    /// Slots and data keys, those too that the log calls destroyed and a point needs that must stay. Damage of a slot
    /// concerns every point, of a data key those under it.
    fn look_at_keys(&mut self, catalog: &Catalog) -> Result<()> {
        let now_ms = self.vault.store.clock_ms()?;
        for (id, slot) in catalog.slots() {
            let wrong = self.look_at_key(*id, slot.object)?;
            self.find_key(catalog, *id, wrong, now_ms);
        }
        for (id, key) in catalog.keys() {
            let broken = broken_destruction(catalog, *id, now_ms);
            if key.destroyed_ms.is_none() || broken.is_some() {
                let wrong = self.look_at_key(*id, key.object)?;
                let both: Vec<String> = wrong.into_iter().chain(broken).collect();
                self.find_key(catalog, *id, (!both.is_empty()).then(|| both.join("; ")), now_ms);
            }
        }
        Ok(())
    }

    /// What is wrong with the object of a slot or data key.
    fn look_at_key(&mut self, id: KeyId, object: Digest) -> Result<Option<String>> {
        self.report.objects += 1;
        match keyring::read_slot(self.vault.store.as_ref(), id, object) {
            Err(error) if is_finding(&error) => Ok(Some(error.to_string())),
            read => read.map(|_| None),
        }
    }

    /// Names what is wrong with a key, and the points under it: live ones, and former ones that stand.
    fn find_key(&mut self, catalog: &Catalog, id: KeyId, wrong: Option<String>, now_ms: u64) {
        let Some(wrong) = wrong else { return };
        self.find(name::slot(id), wrong, None);
        let live = catalog.points().values().map(|live| (live.committed.id, live.committed.key));
        let former = catalog.standing_former(now_ms).map(|former| (former.id, former.key));
        for (point, _) in live.chain(former).filter(|(_, key)| *key == id) {
            self.find(name::slot(id), String::new(), Some(point));
        }
    }

    /// Lengths of all points, runs and packs.
    fn list(&self) -> Result<BTreeMap<Key, u64>> {
        let mut present = BTreeMap::new();
        for prefix in [name::POINTS, name::RUNS, name::PACKS] {
            each_object(self.vault.store.as_ref(), prefix, |object| {
                present.insert(object.key, object.bytes);
                Ok(())
            })?;
        }
        Ok(present)
    }

    fn look_at_rest(&mut self, catalog: &Catalog, present: &BTreeMap<Key, u64>) {
        let is_unreached = |key: &&Key| catalog.is_deleted(key) && !self.found.contains_key(*key);
        let undeleted = present.keys().filter(is_unreached).count();
        if undeleted > 0 {
            self.report.notes.push(format!("{undeleted} deleted objects are still there: run reclaim"));
        }
        self.report.objects += 1 + present.len() as u64;
    }

    /// Settings, keys and the log are locked as long as the log says of a point: a point whose key or proof can be
    /// deleted is not locked.
    fn look_at_locks(&mut self, catalog: &Catalog) -> Result<()> {
        for (key, fault, point) in self.vault.lock_faults(catalog)? {
            self.find(key, fault, Some(point));
        }
        Ok(())
    }
}

/// What is said of a data key that the log calls destroyed though what is under it must stay readable; nothing when it
/// need not, or was not destroyed.
fn broken_destruction(catalog: &Catalog, id: KeyId, now_ms: u64) -> Option<String> {
    let why = catalog.key_stays(id, now_ms).filter(|_| catalog.is_destroyed(id))?;
    let entry = catalog.deleted().get(&name::slot(id)).copied().unwrap_or_default();
    Some(format!(
        "entry {entry} says that this key was destroyed, and {why}: somebody who may sign broke the rules, or the store's \
         clock was ahead then. firn deletes no such key, and reads nothing under it. Keep a copy of the object; look at \
         that entry; to take the right to sign from who signed it is `firn vault keys remove-signer`"
    ))
}

fn is_finding(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Conflict)
}
