//! Check: the log is unbroken from its first entry, and everything that the vault names is there.
//!
//! It reads the log, settings, keys, points and the runs' lists of packs; of packs it looks at names and lengths.
//! `verify` reads what is in them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::affected::FORMER_ONLY;
use super::catalog::{Catalog, LivePoint};
use super::hold::{held_former, held_points};
use super::reclaim::contradiction;
use super::{Vault, hidden, keyring, log};
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, KeyId};
use crate::format::name;
use crate::format::point::{Point, RunRef};
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
        for live in catalog.points().values() {
            check.look_at_point(&catalog, live.committed.id, &present)?;
        }
        check.look_at_former(&catalog, &present)?;
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

    /// Slots and data keys; damage of a slot concerns every point, of a data key those under it.
    fn look_at_keys(&mut self, catalog: &Catalog) -> Result<()> {
        let slots = catalog.slots().iter().map(|(id, slot)| (*id, slot.object));
        let alive = catalog.keys().iter().filter(|(_, key)| key.destroyed_ms.is_none());
        let objects: Vec<(KeyId, Digest)> = slots.chain(alive.map(|(id, key)| (*id, key.object))).collect();
        for (id, object) in objects {
            self.report.objects += 1;
            match keyring::read_slot(self.vault.store.as_ref(), id, object) {
                Err(error) if is_finding(&error) => {
                    let needs = |live: &&LivePoint| live.committed.key == id;
                    self.find(name::slot(id), error.to_string(), None);
                    for live in catalog.points().values().filter(needs) {
                        self.find(name::slot(id), String::new(), Some(live.committed.id));
                    }
                }
                read => drop(read?),
            }
        }
        Ok(())
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

    fn look_at_point(&mut self, catalog: &Catalog, id: Digest, present: &BTreeMap<Key, u64>) -> Result<()> {
        let point = match self.vault.read_point(id) {
            Err(error) if is_finding(&error) => {
                self.find(name::point(id), error.to_string(), Some(id));
                return Ok(());
            }
            point => point?,
        };
        self.look_at_dead_name(catalog, &name::point(id), id);
        self.look_at_runs(catalog, id, &point, point.runs.iter().collect(), present)
    }

    /// Former points that stand: what is left of them.
    fn look_at_former(&mut self, catalog: &Catalog, present: &BTreeMap<Key, u64>) -> Result<()> {
        let (vault, now_ms) = (self.vault, self.vault.store.clock_ms()?);
        let standing = catalog.standing_former(now_ms).map(|former| former.id);
        let standing: BTreeSet<Digest> =
            standing.filter(|former| !catalog.points().contains_key(former)).collect();
        let mut lacking = Vec::new();
        for id in standing.iter().copied() {
            let point = match vault.unless_given_back(&name::point(id), || vault.read_point(id)) {
                Ok(Some(point)) => point,
                Ok(None) => {
                    lacking.push(id.short());
                    continue;
                }
                Err(error) if is_finding(&error) => {
                    self.find(name::point(id), format!("{error}{FORMER_ONLY}"), Some(id));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut runs = Vec::new();
            for run in &point.runs {
                runs.extend(vault.unless_given_back(&run.key(), || Ok(run))?);
            }
            if runs.len() < point.runs.len() {
                lacking.push(id.short());
            }
            self.look_at_dead_name(catalog, &name::point(id), id);
            self.look_at_runs(catalog, id, &point, runs, present)?;
        }
        if !standing.is_empty() {
            self.report.notes.push(format!(
                "{} points left the vault before their time and are kept: `firn vault points VAULT --former` lists them, \
                 `firn vault restore VAULT former/ID` reads one",
                standing.len()
            ));
        }
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            self.report.notes.push(format!("of these, something was given back before its time: {lacking}"));
        }
        Ok(())
    }

    /// Whether a `delete` entry names what a point reaches.
    fn look_at_dead_name(&mut self, catalog: &Catalog, key: &Key, point: Digest) {
        if let Some(why) = contradiction(catalog, key) {
            self.find(key.clone(), why, Some(point));
        }
    }

    fn look_at_runs(
        &mut self,
        catalog: &Catalog,
        id: Digest,
        point: &Point,
        runs: Vec<&RunRef>,
        present: &BTreeMap<Key, u64>,
    ) -> Result<()> {
        let destroyed = catalog.keys().get(&point.key).is_some_and(|key| key.destroyed_ms.is_some());
        let is_former = !catalog.points().contains_key(&id);
        for run in runs {
            let key = run.key();
            let is_there = self.look_at_object(&key, run.shape.stored_bytes, id, present)?;
            self.look_at_dead_name(catalog, &key, id);
            if !is_there || destroyed {
                continue;
            }
            match self.vault.open_run(point, run) {
                Ok(opened) => {
                    self.report.with_packs = true;
                    for pack in opened.packs() {
                        if is_former && self.vault.was_given_back(catalog, &pack.name.key())? {
                            continue;
                        }
                        self.look_at_object(&pack.name.key(), pack.shape.stored_bytes, id, present)?;
                        self.look_at_dead_name(catalog, &pack.name.key(), id);
                    }
                }
                // A locked vault: what its runs list is not known.
                Err(error) if error.kind() == Kind::Invalid => {}
                Err(error) if is_finding(&error) => self.find(key, error.to_string(), Some(id)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the object is there in its length.
    fn look_at_object(
        &mut self,
        key: &Key,
        bytes: u64,
        point: Digest,
        present: &BTreeMap<Key, u64>,
    ) -> Result<bool> {
        let store = self.vault.store.as_ref();
        let mut found = present.get(key).copied();
        if found != Some(bytes) && store.uncover(key)? {
            found = store.head(key)?.map(|info| info.bytes);
        }
        let wrong = match found {
            Some(found) if found == bytes => return Ok(true),
            Some(found) => format!("it has {found} bytes, not {bytes}"),
            None => "it is missing".to_owned(),
        };
        self.find(key.clone(), wrong, Some(point));
        Ok(false)
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

    /// What held points need is held in the store.
    fn look_at_holds(&mut self, catalog: &Catalog) -> Result<()> {
        if !self.vault.store.capabilities().legal_hold {
            return Ok(());
        }
        let live = held_points(catalog).into_iter().map(|id| (id, self.vault.needed_by(id)));
        let former = held_former(catalog).map(|former| (former.id, self.vault.needed_by_former(former)));
        let held: Vec<_> = live.chain(former).collect();
        for (id, needed) in held {
            // What is damaged was found already; what is locked is not known.
            for key in needed.into_iter().flatten() {
                let store = self.vault.store.as_ref();
                let mut is_held = store.legal_hold(&key);
                if !matches!(is_held, Ok(true)) && store.uncover(&key)? {
                    is_held = store.legal_hold(&key);
                }
                match is_held {
                    Ok(true) => {}
                    Ok(false) => {
                        self.find(
                            key,
                            "a held point needs it, and the store does not hold it".to_owned(),
                            Some(id),
                        );
                    }
                    Err(error) if error.kind() == Kind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn is_finding(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Conflict)
}
