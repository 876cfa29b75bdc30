//! Reclaim: what goes, when, and what never does.

use firn_replicator::error::Kind;
use firn_replicator::format::name;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::{Key, LockMode, MemoryStore, Store};
use firn_replicator::vault::OpenOptions;
use firn_replicator::vault::Vault;
use firn_replicator::vault::commit::Commit;

use crate::sender::{Snapshot, send, upload};
use crate::world::{DAY_MS, START_MS, encrypted_options, open, open_options, store, vault};

/// Packs, runs and points that are there.
fn objects(store: &MemoryStore) -> Vec<Key> {
    let prefixes = [name::PACKS, name::RUNS, name::POINTS];
    let listed = prefixes.iter().flat_map(|prefix| store.list(prefix, None).unwrap());
    listed.map(|object| object.key).collect()
}

#[test]
fn what_a_pruned_point_alone_reached_goes_a_week_later() {
    let store = store();
    let vault = vault(&store, None);
    let gone = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let stays = send(&vault, &Snapshot::new(1, "two", b"bc")).unwrap();
    vault.remove_points(&[gone], "old").unwrap();
    let limits = Limits::default();
    let young = vault.reclaim(limits).unwrap();
    assert_eq!((young.dead_objects, young.live_objects, young.deleted_objects), (3, 4, 0), "{young:?}");
    assert!(young.rulings.iter().all(|ruling| ruling.ruling.contains("a running send may need it until")));
    assert!(vault.catalog().condemned().is_empty());

    store.set_clock_ms(START_MS + 7 * DAY_MS);
    let plan = vault.plan_reclaim(limits).unwrap();
    assert!(vault.refresh().unwrap().condemned().is_empty(), "a plan changes nothing");
    assert_eq!(vault.reclaim(limits).unwrap(), plan);
    assert_eq!(vault.catalog().condemned().len(), 3);
    store.set_clock_ms(START_MS + 14 * DAY_MS - 1);
    assert_eq!(vault.reclaim(limits).unwrap().deleted_objects, 0);
    store.set_clock_ms(START_MS + 14 * DAY_MS);
    let done = vault.reclaim(limits).unwrap();
    assert_eq!((done.deleted_objects, done.dead_objects, done.deleted_bytes), (3, 3, done.dead_bytes));
    assert_eq!(objects(&store).len(), 4);
    assert_eq!(vault.reclaim(limits).unwrap().rulings, []);
    assert!(vault.needed_by(stays).is_ok());
    assert_eq!(vault.check().unwrap().findings, []);
}

#[test]
fn what_is_sent_again_is_acquitted_and_waits_anew_when_it_dies_again() {
    let store = store();
    let vault = vault(&store, None);
    let once = Limits { condemn_ms: DAY_MS, session_ms_max: 0 };
    let first = send(&vault, &Snapshot::new(1, "one", b"a")).unwrap();
    vault.remove_points(&[first], "old").unwrap();
    vault.reclaim(once).unwrap();
    let pack = objects(&store)[0].clone();
    assert!(vault.catalog().condemned().contains_key(&pack));
    // The commit takes it off the list by itself.
    store.set_clock_ms(START_MS + DAY_MS);
    let second = send(&vault, &Snapshot::new(1, "two", b"a")).unwrap();
    assert!(!vault.catalog().condemned().contains_key(&pack));
    vault.remove_points(&[second], "old").unwrap();
    vault.reclaim(once).unwrap();
    assert!(store.head(&pack).unwrap().is_some(), "its old sentence does not count any more");
    store.set_clock_ms(START_MS + 2 * DAY_MS);
    vault.reclaim(once).unwrap();
    assert!(store.head(&pack).unwrap().is_none());
    // The name is dead now.
    let third = send(&vault, &Snapshot::new(1, "three", b"a")).unwrap();
    assert!(store.head(&pack).unwrap().is_none());
    assert!(objects(&store).iter().any(|key| key.as_str() == format!("{pack}.1")));
    assert!(vault.needed_by(third).is_ok());
}

