//! Settings, slots and the log are locked as long as the point that must be kept longest.

use std::collections::BTreeSet;
use std::sync::Arc;

use firn_replicator::error::{Kind, Result};
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::{Action, Entry};
use firn_replicator::format::name;
use firn_replicator::format::secret::Secret;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::faults::FaultyStore;
use firn_replicator::store::{Key, LockMode, MemoryStore, Retention, Store};
use firn_replicator::vault::commit::Commit;
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::keyring::Unlock;
use firn_replicator::vault::lock::lock_objects;
use firn_replicator::vault::verify::Depth;
use firn_replicator::vault::{OpenOptions, Vault};

use crate::sender::{Snapshot, send, upload};
use crate::world::{
    DAY_MS, START_MS, init_options, killed_everywhere, open, open_options, signing, store, vault, who,
};

const PERIOD_MS: u64 = 28 * DAY_MS;

/// Sends a snapshot that must be kept until a date, locked as a send does it.
pub(crate) fn send_until(vault: &Vault, snapshot: &Snapshot, until_ms: u64) -> Result<Digest> {
    let mut uploaded = upload(vault, snapshot)?;
    let (id, lock) = (uploaded.committed.id, Retention { mode: vault.settings().lock.unwrap(), until_ms });
    let point = &mut uploaded.committed;
    (point.retain_until_ms, point.locked) = (Some(until_ms), Some(lock));
    let mut objects = uploaded.objects.clone();
    objects.insert(name::point(id));
    if point.key != Default::default() {
        objects.insert(name::slot(point.key));
    }
    lock_objects(vault.store().as_ref(), &objects, lock)?;
    match vault.commit(&[uploaded.committed], None, &uploaded.objects)? {
        Commit::Done(_) | Commit::Present => Ok(id),
        other => panic!("{other:?}"),
    }
}

/// What all points stand on.
pub(crate) fn foundation(vault: &Vault) -> BTreeSet<Key> {
    let catalog = vault.refresh().unwrap();
    let entries = (1..=catalog.head().number).map(name::entry);
    let slots = catalog.slots().keys().map(|slot| name::slot(*slot));
    entries.chain(slots).chain([name::settings()]).collect()
}

/// The locks of what all points stand on, each once.
fn locks(vault: &Vault) -> Vec<Option<Retention>> {
    let mut locks = Vec::new();
    for key in foundation(vault) {
        let lock = vault.store().retention(&key).unwrap();
        if !locks.contains(&lock) {
            locks.push(lock);
        }
    }
    locks
}

/// One lock on everything, until the end of the period of a date.
fn until(mode: LockMode, until_ms: u64) -> Vec<Option<Retention>> {
    vec![Some(Retention { mode, until_ms: until_ms.div_ceil(PERIOD_MS) * PERIOD_MS })]
}

fn is_whole(vault: &Vault, what: &str) {
    assert_eq!(vault.check().unwrap().findings, [], "{what}");
    assert_eq!(vault.verify(Depth::Objects, &()).unwrap().damaged, [], "{what}");
}

/// The log was never locked: whoever could write to a compliance vault deleted an entry, and nobody could prove or even
/// open what was locked for years.
#[test]
fn every_entry_is_locked_as_long_as_the_point_that_stays_longest() {
    let store = store();
    let vault = vault(&store, Some(LockMode::Compliance));
    send(&vault, &Snapshot::new(1, "undated", b"a")).unwrap();
    assert_eq!(locks(&vault), [None], "nothing must be kept yet");

    let until_ms = START_MS + 30 * DAY_MS;
    let first = send_until(&vault, &Snapshot::new(1, "one", b"ab"), until_ms).unwrap();
    let locked = until(LockMode::Compliance, until_ms);
    assert_eq!(locks(&vault), locked, "also what lay below");
    vault.hold(first, "audit").unwrap();
    vault.release(first, "audit").unwrap();
    send(&vault, &Snapshot::new(2, "undated", b"c")).unwrap();
    send_until(&vault, &Snapshot::new(2, "short", b"d"), START_MS + DAY_MS).unwrap();
    assert_eq!(locks(&vault), locked, "entries of every kind, and no date moves earlier");
    for key in foundation(&vault) {
        assert_eq!(store.delete(&key).unwrap_err().kind(), Kind::Conflict, "{key}");
    }
    is_whole(&vault, "dated");

    vault.retain(&[first].into(), START_MS + 100 * DAY_MS).unwrap();
    assert_eq!(locks(&vault), until(LockMode::Compliance, START_MS + 100 * DAY_MS));
    store.set_clock_ms(START_MS + 200 * DAY_MS);
    vault.remove_points(&[first], "old").unwrap();
    let last = name::entry(vault.catalog().head().number);
    assert_eq!(store.retention(&last).unwrap(), None, "no point must be kept any more");
    send_until(&vault, &Snapshot::new(3, "new", b"e"), START_MS + 230 * DAY_MS).unwrap();
    assert_eq!(locks(&vault), until(LockMode::Compliance, START_MS + 230 * DAY_MS));
    is_whole(&vault, "dated again");
}

