//! What every store must keep: one suite, run against each implementation on an empty store.

use std::fmt::Debug;
use std::sync::Barrier;

use super::{Key, LIST_MAX, LockMode, Put, Retention, Store, each_object};
use crate::error::{Kind, Result};

/// Writers in the race for one key.
const RACERS: usize = 16;

fn key(name: &str) -> Key {
    Key::new(name).expect("the suite names its keys rightly")
}

/// How a call failed that must fail.
fn refusal<T: Debug>(result: Result<T>) -> Kind {
    result.expect_err("the store must refuse").kind()
}

/// Holds `store`, which is empty, to the contract.
///
/// # Panics
/// When the store breaks it.
pub fn check(store: &dyn Store) {
    check_objects(store);
    check_ranges(store);
    check_stages(store);
    check_lists(store);
    check_race(store);
    check_clock(store);
    if store.capabilities().retention {
        check_retention(store);
        check_locked_puts(store);
    } else {
        let (a, lock) = (key("objects/a"), Retention { mode: LockMode::Governance, until_ms: u64::MAX });
        assert_eq!(refusal(store.retention(&a)), Kind::Invalid, "a store without locks must say so");
        let unlocked = key("objects/unlocked");
        assert_eq!(refusal(store.put_if_absent_locked(&unlocked, b"x", lock)), Kind::Invalid);
        assert_eq!(store.head(&unlocked).expect("head"), None, "an object is there without its lock");
    }
}

fn check_objects(store: &dyn Store) {
    let (a, b) = (key("objects/a"), key("objects/b"));
    assert_eq!(refusal(store.get(&a)), Kind::NotFound);
    assert_eq!(store.head(&a).expect("head of nothing"), None);
    store.delete(&a).expect("deleting nothing is no error");
    assert_eq!(store.put_if_absent(&a, b"first").expect("put"), Put::Created);
    assert_eq!(store.put_if_absent(&a, b"second").expect("put"), Put::Exists);
    assert_eq!(store.get(&a).expect("get"), b"first", "a conditional put changed what was there");
    store.put(&a, b"third one").expect("overwrite");
    assert_eq!(store.get(&a).expect("get"), b"third one");
    assert_eq!(store.head(&a).expect("head").expect("it is there").bytes, 9);
    store.put(&b, b"").expect("an empty object");
    assert_eq!(store.get(&b).expect("get"), b"");
    store.delete(&b).expect("delete");
    assert_eq!(refusal(store.get(&b)), Kind::NotFound);
    assert_eq!(store.put_if_absent(&b, b"again").expect("put"), Put::Created, "a deleted name is free");
    // A name of which another key is a folder is no object.
    assert_eq!(refusal(store.get(&key("objects"))), Kind::NotFound);
    assert_eq!(store.head(&key("objects")).expect("head"), None);
}

fn check_ranges(store: &dyn Store) {
    let name = key("ranges/r");
    let body: Vec<u8> = (0..=255).collect();
    store.put(&name, &body).expect("put");
    assert_eq!(store.get_range(&name, 0, 256).expect("all"), body);
    assert_eq!(store.get_range(&name, 250, 6).expect("the end"), &body[250..]);
    assert_eq!(store.get_range(&name, 256, 0).expect("nothing"), b"");
    for (offset, length) in [(250, 7), (256, 1), (u64::MAX, 1)] {
        let kind = refusal(store.get_range(&name, offset, length));
        assert_eq!(kind, Kind::Damaged, "{offset}+{length}");
    }
    assert_eq!(refusal(store.get_range(&key("ranges/none"), 0, 1)), Kind::NotFound);
}

fn check_stages(store: &dyn Store) {
    let name = key("stages/s");
    let mut stage = store.stage().expect("stage");
    stage.append(b"one ").expect("append");
    assert_eq!(store.head(&name).expect("head"), None);
    stage.append(b"two").expect("append");
    assert_eq!(stage.publish(&name).expect("publish"), Put::Created);
    assert_eq!(store.get(&name).expect("get"), b"one two");
    let mut loser = store.stage().expect("stage");
    loser.append(b"three").expect("append");
    assert_eq!(loser.publish(&name).expect("publish"), Put::Exists);
    assert_eq!(store.get(&name).expect("get"), b"one two");
    let mut dropped = store.stage().expect("stage");
    dropped.append(b"nothing").expect("append");
    drop(dropped);
    assert_eq!(store.list("stages/", None).expect("list").len(), 1, "a dropped stage left something");
}

