//! A sender that dies at any request: no point is harmed, none is half there, and the next send completes it.

use std::sync::Arc;

use firn_replicator::format::settings::Cipher;
use firn_replicator::store::faults::{Fault, FaultyStore, Request};
use firn_replicator::store::{LockMode, MemoryStore};
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::verify::Depth;

use crate::model::{Random, Snapshot, Volume};
use crate::place::{START_MS, init, init_locking, open, restored, send, send_all};
use crate::random::change;

const DAY_MS: u64 = 86_400_000;

/// A store in front of `store` that does `fault` at request `index`, or none. It lives as long as the test.
fn faulty(store: &Arc<MemoryStore>, plan: Option<(usize, Fault)>) -> Arc<FaultyStore<'static>> {
    let inner: &'static Arc<MemoryStore> = Box::leak(Box::new(store.clone()));
    Arc::new(match plan {
        None => FaultyStore::new(inner.as_ref()),
        Some((index, fault)) => FaultyStore::failing(inner.as_ref(), index, fault),
    })
}

fn packs_sent(requests: &[Request]) -> Vec<String> {
    let is_pack =
        |request: &&Request| request.operation == "publish" && request.subject.starts_with("packs/");
    requests.iter().filter(is_pack).map(|request| request.subject.clone()).collect()
}

/// Sends to a copy of `before` and dies at each request in turn.
fn check_kills(
    before: &MemoryStore,
    old: &[(firn_replicator::format::digest::Digest, Snapshot)],
    new: &[&Snapshot],
    cipher: Cipher,
    retain_until_ms: Option<u64>,
) {
    let group = (new.len() > 1).then(|| "group".to_owned());
    let options = SendOptions { group, retain_until_ms, ..SendOptions::default() };
    let whole = faulty(&Arc::new(before.copy()), None);
    send_all(&open(whole.clone(), cipher).unwrap(), new, &options).unwrap();
    let requests = whole.requests().len();
    assert!(requests > 10, "a send makes requests");
    for fault in [Fault::KillBefore, Fault::KillAfter, Fault::LoseReply, Fault::FailBefore] {
        for index in 0..requests {
            let context = format!("{fault:?} at request {index} of {requests}");
            let store = Arc::new(before.copy());
            let dying = faulty(&store, Some((index, fault)));
            let died = open(dying.clone(), cipher).and_then(|vault| send_all(&vault, new, &options));
            let vault = open(store.clone(), cipher).unwrap();
            let points = vault.catalog().points().len();
            assert!([old.len(), old.len() + new.len()].contains(&points), "{context}: {points} points");
            if let Ok(report) = &died {
                assert!(
                    report.points.iter().all(|point| vault.catalog().point(point.id).is_ok()),
                    "{context}"
                );
            }
            let left = vault.verify(Depth::Objects, &()).unwrap();
            assert_eq!(left.damaged, [], "{context}: what is committed is whole, and locked");
            for (id, snapshot) in old {
                assert!(restored(&vault, *id) == snapshot.content(), "{context}: an old point is harmed");
            }
            let second = faulty(&store, None);
            let vault = open(second.clone(), cipher).unwrap();
            let report = send_all(&vault, new, &options).unwrap();
            for (point, snapshot) in report.points.iter().zip(new) {
                assert!(restored(&vault, point.id) == snapshot.content(), "{context}: the new point");
            }
            assert_eq!(vault.catalog().points().len(), old.len() + new.len(), "{context}");
            assert_eq!(vault.verify(Depth::Content, &()).unwrap().damaged, [], "{context}");
            let again = packs_sent(&second.requests());
            let sent = packs_sent(&dying.requests());
            let twice = again.iter().filter(|pack| sent.contains(pack)).count();
            assert!(twice <= 1, "{context}: {twice} packs were sent twice");
        }
    }
}

#[test]
fn a_baseline_that_dies_anywhere_is_completed_by_the_next() {
    for cipher in [Cipher::None, Cipher::Aes256Gcm] {
        let store = Arc::new(MemoryStore::new(START_MS));
        drop(init(&store, cipher));
        let mut volume = Volume::new(1, 200);
        change(&mut volume, &mut Random(3));
        check_kills(&store, &[], &[&volume.snapshot()], cipher, None);
    }
}

#[test]
fn an_increment_of_a_group_that_dies_anywhere_harms_nothing() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, Cipher::None);
    let mut random = Random(4);
    let (mut one, mut other) = (Volume::new(1, 200), Volume::new(2, 100));
    let mut old = Vec::new();
    for _ in 0..2 {
        change(&mut one, &mut random);
        let snapshot = one.snapshot();
        old.push((send(&vault, &snapshot).unwrap().points[0].id, snapshot));
    }
    change(&mut one, &mut random);
    change(&mut other, &mut random);
    check_kills(&store, &old, &[&one.snapshot(), &other.snapshot()], Cipher::None, None);
}

/// Everything that is committed is locked, the log below it included, whenever the sender died.
#[test]
fn an_increment_with_a_longer_date_that_dies_anywhere_leaves_nothing_unlocked() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init_locking(&store, Cipher::Aes256Gcm, Some(LockMode::Compliance));
    let (mut volume, mut random) = (Volume::new(1, 100), Random(5));
    change(&mut volume, &mut random);
    let snapshot = volume.snapshot();
    let short = SendOptions { retain_until_ms: Some(START_MS + 5 * DAY_MS), ..SendOptions::default() };
    let id = send_all(&vault, &[&snapshot], &short).unwrap().points[0].id;
    change(&mut volume, &mut random);
    let long = Some(START_MS + 100 * DAY_MS);
    check_kills(&store, &[(id, snapshot)], &[&volume.snapshot()], Cipher::Aes256Gcm, long);
}
