//! Those who leave out one rule, which shows that a schedule finds what it is there for.

use firn_engine::sim::random::Random;
use firn_replicator::error::Result;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::Action;
use firn_replicator::format::name;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::{Key, LockMode, each_object};
use firn_replicator::vault::Vault;
use firn_replicator::vault::catalog::Catalog;
use firn_replicator::vault::reach::Reach;

use crate::sender::{Snapshot, upload};

/// A send whose commit does not look at what the log says of its objects. The snapshot is named after its blocks.
pub(crate) fn send(vault: &Vault, random: &mut Random) -> Result<()> {
    let letters: Vec<&str> = (0..1 + random.below(2))
        .map(|_| ["a", "b", "c"][usize::try_from(random.below(3)).unwrap()])
        .collect();
    let name = letters.concat();
    let committed = upload(vault, &Snapshot::new(9, &name, name.as_bytes()))?.committed;
    vault.append(&mut |_, _| Ok(Some(Action::Commit { points: vec![committed.clone()], group: None })))?;
    Ok(())
}

/// What a point of the careless sender holds.
pub(crate) fn content(name: &str) -> Vec<u8> {
    name.bytes().flat_map(|letter| [letter; 4096]).collect()
}

/// A date that the store is told nothing of.
pub(crate) fn retain(vault: &Vault, point: Digest, until_ms: u64) -> Result<()> {
    let locked = vault.settings().lock.map(|_| LockMode::Compliance);
    vault.append(&mut |_, _| Ok(Some(Action::Retain { points: vec![point], until_ms, locked })))?;
    Ok(())
}

/// A reclaim that knows what points reach as of its beginning, and does not look again.
pub(crate) fn reclaim(vault: &Vault, limits: Limits) -> Result<u64> {
    vault.refresh()?;
    let reach = vault.reach()?;
    let mut dead: Vec<Key> = Vec::new();
    for prefix in [name::PACKS, name::RUNS, name::POINTS] {
        each_object(vault.store().as_ref(), prefix, |object| {
            if !reach.objects().contains(&object.key) {
                dead.push(object.key);
            }
            Ok(())
        })?;
    }
    vault.append(&mut |catalog, _| {
        let is_new = |key: &&Key| !catalog.condemned().contains_key(*key) && !catalog.is_deleted(key);
        let objects: Vec<Key> = dead.iter().filter(is_new).cloned().collect();
        Ok((!objects.is_empty()).then_some(Action::Condemn { objects }))
    })?;
    let mut named = Vec::new();
    vault.append(&mut |catalog, clock_ms| {
        let is_due = |key: &&Key| {
            let condemned_ms = catalog.condemned().get(*key);
            condemned_ms.is_some_and(|condemned_ms| condemned_ms + limits.condemn_ms <= clock_ms)
        };
        named = dead.iter().filter(is_due).cloned().collect();
        Ok((!named.is_empty()).then(|| Action::Delete { objects: named.clone() }))
    })?;
    named.iter().try_for_each(|key| vault.store().delete(key))?;
    Ok(named.len() as u64)
}

/// A reclaim that looks at who reaches what as of each entry, and takes for reached what live points reach alone.
pub(crate) fn reclaim_live(vault: &Vault, limits: Limits) -> Result<u64> {
    let unreached = |catalog: &Catalog| -> Result<Vec<Key>> {
        let (mut reach, mut dead) = (Reach::default(), Vec::new());
        catalog.points().keys().try_for_each(|id| reach.add(vault, *id))?;
        for prefix in [name::PACKS, name::RUNS, name::POINTS] {
            each_object(vault.store().as_ref(), prefix, |object| {
                if !reach.objects().contains(&object.key) {
                    dead.push(object.key);
                }
                Ok(())
            })?;
        }
        Ok(dead)
    };
    vault.append(&mut |catalog, _| {
        let is_new = |key: &Key| !catalog.condemned().contains_key(key) && !catalog.is_deleted(key);
        let objects: Vec<Key> = unreached(catalog)?.into_iter().filter(is_new).collect();
        Ok((!objects.is_empty()).then_some(Action::Condemn { objects }))
    })?;
    let mut named = Vec::new();
    vault.append(&mut |catalog, clock_ms| {
        let is_due = |key: &Key| {
            let condemned_ms = catalog.condemned().get(key);
            condemned_ms.is_some_and(|condemned_ms| condemned_ms + limits.condemn_ms <= clock_ms)
        };
        named = unreached(catalog)?.into_iter().filter(is_due).collect();
        Ok((!named.is_empty()).then(|| Action::Delete { objects: named.clone() }))
    })?;
    named.iter().try_for_each(|key| vault.store().delete(key))?;
    Ok(named.len() as u64)
}
