//! Prune and reclaim are stopped at every request, before and after it took effect: no live point is harmed, and the
//! next run completes what was begun.

use std::sync::Arc;

use firn_replicator::policy::Keep;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::{MemoryStore, Store};
use firn_replicator::vault::Vault;

use crate::sender::{Snapshot, send};
use crate::world::{DAY_MS, START_MS, killed_everywhere, open, store, vault};

const LIMITS: Limits = Limits { condemn_ms: DAY_MS, session_ms_max: DAY_MS };

/// Five points of one volume, the newest on top of its parent; the packs are shared between neighbours.
fn grown() -> (Arc<MemoryStore>, Vault) {
    let store = store();
    let vault = vault(&store, None);
    for day in 0_u8..4 {
        store.set_clock_ms(START_MS + u64::from(day) * DAY_MS);
        send(&vault, &Snapshot::new(1, &format!("d{day}"), &[b'a' + day, b'b' + day])).unwrap();
    }
    send(&vault, &Snapshot::new(1, "last", b"z").on_parent()).unwrap();
    store.set_clock_ms(START_MS + 100 * DAY_MS);
    (store, vault)
}

fn keep() -> Keep {
    "last=2".parse().unwrap()
}

fn prune(store: Arc<dyn Store>) -> firn_replicator::error::Result<()> {
    open(store)?.prune(&keep(), &|_| true).map(|_| ())
}

fn reclaim(store: Arc<dyn Store>) -> firn_replicator::error::Result<()> {
    open(store)?.reclaim(LIMITS).map(|_| ())
}

/// Everything is there that live points need, and nothing that is deleted is needed.
fn check_whole(store: &Arc<MemoryStore>, points: &[usize], what: &str) {
    let vault = open(store.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let live = vault.catalog().points().len();
    assert!(points.contains(&live), "{what}: {live} points");
    assert_eq!(vault.check().unwrap().findings, [], "{what}");
    let reach = vault.reach().unwrap();
    let dead = vault.catalog().deleted().keys().any(|key| reach.objects().contains(key));
    assert!(!dead, "{what}: a live point reaches a deleted object");
}

#[test]
fn a_prune_that_is_killed_anywhere_harms_nothing_and_is_completed() {
    let (store, _) = grown();
    let requests = killed_everywhere(&store, prune, |left, index, fault| {
        let what = format!("{fault:?} at {index}");
        check_whole(left, &[5, 2], &what);
        prune(left.clone()).unwrap();
        check_whole(left, &[2], &what);
    });
    assert!(requests.iter().any(|request| request.operation == "put_if_absent"), "{requests:?}");
}

#[test]
fn a_reclaim_that_is_killed_anywhere_harms_nothing_and_is_completed() {
    let (store, vault) = grown();
    vault.prune(&keep(), &|_| true).unwrap();
    let left_over = |store: &Arc<MemoryStore>| {
        let plan = open(store.clone()).unwrap().plan_reclaim(LIMITS).unwrap();
        plan.dead_objects
    };
    for deletes in [false, true] {
        let mut written = 0;
        if deletes {
            vault.reclaim(LIMITS).unwrap();
            store.set_clock_ms(START_MS + 200 * DAY_MS);
        }
        let requests = killed_everywhere(&store, reclaim, |left, index, fault| {
            let what = format!("{fault:?} at {index}, deletes: {deletes}");
            check_whole(left, &[2], &what);
            reclaim(left.clone()).unwrap();
            left.set_clock_ms(START_MS + 300 * DAY_MS);
            reclaim(left.clone()).unwrap();
            assert_eq!(left_over(left), 0, "{what}");
            check_whole(left, &[2], &what);
        });
        let is_write = |operation: &str| matches!(operation, "put_if_absent" | "delete");
        written += requests.iter().filter(|request| is_write(request.operation)).count();
        assert!(written >= if deletes { 5 } else { 1 }, "{requests:?}");
    }
}
