//! Points by the names that people give them.

use firn_replicator::error::Kind;
use firn_replicator::format::digest::Digest;
use firn_replicator::vault::Vault;
use firn_replicator::vault::catalog::Catalog;
use firn_replicator::vault::commit::Commit;
use firn_replicator::vault::groups::Named;

use crate::sender::{Snapshot, send, upload};
use crate::world::{DAY_MS, START_MS, store, vault};

fn chosen(catalog: &Catalog, text: &str) -> Option<Digest> {
    catalog.choose(text).ok().map(|live| live.committed.id)
}

#[test]
fn a_point_is_found_by_each_of_its_names() {
    let store = store();
    let vault = vault(&store, None);
    let mut ids = Vec::new();
    // START_MS is 2026-09-21T14:13:20Z.
    for (day, (volume, name)) in (0_u8..).zip([(1, "mon"), (1, "tue"), (2, "mon"), (1, "mon")]) {
        store.set_clock_ms(START_MS + u64::from(day) * DAY_MS);
        ids.push(send(&vault, &Snapshot::new(volume, name, &[b'a' + day])).unwrap());
    }
    let catalog = vault.refresh().unwrap();
    let listed: Vec<Digest> = catalog.listed().iter().map(|live| live.committed.id).collect();
    assert_eq!(listed, ids);
    let whole = ids[1].to_string();
    for (text, expected) in [
        ("latest", Some(3)),
        (&whole, Some(1)),
        (&whole[..8], Some(1)),
        ("vol1", Some(3)),
        ("vol2", Some(2)),
        ("vol1@latest", Some(3)),
        ("vol1@tue", Some(1)),
        ("vol1@mon", Some(3)),
        ("vol1@2026-09-22", Some(1)),
        ("vol1@2026-09-21", Some(0)),
        ("vol1@2026-09-22T14:13:19", Some(0)),
        ("vol1@2026-09-22T14:13:20Z", Some(1)),
        ("vol1@2026-09-22T15:13:19+01:00", Some(0)),
        ("vol1@2026-09-20", None),
        ("vol1@never", None),
        ("vol3", None),
        (&whole[..3], None),
        (&whole.to_uppercase(), None),
        ("", None),
    ] {
        assert_eq!(chosen(&catalog, text), expected.map(|index: usize| ids[index]), "{text:?}");
    }
    assert_eq!(catalog.choose("vol3").unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn digits_that_several_points_begin_with_are_refused() {
    let store = store();
    let vault = vault(&store, None);
    // Identities are hashes: the first two of 600 that agree in four digits.
    let mut seen = std::collections::BTreeMap::<String, Digest>::new();
    for turn in 0_u32..2000 {
        let snapshot = Snapshot::new(1, &format!("s{turn}"), b"a");
        let id = send(&vault, &snapshot).unwrap();
        let digits = id.to_string()[..4].to_owned();
        if seen.insert(digits.clone(), id).is_some() {
            let error = vault.catalog().choose(&digits).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert_eq!(chosen(&vault.catalog(), &id.to_string()), Some(id));
            return;
        }
    }
    panic!("2000 hashes without one pair that agrees in 16 bits");
}

/// Commits snapshots with one entry, as the consistency group `group`.
fn send_together(vault: &Vault, group: &str, snapshots: &[Snapshot]) -> Vec<Digest> {
    let uploaded: Vec<_> = snapshots.iter().map(|snapshot| upload(vault, snapshot).unwrap()).collect();
    let objects = uploaded.iter().flat_map(|one| one.objects.clone()).collect();
    let points: Vec<_> = uploaded.into_iter().map(|one| one.committed).collect();
    let ids = points.iter().map(|point| point.id).collect();
    assert!(matches!(vault.commit(&points, Some(group), &objects).unwrap(), Commit::Done(_)));
    ids
}

/// The points that `text` names, and whether as a group.
fn found(catalog: &Catalog, text: &str) -> Result<(Vec<Digest>, bool), Kind> {
    match catalog.find(text) {
        Ok(Named::Point(point)) => Ok((vec![point.committed.id], false)),
        Ok(Named::Group(group)) => {
            assert_eq!(group.missing(), 0);
            Ok((group.points.iter().map(|point| point.committed.id).collect(), true))
        }
        Ok(Named::Former(former)) => Ok((vec![former.id], false)),
        Err(error) => Err(error.kind()),
    }
}

#[test]
fn a_group_is_found_by_each_of_its_names() {
    let store = store();
    let vault = vault(&store, None);
    let mut entries = Vec::new();
    for (day, name) in (0_u8..).zip(["mon", "tue"]) {
        store.set_clock_ms(START_MS + u64::from(day) * DAY_MS);
        let snapshots = [1, 2].map(|volume| Snapshot::new(volume, name, &[b'a' + day]));
        entries.push(send_together(&vault, "bank", &snapshots));
    }
    let alone = send(&vault, &Snapshot::new(1, "wed", b"z")).unwrap();
    let catalog = vault.refresh().unwrap();
    let group = |index: usize| Ok((entries[index].clone(), true));
    let digits = entries[0][1].to_string();
    for (text, expected) in [
        ("bank", group(1)),
        ("bank@latest", group(1)),
        ("bank@mon", group(0)),
        ("bank@2026-09-21", group(0)),
        ("group/bank@tue", group(1)),
        (&format!("group/{}", &digits[..12]), group(0)),
        (&format!("group/{alone}"), Err(Kind::Invalid)),
        ("bank@wed", Err(Kind::NotFound)),
        ("group/till", Err(Kind::NotFound)),
        ("volume/bank", Err(Kind::NotFound)),
        ("vol1", Ok((vec![alone], false))),
        ("latest", Ok((vec![alone], false))),
        ("volume/vol2@mon", Ok((vec![entries[0][1]], false))),
        (&digits, Ok((vec![entries[0][1]], false))),
    ] {
        assert_eq!(found(&catalog, text), expected, "{text:?}");
    }
}

#[test]
fn a_name_that_a_volume_and_a_group_have_must_say_which_is_meant() {
    let store = store();
    let vault = vault(&store, None);
    let both = send_together(&vault, "vol1", &[1, 2].map(|volume| Snapshot::new(volume, "mon", b"a")));
    let catalog = vault.refresh().unwrap();
    let error = catalog.find("vol1@mon").unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(error.next_step(), Some("say which is meant: volume/vol1@mon or group/vol1@mon"));
    assert_eq!(found(&catalog, "group/vol1@mon"), Ok((both.clone(), true)));
    assert_eq!(found(&catalog, "volume/vol1@mon"), Ok((vec![both[0]], false)));
}

#[test]
fn a_group_that_lost_a_point_says_so() {
    let store = store();
    let vault = vault(&store, None);
    let both = send_together(&vault, "bank", &[1, 2].map(|volume| Snapshot::new(volume, "mon", b"a")));
    vault.remove_points(&both[..1], "by hand").unwrap();
    let catalog = vault.refresh().unwrap();
    let Ok(Named::Group(group)) = catalog.find("bank") else { panic!("it is a group") };
    assert_eq!((group.points.len(), group.missing()), (1, 1));
}