#[test]
fn a_commit_that_comes_after_the_delete_entry_is_refused() {
    let store = store();
    let vault = vault(&store, None);
    let now = Limits { condemn_ms: 0, session_ms_max: 0 };
    let uploaded = upload(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let reclaimer = open(store.clone()).unwrap();
    reclaimer.reclaim(now).unwrap();
    let deleted = reclaimer.reclaim(now).unwrap();
    assert_eq!(deleted.deleted_objects, 4, "packs, run and point of a send that did not end");
    let Commit::Deleted(names) = vault.commit(&[uploaded.committed], None, &uploaded.objects).unwrap() else {
        panic!("what it reaches is deleted");
    };
    assert_eq!(names.len(), 4);
    let orphaned = upload(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let base = send(&vault, &Snapshot::new(1, "two", b"cd")).unwrap();
    let child = upload(&vault, &Snapshot::new(1, "three", b"e").on_parent()).unwrap();
    vault.remove_points(&[base], "old").unwrap();
    assert_eq!(vault.commit(&[child.committed], None, &child.objects).unwrap(), Commit::ParentGone(base));
    assert!(matches!(
        vault.commit(std::slice::from_ref(&orphaned.committed), None, &orphaned.objects).unwrap(),
        Commit::Done(_)
    ));
    assert_eq!(vault.commit(&[orphaned.committed], None, &orphaned.objects).unwrap(), Commit::Present);
}

#[test]
fn a_point_that_can_t_be_read_stops_reclaim_and_a_lock_delays_it() {
    let store = store();
    let vault = vault(&store, Some(LockMode::Compliance));
    let now = Limits { condemn_ms: 0, session_ms_max: 0 };
    let locked = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let damaged = send(&vault, &Snapshot::new(2, "two", b"cd")).unwrap();
    let needed = vault.needed_by(locked).unwrap();
    let lock = firn_replicator::store::Retention { mode: LockMode::Compliance, until_ms: START_MS + DAY_MS };
    firn_replicator::vault::lock::lock_objects(store.as_ref(), &needed, lock).unwrap();
    vault.remove_points(&[locked], "old").unwrap();
    vault.reclaim(now).unwrap();
    let barred = vault.reclaim(now).unwrap();
    assert_eq!((barred.deleted_objects, barred.rulings.len()), (0, 4));
    assert!(barred.rulings[0].ruling.contains("(compliance)"), "{barred:?}");

    store.set_clock_ms(START_MS + DAY_MS);
    let point = name::point(damaged);
    let bytes = store.get(&point).unwrap();
    store.tamper(&point, Some(b"{}".to_vec()));
    let stopped = vault.reclaim(now).unwrap();
    assert!(stopped.unknown.as_ref().unwrap().contains(point.as_str()), "{stopped:?}");
    assert_eq!(stopped.deleted_objects, 0);
    store.put(&point, &bytes).unwrap();
    assert_eq!(vault.reclaim(now).unwrap().deleted_objects, 4);
}

#[test]
fn what_is_not_the_vault_s_is_left_alone_and_said() {
    let store = store();
    let vault = vault(&store, None);
    let strange = [Key::new("packs/notes.txt").unwrap(), Key::new("runs/old/x").unwrap()];
    strange.iter().for_each(|key| store.put(key, b"mine").unwrap());
    let now = Limits { condemn_ms: 0, session_ms_max: 0 };
    vault.reclaim(now).unwrap();
    let report = vault.reclaim(now).unwrap();
    assert_eq!((report.dead_objects, report.rulings.len()), (0, 2), "{report:?}");
    assert!(strange.iter().all(|key| store.head(key).unwrap().is_some()));
}

#[test]
fn an_encrypted_vault_is_reclaimed_with_its_keys_only() {
    let store = store();
    let vault = Vault::init(store.clone(), encrypted_options(store.as_ref(), "moon")).unwrap();
    let stays = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let gone = send(&vault, &Snapshot::new(1, "two", b"bc")).unwrap();
    vault.remove_points(&[gone], "old").unwrap();
    let now = Limits { condemn_ms: 0, session_ms_max: 0 };
    let locked = Vault::open(store.clone(), OpenOptions { ..open_options() }).unwrap();
    assert_eq!(locked.reclaim(now).unwrap_err().kind(), Kind::Invalid);
    assert!(!locked.check().unwrap().with_packs);
    vault.reclaim(now).unwrap();
    assert_eq!(vault.reclaim(now).unwrap().deleted_objects, 3);
    assert!(vault.needed_by(stays).is_ok());
    let report = vault.check().unwrap();
    assert!(report.with_packs && report.findings.is_empty(), "{report:?}");
}

#[test]
fn check_names_what_is_missing_and_whom_it_harms() {
    let store = store();
    let vault = vault(&store, None);
    let one = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let two = send(&vault, &Snapshot::new(2, "two", b"bc")).unwrap();
    let (first, second) = (vault.needed_by(one).unwrap(), vault.needed_by(two).unwrap());
    for key in objects(&store) {
        let bytes = store.get(&key).unwrap();
        let points: std::collections::BTreeSet<_> = [(one, &first), (two, &second)]
            .into_iter()
            .filter(|(_, needed)| needed.contains(&key))
            .map(|(id, _)| id)
            .collect();
        for damaged in [None, Some(bytes[..bytes.len() - 1].to_vec())] {
            store.tamper(&key, damaged);
            let findings = vault.check().unwrap().findings;
            assert!(
                findings.iter().any(|finding| finding.object == key && finding.points == points),
                "{findings:?}"
            );
            assert_eq!(findings.len(), 1);
            store.put(&key, &bytes).unwrap();
        }
    }
    assert_eq!(vault.check().unwrap().findings, []);
}