#[test]
fn what_lies_below_is_locked_once_a_period_and_not_for_each_point() {
    let store = store();
    drop(vault(&store, Some(LockMode::Governance)));
    let leaked: &'static MemoryStore = Box::leak(Box::new(store.copy()));
    let begin_ms = START_MS.div_ceil(PERIOD_MS) * PERIOD_MS;
    let mut times = 0;
    for day in 0_u8..60 {
        leaked.set_clock_ms(begin_ms + u64::from(day) * DAY_MS + 1);
        let counted = Arc::new(FaultyStore::new(leaked));
        let until_ms = begin_ms + (u64::from(day) + 90) * DAY_MS + 1;
        let snapshot = Snapshot::new(1, &format!("day {day}"), &[day]);
        send_until(&open(counted.clone()).unwrap(), &snapshot, until_ms).unwrap();
        let requests = counted.requests();
        let moved = requests
            .iter()
            .filter(|request| request.operation == "set_retention" && request.subject.starts_with(name::LOG));
        times += usize::from(moved.count() > 0);
        let puts = requests.iter().filter(|request| request.operation == "put_if_absent_locked");
        assert_eq!(puts.count(), 1, "the entry, with its lock");
    }
    assert!((2..=4).contains(&times), "60 days are {times} periods");
    is_whole(&open(Arc::new(leaked.copy())).unwrap(), "after 60 days");
}

/// Another writer's entry comes first: it is below then, and locked as well.
#[test]
fn an_entry_that_came_first_is_locked_too() {
    let store = store();
    let vault = vault(&store, Some(LockMode::Governance));
    let id = send(&vault, &Snapshot::new(1, "one", b"a")).unwrap();
    let other = open(store.clone()).unwrap();
    let until_ms = START_MS + 40 * DAY_MS;
    let mut races = 3;
    vault
        .append(&mut |_, _| {
            if races > 0 {
                races -= 1;
                other.hold(id, &format!("race {races}"))?;
            }
            Ok(Some(Action::Retain { points: vec![id], until_ms, locked: Some(LockMode::Governance) }))
        })
        .unwrap()
        .unwrap();
    assert_eq!(vault.catalog().head().number, 6);
    assert_eq!(locks(&vault), until(LockMode::Governance, until_ms));
}

/// A date that no firn gives was the last that a store took: every entry after it was to be locked as long.
#[test]
fn an_impossible_date_does_not_end_the_log() {
    let store = store();
    let vault = vault(&store, Some(LockMode::Governance));
    let like = upload(&vault, &Snapshot::new(1, "one", b"a")).unwrap().committed;
    let head = vault.catalog().head();
    let lock = Retention { mode: LockMode::Governance, until_ms: u64::MAX };
    let points = vec![firn_replicator::format::entry::Committed {
        retain_until_ms: Some(u64::MAX),
        locked: Some(lock),
        ..like
    }];
    let entry = Entry {
        format: 1,
        vault: vault.settings().vault,
        number: head.number + 1,
        previous: head.hash,
        time_ms: START_MS,
        who: who(),
        action: Action::Commit { points, group: None },
    };
    store.put(&name::entry(entry.number), &entry.encode(&signing(1)).unwrap()).unwrap();
    send(&vault, &Snapshot::new(2, "two", b"b")).unwrap();
    let last = store.retention(&name::entry(3)).unwrap().unwrap();
    assert!(last.until_ms <= START_MS + 101 * 366 * DAY_MS, "{last:?}");
}

