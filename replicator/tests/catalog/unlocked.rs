//! What a point needs that left is locked as it was, and whoever took a lock away is found out.

use std::collections::BTreeSet;
use std::sync::Arc;

use firn_replicator::format::digest::Digest;
use firn_replicator::format::name;
use firn_replicator::store::{Key, LockMode, MemoryStore, Retention, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::lock::lock_objects;
use firn_replicator::vault::verify::Depth;

use crate::foundation::{encrypted, foundation, send_until};
use crate::sender::{Snapshot, send, upload};
use crate::thief;
use crate::world::{DAY_MS, START_MS, store};

const UNTIL_MS: u64 = START_MS + 40 * DAY_MS;
/// Everything, for longer than anything asks for.
const LONG: Retention = Retention { mode: LockMode::Compliance, until_ms: START_MS + 100 * DAY_MS };

/// Lets a point go on as an empty one, prunes that by an entry dated after its date, and locks what this wrote, so that
/// nothing is wrong but what a test does.
fn steal(vault: &Vault, id: Digest) {
    let decoy = thief::forward(vault, id, 0, 0).unwrap();
    thief::prune(vault, decoy, 41 * DAY_MS).unwrap();
    let written = foundation(vault).into_iter().chain([name::point(decoy)]).collect();
    lock_objects(vault.store().as_ref(), &written, LONG).unwrap();
}

/// What both proofs say of `key`, each detail with the points.
fn said_of(vault: &Vault, key: &Key) -> Vec<(String, BTreeSet<Digest>)> {
    let verified = vault.verify(Depth::Objects, &()).unwrap().damaged;
    let deeper = vault.verify(Depth::Content, &()).unwrap().damaged;
    assert_eq!(verified, deeper);
    let checked = vault.check().unwrap().findings;
    assert!(
        verified
            .iter()
            .map(|damage| &damage.object)
            .chain(checked.iter().map(|found| &found.object))
            .all(|found| found == key)
    );
    let verified = verified.into_iter().map(|damage| (damage.detail, damage.points.into_iter().collect()));
    verified.chain(checked.into_iter().map(|found| (found.detail, found.points))).collect()
}

fn unlock(store: &MemoryStore, key: &Key) {
    let body = store.get(key).unwrap();
    store.tamper(key, None);
    store.put(key, &body).unwrap();
}

fn is_data(key: &Key) -> bool {
    [name::PACKS, name::RUNS].iter().any(|prefix| key.as_str().starts_with(prefix))
}

/// Nothing looked at the locks of what had left: a thief let a locked point go on as another one, and whoever may bypass
/// governance took its locks away unseen.
#[test]
fn a_lost_lock_of_what_a_former_point_needs_is_found() {
    let store = store();
    let vault = encrypted(&store);
    let id = send_until(&vault, &Snapshot::new(1, "one", b"ab"), UNTIL_MS).unwrap();
    let needed = vault.needed_by(id).unwrap();
    assert_eq!(needed.len(), 7, "two packs, run, point, data key, slot, settings");
    // A point that shares all of it, and that nobody has locked.
    let sharing = send(&vault, &Snapshot::new(1, "two", b"c").on_parent()).unwrap();
    steal(&vault, id);
    assert!(!vault.catalog().points().contains_key(&id));
    let shared = vault.needed_by(sharing).unwrap();
    for key in needed.iter().chain([&name::entry(1)]) {
        assert_eq!(said_of(&vault, key), [], "{key}");
        unlock(&store, key);
        let said = said_of(&vault, key);
        // Of packs and runs check looks at names and lengths only.
        assert_eq!(said.len(), if is_data(key) { 1 } else { 2 }, "{key}: {said:?}");
        for (detail, points) in &said {
            assert!(detail.contains("and it is locked not at all"), "{detail}");
            assert!(points.contains(&id), "{key}: {points:?}");
            assert_eq!(points.contains(&sharing), is_data(key) && shared.contains(key), "{key}: {points:?}");
            assert!(points.len() <= 2);
            let remedy = format!("lock it with the store's own tools, or restore former/{}", id.short());
            assert!(detail.contains(&remedy), "{detail}");
        }
        lock_objects(store.as_ref(), &[key.clone()].into(), LONG).unwrap();
    }
    // When its date has passed, nothing must be locked.
    store.set_clock_ms(LONG.until_ms);
    for key in needed {
        unlock(&store, &key);
        assert_eq!(said_of(&vault, &key), [], "{key}");
    }
}

/// A sender said that its point was locked, and did not lock it; then the point left.
#[test]
fn a_former_point_that_was_never_locked_is_found() {
    let store = store();
    let vault = encrypted(&store);
    let mut uploaded = upload(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let id = uploaded.committed.id;
    uploaded.committed.retain_until_ms = Some(UNTIL_MS);
    uploaded.committed.locked = Some(Retention { mode: LockMode::Compliance, until_ms: UNTIL_MS });
    _ = vault.commit(&[uploaded.committed], None, &uploaded.objects).unwrap();
    steal(&vault, id);
    let damaged = vault.verify(Depth::Objects, &()).unwrap().damaged;
    let found: BTreeSet<&Key> = damaged.iter().map(|damage| &damage.object).collect();
    let key = name::slot(vault.catalog().former()[0].key);
    let own: BTreeSet<Key> = uploaded.objects.into_iter().chain([name::point(id), key]).collect();
    assert_eq!(found, own.iter().collect(), "{damaged:?}");
    assert!(damaged.iter().all(|damage| damage.points.contains(&id)), "{damaged:?}");
}

/// A lock that is weaker than the log says is none.
#[test]
fn a_pack_that_is_locked_less_strongly_than_the_log_says_is_found() {
    let store: Arc<MemoryStore> = store();
    let vault = encrypted(&store);
    let id = send_until(&vault, &Snapshot::new(1, "one", b"a"), UNTIL_MS).unwrap();
    let pack = store.list(name::PACKS, None).unwrap().remove(0).key;
    unlock(&store, &pack);
    let governed = Retention { mode: LockMode::Governance, ..LONG };
    lock_objects(store.as_ref(), &[pack.clone()].into(), governed).unwrap();
    let damaged = vault.verify(Depth::Objects, &()).unwrap().damaged;
    assert_eq!(
        damaged.iter().map(|damage| (&damage.object, &damage.points[..])).collect::<Vec<_>>(),
        [(&pack, &[id][..])]
    );
    assert!(damaged[0].detail.contains("needs it locked until 2026-10-31T"), "{damaged:?}");
    assert!(damaged[0].detail.contains("(governance)"), "{damaged:?}");
    vault.retain(&[id].into(), UNTIL_MS).unwrap();
    assert_eq!(vault.verify(Depth::Objects, &()).unwrap().damaged, []);
}
