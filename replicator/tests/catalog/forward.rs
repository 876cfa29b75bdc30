//! What the log makes of points that go on as others, and what it does not let them become.

use firn_replicator::error::Kind;
use firn_replicator::format::digest::{Digest, KeyId};
use firn_replicator::format::entry::{Action, Committed, Entry, Forwarded, Signed};
use firn_replicator::format::name;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::{LockMode, Retention, Store};
use firn_replicator::vault::Vault;

use crate::sender::{Snapshot, send};
use crate::world::{DAY_MS, START_MS, signing, store, vault};

fn to(vault: &Vault, from: Digest, id: &[u8]) -> Committed {
    Committed { id: Digest::of(id), ..vault.catalog().point(from).unwrap().committed.clone() }
}

fn forward(vault: &Vault, points: &[Forwarded]) {
    vault.append(&mut |_, _| Ok(Some(Action::Forward { points: points.to_vec() }))).unwrap();
}

/// Whether the log would count the entry.
fn counts(vault: &Vault, points: &[Forwarded]) -> bool {
    let action = Action::Forward { points: points.to_vec() };
    vault.catalog().objection(&action, vault.store().clock_ms().unwrap()).is_none()
}

#[test]
fn a_point_goes_on_in_its_place_with_its_holds_and_under_both_names() {
    let store = store();
    let vault = vault(&store, None);
    let first = send(&vault, &Snapshot::new(1, "one", b"a")).unwrap();
    let second = send(&vault, &Snapshot::new(1, "two", b"b")).unwrap();
    vault.hold(first, "court").unwrap();
    let before = vault.catalog().point(first).unwrap().clone();
    let there = to(&vault, first, b"there");
    forward(&vault, &[Forwarded { from: first, to: there.clone() }]);
    let catalog = vault.catalog();
    let after = catalog.point(first).unwrap();
    assert_eq!((after.number, after.time_ms, &after.holds), (before.number, before.time_ms, &before.holds));
    assert_eq!(after.committed, there);
    let order: Vec<Digest> =
        catalog.points_of(there.pool, there.volume).iter().map(|live| live.committed.id).collect();
    assert_eq!(order, [there.id, second]);
    assert_eq!(catalog.forwarded_to(there.id).collect::<Vec<_>>(), [first]);
    // From one to the next, and back to the first one when it is committed again.
    let further = Committed { id: Digest::of(b"further"), ..there.clone() };
    forward(&vault, &[Forwarded { from: there.id, to: further.clone() }]);
    assert_eq!(vault.catalog().current(first), further.id);
    vault
        .append(&mut |_, _| Ok(Some(Action::Release { point: further.id, reason: "court".into() })))
        .unwrap();
    vault.remove_points(&[further.id], "old").unwrap();
    assert!(vault.catalog().point(first).is_err());
    vault
        .append(&mut |_, _| Ok(Some(Action::Commit { points: vec![before.committed.clone()], group: None })))
        .unwrap();
    assert_eq!(vault.catalog().current(first), first);
    forward(&vault, &[Forwarded { from: first, to: further.clone() }]);
    forward(&vault, &[Forwarded { from: further.id, to: there.clone() }]);
    assert_eq!(vault.catalog().current(first), there.id, "no circle");
}

