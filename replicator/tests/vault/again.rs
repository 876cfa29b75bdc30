//! Sends of what the vault has already, or had before somebody damaged it.

use std::sync::Arc;

use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{Key, LockMode, MemoryStore, Store};
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::verify::Depth;

use crate::model::{Random, Volume};
use crate::place::{START_MS, init, init_locking, keys, open, restored, send, send_all};

const DAY_MS: u64 = 24 * 3600 * 1000;

fn named(store: &MemoryStore, prefix: &str) -> Vec<Key> {
    keys(store).into_iter().filter(|key| key.as_str().starts_with(prefix)).collect()
}

/// Runs that no send reads were not looked for: increments went on top of a point whose runs were lost, each of them
/// reported as sent, none of them to be restored.
#[test]
fn an_increment_does_not_rest_on_a_point_whose_runs_are_lost() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, Cipher::None);
    let (mut volume, mut random) = (Volume::new(1, 400), Random(41));
    // Blocks apart from each other, so that the run is long enough not to be merged with the next one.
    (0..400).step_by(2).for_each(|block| volume.write(block, random.block()));
    let baseline = send(&vault, &volume.snapshot()).unwrap().points[0].id;
    volume.write(1, random.block());
    let second = send(&vault, &volume.snapshot()).unwrap().points[0].id;
    let (below, above) = (vault.read_point(baseline).unwrap().runs, vault.read_point(second).unwrap().runs);
    assert_eq!(above[1..], below, "the second point has a run of its own");
    volume.write(9, random.block());
    let third = volume.snapshot();
    let sent_without = |run: &Key, body: Option<Vec<u8>>| {
        let store = Arc::new(store.copy());
        store.tamper(run, body);
        let vault = open(store, Cipher::None).unwrap();
        let point = send(&vault, &third).unwrap().points[0].clone();
        assert!(restored(&vault, point.id) == third.content(), "without {run}");
        point.parent
    };
    assert_eq!(sent_without(&above[0].key(), None), Some(baseline), "the parent before");
    assert_eq!(sent_without(&above[1].key(), None), None, "a baseline");
    assert_eq!(
        sent_without(&above[1].key(), Some(vec![0; 9])),
        None,
        "a baseline, also over what was cut short"
    );
}

/// A pack was taken for sound when its name and its length were right: a baseline sent to heal a damaged vault found
/// the damaged pack, and used it.
#[test]
fn a_baseline_heals_damage() {
    for cipher in [Cipher::None, Cipher::Aes256Gcm] {
        let store = Arc::new(MemoryStore::new(START_MS));
        let vault = init(&store, cipher);
        let (mut volume, mut random) = (Volume::new(1, 100), Random(42));
        (0..100).for_each(|block| volume.write(block, random.block()));
        let snapshot = volume.snapshot();
        send(&vault, &snapshot).unwrap();
        for prefix in ["packs/", "runs/"] {
            let found = named(&store, prefix);
            let [key] = &found[..] else { panic!("one of {prefix}") };
            let mut body = store.get(key).unwrap();
            body[100] ^= 1;
            store.tamper(key, Some(body));
        }
        let options = SendOptions { baseline: true, ..SendOptions::default() };
        let point = send_all(&vault, &[&snapshot], &options).unwrap().points[0].id;
        assert!(restored(&vault, point) == snapshot.content(), "{cipher:?}");
        let damaged = vault.verify(Depth::Content, &()).unwrap().damaged;
        assert!(damaged.iter().all(|damage| !damage.points.contains(&point)), "{damaged:?}");
        assert_eq!(named(&store, "packs/").len(), 2, "what is damaged is sent again");
        send_all(&vault, &[&snapshot], &options).unwrap();
        assert_eq!(named(&store, "packs/").len(), 2, "what is sound is not sent again");
    }
}

/// A snapshot whose point nobody can read any more, because its key was destroyed, counted as sent.
#[test]
fn a_point_whose_key_was_destroyed_is_sent_again() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, Cipher::Aes256Gcm);
    let mut volume = Volume::new(1, 10);
    volume.write(3, vec![7; 4096]);
    let snapshot = volume.snapshot();
    let first = send(&vault, &snapshot).unwrap().points[0].id;
    vault.destroy_key(vault.read_point(first).unwrap().key).unwrap();
    assert_eq!(vault.common_snapshot(&snapshot).unwrap(), None);
    let again = send(&vault, &snapshot).unwrap();
    assert!(!again.was_there && again.points[0].id != first && again.points[0].parent.is_none());
    assert!(restored(&vault, again.points[0].id) == snapshot.content());
}

/// A date that was asked for was forgotten when the snapshot was in the vault already.
#[test]
fn a_snapshot_that_is_there_gets_the_later_date() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init_locking(&store, Cipher::None, Some(LockMode::Compliance));
    let mut volume = Volume::new(1, 10);
    volume.write(3, vec![7; 4096]);
    let snapshot = volume.snapshot();
    let until =
        |days: u64| SendOptions { retain_until_ms: Some(START_MS + days * DAY_MS), ..SendOptions::default() };
    let sent = send(&vault, &snapshot).unwrap().points[0].id;
    for (asked, expected) in [(30, 30), (10, 30), (90, 90)] {
        let report = send_all(&vault, &[&snapshot], &until(asked)).unwrap();
        assert!(report.was_there && report.points[0].id == sent);
        let expected_ms = START_MS + expected * DAY_MS;
        let catalog = vault.catalog();
        let point = catalog.point(sent).unwrap();
        assert_eq!(point.retain_until_ms, Some(expected_ms), "asked for {asked} days");
        for prefix in ["points/", "packs/", "runs/"] {
            for key in named(&store, prefix) {
                let locked = store.retention(&key).unwrap().expect("locked");
                assert!(locked.until_ms >= expected_ms, "{key} with {asked} days");
            }
        }
    }
}