/// A key file costs no time to try, and these tests try often.
fn key_file() -> Unlock {
    Unlock::KeyFile(Secret::new([3; 32]))
}

pub(crate) fn encrypted(store: &Arc<MemoryStore>) -> Vault {
    let options = InitOptions {
        cipher: Cipher::Aes256Gcm,
        unlock: Some((key_file(), "first".to_owned())),
        ..init_options(store.as_ref(), Some(LockMode::Compliance))
    };
    Vault::init(store.clone(), options).unwrap()
}

#[test]
fn a_slot_that_is_added_later_is_locked_with_the_others() {
    let store = store();
    let vault = encrypted(&store);
    send_until(&vault, &Snapshot::new(1, "one", b"a"), START_MS + 40 * DAY_MS).unwrap();
    let slot = vault.add_slot(&key_file(), "second").unwrap();
    assert!(foundation(&vault).contains(&name::slot(slot)));
    assert_eq!(locks(&vault), until(LockMode::Compliance, START_MS + 40 * DAY_MS));
    is_whole(&vault, "two slots");
}

/// Whoever may bypass governance took a lock away.
#[test]
fn a_lost_lock_is_found_by_both_proofs_and_comes_back() {
    let store = store();
    let vault = encrypted(&store);
    let id = send_until(&vault, &Snapshot::new(1, "one", b"a"), START_MS + 40 * DAY_MS).unwrap();
    vault.hold(id, "audit").unwrap();
    vault.release(id, "audit").unwrap();
    let data_key = name::slot(vault.catalog().points()[&id].committed.key);
    for key in foundation(&vault).into_iter().chain([data_key]) {
        let body = store.get(&key).unwrap();
        store.tamper(&key, None);
        store.put(&key, &body).unwrap();
        let finding = vault.check().unwrap().findings.pop().unwrap_or_else(|| panic!("{key} is not found"));
        assert_eq!((&finding.object, finding.points.contains(&id)), (&key, true));
        assert!(finding.detail.contains("and it is locked not at all; `firn vault retain`"), "{finding:?}");
        let damaged = vault.verify(Depth::Objects, &()).unwrap().damaged;
        assert_eq!((damaged.len(), &damaged[0].object, &damaged[0].points), (1, &key, &vec![id]));
        assert_eq!(vault.verify(Depth::Catalog, &()).unwrap().damaged, []);
        vault.retain(&[id].into(), START_MS + 40 * DAY_MS).unwrap();
        is_whole(&vault, key.as_str());
    }
}

/// What a writer does.
type Work<'a> = dyn Fn(&Vault) -> Result<()> + 'a;

/// Whatever was committed when a writer died is locked as it must be, and the next completes it.
#[test]
fn a_writer_that_is_killed_anywhere_leaves_no_entry_unlocked() {
    let before = store();
    let made = encrypted(&before);
    let id = send_until(&made, &Snapshot::new(1, "one", b"a"), START_MS + 10 * DAY_MS).unwrap();
    send(&made, &Snapshot::new(1, "two", b"b")).unwrap();
    let unlocked = |store: Arc<dyn Store>| -> Result<Vault> {
        Vault::open(store, OpenOptions { unlock: Some(key_file()), ..open_options() })
    };
    let works: [&Work<'_>; 3] = [
        &|vault| {
            send_until(vault, &Snapshot::new(1, "three", b"c"), START_MS + 90 * DAY_MS)?;
            Ok(())
        },
        &|vault| vault.retain(&[id].into(), START_MS + 90 * DAY_MS),
        &|vault| vault.add_slot(&key_file(), "second").map(|_| ()),
    ];
    for work in works {
        let requests = killed_everywhere(
            &before,
            |store| work(&unlocked(store)?),
            |left, index, fault| {
                let what = format!("{fault:?} at {index}");
                let vault = unlocked(left.clone()).unwrap();
                is_whole(&vault, &what);
                work(&vault).unwrap();
                is_whole(&vault, &what);
            },
        );
        assert!(requests.iter().any(|request| request.operation == "put_if_absent_locked"), "{requests:?}");
    }
}
