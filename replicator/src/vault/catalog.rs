//! What the log says, as a value: the points that live, what protects them, keys, signers, and names to leave alone.
//!
//! 1. A catalog follows from the log's entries alone, from the first to its head. Whoever read the same entries has
//!    the same catalog.
//! 2. Time is that of the entries, which is the store's.
//! 3. A name that a `delete` entry ever held stays in `deleted` for ever.
//!
//! `fold` turns one catalog and an entry into the next.

use std::collections::BTreeMap;

use super::former::FormerPoint;
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, KeyId, PoolId, Signer, VaultId};
use crate::format::entry::Committed;
use crate::policy::calendar;
use crate::policy::reclaim::Standing;
use crate::policy::verdict::Candidate;
use crate::store::{Key, Retention};

/// The last entry that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 when the log is empty.
    pub number: u64,
    /// Its hash; all zeros when the log is empty.
    pub hash: Digest,
    /// Its time, in ms since 1970.
    pub time_ms: u64,
}

/// A point that is in the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivePoint {
    /// What the log said of it when it was committed.
    pub committed: Committed,
    /// The entry that committed it.
    pub number: u64,
    /// That entry's time, in ms since 1970.
    pub time_ms: u64,
    /// The consistency group that it was sent with.
    pub group: Option<String>,
    /// Points that its entry committed, itself included; those that left the vault since are counted too.
    pub committed_together: usize,
    /// Until when it must be kept; the latest of all dates that it was given.
    pub retain_until_ms: Option<u64>,
    /// Until when, and how, everything it reaches is locked in the store.
    pub locked: Option<Retention>,
    /// What holds it, by name.
    pub holds: BTreeMap<String, Hold>,
}

/// A hold of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// When it was set, in ms since 1970.
    pub time_ms: u64,
    /// Whether the store holds what the point reaches too.
    pub locked: bool,
}

impl LivePoint {
    /// Why it must stay at the time `now_ms`, in words; nothing when it need not.
    pub fn protection(&self, now_ms: u64) -> Option<String> {
        protection(&self.holds, self.retain_until_ms, now_ms)
    }

    /// What policies look at.
    pub fn candidate(&self) -> Candidate {
        Candidate {
            id: self.committed.id,
            pool: self.committed.pool,
            volume: self.committed.volume,
            entry: self.number,
            time_ms: self.time_ms,
            retain_until_ms: self.retain_until_ms,
            holds: self.holds.keys().cloned().collect(),
        }
    }
}

/// Why what is held and retained so must stay at the time `now_ms`, in words; nothing when it need not.
pub(super) fn protection(
    holds: &BTreeMap<String, Hold>,
    retain_until_ms: Option<u64>,
    now_ms: u64,
) -> Option<String> {
    if let Some(reason) = holds.keys().next() {
        return Some(format!("it is held: {reason}"));
    }
    let until_ms = retain_until_ms.filter(|until_ms| *until_ms > now_ms)?;
    Some(format!("it is retained until {}", calendar::text(until_ms)))
}

/// A slot that opens the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySlot {
    /// The hash of its object.
    pub object: Digest,
    /// What the user calls it.
    pub name: String,
    /// When it was added, in ms since 1970.
    pub time_ms: u64,
}

/// A volume's data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// The hash of its object.
    pub object: Digest,
    /// The pool of its volume.
    pub pool: PoolId,
    /// The volume's identity in its pool.
    pub volume: u64,
    /// When it was destroyed, in ms since 1970.
    pub destroyed_ms: Option<u64>,
    /// Until when, at the latest, something under it is locked in the store, points that were pruned included.
    pub locked_until_ms: Option<u64>,
}

/// An entry that contradicts those before it, and therefore counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoidEntry {
    /// Its number.
    pub number: u64,
    /// What it contradicts.
    pub why: String,
}

/// What the log says up to its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    pub(super) vault: VaultId,
    pub(super) settings: Option<Digest>,
    pub(super) head: Head,
    pub(super) points: BTreeMap<Digest, LivePoint>,
    pub(super) condemned: BTreeMap<Key, u64>,
    pub(super) deleted: BTreeMap<Key, u64>,
    pub(super) slots: BTreeMap<KeyId, KeySlot>,
    pub(super) keys: BTreeMap<KeyId, DataKey>,
    pub(super) signers: BTreeMap<Signer, String>,
    pub(super) void: Vec<VoidEntry>,
    /// What took the place of points that are not in the vault any more.
    pub(super) forwarded: BTreeMap<Digest, Digest>,
    /// Points that left with a date or with holds, by what stands in their place: the last one that they went on as, be
    /// it in the vault or pruned; a pruned one by its own name.
    pub(super) former: BTreeMap<Digest, Vec<FormerPoint>>,
    /// The latest date that a point was given, those that left the vault included.
    pub(super) kept_until_ms: Option<u64>,
}

