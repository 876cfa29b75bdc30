//! The contract of stores, and what only S3 has: versions, and locks that the service keeps.

use std::sync::Barrier;
use std::thread;

use firn_replicator::error::Kind;
use firn_replicator::store::{
    Capabilities, Key, LockMode, Put, Retention, S3Limits, S3Store, Store, contract,
};

use crate::service::{Service, limits, open, run};

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

#[test]
fn a_bucket_with_object_lock_keeps_the_contract() {
    let service = Service::borrow();
    let store = open(&service.bucket(true));
    let all = Capabilities { conditional_put: true, versions: true, retention: true, legal_hold: true };
    assert_eq!(store.capabilities(), all);
    contract::check(&store);
}

#[test]
fn a_plain_bucket_keeps_the_contract() {
    let service = Service::borrow();
    let store = open(&service.bucket(false));
    assert_eq!(store.capabilities(), Capabilities { conditional_put: true, ..Capabilities::default() });
    contract::check(&store);
}

#[test]
fn what_a_stranger_puts_or_deletes_hides_nothing_and_our_delete_leaves_nothing() {
    let service = Service::borrow();
    let address = service.bucket(true);
    let store = open(&address);
    let (name, object) = (key("a/b"), "some/prefix/a/b");
    assert_eq!(store.put_if_absent(&name, b"ours").unwrap(), Put::Created);
    // A name that goes on after this one is another object.
    store.put(&key("a/b-longer"), b"other").unwrap();
    let client = service.client();
    let theirs = b"theirs".to_vec();
    run(client.put_object().bucket(&address.bucket).key(object).body(theirs.into()).send()).unwrap();
    run(client.delete_object().bucket(&address.bucket).key(object).send()).unwrap();
    // This service does not honour conditions here, so the first version is the object: nothing later hides it.
    assert_eq!(store.get(&name).unwrap(), b"ours");
    assert_eq!(store.head(&name).unwrap().unwrap().bytes, 4);
    assert_eq!(store.list("a/b", None).unwrap()[0].bytes, 4);
    assert_eq!(store.put_if_absent(&name, b"again").unwrap(), Put::Exists);
    let versions = store.versions(&name).unwrap();
    let seen: Vec<(u64, bool)> = versions.iter().map(|v| (v.bytes, v.is_deletion)).collect();
    assert_eq!(seen, [(0, true), (6, false), (4, false)]);
    assert_eq!(store.get_version(&name, &versions[2].id).unwrap(), b"ours");
    assert_eq!(store.get_version(&name, &versions[1].id).unwrap(), b"theirs");
    store.delete(&name).unwrap();
    assert!(store.versions(&name).unwrap().is_empty());
    assert_eq!(store.get(&name).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.get(&key("a/b-longer")).unwrap(), b"other");
}

