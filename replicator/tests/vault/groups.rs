//! Consistency groups: all their volumes' points or none; and locks.

use std::sync::Arc;

use firn_replicator::error::Kind;
use firn_replicator::format::name;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{LockMode, MemoryStore, Store};
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::verify::Depth;

use crate::model::{Random, Volume};
use crate::place::{START_MS, init, init_locking, keys, restored, send_all};
use crate::random::change;

#[test]
fn a_group_is_one_entry() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, Cipher::Aes256Gcm);
    let mut random = Random(1);
    let mut volumes = [Volume::new(1, 300), Volume::new(2, 200)];
    let options = SendOptions { group: Some("shop".to_owned()), ..SendOptions::default() };
    for _ in 0..3 {
        volumes.iter_mut().for_each(|volume| change(volume, &mut random));
        let snapshots = volumes.each_mut().map(Volume::snapshot);
        let snapshots = snapshots.each_ref();
        let report = send_all(&vault, &snapshots, &options).unwrap();
        let catalog = vault.catalog();
        for (point, snapshot) in report.points.iter().zip(snapshots) {
            let live = catalog.point(point.id).unwrap();
            assert_eq!((live.number, live.group.as_deref()), (report.entry, Some("shop")));
            assert_eq!(restored(&vault, point.id), snapshot.content());
        }
        assert!(send_all(&vault, &snapshots, &options).unwrap().was_there);
    }
    let twice = volumes[0].snapshot();
    assert_eq!(send_all(&vault, &[&twice, &twice], &options).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(send_all(&vault, &[], &options).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn everything_that_a_retained_point_reaches_is_locked_as_long() {
    const DAY_MS: u64 = 86_400_000;
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init_locking(&store, Cipher::None, Some(LockMode::Compliance));
    let mut random = Random(2);
    let mut volume = Volume::new(1, 300);
    for day in 0..40 {
        let now_ms = START_MS + day * DAY_MS;
        store.set_clock_ms(now_ms);
        change(&mut volume, &mut random);
        let retain_until_ms = Some(now_ms + 30 * DAY_MS);
        let report = send_all(
            &vault,
            &[&volume.snapshot()],
            &SendOptions { retain_until_ms, ..SendOptions::default() },
        )
        .unwrap();
        let live = vault.catalog().point(report.points[0].id).unwrap().clone();
        assert!(live.locked.unwrap().until_ms >= now_ms + 30 * DAY_MS);
        let report = vault.verify(Depth::Objects, &()).unwrap();
        assert_eq!(report.damaged, [], "day {day}");
    }
    let locked = |key: &&firn_replicator::store::Key| key.as_str().starts_with("packs/");
    for key in keys(store.as_ref()).iter().filter(locked) {
        assert!(store.retention(key).unwrap().is_some(), "{key}");
    }
}

#[test]
fn a_lock_that_is_too_short_is_found() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init_locking(&store, Cipher::None, Some(LockMode::Governance));
    let mut volume = Volume::new(1, 30);
    volume.write(3, vec![1; 4096]);
    let options = SendOptions { retain_until_ms: Some(START_MS + 1000), ..SendOptions::default() };
    let point = send_all(&vault, &[&volume.snapshot()], &options).unwrap().points[0].id;
    let pack = keys(store.as_ref()).into_iter().find(|key| key.as_str().starts_with("packs/")).unwrap();
    // The same bytes without the lock, as if somebody had put them back.
    let bytes = store.get(&pack).unwrap();
    store.tamper(&pack, None);
    store.put(&pack, &bytes).unwrap();
    let damaged = vault.verify(Depth::Objects, &()).unwrap().damaged;
    assert_eq!(
        damaged.iter().map(|damage| (&damage.object, &damage.points[..])).collect::<Vec<_>>(),
        [(&pack, &[point][..])]
    );
}

/// A send locked packs, runs and point, and whoever deleted the data key destroyed them all the same.
#[test]
fn what_opens_a_retained_point_is_locked_with_it() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init_locking(&store, Cipher::Aes256Gcm, Some(LockMode::Compliance));
    let mut volume = Volume::new(1, 30);
    volume.write(3, vec![1; 4096]);
    let until_ms = START_MS + 1000;
    let options = SendOptions { retain_until_ms: Some(until_ms), ..SendOptions::default() };
    let point = send_all(&vault, &[&volume.snapshot()], &options).unwrap().points[0].id;
    for key in vault.needed_by(point).unwrap() {
        assert!(store.retention(&key).unwrap().is_some_and(|lock| lock.until_ms >= until_ms), "{key}");
        assert_eq!(store.delete(&key).unwrap_err().kind(), Kind::Conflict, "{key}");
    }
    assert_eq!(vault.check().unwrap().findings, []);

    // The same bytes without the lock, as if somebody had put them back.
    let key = name::slot(vault.catalog().point(point).unwrap().committed.key);
    let bytes = store.get(&key).unwrap();
    store.tamper(&key, None);
    store.put(&key, &bytes).unwrap();
    let findings = vault.check().unwrap().findings;
    assert_eq!((findings.len(), &findings[0].object, findings[0].points.contains(&point)), (1, &key, true));
}
