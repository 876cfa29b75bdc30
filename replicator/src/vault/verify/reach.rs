//! What points need: live ones, and former ones that stand.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Depth;
use crate::error::{Error, Kind, Result};
use crate::format::container::{Role, Shape};
use crate::format::digest::Digest;
use crate::format::name::{self, PACKS};
use crate::format::point::{Point, RunRef};
use crate::store::{Key, Retention, each_object};
use crate::vault::Vault;
use crate::vault::damage::{Judge, Notes};
use crate::vault::foundation::NeededLock;
use crate::vault::reach::NamedRun;
use crate::vault::run::{Run, RunKeys};

/// A run or pack.
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) role: Role,
    /// Its shape, as what points at it says; nothing for a pack that was only found.
    pub(super) shape: Option<Shape>,
    /// What opens its frames; nothing without the key.
    pub(super) keys: Option<RunKeys>,
    /// How it must be locked.
    pub(super) lock: Option<NeededLock>,
}

/// How a point needs its objects.
#[derive(Clone, Copy)]
struct Needs {
    /// How they must be locked.
    lock: Option<NeededLock>,
    /// Whether some of them may have been given back.
    is_former: bool,
}

/// Everything that points need, as far as it can be read.
#[derive(Default)]
pub(super) struct Reach {
    pub(super) points: u64,
    /// Former points of which something is left.
    pub(super) former: u64,
    pub(super) locked_points: u64,
    pub(super) objects: BTreeMap<Key, Object>,
    /// Runs that were opened, and until when what they list was said to be locked: 0 when it need not be.
    opened: FxHashMap<NamedRun, u64>,
}

impl Reach {
    /// Looks at each point, and at depth `Objects` and below at its runs. What can't be read is noted; of a former point
    /// what was given back is passed by.
    pub(super) fn of(vault: &Vault, depth: Depth, notes: &Notes) -> Result<Self> {
        let mut reach = Self::default();
        let catalog = vault.catalog();
        let judge = Judge::Note(notes);
        let now_ms = vault.store().clock_ms()?;
        let live = catalog.points().values().map(|live| (live.committed.id, live.locked));
        for (id, lock) in longest_first(live, now_ms) {
            reach.points += 1;
            match vault.read_point(id) {
                Ok(point) if depth > Depth::Catalog => {
                    let runs = point.runs.iter().collect();
                    reach.add_point(vault, &point, runs, Needs { lock, is_former: false }, judge)?;
                }
                Ok(_) => {}
                Err(error) => judge.pass(&name::point(id), error)?,
            }
        }
        let former = catalog.standing_former(now_ms).map(|former| (former.id, former.locked));
        for (id, lock) in longest_first(former, now_ms) {
            reach.add_former(vault, id, Needs { lock, is_former: true }, depth, judge)?;
        }
        if reach.locked_points > 0 && depth == Depth::Content {
            // Which packs they need is not known; each pack that is there can still be held against its name.
            each_object(vault.store().as_ref(), PACKS, |found| {
                reach.add(found.key, Role::Pack, None, None, None);
                Ok(())
            })?;
        }
        Ok(reach)
    }

    fn add_former(
        &mut self,
        vault: &Vault,
        id: Digest,
        needs: Needs,
        depth: Depth,
        judge: Judge<'_>,
    ) -> Result<()> {
        let key = name::point(id);
        let point = match vault.unless_given_back(&key, || vault.read_point(id)) {
            Ok(Some(point)) => point,
            Ok(None) => return Ok(()),
            Err(error) => return judge.pass(&key, error),
        };
        self.former += 1;
        if depth == Depth::Catalog {
            return Ok(());
        }
        let mut runs = Vec::new();
        for run in &point.runs {
            runs.extend(vault.unless_given_back(&run.key(), || Ok(run))?);
        }
        self.add_point(vault, &point, runs, needs, judge)
    }

    /// Adds these `runs` of a point, and their packs.
    fn add_point(
        &mut self,
        vault: &Vault,
        point: &Point,
        runs: Vec<&RunRef>,
        needs: Needs,
        judge: Judge<'_>,
    ) -> Result<()> {
        let Needs { lock, is_former } = needs;
        let until_ms = lock.map_or(0, |lock| lock.until_ms());
        let keys = match vault.frame_keys(point.key) {
            Ok(frames) => Some(RunKeys::of(point, frames)),
            // Locked, or the key was destroyed.
            Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Conflict) => None,
            Err(error) => {
                judge.pass(&name::slot(point.key), error)?;
                None
            }
        };
        self.locked_points += u64::from(keys.is_none());
        for run in runs {
            self.add(run.key(), Role::Run, Some(run.shape), keys.clone(), lock);
            let named = NamedRun::of(point, run);
            let is_known = self.opened.get(&named).is_some_and(|known_ms| *known_ms >= until_ms);
            let Some(keys) = keys.as_ref().filter(|_| !is_known) else { continue };
            match Run::open(vault.store().as_ref(), run, keys, judge) {
                Ok(opened) => {
                    for pack in opened.packs() {
                        if is_former && vault.was_given_back(&vault.catalog(), &pack.name.key())? {
                            continue;
                        }
                        let shape = Some(pack.shape);
                        self.add(pack.name.key(), Role::Pack, shape, Some(keys.clone()), lock);
                    }
                }
                Err(error) => judge.pass(&run.key(), error)?,
            }
            self.opened.insert(named, until_ms);
        }
        Ok(())
    }

    fn add(
        &mut self,
        key: Key,
        role: Role,
        shape: Option<Shape>,
        keys: Option<RunKeys>,
        lock: Option<NeededLock>,
    ) {
        let empty = || Object { key: key.clone(), role, shape: None, keys: None, lock: None };
        let object = self.objects.entry(key.clone()).or_insert_with(empty);
        object.shape = object.shape.or(shape);
        object.keys = object.keys.take().or(keys);
        object.lock = match (object.lock, lock) {
            (Some(there), Some(lock)) => Some(there.longer(lock)),
            (there, lock) => there.or(lock),
        };
    }
}

/// Points with the locks that bind at `now_ms`, the longest first: then no run is opened again for a longer one.
fn longest_first(
    points: impl Iterator<Item = (Digest, Option<Retention>)>,
    now_ms: u64,
) -> Vec<(Digest, Option<NeededLock>)> {
    // What was copied forward since a lock ended has none.
    let mut points: Vec<_> = points.map(|(id, locked)| (id, NeededLock::of(id, locked, now_ms))).collect();
    points.sort_by_key(|(_, lock)| Reverse(lock.map(|lock| lock.until_ms())));
    points
}

/// The error of an object that is not what it should be.
pub(super) fn wrong(key: &Key, detail: &str) -> Error {
    Error::new(Kind::Damaged, "verify object", format!("{key}: {detail}"))
}
