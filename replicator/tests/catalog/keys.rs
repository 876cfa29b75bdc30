//! Keys: who can open what, what is said to whoever can't, and that nothing is lost on the way.

use std::sync::Arc;

use firn_replicator::error::{Kind, Result};
use firn_replicator::format::digest::{Digest, KeyId};
use firn_replicator::format::entry::Action;
use firn_replicator::format::name;
use firn_replicator::format::secret::Secret;
use firn_replicator::format::slot::{Slot, Wrapping};
use firn_replicator::store::{LockMode, MemoryStore, Retention, Store};
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::keyring::Unlock;
use firn_replicator::vault::{OpenOptions, Vault};

use crate::log::forge;
use crate::sender::{Snapshot, send, upload};
use crate::world::{
    DAY_MS, POOL, START_MS, encrypted_options, init_options, killed_everywhere, open_options, passphrase,
    refusal, store,
};

fn unlocked(store: &Arc<MemoryStore>, unlock: Unlock) -> Result<Vault> {
    Vault::open(store.clone(), OpenOptions { unlock: Some(unlock), ..open_options() })
}

fn encrypted() -> (Arc<MemoryStore>, Vault) {
    let store = store();
    let vault = Vault::init(store.clone(), encrypted_options(store.as_ref(), "moon")).unwrap();
    (store, vault)
}

/// Whether `vault` can read what a point lists.
fn can_read(vault: &Vault) -> Result<()> {
    vault.reach().map(|_| ())
}

#[test]
fn the_right_passphrase_opens_and_the_wrong_one_says_so() {
    let (store, vault) = encrypted();
    let id = send(&vault, &Snapshot::new(1, "s", b"ab")).unwrap();
    can_read(&unlocked(&store, passphrase("moon")).unwrap()).unwrap();

    let error = refusal(unlocked(&store, passphrase("sun")));
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("this passphrase opens none of 1 slots"), "{error}");
    let error = refusal(unlocked(&store, Unlock::KeyFile(Secret::new([3; 32]))));
    assert!(error.to_string().contains("(0 are for a key file)"), "{error}");

    // A locked vault still lists its points.
    let locked = Vault::open(store, open_options()).unwrap();
    assert!(locked.catalog().points().contains_key(&id));
    let error = can_read(&locked).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("encrypted and locked"), "{error}");
    assert!(error.next_step().is_some());
    assert_eq!(locked.data_key(POOL, 9).unwrap_err().kind(), Kind::Invalid);
}

/// Whoever could write to the store replaced an encrypted vault by one of their own that is not, and the next send went
/// there in clear, with the passphrase given and never asked for.
#[test]
fn a_vault_that_is_not_encrypted_takes_no_key() {
    let store = store();
    let _theirs = crate::world::vault(&store, None);
    for unlock in [passphrase("moon"), Unlock::KeyFile(Secret::new([3; 32]))] {
        let error = refusal(unlocked(&store, unlock));
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("the vault is not encrypted"), "{error}");
        assert!(error.next_step().unwrap().contains("in its place"), "{error}");
    }
}

#[test]
fn slots_are_rotated_without_touching_data() {
    let (store, vault) = encrypted();
    send(&vault, &Snapshot::new(1, "s", b"ab")).unwrap();
    let first = *vault.catalog().slots().keys().next().unwrap();
    let last = vault.remove_slot(first).unwrap_err();
    assert_eq!(last.kind(), Kind::Conflict);

    let file = Secret::new([5; 32]);
    let second = vault.add_slot(&Unlock::KeyFile(file.clone()), "vault.key").unwrap();
    vault.remove_slot(first).unwrap();
    assert!(store.head(&name::slot(first)).unwrap().is_none());
    assert_eq!(vault.catalog().slots()[&second].name, "vault.key");
    can_read(&unlocked(&store, Unlock::KeyFile(file)).unwrap()).unwrap();
    let error = refusal(unlocked(&store, passphrase("moon")));
    assert!(error.to_string().contains("(0 are for a passphrase)"), "{error}");
    vault.remove_slot(first).unwrap();
    assert_eq!(vault.remove_slot(KeyId([1; 16])).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(vault.check().unwrap().findings, []);
}

#[test]
fn a_lost_or_damaged_slot_is_named_and_another_one_does() {
    let (store, vault) = encrypted();
    send(&vault, &Snapshot::new(1, "s", b"ab")).unwrap();
    let first = name::slot(*vault.catalog().slots().keys().next().unwrap());
    let bytes = store.get(&first).unwrap();
    for damaged in [None, Some(bytes[..20].to_vec()), Some(b"{}\n".to_vec())] {
        store.tamper(&first, damaged);
        let error = refusal(unlocked(&store, passphrase("moon")));
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.to_string().contains(first.as_str()), "{error}");
        assert_eq!(vault.check().unwrap().findings[0].object, first);
        store.put(&first, &bytes).unwrap();
    }
    vault.add_slot(&passphrase("star"), "second").unwrap();
    store.tamper(&first, None);
    can_read(&unlocked(&store, passphrase("star")).unwrap()).unwrap();
}

