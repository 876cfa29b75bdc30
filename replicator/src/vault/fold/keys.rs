//! Slots and data keys: what contradicts an entry about them, and until when they are locked.

use crate::format::digest::{Digest, KeyId};
use crate::policy::calendar;
use crate::store::Retention;
use crate::vault::catalog::{Catalog, DataKey};

impl Catalog {
    pub(super) fn objection_to_key(&self, id: KeyId) -> Option<String> {
        let is_taken = id == KeyId::default() || self.slots.contains_key(&id) || self.keys.contains_key(&id);
        is_taken.then(|| format!("the identity {id} is taken"))
    }

    pub(super) fn objection_to_remove_slot(&self, id: KeyId) -> Option<String> {
        match self.slots.contains_key(&id) {
            false => Some(format!("there is no slot {id}")),
            true => (self.slots.len() == 1)
                .then(|| format!("{id} is the last slot: nothing would open the vault")),
        }
    }

    pub(super) fn objection_to_destroy(&self, id: KeyId, now_ms: u64) -> Option<String> {
        match self.keys.get(&id) {
            None => Some(format!("there is no key {id}")),
            Some(DataKey { destroyed_ms: Some(_), .. }) => Some(format!("key {id} is destroyed already")),
            Some(_) => self.key_stays(id, now_ms),
        }
    }

    /// Why what is under `key` must stay readable, whatever the log says became of the key; nothing when it need not.
    pub(in crate::vault) fn key_stays(&self, key: KeyId, now_ms: u64) -> Option<String> {
        self.points_stay(key, now_ms).or_else(|| {
            let until_ms = self.keys.get(&key)?.locked_until_ms.filter(|until_ms| *until_ms > now_ms)?;
            Some(format!("what key {key} encrypts is locked until {}", calendar::text(until_ms)))
        })
    }

    /// Why a point under `key` must stay, if one must; former points too.
    fn points_stay(&self, key: KeyId, now_ms: u64) -> Option<String> {
        let live = self.points.iter().filter(|(_, live)| live.committed.key == key);
        let mut live = live.map(|(id, live)| (*id, live.protection(now_ms)));
        let former = self.standing_former(now_ms).filter(|former| former.key == key);
        let mut former = former.map(|former| (former.id, former.protection(now_ms)));
        let stays =
            |(id, why): (Digest, Option<String>)| Some(format!("point {id} must stay readable: {}", why?));
        live.find_map(stays).or_else(|| former.find_map(stays))
    }

    pub(super) fn lock_key(&mut self, key: KeyId, locked: Option<Retention>) {
        let until_ms = locked.map(|locked| locked.until_ms);
        self.keys.entry(key).and_modify(|key| key.locked_until_ms = key.locked_until_ms.max(until_ms));
    }
}