fn check_lists(store: &dyn Store) {
    assert!(store.list("lists/", None).expect("list").is_empty());
    // More than a page, and names whose order as paths is not that of their bytes.
    let mut names: Vec<String> = (0..LIST_MAX + 5).map(|index| format!("lists/n/{index:05}")).collect();
    names.extend(["lists/n-1", "lists/n.1", "lists/nn/1"].map(String::from));
    each_at_once(&names, |name| store.put(&key(name), b"x").expect("put"));
    store.put(&key("listsx"), b"x").expect("put");
    names.sort();
    let page = store.list("lists/", None).expect("list");
    assert_eq!(page.len(), LIST_MAX, "a page that is not the last must be full");
    let mut seen = Vec::new();
    each_object(store, "lists/", |object| {
        seen.push(object.key.as_str().to_owned());
        Ok(())
    })
    .expect("list");
    let differs = seen.iter().zip(&names).find(|(seen, name)| seen != name);
    assert!(seen == names, "{} of {} are listed, from {differs:?} on wrongly", seen.len(), names.len());
    let part = store.list("lists/n.", None).expect("list");
    assert_eq!(part.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["lists/n.1"]);
    each_at_once(&names, |name| store.delete(&key(name)).expect("delete"));
    assert!(store.list("lists/", None).expect("list").is_empty());
}

/// Does something to each name, several at a time: a service is far away.
fn each_at_once(names: &[String], act: impl Fn(&str) + Sync) {
    let act = &act;
    std::thread::scope(|scope| {
        for part in names.chunks(names.len().div_ceil(RACERS)) {
            scope.spawn(move || part.iter().for_each(|name| act(name)));
        }
    });
}

fn check_race(store: &dyn Store) {
    for round in 0..8 {
        let name = key(&format!("race/{round}"));
        let start = Barrier::new(RACERS);
        let race = |racer: usize| {
            start.wait();
            store.put_if_absent(&name, format!("racer {racer}").as_bytes()).expect("put")
        };
        let puts: Vec<Put> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS).map(|racer| scope.spawn(move || race(racer))).collect();
            racers.into_iter().map(|racer| racer.join().expect("a racer")).collect()
        });
        let winners: Vec<usize> = (0..RACERS).filter(|racer| puts[*racer] == Put::Created).collect();
        assert_eq!(winners.len(), 1, "{winners:?} all won");
        assert_eq!(store.get(&name).expect("get"), format!("racer {}", winners[0]).as_bytes());
    }
}

fn check_clock(store: &dyn Store) {
    let before = store.clock_ms().expect("clock");
    let name = key("clock/c");
    store.put(&name, b"x").expect("put");
    let written = store.head(&name).expect("head").expect("it is there").modified_ms;
    let after = store.clock_ms().expect("clock");
    assert!(before <= written && written <= after, "{before} {written} {after}");
}

fn check_retention(store: &dyn Store) {
    let name = key("locks/l");
    store.put(&name, b"x").expect("put");
    let now_ms = store.clock_ms().expect("clock");
    assert_eq!(store.retention(&name).expect("retention"), None);
    let lock = |mode, after_ms| Retention { mode, until_ms: now_ms + after_ms };
    let hour = 3_600_000;
    store.set_retention(&name, lock(LockMode::Compliance, hour)).expect("lock");
    assert_eq!(refusal(store.delete(&name)), Kind::Conflict, "a locked object was deleted");
    assert_eq!(refusal(store.delete_governed(&name)), Kind::Conflict, "compliance was bypassed");
    assert_eq!(refusal(store.put(&name, b"y")), Kind::Conflict, "a locked object was overwritten");
    for shorter in [lock(LockMode::Compliance, hour - 1_000), lock(LockMode::Governance, hour)] {
        assert_eq!(refusal(store.set_retention(&name, shorter)), Kind::Conflict, "{shorter:?}");
    }
    let longer = lock(LockMode::Compliance, 2 * hour);
    store.set_retention(&name, longer).expect("extend");
    assert_eq!(store.retention(&name).expect("retention"), Some(longer));
    let held = key("locks/h");
    store.put(&held, b"x").expect("put");
    store.set_legal_hold(&held, true).expect("hold");
    assert!(store.legal_hold(&held).expect("hold"));
    assert_eq!(refusal(store.delete(&held)), Kind::Conflict, "a held object was deleted");
    assert_eq!(refusal(store.delete_governed(&held)), Kind::Conflict, "a held object was deleted");
    store.set_legal_hold(&held, false).expect("release");
    store.delete(&held).expect("a released object can be deleted");
}

fn check_locked_puts(store: &dyn Store) {
    let until_ms = store.clock_ms().expect("clock") + 3_600_000;
    let lock = Retention { mode: LockMode::Governance, until_ms };
    let later = Retention { mode: LockMode::Governance, until_ms: until_ms + 3_600_000 };
    let name = key("locks/p");
    assert_eq!(store.put_if_absent_locked(&name, b"x", lock).expect("put"), Put::Created);
    assert_eq!(store.retention(&name).expect("retention"), Some(lock));
    assert_eq!(store.put_if_absent_locked(&name, b"y", later).expect("put"), Put::Exists);
    assert_eq!(store.retention(&name).expect("retention"), Some(lock), "a lost put moved a date");
    assert_eq!(refusal(store.delete(&name)), Kind::Conflict, "a locked object was deleted");
    store.delete_governed(&name).expect("a privileged user may");
    assert_eq!(store.head(&name).expect("head"), None);
}
