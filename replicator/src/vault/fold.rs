//! One entry after the other becomes the catalog.
//!
//! 1. An entry that is out of number, does not name the hash of the one before, is dated before it, or is signed by
//!    somebody who may not sign: the log is damaged, and nothing after it is believed.
//! 2. An entry in its place that contradicts those before it is void: it changes nothing, whoever signed it. So a held
//!    point is not pruned, and a date does not move earlier. A writer meets the same objection before it writes.
//! 3. The names in a `delete` entry count even if it is void: somebody may have deleted the objects.
//! 4. What a point holds is not in the log: of a `forward` it is seen that the new point has the same name, date and holds
//!    as the old one, not that it has the same content. And an entry's time is what its writer says. So what leaves is
//!    not forgotten: it is a [former](super::former) point, which stands as long as it would have had to stay.

mod forward;
mod keys;

use std::collections::BTreeSet;

use super::catalog::{Catalog, DataKey, Head, Hold, KeySlot, LivePoint, VoidEntry};
use super::foundation::date_given;
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, KeyId, Signer};
use crate::format::entry::{Action, Committed, Entry, Signed, Who};
use crate::format::name;
use crate::policy::{calendar, lock};
use crate::store::{Key, Retention};

impl Catalog {
    /// The entry that comes next, with `clock_ms` of the store.
    pub(super) fn next_entry(&self, who: &Who, clock_ms: u64, action: Action) -> Entry {
        Entry {
            format: action.format(),
            vault: self.vault,
            number: self.head.number + 1,
            previous: self.head.hash,
            time_ms: clock_ms.max(self.head.time_ms),
            who: who.clone(),
            action,
        }
    }

    /// Takes up the next entry.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it can't be the next one; the catalog is then as it was.
    pub fn apply(&mut self, signed: &Signed) -> Result<()> {
        let entry = &signed.entry;
        self.check_place(signed)?;
        let objection = self.objection(&entry.action, entry.time_ms);
        if objection.is_none() || matches!(entry.action, Action::Delete { .. }) {
            self.take(entry);
        }
        if let Some(why) = objection {
            self.void.push(VoidEntry { number: entry.number, why });
        }
        self.head = Head { number: entry.number, hash: signed.hash, time_ms: entry.time_ms };
        Ok(())
    }

    fn check_place(&self, signed: &Signed) -> Result<()> {
        let entry = &signed.entry;
        let wrong = |detail: String| Err(Error::new(Kind::Damaged, "follow log", detail));
        let number = self.head.number + 1;
        if entry.vault != self.vault {
            return wrong(format!("entry {number} is of vault {}, not {}", entry.vault, self.vault));
        }
        if entry.number != number {
            return wrong(format!("where entry {number} belongs lies entry {}", entry.number));
        }
        if entry.previous != self.head.hash {
            return wrong(format!(
                "entry {number} follows another entry {} than the one that is there: one of them was replaced",
                number - 1
            ));
        }
        if entry.time_ms < self.head.time_ms {
            return wrong(format!("entry {number} is dated before the one before it"));
        }
        self.check_signer(signed.signer)?;
        if (number == 1) != matches!(entry.action, Action::Init { .. }) {
            return wrong(format!("entry {number} is out of place: a log begins with its init, once"));
        }
        Ok(())
    }

    /// Whether `signer` may sign the next entry. It is asked before anything that the entry says is looked at: else
    /// anybody's entry that says it is of a newer version would be taken for one.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when they may not.
    pub(super) fn check_signer(&self, signer: Signer) -> Result<()> {
        if self.signers.contains_key(&signer) {
            return Ok(());
        }
        let detail = format!("entry {} is signed by {signer}, who may not sign", self.head.number + 1);
        Err(Error::new(Kind::Damaged, "follow log", detail))
    }

