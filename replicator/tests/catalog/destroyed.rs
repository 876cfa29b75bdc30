//! A data key that somebody called destroyed by a forged entry, under a point that must stay readable.

use std::collections::BTreeSet;
use std::sync::Arc;

use firn_replicator::format::digest::{Digest, KeyId};
use firn_replicator::format::entry::Action;
use firn_replicator::format::name;
use firn_replicator::format::secret::Secret;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{MemoryStore, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::check::Finding;
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::keyring::Unlock;

use crate::sender::{Snapshot, send};
use crate::thief::{self, forge};
use crate::world::{DAY_MS, START_MS, init_options, store};

const DATE_MS: u64 = START_MS + 10 * DAY_MS;
const AFTER_MS: u64 = 11 * DAY_MS;

/// An encrypted vault with a point, and the point's data key.
fn with_point() -> (Arc<MemoryStore>, Vault, Digest, KeyId) {
    let store = store();
    let unlock = Some((Unlock::KeyFile(Secret::new([3; 32])), "first".to_owned()));
    let options = InitOptions { cipher: Cipher::Aes256Gcm, unlock, ..init_options(store.as_ref(), None) };
    let vault = Vault::init(store.clone(), options).unwrap();
    let id = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let key = vault.read_point(id).unwrap().key;
    (store, vault, id, key)
}

/// What check says of the key, and nothing else.
fn said_of(vault: &Vault, key: KeyId) -> Option<Finding> {
    let mut findings = vault.check().unwrap().findings;
    assert!(findings.iter().all(|finding| finding.object == name::slot(key)), "{findings:?}");
    findings.pop()
}

/// The log called the key destroyed, and check looked at it no more: that it was gone was found by the restore.
#[test]
fn a_key_under_a_point_that_must_stay_is_looked_at_whatever_the_log_says_of_it() {
    for is_former in [false, true] {
        let (store, vault, id, key) = with_point();
        vault.retain(&[id].into(), DATE_MS).unwrap();
        let mut points = BTreeSet::from([id]);
        if is_former {
            let decoy = thief::forward(&vault, id, 0, 0).unwrap();
            thief::prune(&vault, decoy, AFTER_MS).unwrap();
            points.insert(decoy);
        }
        assert_eq!(said_of(&vault, key), None);
        forge(&vault, AFTER_MS, Action::DestroyKey { id: key }).unwrap();
        let entry = vault.catalog().head().number;
        assert!(vault.catalog().is_destroyed(key) && vault.catalog().void().is_empty());

        let slot = name::slot(key);
        let bytes = store.get(&slot).unwrap();
        for (body, wrong) in [
            (Some(bytes.clone()), ""),
            (None, "is missing"),
            (Some(bytes[..bytes.len() - 1].to_vec()), "read key"),
        ] {
            store.put(&slot, &bytes).unwrap();
            store.tamper(&slot, body);
            let found = said_of(&vault, key).unwrap();
            assert!(found.detail.contains(wrong), "{found:?}");
            assert_eq!(wrong.is_empty(), found.detail.starts_with("entry"), "{found:?}");
            let contradicts = format!("entry {entry} says that this key was destroyed, and point ");
            assert!(found.detail.contains(&contradicts), "{found:?}");
            assert!(
                found.detail.contains("must stay readable: it is retained until 2026-10-01"),
                "{found:?}"
            );
            assert_eq!(found.points, points, "{found:?}");
        }
        // After its date nothing needs it, and what is left of it is nobody's concern.
        store.set_clock_ms(DATE_MS);
        assert_eq!(said_of(&vault, key), None);
    }
}

#[test]
fn a_key_that_was_destroyed_by_the_rules_is_not_missed() {
    let (store, vault, id, key) = with_point();
    vault.retain(&[id].into(), DATE_MS).unwrap();
    store.set_clock_ms(DATE_MS);
    vault.destroy_key(key).unwrap();
    assert!(vault.catalog().points().contains_key(&id) && store.head(&name::slot(key)).unwrap().is_none());
    assert_eq!(said_of(&vault, key), None);
}

/// Who must be asked about a lost key is not in the list of points.
#[test]
fn a_lost_key_is_named_with_the_former_points_under_it() {
    let (store, vault, id, key) = with_point();
    let hold = Action::Hold { point: id, reason: "court".to_owned(), locked: false };
    vault.append(&mut |_, _| Ok(Some(hold.clone()))).unwrap();
    let decoy = thief::forward(&vault, id, 0, 0).unwrap();
    forge(&vault, AFTER_MS, Action::DestroyKey { id: key }).unwrap();
    assert!(!vault.catalog().is_destroyed(key), "a hold has no date that an entry can be after");
    store.delete(&name::slot(key)).unwrap();
    let found = said_of(&vault, key).unwrap();
    assert!(found.detail.contains("is missing"), "{found:?}");
    assert_eq!(found.points, [id, decoy].into(), "{found:?}");
}
