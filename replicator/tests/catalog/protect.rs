//! Holds and dates keep points, and prune says why.

use std::collections::BTreeSet;

use firn_replicator::error::Kind;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::Committed;
use firn_replicator::format::name;
use firn_replicator::policy::Keep;
use firn_replicator::store::{LockMode, Store};
use firn_replicator::vault::commit::Commit;

use crate::sender::{Snapshot, send, upload};
use crate::world::{DAY_MS, START_MS, open, store, vault};

#[test]
fn a_hold_locks_what_the_point_needs_until_the_last_is_released() {
    let store = store();
    let vault = vault(&store, None);
    let one = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let two = send(&vault, &Snapshot::new(2, "two", b"bc")).unwrap();
    vault.hold(one, "audit").unwrap();
    vault.hold(one, "court").unwrap();
    vault.hold(one, "court").unwrap();
    vault.hold(two, "audit").unwrap();
    let needed = vault.needed_by(one).unwrap();
    assert_eq!(needed.len(), 5, "two packs, run, point, settings");
    assert!(needed.iter().all(|key| store.legal_hold(key).unwrap()));
    let refused = vault.remove_points(&[one], "old").unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert!(refused.to_string().contains("it is held: audit"), "{refused}");

    vault.release(one, "audit").unwrap();
    assert!(needed.iter().all(|key| store.legal_hold(key).unwrap()), "one hold is left");
    vault.release(one, "court").unwrap();
    let still: BTreeSet<_> = needed.iter().filter(|key| store.legal_hold(key).unwrap()).cloned().collect();
    let shared = &needed & &vault.needed_by(two).unwrap();
    assert_eq!((still.len(), still), (2, shared), "the pack that both have, and the settings");
    assert_eq!(vault.release(one, "court").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(vault.hold(one, "").unwrap_err().kind(), Kind::Invalid);
    vault.remove_points(&[one], "old").unwrap();
    assert_eq!(vault.hold(one, "late").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(vault.check().unwrap().findings, []);

    // Somebody lets an object go in the store itself.
    let lost = vault.needed_by(two).unwrap().pop_first().unwrap();
    store.set_legal_hold(&lost, false).unwrap();
    let findings = vault.check().unwrap().findings;
    assert_eq!((findings.len(), &findings[0].object, findings[0].points.contains(&two)), (1, &lost, true));
    vault.hold(two, "audit").unwrap();
    assert_eq!(vault.check().unwrap().findings, []);
}

#[test]
fn a_date_only_moves_later_and_locks_what_the_point_needs() {
    let store = store();
    let vault = vault(&store, Some(LockMode::Governance));
    let id = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let (soon_ms, late_ms) = (START_MS + 10 * DAY_MS, START_MS + 20 * DAY_MS);
    vault.retain(&[id].into(), late_ms).unwrap();
    assert_eq!(vault.retain(&[id].into(), soon_ms).unwrap_err().kind(), Kind::Conflict);
    vault.retain(&[id].into(), late_ms).unwrap();
    assert_eq!(vault.catalog().head().number, 3, "what is so already needs no entry");
    for key in vault.needed_by(id).unwrap() {
        let lock = store.retention(&key).unwrap().unwrap();
        // All points stand on the settings, whose dates are those of whole periods.
        let is_late_enough = lock.until_ms == late_ms || key == name::settings() && lock.until_ms > late_ms;
        assert!(lock.mode == LockMode::Governance && is_late_enough, "{key}: {lock:?}");
    }
    store.set_clock_ms(late_ms - 1);
    let error = vault.remove_points(&[id], "old").unwrap_err();
    assert!(error.to_string().contains("it is retained until 2026-10-11"), "{error}");
    store.set_clock_ms(late_ms);
    vault.remove_points(&[id], "old").unwrap();
}

/// The log's time has run ahead with the store's clock, and then the clock was set right.
#[test]
fn a_clock_that_was_ahead_for_a_moment_frees_no_point() {
    let store = store();
    let vault = vault(&store, None);
    let id = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let newer = send(&vault, &Snapshot::new(1, "two", b"cd")).unwrap();
    vault.retain(&[id].into(), START_MS + DAY_MS).unwrap();
    store.set_clock_ms(START_MS + 4000 * DAY_MS);
    vault.hold(newer, "x").unwrap();
    store.set_clock_ms(START_MS);
    let keep: Keep = "last=1".parse().unwrap();
    let decisions = vault.prune(&keep, &|_| true).unwrap();
    assert!(decisions.iter().all(|decision| decision.kept), "{decisions:?}");
    // One entry that is dated years ahead once freed every date: the log's time had passed them.
    let error = vault.remove_points(&[id], "old").unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("it is retained until 2026-09-22"), "{error}");
}

#[test]
fn prune_does_what_its_plan_says_and_gives_every_reason() {
    let store = store();
    let vault = vault(&store, None);
    let mut ids = Vec::new();
    for day in 0_u8..6 {
        store.set_clock_ms(START_MS + u64::from(day) * DAY_MS);
        ids.push(send(&vault, &Snapshot::new(1, &format!("d{day}"), &[day])).unwrap());
    }
    let other = send(&vault, &Snapshot::new(2, "other", b"x")).unwrap();
    vault.hold(ids[0], "court").unwrap();
    vault.retain(&[ids[1]].into(), START_MS + 9 * DAY_MS).unwrap();
    let keep: Keep = "daily=2".parse().unwrap();
    let plan = vault.plan_prune(&keep, &|live| live.committed.volume == 1).unwrap();
    assert_eq!(vault.catalog().points().len(), 7, "a plan changes nothing");
    assert_eq!(vault.prune(&keep, &|live| live.committed.volume == 1).unwrap(), plan);
    let kept: Vec<bool> = plan.iter().map(|decision| decision.kept).collect();
    assert_eq!(kept, [true, true, false, false, true, true]);
    assert!(plan[0].reasons.contains("legal hold court"), "{plan:?}");
    assert!(plan[1].reasons.contains("retain-until 2026-09-30"), "{plan:?}");
    assert!(plan.iter().all(|decision| !decision.reasons.is_empty()), "{plan:?}");
    let catalog = open(store).unwrap().catalog();
    let live: BTreeSet<_> = catalog.points().keys().copied().collect();
    assert_eq!(live, [ids[0], ids[1], ids[4], ids[5], other].into());
    let before = catalog.head().number;
    vault.prune(&Keep::default(), &|_| true).unwrap();
    assert_eq!(vault.catalog().head().number, before, "an empty policy keeps everything");
}

/// A policy that let 30,000 points go was one entry of more than 4 MiB, which nobody can write: it never pruned again.
#[test]
fn a_prune_of_many_points_takes_several_entries() {
    let store = store();
    let vault = vault(&store, None);
    let like = upload(&vault, &Snapshot::new(1, "one", b"a")).unwrap().committed;
    for part in 0_u32..10 {
        let point = |number: u32| Committed {
            id: Digest::of(&(part * 3000 + number).to_le_bytes()),
            retain_until_ms: None,
            ..like.clone()
        };
        let points: Vec<Committed> = (0..3000).map(point).collect();
        assert!(matches!(vault.commit(&points, None, &BTreeSet::new()).unwrap(), Commit::Done(_)));
    }
    let keep: Keep = "last=1".parse().unwrap();
    let plan = vault.plan_prune(&keep, &|_| true).unwrap();
    assert_eq!(vault.prune(&keep, &|_| true).unwrap(), plan);
    // What was committed by one entry stands together: the newest point keeps the 3,000 of its entry.
    assert_eq!((plan.len(), vault.catalog().points().len()), (30_000, 3_000));
    assert_eq!(vault.catalog().head().number, 11 + 3);
}