#[test]
fn what_was_read_is_not_read_again_after_another_deleted_or_replaced_it() {
    let service = Service::borrow();
    let address = service.bucket(true);
    let (reader, writer) = (open(&address), open(&address));
    let name = key("a");
    writer.put(&name, b"first").unwrap();
    assert_eq!(reader.get(&name).unwrap(), b"first");
    assert_eq!(reader.get_range(&name, 1, 2).unwrap(), b"ir");
    writer.put(&name, b"second").unwrap();
    assert_eq!(reader.get_range(&name, 1, 2).unwrap(), b"ec");
    writer.delete(&name).unwrap();
    assert_eq!(reader.get(&name).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(reader.get_range(&name, 0, 1).unwrap_err().kind(), Kind::NotFound);
    writer.put_if_absent(&name, b"third").unwrap();
    assert_eq!(reader.get(&name).unwrap(), b"third");
}

#[test]
fn an_overwrite_leaves_one_version() {
    let service = Service::borrow();
    let store = open(&service.bucket(true));
    for body in [b"1", b"2", b"3"] {
        store.put(&key("a"), body).unwrap();
    }
    let versions = store.versions(&key("a")).unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(store.get_version(&key("a"), &versions[0].id).unwrap(), b"3");
}

#[test]
fn of_many_writers_in_a_bucket_with_versions_one_wins_and_the_others_leave_nothing() {
    let service = Service::borrow();
    let address = service.bucket(true);
    let stores: Vec<_> = (0..8).map(|_| open(&address)).collect();
    for round in 0..12 {
        let name = key(&format!("race/{round}"));
        let start = Barrier::new(stores.len());
        let run = |racer: usize, store: &S3Store| {
            start.wait();
            store.put_if_absent(&name, &[u8::try_from(racer).unwrap(); 100]).unwrap()
        };
        let (run, name) = (&run, &name);
        let puts: Vec<Put> = thread::scope(|scope| {
            let racers: Vec<_> = stores
                .iter()
                .enumerate()
                .map(|(racer, store)| scope.spawn(move || run(racer, store)))
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..puts.len()).filter(|racer| puts[*racer] == Put::Created).collect();
        assert_eq!(winners.len(), 1, "round {round}: {winners:?} all won");
        assert_eq!(stores[0].get(name).unwrap(), [u8::try_from(winners[0]).unwrap(); 100]);
        assert_eq!(stores[0].versions(name).unwrap().len(), 1, "a loser left its version");
    }
}

#[test]
fn a_body_in_parts_is_put_together_and_loses_a_race_as_any_other() {
    let service = Service::borrow();
    let limits = S3Limits { multipart_min_bytes: 6 << 20, part_bytes: 5 << 20, ..limits() };
    let store = S3Store::open_with(&service.bucket(true), limits).unwrap();
    let body: Vec<u8> = (0..13 << 20).map(|index: u32| index.to_le_bytes()[(index % 3) as usize]).collect();
    assert_eq!(store.put_if_absent(&key("large"), &body).unwrap(), Put::Created);
    assert_eq!(store.put_if_absent(&key("large"), &body[..7 << 20]).unwrap(), Put::Exists);
    assert!(store.get(&key("large")).unwrap() == body);
    // This service forgets the lock of an upload in parts, so a locked body goes whole.
    let until_ms = store.clock_ms().unwrap() + 3_600_000;
    let lock = Retention { mode: LockMode::Governance, until_ms };
    assert_eq!(store.put_if_absent_locked(&key("locked"), &body, lock).unwrap(), Put::Created);
    assert_eq!(store.retention(&key("locked")).unwrap(), Some(lock));
    assert_eq!(store.delete(&key("locked")).unwrap_err().kind(), Kind::Conflict);
    // Without versions this service completes uploads whatever is there, so large bodies go whole.
    let plain = S3Store::open_with(&service.bucket(false), limits).unwrap();
    assert_eq!(plain.put_if_absent(&key("large"), &body).unwrap(), Put::Created);
    assert_eq!(plain.put_if_absent(&key("large"), &body).unwrap(), Put::Exists);
    assert!(plain.get(&key("large")).unwrap() == body);
    assert_eq!(plain.list("", None).unwrap().len(), 1);
}

#[test]
fn a_large_body_goes_by_a_file_and_comes_back_whole() {
    let service = Service::borrow();
    let store = open(&service.bucket(false));
    let piece: Vec<u8> = (0..1 << 20).map(|index: u32| index.to_le_bytes()[(index % 3) as usize]).collect();
    let mut stage = store.stage().unwrap();
    for _ in 0..24 {
        stage.append(&piece).unwrap();
    }
    assert_eq!(stage.publish(&key("large")).unwrap(), Put::Created);
    let body = store.get(&key("large")).unwrap();
    assert!(body == piece.repeat(24));
    assert_eq!(store.get_range(&key("large"), (7 << 20) - 5, 10).unwrap(), body[(7 << 20) - 5..][..10]);
}
