//! Points by the names that people give them.

use firn_replicator::error::Kind;
use firn_replicator::format::digest::Digest;
use firn_replicator::vault::catalog::Catalog;

use crate::sender::{Snapshot, send};
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
