//! Whoever stole a signing key can write any entry, and delete nothing. No entry of theirs makes an honest reclaim delete
//! what a point needs that must stay.

use std::collections::BTreeSet;
use std::sync::Arc;

use firn_replicator::error::Kind;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::{Action, Committed, Forwarded};
use firn_replicator::format::name;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::{Key, MemoryStore, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::groups::Named;
use firn_replicator::vault::verify::Depth;

use crate::sender::{Snapshot, send};
use crate::thief::{self, forge};
use crate::world::{DAY_MS, START_MS, encrypted_options, store, vault};

const WEEK_MS: u64 = 7 * DAY_MS;

/// A vault whose store locks nothing, with a point of `ab` in it.
fn with_point() -> (Arc<MemoryStore>, Vault, Digest) {
    let store = store();
    let vault = vault(&store, None);
    let id = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    (store, vault, id)
}

/// A hold that the store was not told of.
fn hold(vault: &Vault, point: Digest, reason: &str) {
    let hold = Action::Hold { point, reason: reason.to_owned(), locked: false };
    vault.append(&mut |_, _| Ok(Some(hold.clone()))).unwrap();
}

/// What a point held that left, by the name that people give it.
pub(crate) fn content(vault: &Vault, id: Digest) -> Option<Vec<u8>> {
    let catalog = vault.refresh().unwrap();
    let former = match catalog.find(&format!("former/{}", &id.to_string()[..12])) {
        Ok(Named::Former(former)) => former.id,
        _ => return None,
    };
    let reader = vault.open_former(former).ok()?;
    let mut content = vec![0; usize::try_from(reader.point().bytes).unwrap()];
    reader.read_at(0, &mut content).ok()?;
    Some(content)
}

/// The blocks of these letters.
pub(crate) fn blocks(letters: &[u8]) -> Option<Vec<u8>> {
    Some(letters.iter().flat_map(|letter| [*letter; 4096]).collect())
}

/// Reclaims every eight days from `from_ms` on, and says how many objects it deleted.
fn reclaim_weekly(store: &MemoryStore, vault: &Vault, from_ms: u64, times: u64) -> u64 {
    let reclaim = |time| {
        store.set_clock_ms(from_ms + time * (WEEK_MS + DAY_MS));
        let report = vault.reclaim(Limits::default()).unwrap();
        assert_eq!(report.unknown, None);
        report.deleted_objects
    };
    (0..times).map(reclaim).sum()
}

fn packs_of(vault: &Vault, id: Digest) -> BTreeSet<Key> {
    let needed = vault.needed_by(id).unwrap();
    needed.into_iter().filter(|key| key.as_str().starts_with(name::PACKS)).collect()
}

fn standing(vault: &Vault, now_ms: u64) -> Vec<Digest> {
    let catalog = vault.refresh().unwrap();
    let mut ids: Vec<Digest> = catalog.standing_former(now_ms).map(|former| former.id).collect();
    ids.sort();
    ids
}

/// The point went on as an empty one, that was pruned by an entry of the day after its date, and the next reclaim but
/// one deleted what had to be kept for three months more.
#[test]
fn a_forged_forward_gives_nothing_back_before_the_date() {
    let (store, vault, id) = with_point();
    let date_ms = START_MS + 100 * DAY_MS;
    vault.retain(&[id].into(), date_ms).unwrap();
    forge(&vault, 0, Action::Condemn { objects: packs_of(&vault, id).into_iter().collect() }).unwrap();
    let decoy = thief::forward(&vault, id, 0, 0).unwrap();
    thief::prune(&vault, decoy, 0).unwrap();
    assert!(vault.catalog().points().contains_key(&decoy), "the empty one has the date too");
    thief::prune(&vault, decoy, 101 * DAY_MS).unwrap();
    assert!(vault.catalog().points().is_empty());
    assert_eq!(reclaim_weekly(&store, &vault, START_MS, 12), 0);
    assert_eq!(content(&vault, id), blocks(b"ab"));
    let report = vault.check().unwrap();
    assert_eq!(report.findings, []);
    assert!(report.notes.iter().any(|note| note.contains("former/")), "{report:?}");
    assert_eq!(vault.verify(Depth::Content, &()).unwrap().damaged, []);

    // Two packs, a run and a point, and the empty one's.
    assert_eq!(reclaim_weekly(&store, &vault, date_ms + 2 * DAY_MS, 4), 5);
    assert_eq!(content(&vault, id), None);
    assert_eq!(vault.check().unwrap().findings, []);
}

/// Objects were condemned while the point lived, and the entry that pruned it was dated after its date.
#[test]
fn a_prune_that_is_dated_ahead_gives_nothing_back_before_the_date() {
    let (store, vault, id) = with_point();
    let date_ms = START_MS + 100 * DAY_MS;
    vault.retain(&[id].into(), date_ms).unwrap();
    forge(&vault, 0, Action::Condemn { objects: packs_of(&vault, id).into_iter().collect() }).unwrap();
    thief::prune(&vault, id, 101 * DAY_MS).unwrap();
    assert!(vault.catalog().points().is_empty());
    assert_eq!(reclaim_weekly(&store, &vault, START_MS, 12), 0);
    assert_eq!(content(&vault, id), blocks(b"ab"));
    assert_eq!(reclaim_weekly(&store, &vault, date_ms + 2 * DAY_MS, 4), 4);
    assert_eq!(content(&vault, id), None);
}

#[test]
fn a_forged_forward_gives_nothing_back_while_a_hold_stands() {
    let (store, vault, id) = with_point();
    hold(&vault, id, "audit");
    hold(&vault, id, "court");
    let decoy = thief::forward(&vault, id, 0, 0).unwrap();
    assert_eq!(reclaim_weekly(&store, &vault, START_MS, 4), 0);
    vault.release(id, "audit").unwrap();
    assert_eq!(reclaim_weekly(&store, &vault, START_MS + 40 * DAY_MS, 4), 0);
    assert_eq!(content(&vault, id), blocks(b"ab"));
    // Another hold of the same name is one of the point that is there now.
    vault.release(decoy, "court").unwrap();
    hold(&vault, decoy, "court");
    assert_eq!(reclaim_weekly(&store, &vault, START_MS + 80 * DAY_MS, 4), 4);
    assert_eq!(content(&vault, id), None);
    assert!(vault.catalog().points().contains_key(&decoy));
}

/// Where one point can't be read it is not known what points reach, and whatever an entry said was deleted was deleted
/// all the same, with no look at who reaches it.
#[test]
fn a_forged_delete_deletes_nothing_that_is_reached() {
    for is_live in [true, false] {
        let (store, vault, id) = with_point();
        let other = send(&vault, &Snapshot::new(2, "two", b"cd")).unwrap();
        vault.retain(&[id].into(), START_MS + 400 * DAY_MS).unwrap();
        let objects: Vec<Key> = packs_of(&vault, id).into_iter().collect();
        if !is_live {
            thief::forward(&vault, id, 0, 0).unwrap();
        }
        forge(&vault, 0, Action::Condemn { objects: objects.clone() }).unwrap();
        forge(&vault, 0, Action::Delete { objects: objects.clone() }).unwrap();
        let entry = vault.catalog().head().number;
        let point = name::point(other);
        let bytes = store.get(&point).unwrap();
        store.put(&point, b"{}").unwrap();
        store.set_clock_ms(START_MS + 30 * DAY_MS);
        let stopped = vault.reclaim(Limits::default()).unwrap();
        assert!(stopped.unknown.is_some() && stopped.deleted_objects == 0, "{stopped:?}");

        store.put(&point, &bytes).unwrap();
        let report = vault.reclaim(Limits::default()).unwrap();
        assert_eq!((&report.unknown, report.deleted_objects), (&None, 0), "{report:?}");
        let named: Vec<Key> = report.contradictions.iter().map(|found| found.object.clone()).collect();
        assert_eq!(named, objects);
        for found in &report.contradictions {
            assert_eq!(found.points, [id]);
            assert!(found.detail.contains(&format!("entry {entry} says")), "{found:?}");
        }
        let findings = vault.check().unwrap().findings;
        let found: Vec<Key> = findings.iter().map(|finding| finding.object.clone()).collect();
        assert_eq!(found, objects, "{findings:?}");
        assert!(findings.iter().all(|finding| finding.points == [id].into()), "{findings:?}");
        assert!(objects.iter().all(|key| store.head(key).unwrap().is_some()));
    }
}

#[test]
fn each_former_point_keeps_its_own_date_and_its_holds_through_a_chain() {
    let (store, vault, first) = with_point();
    let (soon_ms, late_ms) = (START_MS + 10 * DAY_MS, START_MS + 20 * DAY_MS);
    vault.retain(&[first].into(), soon_ms).unwrap();
    hold(&vault, first, "court");
    let second = thief::forward(&vault, first, 0, 0).unwrap();
    vault.retain(&[second].into(), late_ms).unwrap();
    hold(&vault, second, "audit");
    let third = thief::forward(&vault, second, 1, 0).unwrap();
    let both = |mut ids: Vec<Digest>| {
        ids.sort();
        ids
    };
    assert_eq!(standing(&vault, late_ms), both(vec![first, second]), "by their holds");
    let catalog = vault.catalog();
    let former: Vec<_> = catalog.former().iter().map(|former| (former.id, former.retain_until_ms)).collect();
    assert_eq!(former, [(first, Some(soon_ms)), (second, Some(late_ms))]);
    vault.release(third, "court").unwrap();
    assert_eq!(standing(&vault, soon_ms), [second], "the first one's date is its own");
    assert_eq!(standing(&vault, soon_ms - 1), both(vec![first, second]));
    vault.release(first, "audit").unwrap();
    assert_eq!(standing(&vault, late_ms), []);
    assert_eq!(standing(&vault, late_ms - 1), [second]);
    // What becomes of the one in their place ends no date.
    store.set_clock_ms(late_ms);
    vault.remove_points(&[third], "old").unwrap();
    assert_eq!(standing(&vault, soon_ms - 1), both(vec![first, second, third]));
}

#[test]
fn a_point_that_comes_back_leaves_what_was_noted_of_it() {
    let (_, vault, id) = with_point();
    hold(&vault, id, "court");
    let committed = vault.catalog().point(id).unwrap().committed.clone();
    let decoy = thief::forward(&vault, id, 0, 0).unwrap();
    let commit =
        Action::Commit { points: vec![Committed { retain_until_ms: None, ..committed }], group: None };
    forge(&vault, 0, commit).unwrap();
    assert_eq!(vault.catalog().current(id), id, "it is in the vault again, without its hold");
    let other = thief::forward(&vault, id, 1, 0).unwrap();
    thief::prune(&vault, other, 0).unwrap();
    assert_eq!(standing(&vault, u64::MAX), [id]);
    assert_eq!(content(&vault, id), blocks(b"ab"));
    // The hold is that of the first one's successor.
    vault.release(decoy, "court").unwrap();
    assert_eq!(standing(&vault, u64::MAX), []);
}

#[test]
fn a_key_is_not_destroyed_under_a_former_point() {
    let store = store();
    let vault = Vault::init(store.clone(), encrypted_options(store.as_ref(), "moon")).unwrap();
    let id = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let key = vault.read_point(id).unwrap().key;
    let date_ms = START_MS + 10 * DAY_MS;
    vault.retain(&[id].into(), date_ms).unwrap();
    let decoy = thief::forward(&vault, id, 0, 0).unwrap();
    thief::prune(&vault, decoy, 11 * DAY_MS).unwrap();
    let refused = vault.destroy_key(key).unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert!(refused.to_string().contains("must stay readable"), "{refused}");

    // What an entry says that is dated ahead counts in the log; the key itself stays.
    forge(&vault, 0, Action::DestroyKey { id: key }).unwrap();
    assert!(vault.catalog().keys()[&key].destroyed_ms.is_some());
    assert_eq!(vault.destroy_key(key).unwrap_err().kind(), Kind::Conflict);
    assert!(store.head(&name::slot(key)).unwrap().is_some());
    let now = Limits { condemn_ms: 0, session_ms_max: 0 };
    assert_eq!(
        (vault.reclaim(now).unwrap().deleted_objects, vault.reclaim(now).unwrap().deleted_objects),
        (0, 0)
    );
    store.set_clock_ms(date_ms);
    vault.destroy_key(key).unwrap();
    assert!(store.head(&name::slot(key)).unwrap().is_none());
}

/// A void `delete` entry makes a name dead, and a key whose name was dead was deleted without an entry.
#[test]
fn a_key_whose_name_a_forged_entry_calls_deleted_stays() {
    let store = store();
    let vault = Vault::init(store.clone(), encrypted_options(store.as_ref(), "moon")).unwrap();
    let id = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let key = vault.read_point(id).unwrap().key;
    vault.retain(&[id].into(), START_MS + 10 * DAY_MS).unwrap();
    let slot = *vault.catalog().slots().keys().next().unwrap();
    forge(&vault, 0, Action::Delete { objects: vec![name::slot(key), name::slot(slot)] }).unwrap();
    assert_eq!(vault.destroy_key(key).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(vault.remove_slot(key).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(vault.remove_slot(slot).unwrap_err().kind(), Kind::Conflict, "it is the last one");
    assert!([key, slot].iter().all(|id| store.head(&name::slot(*id)).unwrap().is_some()));
}

/// What a point needed while it was called otherwise was let go with the first of its holds.
#[test]
fn the_store_holds_what_a_former_point_needs_until_its_last_hold_is_released() {
    let (store, vault, id) = with_point();
    vault.hold(id, "audit").unwrap();
    vault.hold(id, "court").unwrap();
    let packs = packs_of(&vault, id);
    let decoy = thief::forward(&vault, id, 0, 0).unwrap();
    let is_held = |key: &Key| store.legal_hold(key).unwrap();
    vault.release(decoy, "audit").unwrap();
    assert!(packs.iter().all(is_held));
    let lost = packs.first().unwrap();
    store.set_legal_hold(lost, false).unwrap();
    let findings = vault.check().unwrap().findings;
    assert!(findings.iter().any(|finding| finding.object == *lost), "{findings:?}");
    vault.hold(decoy, "court").unwrap();
    assert!(packs.iter().all(is_held), "holding it again mends it");
    vault.release(decoy, "court").unwrap();
    assert!(!packs.iter().any(is_held));
}

/// What an older firn gave back under a former point is gone, and stops nobody.
#[test]
fn what_was_given_back_is_passed_by() {
    let (store, vault, id) = with_point();
    let other = send(&vault, &Snapshot::new(2, "two", b"cd")).unwrap();
    vault.retain(&[id].into(), START_MS + 400 * DAY_MS).unwrap();
    let mut needed: Vec<Key> = vault.needed_by(id).unwrap().into_iter().collect();
    needed.retain(|key| *key != name::settings());
    let decoy = thief::decoy(&vault, id, 0).unwrap();
    let catalog = vault.catalog();
    let to = Committed {
        id: decoy,
        retain_until_ms: Some(START_MS + 400 * DAY_MS),
        ..catalog.point(id).unwrap().committed.clone()
    };
    let forward = Action::Forward { points: vec![Forwarded { from: id, to }] };
    vault.append(&mut |_, _| Ok(Some(forward.clone()))).unwrap();
    for action in [Action::Condemn { objects: needed.clone() }, Action::Delete { objects: needed.clone() }] {
        vault.append(&mut |_, _| Ok(Some(action.clone()))).unwrap();
    }
    needed.iter().for_each(|key| store.delete(key).unwrap());
    assert_eq!(reclaim_weekly(&store, &vault, START_MS, 3), 0);
    vault.remove_points(&[other], "old").unwrap();
    assert_eq!(reclaim_weekly(&store, &vault, START_MS + 30 * DAY_MS, 3), 4);
    assert_eq!(vault.compact().unwrap().unknown, None);
    let report = vault.check().unwrap();
    assert_eq!(report.findings, []);
    assert!(report.notes.iter().any(|note| note.contains("given back before its time")), "{report:?}");
    assert_eq!(vault.verify(Depth::Content, &()).unwrap().damaged, []);
}

#[test]
fn what_a_former_point_needs_is_looked_at() {
    let (store, vault, id) = with_point();
    vault.retain(&[id].into(), START_MS + 400 * DAY_MS).unwrap();
    let needed: Vec<Key> = packs_of(&vault, id).into_iter().chain([name::point(id)]).collect();
    thief::forward(&vault, id, 0, 0).unwrap();
    for key in needed {
        let bytes = store.get(&key).unwrap();
        store.put(&key, &bytes[..bytes.len() - 1]).unwrap();
        let findings = vault.check().unwrap().findings;
        assert!(
            findings.iter().any(|found| found.object == key && found.points == [id].into()),
            "{findings:?}"
        );
        let damaged = vault.verify(Depth::Objects, &()).unwrap().damaged;
        assert_eq!(damaged.iter().map(|damage| &damage.object).collect::<Vec<_>>(), [&key]);
        assert!(damaged[0].detail.contains("a former point needs it"), "{damaged:?}");
        store.put(&key, &bytes).unwrap();
    }
    assert_eq!(vault.check().unwrap().findings, []);
}