#[test]
fn a_point_goes_on_as_nothing_else() {
    let store = store();
    let vault = vault(&store, Some(LockMode::Compliance));
    let from = send(&vault, &Snapshot::new(1, "one", b"a")).unwrap();
    let other = send(&vault, &Snapshot::new(2, "two", b"b")).unwrap();
    let gone = send(&vault, &Snapshot::new(2, "gone", b"c")).unwrap();
    vault.remove_points(&[gone], "old").unwrap();
    let now = Limits { condemn_ms: 0, session_ms_max: 0 };
    vault.reclaim(now).unwrap();
    vault.reclaim(now).unwrap();
    assert!(vault.catalog().is_deleted(&name::point(gone)));
    let until_ms = START_MS + 9 * DAY_MS;
    vault.retain(&[from].into(), until_ms).unwrap();
    let locked = Some(Retention { mode: LockMode::Compliance, until_ms });
    let good = Committed { retain_until_ms: Some(until_ms), locked, ..to(&vault, from, b"there") };
    let one = |to: Committed| vec![Forwarded { from, to }];
    assert!(counts(&vault, &one(good.clone())));
    let later = Some(Retention { mode: LockMode::Compliance, until_ms: until_ms + 1 });
    assert!(counts(
        &vault,
        &one(Committed { retain_until_ms: Some(until_ms + 1), locked: later, ..good.clone() })
    ));
    let shorter = Some(Retention { mode: LockMode::Compliance, until_ms: until_ms - 1 });
    let weaker = Some(Retention { mode: LockMode::Governance, until_ms });
    let elsewhere = Committed { id: Digest::of(b"elsewhere"), ..good.clone() };
    let wrong: Vec<(&str, Vec<Forwarded>)> = vec![
        ("nothing", vec![]),
        ("two ends", [one(good.clone()), one(elsewhere)].concat()),
        (
            "one end for two",
            vec![
                Forwarded { from, to: good.clone() },
                Forwarded { from: other, to: Committed { id: good.id, ..to(&vault, other, b"x") } },
            ],
        ),
        ("a stranger", vec![Forwarded { from: Digest::of(b"stranger"), to: good.clone() }]),
        ("itself", one(Committed { id: from, ..good.clone() })),
        ("a live one", one(Committed { id: other, ..good.clone() })),
        ("a dead name", one(Committed { id: gone, ..good.clone() })),
        ("another volume", one(Committed { volume: 2, ..good.clone() })),
        ("another name", one(Committed { name: "x".into(), ..good.clone() })),
        ("another snapshot", one(Committed { snapshot: "x".into(), ..good.clone() })),
        ("another time", one(Committed { created_ms: 1, ..good.clone() })),
        ("another size", one(Committed { bytes: 8192, ..good.clone() })),
        ("another key", one(Committed { key: KeyId([1; 16]), ..good.clone() })),
        ("another parent", one(Committed { parent: Some(other), ..good.clone() })),
        ("an earlier date", one(Committed { retain_until_ms: Some(until_ms - 1), ..good.clone() })),
        ("no date", one(Committed { retain_until_ms: None, ..good.clone() })),
        ("a shorter lock", one(Committed { locked: shorter, ..good.clone() })),
        ("a weaker lock", one(Committed { locked: weaker, ..good.clone() })),
        ("no lock", one(Committed { locked: None, ..good.clone() })),
    ];
    for (what, points) in wrong {
        assert!(!counts(&vault, &points), "{what}");
        let written = vault.append(&mut |_, _| Ok(Some(Action::Forward { points: points.clone() })));
        assert_eq!(written.unwrap_err().kind(), Kind::Conflict, "{what}");
    }
}

/// An older firn must say that it is too old, and not take for live what is not.
#[test]
fn only_a_forward_has_format_2() {
    let store = store();
    let vault = vault(&store, None);
    let from = send(&vault, &Snapshot::new(1, "one", b"a")).unwrap();
    forward(&vault, &[Forwarded { from, to: to(&vault, from, b"there") }]);
    let head = vault.catalog().head().number;
    let formats: Vec<u16> = (1..=head)
        .map(|number| Signed::decode(&store.get(&name::entry(number)).unwrap()).unwrap().entry.format)
        .collect();
    assert_eq!(
        (formats.last(), formats.iter().filter(|format| **format == 1).count() as u64),
        (Some(&2), head - 1)
    );
    let entry = Signed::decode(&store.get(&name::entry(head)).unwrap()).unwrap().entry;
    let prune = Action::Prune { points: vec![] };
    for (format, action, kind) in [
        (1, entry.action.clone(), Kind::Damaged),
        (2, prune, Kind::Damaged),
        (3, entry.action.clone(), Kind::Invalid),
    ] {
        let bytes = Entry { format, action, ..entry.clone() }.encode(&signing(1)).unwrap();
        assert_eq!(Signed::decode(&bytes).unwrap_err().kind(), kind, "{format}");
    }
}
