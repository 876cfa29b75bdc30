//! Random volumes, deltas, sizes and prunes: every point is what its snapshot was.

use std::collections::BTreeMap;
use std::sync::Arc;

use firn_replicator::format::digest::Digest;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::MemoryStore;
use firn_replicator::vault::verify::Depth;

use crate::model::{Random, Snapshot, Volume};
use crate::place::{START_MS, init, open_locked, prune, restored, send};

/// Changes `volume` here and there.
pub(crate) fn change(volume: &mut Volume, random: &mut Random) {
    if random.below(6) == 0 {
        volume.resize(1 + random.below(600));
    }
    for _ in 0..random.below(60) {
        let first = random.below(volume.size());
        let end = volume.size().min(first + 1 + random.below(4).pow(4));
        match random.below(4) {
            0 => volume.discard(first..end),
            _ => (first..end).for_each(|block| volume.write(block, random.block())),
        }
    }
}

fn check_seed(seed: u64, cipher: Cipher) {
    let mut random = Random(seed);
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, cipher);
    let mut volume = Volume::new(1, 1 + random.below(500));
    let mut live = BTreeMap::<Digest, Snapshot>::new();
    let mut newest = None;
    for _ in 0..25 {
        change(&mut volume, &mut random);
        let snapshot = volume.snapshot();
        let report = send(&vault, &snapshot).expect("sent");
        let id = report.points[0].id;
        // What the source no longer has is no parent: the next send is then a baseline.
        if random.below(12) == 0 {
            volume.delete_snapshot(snapshot.id);
        }
        live.insert(id, snapshot);
        if random.below(3) == 0
            && let Some(victim) =
                live.keys().nth(usize::try_from(random.below(live.len() as u64)).unwrap()).copied()
            && victim != id
        {
            prune(&vault, &[victim]);
            live.remove(&victim);
        }
        newest = Some(id);
    }
    for (id, snapshot) in &live {
        assert!(restored(&vault, *id) == snapshot.content(), "seed {seed}, point {id} is not its snapshot");
        assert!(vault.read_point(*id).unwrap().runs.len() <= 8, "seed {seed}");
    }
    let report = vault.verify(Depth::Content, &()).expect("verified");
    assert_eq!((report.damaged, report.locked_points), (vec![], 0), "seed {seed}");
    let report = open_locked(store).verify(Depth::Content, &()).expect("verified");
    assert_eq!(report.damaged, [], "seed {seed}, without keys");
    assert_eq!(report.locked_points > 0, cipher != Cipher::None);
    let held: Vec<_> = volume.held(&vault.hold_reason());
    assert_eq!(
        held,
        [live[&newest.expect("sent")].id],
        "seed {seed}: the newest one's snapshot is held, no other"
    );
}

#[test]
fn every_point_of_a_plain_vault_is_what_its_snapshot_was() {
    (0..30).for_each(|seed| check_seed(seed, Cipher::None));
}

#[test]
fn every_point_of_an_encrypted_vault_is_what_its_snapshot_was() {
    (100..120).for_each(|seed| check_seed(seed, Cipher::Aes256Gcm));
}

#[test]
fn a_snapshot_that_is_there_is_not_sent_again() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, Cipher::None);
    let mut volume = Volume::new(1, 10);
    volume.write(3, vec![1; 4096]);
    let snapshot = volume.snapshot();
    let first = send(&vault, &snapshot).unwrap();
    let again = send(&vault, &snapshot).unwrap();
    assert!(!first.was_there && again.was_there);
    assert_eq!(first.points, again.points);
    // Nothing changed, but it is another snapshot: a point with the runs of its parent.
    let same = send(&vault, &volume.snapshot()).unwrap();
    assert_eq!((same.points[0].parent, same.points[0].sent.stored_bytes), (Some(first.points[0].id), 0));
    assert_eq!(restored(&vault, same.points[0].id), snapshot.content());
}
