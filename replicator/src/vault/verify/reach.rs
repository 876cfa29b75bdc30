//! What live points need.

use std::collections::BTreeMap;

use super::Depth;
use crate::error::{Error, Kind, Result};
use crate::format::container::{Role, Shape};
use crate::format::name::{self, PACKS};
use crate::format::point::Point;
use crate::store::{Key, each_object};
use crate::vault::Vault;
use crate::vault::catalog::LivePoint;
use crate::vault::damage::{Judge, Notes};
use crate::vault::run::{Run, RunKeys};

/// A run or pack.
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) role: Role,
    /// Its shape, as what points at it says; nothing for a pack that was only found.
    pub(super) shape: Option<Shape>,
    /// What opens its frames; nothing without the key.
    pub(super) keys: Option<RunKeys>,
    /// Until when it must be locked.
    pub(super) locked_until_ms: Option<u64>,
}

/// Everything that live points need, as far as it can be read.
#[derive(Default)]
pub(super) struct Reach {
    pub(super) points: u64,
    pub(super) locked_points: u64,
    pub(super) objects: BTreeMap<Key, Object>,
}

impl Reach {
    /// Looks at each live point, and at depth `Objects` and below at its runs. What can't be read is noted.
    pub(super) fn of(vault: &Vault, depth: Depth, notes: &Notes) -> Result<Self> {
        let mut reach = Self::default();
        let catalog = vault.catalog();
        let judge = Judge::Note(notes);
        for (id, live) in catalog.points() {
            reach.points += 1;
            match vault.read_point(*id) {
                Ok(point) if depth > Depth::Catalog => reach.add_point(vault, live, &point, judge)?,
                Ok(_) => {}
                Err(error) => judge.pass(&name::point(*id), error)?,
            }
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

    fn add_point(&mut self, vault: &Vault, live: &LivePoint, point: &Point, judge: Judge<'_>) -> Result<()> {
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
        // A lock that has ended binds nobody: what was copied forward since has none.
        let now_ms = vault.store().clock_ms()?;
        let until_ms = live.locked.map(|lock| lock.until_ms).filter(|until_ms| *until_ms > now_ms);
        for run in &point.runs {
            let is_known = self.objects.contains_key(&run.key());
            self.add(run.key(), Role::Run, Some(run.shape), keys.clone(), until_ms);
            let Some(keys) = keys.as_ref().filter(|_| !is_known || until_ms.is_some()) else { continue };
            match Run::open(vault.store().as_ref(), run, keys, judge) {
                Ok(opened) => {
                    for pack in opened.packs() {
                        let shape = Some(pack.shape);
                        self.add(pack.name.key(), Role::Pack, shape, Some(keys.clone()), until_ms);
                    }
                }
                Err(error) => judge.pass(&run.key(), error)?,
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        key: Key,
        role: Role,
        shape: Option<Shape>,
        keys: Option<RunKeys>,
        until_ms: Option<u64>,
    ) {
        let empty = || Object { key: key.clone(), role, shape: None, keys: None, locked_until_ms: None };
        let object = self.objects.entry(key.clone()).or_insert_with(empty);
        object.shape = object.shape.or(shape);
        object.keys = object.keys.take().or(keys);
        object.locked_until_ms = object.locked_until_ms.max(until_ms);
    }
}

/// The error of an object that is not what it should be.
pub(super) fn wrong(key: &Key, detail: &str) -> Error {
    Error::new(Kind::Damaged, "verify object", format!("{key}: {detail}"))
}