    /// Why `action` at the time `now_ms` contradicts what is, in words; nothing when it does not.
    pub fn objection(&self, action: &Action, now_ms: u64) -> Option<String> {
        match action {
            Action::Init { .. } => None,
            Action::Commit { points, .. } => self.objection_to_commit(points),
            Action::Prune { points } => {
                points.iter().find_map(|pruned| self.objection_to_prune(pruned.id, now_ms))
            }
            Action::Retain { points, until_ms, .. } => {
                points.iter().find_map(|id| self.objection_to_retain(*id, *until_ms))
            }
            Action::Hold { point, reason, .. } => match self.points.get(point) {
                None => absent(*point),
                Some(live) => live
                    .holds
                    .contains_key(reason)
                    .then(|| format!("point {point} is held already: {reason}")),
            },
            Action::Release { point, reason } => match self.points.get(point) {
                None => absent(*point),
                Some(live) => {
                    (!live.holds.contains_key(reason)).then(|| format!("point {point} has no hold {reason}"))
                }
            },
            Action::Forward { points } => self.objection_to_forward(points),
            Action::Condemn { objects } => objects.iter().find_map(|key| self.objection_to_condemn(key)),
            Action::Acquit { objects } => {
                let acquitted = objects.iter().find(|key| !self.condemned.contains_key(*key));
                acquitted.map(|key| format!("{key} is not condemned"))
            }
            Action::Delete { objects } => objects.iter().find_map(|key| self.objection_to_delete(key)),
            Action::AddSlot { id, .. } => self.objection_to_key(*id),
            Action::RemoveSlot { id } => self.objection_to_remove_slot(*id),
            Action::AddKey { id, pool, volume, .. } => self.objection_to_key(*id).or_else(|| {
                self.key_of(*pool, *volume).map(|key| format!("volume {volume} has the data key {key}"))
            }),
            Action::DestroyKey { id } => self.objection_to_destroy(*id, now_ms),
            Action::AddSigner { signer, .. } => {
                self.signers.contains_key(signer).then(|| format!("{signer} may sign already"))
            }
            Action::RemoveSigner { signer } => match self.signers.contains_key(signer) {
                false => Some(format!("{signer} may not sign anyway")),
                true => (self.signers.len() == 1).then(|| "nobody could sign any more".to_owned()),
            },
        }
    }

    fn objection_to_commit(&self, points: &[Committed]) -> Option<String> {
        let mut seen = BTreeSet::new();
        if points.is_empty() {
            return Some("it commits no point".to_owned());
        }
        points.iter().find_map(|point| {
            let id = point.id;
            if !seen.insert(id) || self.points.contains_key(&id) {
                return Some(format!("point {id} is in the vault already"));
            }
            if self.is_deleted(&name::point(id)) {
                return Some(format!("the name of point {id} was deleted"));
            }
            let is_usable = |key: &DataKey| {
                key.destroyed_ms.is_none() && key.pool == point.pool && key.volume == point.volume
            };
            let key = point.key;
            let is_known = key == KeyId::default() || self.keys.get(&key).is_some_and(is_usable);
            (!is_known).then(|| format!("point {id} is under key {key}, which its volume does not have"))
        })
    }

    fn objection_to_prune(&self, id: Digest, now_ms: u64) -> Option<String> {
        match self.points.get(&id) {
            None => absent(id),
            Some(live) => live.protection(now_ms).map(|why| format!("point {id} must stay: {why}")),
        }
    }

    fn objection_to_retain(&self, id: Digest, until_ms: u64) -> Option<String> {
        match self.points.get(&id) {
            None => absent(id),
            Some(live) => live.retain_until_ms.filter(|present| *present > until_ms).map(|present| {
                format!(
                    "point {id} is retained until {}, a date never moves earlier",
                    calendar::text(present)
                )
            }),
        }
    }

    fn objection_to_condemn(&self, key: &Key) -> Option<String> {
        match name::hash_in(key).is_some() && !self.is_deleted(key) && !self.is_named(key) {
            true => None,
            false => Some(format!("{key} can't be condemned")),
        }
    }

    fn objection_to_delete(&self, key: &Key) -> Option<String> {
        match self.condemned.contains_key(key) && !self.is_named(key) {
            true => None,
            false => Some(format!("{key} can't be deleted: it was not condemned before, or is in use")),
        }
    }