/// A slot with costs that can't be, which somebody who may sign put before the others, kept them from being tried.
#[test]
fn a_slot_that_can_t_be_right_hides_no_other() {
    let (store, vault) = encrypted();
    send(&vault, &Snapshot::new(1, "s", b"ab")).unwrap();
    let mut first = [0; 16];
    first[15] = 1;
    let id = KeyId(first);
    let wrapping = Wrapping::Passphrase { memory_kib: 1, passes: 1, salt: "73".repeat(16) };
    let (firn, wrapped) = ("key".to_owned(), "00".repeat(60));
    let slot = Slot { firn, format: 1, vault: vault.settings().vault, id, wrapping, wrapped }.encode();
    store.put(&name::slot(id), &slot).unwrap();
    let action = Action::AddSlot { id, object: Digest::of(&slot), name: "x".into() };
    forge(&store, &vault, 1, action);
    can_read(&unlocked(&store, passphrase("moon")).unwrap()).unwrap();
    let error = refusal(unlocked(&store, passphrase("sun")));
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains(name::slot(id).as_str()), "{error}");
}

#[test]
fn another_vault_s_slot_opens_nothing_here() {
    let (store, vault) = encrypted();
    let other = crate::world::store();
    let theirs = Vault::init(other.clone(), encrypted_options(other.as_ref(), "mine")).unwrap();
    let slot = name::slot(*vault.catalog().slots().keys().next().unwrap());
    let their_slot = name::slot(*theirs.catalog().slots().keys().next().unwrap());
    store.tamper(&slot, Some(other.get(&their_slot).unwrap()));
    assert_eq!(refusal(unlocked(&store, passphrase("mine"))).kind(), Kind::Damaged);
}

