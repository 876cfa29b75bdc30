//! What held points need is held in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::{Check, is_finding};
use crate::error::{Kind, Result};
use crate::format::digest::Digest;
use crate::store::Key;
use crate::vault::catalog::Catalog;
use crate::vault::hold::Held;
use crate::vault::reach::Reach;
use crate::vault::{Vault, workers};

const DETAIL: &str = "a held point needs it, and the store does not hold it";

impl Check<'_> {
    /// Asks of each object once, however many held points need it.
    pub(super) fn look_at_holds(&mut self, catalog: &Catalog) -> Result<()> {
        let vault = self.vault;
        if !vault.store.capabilities().legal_hold {
            return Ok(());
        }
        let held = Held::of(catalog);
        let openers = held.openers(vault);
        let mut reach = Reach::default();
        let live = held.live.keys().map(|id| reach_known(reach.add(vault, *id)));
        live.collect::<Result<()>>()?;
        let former = held.former.keys().map(|id| reach_known(reach.add_former(vault, *id)));
        former.collect::<Result<()>>()?;
        let needed: BTreeSet<&Key> = reach.objects().iter().chain(openers.keys()).collect();
        let free = not_held(vault, &needed.into_iter().collect::<Vec<_>>())?;
        let held: BTreeMap<Digest, _> = held.points().collect();
        for damage in vault.affected(free) {
            let opened = openers.get(&damage.object);
            let is_opened = |key| opened.is_some_and(|keys| keys.contains(key));
            let reaching = damage.points.iter().filter(|id| held.contains_key(id));
            let opening = held.iter().filter(|(_, key)| is_opened(key)).map(|(id, _)| id);
            let points: BTreeSet<Digest> = reaching.chain(opening).copied().collect();
            self.find(damage.object.clone(), damage.detail, None);
            for id in points {
                self.find(damage.object.clone(), String::new(), Some(id));
            }
        }
        Ok(())
    }
}

/// What is damaged was found already; what is locked is not known.
fn reach_known(added: Result<()>) -> Result<()> {
    match added {
        Err(error) if is_finding(&error) || error.kind() == Kind::Invalid => Ok(()),
        added => added,
    }
}

/// Those of `objects` that are there and that the store does not hold.
fn not_held(vault: &Vault, objects: &[&Key]) -> Result<BTreeMap<Key, String>> {
    let (store, free) = (vault.store.as_ref(), Mutex::new(BTreeMap::new()));
    workers::each(objects, |key| {
        let mut is_held = store.legal_hold(key);
        if !matches!(is_held, Ok(true)) && store.uncover(key)? {
            is_held = store.legal_hold(key);
        }
        match is_held {
            Ok(true) => {}
            Ok(false) => {
                let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
                free.insert((*key).clone(), DETAIL.to_owned());
            }
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    Ok(free.into_inner().unwrap_or_else(PoisonError::into_inner))
}
