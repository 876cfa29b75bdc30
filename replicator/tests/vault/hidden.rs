//! Somebody who may write, and not delete what is locked, puts something newer over the objects of a vault.

use std::sync::Arc;

use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::Action;
use firn_replicator::format::name;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{Key, LockMode, MemoryStore, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::verify::Depth;

use crate::model::{Random, Snapshot, Volume};
use crate::place::{START_MS, init_locking, keys, open, restored, send_all};
use crate::random::change;

const DAY_MS: u64 = 86_400_000;

/// An encrypted vault whose three points are locked, and the volume they are of.
fn locked() -> (Arc<MemoryStore>, Volume, Vec<(Digest, Snapshot)>) {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init_locking(&store, Cipher::Aes256Gcm, Some(LockMode::Compliance));
    let (mut volume, mut random) = (Volume::new(1, 300), Random(21));
    let mut points = Vec::new();
    for _ in 0..3 {
        change(&mut volume, &mut random);
        let snapshot = volume.snapshot();
        points.push((send_all(&vault, &[&snapshot], &dated()).unwrap().points[0].id, snapshot));
    }
    (store, volume, points)
}

fn dated() -> SendOptions {
    SendOptions { retain_until_ms: Some(START_MS + 30 * DAY_MS), ..SendOptions::default() }
}

fn opened(store: &Arc<MemoryStore>) -> Vault {
    open(store.clone(), Cipher::Aes256Gcm).unwrap()
}

/// What the two proofs name, each with a handle that has read nothing before.
fn named(store: &MemoryStore, depth: Depth) -> [Vec<(Key, String)>; 2] {
    let verified = opened(&Arc::new(store.copy())).verify(depth, &()).unwrap().damaged;
    let checked = opened(&Arc::new(store.copy())).check().unwrap().findings;
    [
        verified.into_iter().map(|damage| (damage.object, damage.detail)).collect(),
        checked.into_iter().map(|finding| (finding.object, finding.detail)).collect(),
    ]
}

fn is_restored(store: &MemoryStore, points: &[(Digest, Snapshot)], what: &str) {
    let vault = opened(&Arc::new(store.copy()));
    assert_eq!(vault.catalog().points().len(), points.len(), "{what}");
    for (id, snapshot) in points {
        assert!(restored(&vault, *id) == snapshot.content(), "{what}: {id}");
    }
}

#[test]
fn each_hidden_object_is_found_and_named_and_everything_is_restored() {
    let (store, mut volume, points) = locked();
    let snapshot = volume.snapshot();
    let all = keys(store.as_ref());
    assert!(all.len() > 15, "{all:?}");
    for key in &all {
        let body = store.get(key).unwrap();
        let mut flipped = body.clone();
        flipped[body.len() / 2] ^= 1;
        for newer in [None, Some(flipped), Some(b"{}\n".to_vec()), Some(body.repeat(3))] {
            let what = format!("{key} under {:?} bytes", newer.as_ref().map(Vec::len));
            let hidden = store.copy();
            hidden.hide(key, newer.as_deref());
            is_restored(&hidden, &points, &what);
            for depth in [Depth::Objects, Depth::Content] {
                let [verified, checked] = named(&hidden, depth);
                let [(found, detail)] = verified.as_slice() else { panic!("{what}: {verified:?}") };
                assert!(found == key && detail.contains("hidden by a newer version"), "{what}: {detail}");
                // A check looks at lengths of packs, and at nothing else of them.
                if !key.as_str().starts_with(name::PACKS) || newer.as_ref().map(Vec::len) != Some(body.len())
                {
                    let [(found, detail)] = checked.as_slice() else { panic!("{what}: {checked:?}") };
                    assert!(found == key && detail.contains("hidden by a newer version"), "{what}: {detail}");
                }
            }
            let hidden = Arc::new(hidden);
            send_all(&opened(&hidden), &[&snapshot], &dated()).unwrap();
            assert_eq!(opened(&hidden).catalog().points().len(), points.len() + 1, "{what}");
        }
    }
}

#[test]
fn a_vault_that_is_hidden_whole_is_restored_whole() {
    let (store, _, points) = locked();
    let all = keys(store.as_ref());
    for newer in [None, Some(b"nothing".as_slice())] {
        let hidden = store.copy();
        all.iter().for_each(|key| hidden.hide(key, newer));
        is_restored(&hidden, &points, "all of it");
        let [verified, checked] = named(&hidden, Depth::Content);
        for found in [&verified, &checked] {
            assert_eq!(found.iter().map(|(key, _)| key).collect::<Vec<_>>(), all.iter().collect::<Vec<_>>());
        }
    }
}

/// A store creates an object over a mark of deletion. A writer that did so put a second entry in another's place, and
/// what the other had committed was in the log of those who saw the first, and not of the others.
#[test]
fn an_entry_is_never_written_over_one_that_is_hidden() {
    let (store, ..) = locked();
    let (vault, other) = (opened(&store), opened(&store));
    let point = *vault.catalog().points().keys().next().unwrap();
    let hold = |reason: &str| Some(Action::Hold { point, reason: reason.to_owned(), locked: false });
    let hidden = name::entry(vault.catalog().head().number + 1);
    other.append(&mut |_, _| Ok(hold("first"))).unwrap();
    store.hide(&hidden, None);
    vault.append(&mut |_, _| Ok(hold("second"))).unwrap();

    let hidden = name::entry(vault.catalog().head().number + 1);
    let mut races = 1;
    vault
        .append(&mut |_, _| {
            if races > 0 {
                races -= 1;
                other.append(&mut |_, _| Ok(hold("third")))?;
                store.hide(&hidden, None);
            }
            Ok(hold("fourth"))
        })
        .unwrap();
    let catalog = opened(&store).catalog();
    let held = &catalog.points()[&point].holds;
    assert_eq!(held.keys().collect::<Vec<_>>(), ["first", "fourth", "second", "third"]);
}