#[test]
fn each_volume_has_one_key_however_many_ask() {
    let (store, vault) = encrypted();
    let keys: Vec<KeyId> = std::thread::scope(|scope| {
        let ask = || unlocked(&store, passphrase("moon")).unwrap().data_key(POOL, 1).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_ne!(vault.data_key(POOL, 2).unwrap(), keys[0]);
    assert_eq!(vault.refresh().unwrap().keys().len(), 2);
}

#[test]
fn a_destroyed_key_takes_its_points_along_and_no_others() {
    let (store, vault) = encrypted();
    let gone = send(&vault, &Snapshot::new(1, "s", b"ab")).unwrap();
    let stays = send(&vault, &Snapshot::new(2, "s", b"ab")).unwrap();
    let key = vault.data_key(POOL, 1).unwrap();
    vault.hold(gone, "audit").unwrap();
    let held = vault.destroy_key(key).unwrap_err();
    assert_eq!(held.kind(), Kind::Conflict);
    assert!(held.to_string().contains("must stay readable: it is held: audit"), "{held}");
    vault.release(gone, "audit").unwrap();
    vault.destroy_key(key).unwrap();
    vault.destroy_key(key).unwrap();
    assert!(store.head(&name::slot(key)).unwrap().is_none());

    let again = unlocked(&store, passphrase("moon")).unwrap();
    let error = again.frame_keys(key).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("was destroyed on 2026-"), "{error}");
    assert!(again.needed_by(stays).is_ok());
    assert_ne!(again.data_key(POOL, 1).unwrap(), key, "what is sent from now on has a new key");
    // Its packs can't be told from the runs any more, and are kept as long as the point is there.
    let packs = |store: &MemoryStore| store.list(name::PACKS, None).unwrap().len();
    store.set_clock_ms(START_MS + 400 * DAY_MS);
    let before = packs(&store);
    let limits = firn_replicator::policy::reclaim::Limits { condemn_ms: 0, session_ms_max: 0 };
    again.reclaim(limits).unwrap();
    again.reclaim(limits).unwrap();
    assert_eq!(packs(&store), before);
    again.remove_points(&[gone], "unreadable").unwrap();
    again.reclaim(limits).unwrap();
    again.reclaim(limits).unwrap();
    assert_eq!(packs(&store), before - 2);
    assert_eq!(again.check().unwrap().findings, []);
}

#[test]
fn a_key_is_not_destroyed_while_what_it_encrypts_is_locked() {
    let store = store();
    let lock = Some(LockMode::Compliance);
    let options = InitOptions { lock, ..encrypted_options(store.as_ref(), "moon") };
    let vault = Vault::init(store.clone(), options).unwrap();
    let id = send(&vault, &Snapshot::new(1, "s", b"ab")).unwrap();
    let key = vault.data_key(POOL, 1).unwrap();
    vault.retain(&[id].into(), START_MS + 10 * DAY_MS).unwrap();
    let error = vault.destroy_key(key).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("it is retained until"), "{error}");
    assert_eq!(store.delete(&name::slot(key)).unwrap_err().kind(), Kind::Conflict, "nor by anybody else");

    // A lock outlasts the point's own date, and the point.
    let mut uploaded = upload(&vault, &Snapshot::new(1, "t", b"c")).unwrap();
    let lock = Retention { mode: LockMode::Compliance, until_ms: START_MS + 20 * DAY_MS };
    uploaded.committed.locked = Some(lock);
    let brief = uploaded.committed.id;
    vault.commit(&[uploaded.committed], None, &uploaded.objects).unwrap();
    store.set_clock_ms(START_MS + 10 * DAY_MS);
    vault.remove_points(&[id, brief], "old").unwrap();
    let error = vault.destroy_key(key).unwrap_err();
    assert!(error.to_string().contains("encrypts is locked until"), "{error}");
    store.set_clock_ms(START_MS + 20 * DAY_MS);
    vault.destroy_key(key).unwrap();
}

#[test]
fn an_encrypted_init_that_was_killed_is_completed_by_the_next() {
    let empty = MemoryStore::new(START_MS);
    let init = |store: Arc<dyn Store>| {
        let options = encrypted_options(store.as_ref(), "moon");
        Vault::init(store, options).map(|_| ())
    };
    killed_everywhere(&empty, init, |left, index, fault| {
        match init(left.clone()) {
            Err(error) if error.kind() == Kind::Conflict => {}
            next => next.unwrap_or_else(|error| panic!("{fault:?} at {index}: {error}")),
        }
        let vault = unlocked(left, passphrase("moon")).unwrap();
        send(&vault, &Snapshot::new(1, "s", b"a")).unwrap();
        assert_eq!(vault.catalog().slots().len(), 1, "{fault:?} at {index}");
    });
}

#[test]
fn what_can_t_be_made_is_refused() {
    let store = store();
    let nothing_opens_it = InitOptions { unlock: None, ..encrypted_options(store.as_ref(), "moon") };
    assert_eq!(refusal(Vault::init(store.clone(), nothing_opens_it)).kind(), Kind::Invalid);
    assert_eq!(
        refusal(Vault::init(store.clone(), encrypted_options(store.as_ref(), ""))).kind(),
        Kind::Invalid
    );
    let other = crate::world::store();
    let mut options = init_options(other.as_ref(), Some(LockMode::Governance));
    options.probed.retention = false;
    assert_eq!(refusal(Vault::init(other.clone(), options)).kind(), Kind::Invalid);
    let plain = crate::world::vault(&other, None);
    assert_eq!(plain.add_slot(&passphrase("x"), "x").unwrap_err().kind(), Kind::Invalid);
    assert_eq!(plain.data_key(POOL, 1).unwrap(), KeyId::default());
}
