//! Content that is condemned and sent again before it is deleted.

use std::sync::Arc;

use firn_replicator::format::settings::Cipher;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::MemoryStore;

use crate::model::{Random, Volume};
use crate::place::{START_MS, init, prune, restored, send};
use crate::random::change;

const DAY_MS: u64 = 86_400_000;

/// A send that found its packs by their names once left them condemned, and the next reclaim but one had to see to it.
#[test]
fn what_was_condemned_is_acquitted_by_the_send_that_needs_it() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, Cipher::None);
    let mut volume = Volume::new(1, 300);
    change(&mut volume, &mut Random(3));
    let first = send(&vault, &volume.snapshot()).unwrap().points[0].id;
    prune(&vault, &[first]);
    store.set_clock_ms(START_MS + 1000);
    let limits = Limits { condemn_ms: 7 * DAY_MS, session_ms_max: 0 };
    vault.reclaim(limits).unwrap();
    let condemned = vault.catalog().condemned().clone();

    let snapshot = volume.snapshot();
    let second = send(&vault, &snapshot).unwrap().points[0].id;
    let reached = vault.reach().unwrap().objects().clone();
    assert!(reached.iter().any(|key| condemned.contains_key(key)), "it shares objects with the one before");
    assert!(reached.iter().all(|key| !vault.catalog().condemned().contains_key(key)));
    store.set_clock_ms(START_MS + 8 * DAY_MS);
    vault.reclaim(limits).unwrap();
    assert_eq!(restored(&vault, second), snapshot.content());
}