impl Catalog {
    /// That of an empty log, which `founder` may begin.
    pub fn new(vault: VaultId, founder: Signer) -> Self {
        Self {
            vault,
            settings: None,
            head: Head::default(),
            points: BTreeMap::new(),
            condemned: BTreeMap::new(),
            deleted: BTreeMap::new(),
            slots: BTreeMap::new(),
            keys: BTreeMap::new(),
            signers: BTreeMap::from([(founder, "founder".to_owned())]),
            void: Vec::new(),
            forwarded: BTreeMap::new(),
            former: BTreeMap::new(),
            kept_until_ms: None,
        }
    }

    /// The vault.
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// The hash of `vault.json`, by the first entry.
    pub fn settings(&self) -> Option<Digest> {
        self.settings
    }

    /// The last entry.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The points in the vault, by identity.
    pub fn points(&self) -> &BTreeMap<Digest, LivePoint> {
        &self.points
    }

    /// A point in the vault, or the one that took its place.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when neither is there.
    pub fn point(&self, id: Digest) -> Result<&LivePoint> {
        let absent = || Error::new(Kind::NotFound, "find point", format!("{id} is not in the vault"));
        self.points.get(&self.current(id)).ok_or_else(absent)
    }

    /// What a point is called now: itself, or the one that took its place, or that one's.
    pub fn current(&self, id: Digest) -> Digest {
        let mut current = id;
        // Whatever comes into the vault is not forwarded any more, so this is no circle.
        while let Some(next) = self.forwarded.get(&current).filter(|_| !self.points.contains_key(&current)) {
            current = *next;
        }
        current
    }

    /// The points in whose place `id` stands.
    pub fn forwarded_to(&self, id: Digest) -> impl Iterator<Item = Digest> {
        self.forwarded.keys().copied().filter(move |old| *old != id && self.current(*old) == id)
    }

    /// The points of a volume, oldest first.
    pub fn points_of(&self, pool: PoolId, volume: u64) -> Vec<&LivePoint> {
        let is_of = |point: &&LivePoint| point.committed.pool == pool && point.committed.volume == volume;
        let mut points: Vec<_> = self.points.values().filter(is_of).collect();
        points.sort_by_key(|point| (point.number, point.committed.created_ms));
        points
    }

    /// Objects that were condemned and are not deleted, with the time of it, in ms since 1970.
    pub fn condemned(&self) -> &BTreeMap<Key, u64> {
        &self.condemned
    }

    /// Every object that a `delete` entry ever named, with that entry's number.
    pub fn deleted(&self) -> &BTreeMap<Key, u64> {
        &self.deleted
    }

    /// What the log says of an object, when `is_reached` says whether a point that stands reaches it.
    pub fn standing(&self, key: &Key, is_reached: bool) -> Standing {
        let condemned_ms = self.condemned.get(key).copied();
        Standing { is_reached, condemned_ms, is_deleted: self.is_deleted(key) }
    }

    /// Whether no commit may reach `key`, because a `delete` entry names it.
    pub fn is_deleted(&self, key: &Key) -> bool {
        self.deleted.contains_key(key)
    }

    /// The first generation, from 0, whose `name` no `delete` entry holds.
    pub fn free_generation(&self, name: impl Fn(u32) -> Key) -> u32 {
        (0..u32::MAX).find(|generation| !self.is_deleted(&name(*generation))).unwrap_or(u32::MAX)
    }

    /// Slots that open the master key.
    pub fn slots(&self) -> &BTreeMap<KeyId, KeySlot> {
        &self.slots
    }

    /// Data keys, those that were destroyed included.
    pub fn keys(&self) -> &BTreeMap<KeyId, DataKey> {
        &self.keys
    }

    /// Whether a data key was destroyed, and what is under it can't be read any more.
    pub fn is_destroyed(&self, key: KeyId) -> bool {
        self.keys.get(&key).is_some_and(|key| key.destroyed_ms.is_some())
    }

    /// The data key of a volume, unless it has none or it was destroyed.
    pub fn key_of(&self, pool: PoolId, volume: u64) -> Option<KeyId> {
        let is_of = |key: &DataKey| key.pool == pool && key.volume == volume && key.destroyed_ms.is_none();
        self.keys.iter().find(|(_, key)| is_of(key)).map(|(id, _)| *id)
    }

    /// Who may sign entries, and what they are called.
    pub fn signers(&self) -> &BTreeMap<Signer, String> {
        &self.signers
    }

    /// Entries that count for nothing, oldest first.
    pub fn void(&self) -> &[VoidEntry] {
        &self.void
    }
}
