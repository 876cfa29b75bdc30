//! What somebody who stole a signing key may say of objects and points that are not his.

use std::collections::BTreeSet;
use std::sync::Arc;

use firn_replicator::error::Kind;
use firn_replicator::format::digest::{Digest, KeyId};
use firn_replicator::format::entry::{Action, Committed};
use firn_replicator::format::name;
use firn_replicator::format::point::Point;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::{Key, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::verify::Depth;

use crate::cells::{Cells, Volume};
use crate::former::{blocks, content};
use crate::sender::{Snapshot, send};
use crate::thief::{self, forge};
use crate::world::{DAY_MS, START_MS, store, vault};

/// The key of a volume that nobody has.
const KEY: KeyId = KeyId([9; 16]);

/// A point that says what `of` says, but that it is under [`KEY`], and whose name comes before that of `of`. The log is
/// told that it is under `said`.
fn commit_under_a_key(vault: &Vault, of: Digest, said: KeyId) -> Digest {
    let honest = vault.read_point(of).unwrap();
    let points = (0..).map(|salt| Point { key: KEY, time_ms: honest.time_ms + salt, ..honest.clone() });
    let (id, bytes) = points
        .map(|point| point.encode())
        .map(|bytes| (Digest::of(&bytes), bytes))
        .find(|(id, _)| *id < of)
        .unwrap();
    vault.store().put_if_absent(&name::point(id), &bytes).unwrap();
    let committed = Committed {
        id,
        key: said,
        retain_until_ms: None,
        ..vault.catalog().point(of).unwrap().committed.clone()
    };
    let source = honest.source;
    let add = Action::AddKey { id: KEY, object: Digest::default(), pool: source.pool, volume: source.volume };
    forge(vault, 0, add).unwrap();
    forge(vault, 0, Action::Commit { points: vec![committed], group: None }).unwrap();
    forge(vault, 0, Action::DestroyKey { id: KEY }).unwrap();
    assert!(vault.catalog().void().is_empty() && vault.catalog().points().contains_key(&id));
    id
}

/// A run that another point had named was taken for read, though under that one's key it could not be, and what the
/// honest point has in it was condemned and deleted.
#[test]
fn what_a_point_under_a_destroyed_key_shares_is_looked_at_for_who_can_read_it() {
    for (said, is_former) in [(KEY, false), (KEY, true), (KeyId::default(), false), (KeyId::default(), true)]
    {
        let store = store();
        let vault = vault(&store, None);
        let id = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
        vault.retain(&[id].into(), START_MS + 400 * DAY_MS).unwrap();
        let needed: BTreeSet<Key> = vault.needed_by(id).unwrap();
        let forged = commit_under_a_key(&vault, id, said);
        if is_former {
            thief::forward(&vault, id, 0, 0).unwrap();
        }
        let mut unknown = 0;
        for week in 1..6 {
            store.set_clock_ms(START_MS + week * 8 * DAY_MS);
            let report = vault.reclaim(Limits::default()).unwrap();
            assert_eq!(report.deleted_objects, 0, "{report:?}");
            unknown += u32::from(report.unknown.is_some());
        }
        // Where the log and the point contradict each other nobody knows what it reaches.
        assert_eq!(unknown, if said == KEY { 0 } else { 5 });
        assert!(needed.iter().all(|key| store.head(key).unwrap().is_some()));
        if is_former {
            assert_eq!(content(&vault, id), blocks(b"ab"));
        }
        // A pack that is lost is named with the honest point, whichever of the two comes first.
        let pack = needed.iter().find(|key| key.as_str().starts_with(name::PACKS)).unwrap();
        store.delete(pack).unwrap();
        let damaged = vault.verify(Depth::Objects, &()).unwrap().damaged;
        let of_pack: Vec<_> = damaged.iter().filter(|damage| damage.object == *pack).collect();
        assert!(of_pack.len() == 1 && of_pack[0].points == [id], "{damaged:?}");
        assert_eq!(damaged.iter().any(|damage| damage.points.contains(&forged)), said != KEY);
    }
}

/// A point was in the vault before its sender committed it, without the date that it was sent with, and the send said
/// that all was well.
#[test]
fn a_point_that_somebody_else_committed_without_its_date_gets_it() {
    let store = store();
    let vault = vault(&store, None);
    let volume = Arc::new(Volume::new(1, &[*b"ab"]));
    let until_ms = START_MS + 100 * DAY_MS;
    let options = SendOptions { retain_until_ms: Some(until_ms), baseline: true, ..SendOptions::default() };
    let snapshot = || Cells::new(&volume, 1, 1);
    let sent = vault.send(&[&snapshot()], &options, &()).unwrap();
    let id = sent.points[0].id;
    let committed = vault.catalog().point(id).unwrap().committed.clone();
    // The same as if it had been faster: the sender finds its point in the vault.
    thief::prune(&vault, id, 101 * DAY_MS).unwrap();
    let undated = Committed { retain_until_ms: None, ..committed };
    forge(&vault, 0, Action::Commit { points: vec![undated], group: None }).unwrap();
    assert_eq!(vault.catalog().point(id).unwrap().retain_until_ms, None);

    let again = vault.send(&[&snapshot()], &options, &()).unwrap();
    assert_eq!(again.points[0].id, id);
    assert_eq!(vault.catalog().point(id).unwrap().retain_until_ms, Some(until_ms));
}

/// What took a held point's place can't be read: what the point itself needs lost its holds in the log, and never in the
/// store.
#[test]
fn a_release_lets_go_of_what_can_be_read() {
    let store = store();
    let vault = vault(&store, None);
    let id = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    vault.hold(id, "court").unwrap();
    let needed: Vec<Key> =
        vault.needed_by(id).unwrap().into_iter().filter(|key| *key != name::settings()).collect();
    assert!(needed.iter().all(|key| store.legal_hold(key).unwrap()));
    let forged = thief::forward(&vault, id, 0, 0).unwrap();
    store.put(&name::point(forged), b"{}").unwrap();

    let refused = vault.release(forged, "court").unwrap_err();
    assert_eq!(refused.kind(), Kind::Damaged, "{refused}");
    assert!(refused.to_string().contains("the log has point"), "{refused}");
    assert!(vault.refresh().unwrap().point(forged).unwrap().holds.is_empty());
    assert!(!needed.iter().any(|key| store.legal_hold(key).unwrap()));
}
