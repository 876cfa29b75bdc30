//! Sends of what the vault has already, or had before somebody damaged it.

use std::sync::Arc;

use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{Key, MemoryStore};

use crate::model::{Random, Volume};
use crate::place::{START_MS, init, open, restored, send};

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
