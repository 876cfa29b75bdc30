//! Points, live ones and former ones that stand, and what they reach.
//!
//! 1. What is wrong with a run and its packs is found once, and said of all points that name the run in the same way.
//! 2. Of former points what was given back is passed by, before anything looks for it: where the store keeps versions
//!    the first one would be found.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::{Check, is_finding};
use crate::error::{Kind, Result};
use crate::format::digest::Digest;
use crate::format::name;
use crate::format::point::{Point, RunRef};
use crate::store::Key;
use crate::vault::Vault;
use crate::vault::affected::FORMER_ONLY;
use crate::vault::catalog::Catalog;
use crate::vault::reach::NamedRun;
use crate::vault::reclaim::contradiction;

/// What was found of runs, and what it is held against.
pub(super) struct Looks<'a> {
    catalog: &'a Catalog,
    /// Lengths of all points, runs and packs.
    present: &'a BTreeMap<Key, u64>,
    /// Runs that were looked at, for live points and for former ones.
    runs: FxHashMap<(NamedRun, bool), Rc<Look>>,
    /// Whether a run's list of packs could be read.
    with_packs: bool,
}

/// What was found of a run.
#[derive(Default)]
struct Look {
    /// What is wrong with it and its packs.
    faults: Vec<(Key, String)>,
    is_given_back: bool,
}

impl Check<'_> {
    pub(super) fn look_at_points(&mut self, looks: &mut Looks<'_>) -> Result<()> {
        for id in looks.catalog.points().keys() {
            match self.vault.read_point(*id) {
                Err(error) if is_finding(&error) => {
                    self.find(name::point(*id), error.to_string(), Some(*id));
                }
                point => _ = self.look_at_point(looks, *id, &point?)?,
            }
        }
        self.look_at_former(looks)?;
        self.report.with_packs = looks.with_packs;
        Ok(())
    }

    /// Former points that stand: what is left of them.
    fn look_at_former(&mut self, looks: &mut Looks<'_>) -> Result<()> {
        let (vault, now_ms) = (self.vault, self.vault.store.clock_ms()?);
        let standing = looks.catalog.standing_former(now_ms).map(|former| former.id);
        let standing: BTreeSet<Digest> = standing.filter(|former| !looks.is_live(*former)).collect();
        let mut lacking = Vec::new();
        for id in standing.iter().copied() {
            let is_whole = match vault.unless_given_back(&name::point(id), || vault.read_point(id)) {
                Ok(Some(point)) => self.look_at_point(looks, id, &point)?,
                Ok(None) => false,
                Err(error) if is_finding(&error) => {
                    self.find(name::point(id), format!("{error}{FORMER_ONLY}"), Some(id));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !is_whole {
                lacking.push(id.short());
            }
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

    /// A point that was read. Whether none of its runs was given back.
    fn look_at_point(&mut self, looks: &mut Looks<'_>, id: Digest, point: &Point) -> Result<bool> {
        if let Some(why) = contradiction(looks.catalog, &name::point(id)) {
            self.find(name::point(id), why, Some(id));
        }
        let (mut is_whole, is_former) = (true, !looks.is_live(id));
        for run in &point.runs {
            let look = looks.at_run(self.vault, point, run, is_former)?;
            is_whole &= !look.is_given_back;
            for (key, fault) in &look.faults {
                self.find(key.clone(), fault.clone(), Some(id));
            }
        }
        Ok(is_whole)
    }
}

impl<'a> Looks<'a> {
    pub(super) fn new(catalog: &'a Catalog, present: &'a BTreeMap<Key, u64>) -> Self {
        Self { catalog, present, runs: FxHashMap::default(), with_packs: false }
    }

    fn is_live(&self, id: Digest) -> bool {
        self.catalog.points().contains_key(&id)
    }

    /// What is found of a run, for a point that is former or not.
    fn at_run(&mut self, vault: &Vault, point: &Point, run: &RunRef, is_former: bool) -> Result<Rc<Look>> {
        let named = (NamedRun::of(point, run), is_former);
        if let Some(look) = self.runs.get(&named) {
            return Ok(Rc::clone(look));
        }
        let look = Rc::new(self.look(vault, point, run, is_former)?);
        self.runs.insert(named, Rc::clone(&look));
        Ok(look)
    }

    fn look(&mut self, vault: &Vault, point: &Point, run: &RunRef, is_former: bool) -> Result<Look> {
        let mut look = Look::default();
        let key = run.key();
        if is_former && vault.was_given_back(self.catalog, &key)? {
            look.is_given_back = true;
            return Ok(look);
        }
        let wrong = self.wrong(vault, &key, run.shape.stored_bytes)?;
        let is_there = wrong.is_none();
        look.note(&key, wrong, self.catalog);
        if !is_there || self.catalog.is_destroyed(point.key) {
            return Ok(look);
        }
        match vault.open_run(point, run) {
            Ok(opened) => {
                self.with_packs = true;
                for pack in opened.packs() {
                    let key = pack.name.key();
                    if !(is_former && vault.was_given_back(self.catalog, &key)?) {
                        look.note(&key, self.wrong(vault, &key, pack.shape.stored_bytes)?, self.catalog);
                    }
                }
            }
            // A locked vault: what its runs list is not known.
            Err(error) if error.kind() == Kind::Invalid => {}
            Err(error) if is_finding(&error) => look.faults.push((key, error.to_string())),
            Err(error) => return Err(error),
        }
        Ok(look)
    }

    /// What is wrong with the length of an object.
    fn wrong(&self, vault: &Vault, key: &Key, bytes: u64) -> Result<Option<String>> {
        let store = vault.store.as_ref();
        let mut found = self.present.get(key).copied();
        if found != Some(bytes) && store.uncover(key)? {
            found = store.head(key)?.map(|info| info.bytes);
        }
        Ok(match found {
            Some(found) if found == bytes => None,
            Some(found) => Some(format!("it has {found} bytes, not {bytes}")),
            None => Some("it is missing".to_owned()),
        })
    }
}

impl Look {
    /// Notes what is wrong with an object, and that a `delete` entry names it though a point reaches it.
    fn note(&mut self, key: &Key, wrong: Option<String>, catalog: &Catalog) {
        let faults = wrong.into_iter().chain(contradiction(catalog, key));
        self.faults.extend(faults.map(|fault| (key.clone(), fault)));
    }
}
