//! The contract of stores, on each of them; and what only a directory has to prove.

use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use firn_engine::sys::{Clock, SystemClock};
use firn_replicator::error::Kind;
use firn_replicator::store::faults::{Fault, FaultyStore};
use firn_replicator::store::{
    DirectoryStore, Key, MemoryStore, Put, Store, Throttle, ThrottledStore, contract,
};

fn key(name: &str) -> Key {
    Key::new(name).expect("the tests name their keys rightly")
}

#[test]
fn a_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    contract::check(&DirectoryStore::open(&directory.path().join("a/store")).unwrap());
}

#[test]
fn memory_keeps_the_contract() {
    contract::check(&MemoryStore::new(1_700_000_000_000));
}

#[test]
fn a_throttled_store_keeps_the_contract() {
    let memory = Box::new(MemoryStore::new(1_700_000_000_000));
    let throttle = Throttle {
        requests: NonZeroUsize::new(3),
        upload_bytes_per_s: NonZeroU64::new(1 << 20),
        download_bytes_per_s: NonZeroU64::new(1 << 20),
    };
    contract::check(&ThrottledStore::new(memory, throttle));
}

#[test]
fn a_throttled_store_holds_its_rate() {
    let throttle = Throttle { upload_bytes_per_s: NonZeroU64::new(1 << 20), ..Throttle::default() };
    let store = ThrottledStore::new(Box::new(MemoryStore::new(1)), throttle);
    let start = SystemClock.monotonic();
    let mut stage = store.stage().unwrap();
    for _ in 0..4 {
        stage.append(&[0; 64 << 10]).unwrap();
    }
    stage.publish(&key("a")).unwrap();
    assert!(SystemClock.monotonic() - start >= Duration::from_millis(250));
}

#[test]
fn a_store_that_fails_on_request_keeps_the_contract_until_then() {
    contract::check(&FaultyStore::new(&MemoryStore::new(1_700_000_000_000)));
}

#[test]
fn what_a_dead_writer_left_is_never_listed_and_removed_at_the_next_open() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(directory.path()).unwrap();
    let staging = directory.path().join(".staging");
    // A writer that died holds no lock; one that lives does.
    fs::write(staging.join("dead"), b"half an obj").unwrap();
    let mut living = store.stage().unwrap();
    living.append(b"still being written").unwrap();
    assert!(store.list("", None).unwrap().is_empty());
    let reopened = DirectoryStore::open(directory.path()).unwrap();
    assert!(!staging.join("dead").exists());
    assert_eq!(living.publish(&key("a/b")).unwrap(), Put::Created);
    assert_eq!(reopened.get(&key("a/b")).unwrap(), b"still being written");
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
}

#[test]
fn a_strangers_files_in_the_directory_are_no_objects() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(directory.path()).unwrap();
    fs::write(directory.path().join(".hidden"), b"").unwrap();
    fs::write(directory.path().join("with space"), b"").unwrap();
    store.put(&key("mine"), b"").unwrap();
    let listed: Vec<String> =
        store.list("", None).unwrap().into_iter().map(|object| object.key.into()).collect();
    assert_eq!(listed, ["mine"]);
}

#[test]
fn faults_do_what_they_say() {
    let memory = MemoryStore::new(1);
    let before = FaultyStore::failing(&memory, 0, Fault::FailBefore);
    assert_eq!(before.put(&key("a"), b"1").unwrap_err().kind(), Kind::Retry);
    assert!(memory.head(&key("a")).unwrap().is_none());
    before.put(&key("a"), b"1").unwrap();
    let lost = FaultyStore::failing(&memory, 0, Fault::LoseReply);
    assert_eq!(lost.put(&key("b"), b"22").unwrap_err().kind(), Kind::Retry);
    assert_eq!(lost.get(&key("b")).unwrap(), b"22");
    let killed = FaultyStore::failing(&memory, 1, Fault::KillAfter);
    killed.put(&key("c"), b"333").unwrap();
    assert!(killed.put(&key("d"), b"4").is_err());
    assert!(killed.get(&key("c")).is_err());
    assert_eq!(memory.get(&key("d")).unwrap(), b"4");
    assert_eq!(FaultyStore::failing(&memory, 0, Fault::Truncate).get(&key("b")).unwrap(), b"2");
    assert_eq!(FaultyStore::failing(&memory, 0, Fault::StaleList).list("", None).unwrap().len(), 3);
    assert_eq!(killed.requests().len(), 2);
}