    /// Whether it is the object of a live point; the catalog itself knows no others that points reach.
    fn is_named(&self, key: &Key) -> bool {
        name::hash_in(key).is_some_and(|id| self.points.contains_key(&id) && *key == name::point(id))
    }

    fn take(&mut self, entry: &Entry) {
        let time_ms = entry.time_ms;
        self.kept_until_ms = self.kept_until_ms.max(date_given(&entry.action, time_ms));
        match &entry.action {
            Action::Init { settings } => self.settings = Some(*settings),
            Action::Commit { points, group } => {
                for point in points {
                    self.lock_key(point.key, point.locked);
                    self.forwarded.remove(&point.id);
                    self.points.insert(point.id, live(point, points.len(), group.as_ref(), entry));
                }
            }
            Action::Prune { points } => {
                points.iter().for_each(|pruned| drop(self.leave(pruned.id, None, entry.number)));
            }
            Action::Retain { points, until_ms, locked } => {
                let locked = locked.map(|mode| Retention { mode, until_ms: *until_ms });
                self.take_retain(points, *until_ms, locked);
            }
            Action::Hold { point, reason, locked } => self.each_point(&[*point], |live| {
                live.holds.insert(reason.clone(), Hold { time_ms, locked: *locked });
            }),
            Action::Release { point, reason } => {
                self.each_point(&[*point], |live| _ = live.holds.remove(reason));
                self.release_former(*point, reason);
            }
            Action::Forward { points } => {
                points.iter().for_each(|forwarded| self.take_forward(forwarded, entry.number));
            }
            Action::Condemn { objects } => {
                self.condemned.extend(objects.iter().map(|key| (key.clone(), time_ms)));
            }
            Action::Acquit { objects } => {
                for key in objects {
                    self.condemned.remove(key);
                }
            }
            Action::Delete { objects } => {
                for key in objects {
                    self.condemned.remove(key);
                }
                self.deleted.extend(objects.iter().map(|key| (key.clone(), entry.number)));
            }
            Action::AddSlot { id, object, name } => {
                self.slots.insert(*id, KeySlot { object: *object, name: name.clone(), time_ms });
            }
            Action::RemoveSlot { id } => {
                self.slots.remove(id);
                self.deleted.insert(name::slot(*id), entry.number);
            }
            Action::AddKey { id, object, pool, volume } => {
                let key = DataKey {
                    object: *object,
                    pool: *pool,
                    volume: *volume,
                    destroyed_ms: None,
                    locked_until_ms: None,
                };
                self.keys.insert(*id, key);
            }
            Action::DestroyKey { id } => {
                self.keys.entry(*id).and_modify(|key| key.destroyed_ms = Some(time_ms));
                self.deleted.insert(name::slot(*id), entry.number);
            }
            Action::AddSigner { signer, name } => drop(self.signers.insert(*signer, name.clone())),
            Action::RemoveSigner { signer } => drop(self.signers.remove(signer)),
        }
    }

    fn take_retain(&mut self, points: &[Digest], until_ms: u64, locked: Option<Retention>) {
        for id in points {
            if let Some(key) = self.points.get(id).map(|live| live.committed.key) {
                self.lock_key(key, locked);
            }
        }
        self.each_point(points, |live| {
            live.retain_until_ms = live.retain_until_ms.max(Some(until_ms));
            let wanted = locked.and_then(|locked| lock::raise(live.locked, locked));
            live.locked = wanted.or(live.locked);
        });
    }

    fn each_point(&mut self, points: &[Digest], change: impl Fn(&mut LivePoint)) {
        for id in points {
            self.points.entry(*id).and_modify(&change);
        }
    }
}

fn live(point: &Committed, committed_together: usize, group: Option<&String>, entry: &Entry) -> LivePoint {
    LivePoint {
        committed: point.clone(),
        number: entry.number,
        time_ms: entry.time_ms,
        group: group.cloned(),
        committed_together,
        retain_until_ms: point.retain_until_ms,
        locked: point.locked,
        holds: std::collections::BTreeMap::new(),
    }
}

fn absent(id: Digest) -> Option<String> {
    Some(format!("point {id} is not in the vault"))
}
