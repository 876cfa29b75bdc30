//! Each object of a small vault in turn is damaged: that is found, named with the points it affects, never restored
//! wrongly, and everything else is restored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firn_replicator::error::Kind;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{Key, MemoryStore, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::verify::Depth;

use crate::model::{Random, Snapshot, Target, Volume};
use crate::place::{START_MS, init, keys, open, open_locked, restored, send, send_all};
use crate::random::change;

struct Small {
    store: Arc<MemoryStore>,
    cipher: Cipher,
    volume: Volume,
    points: BTreeMap<Digest, Snapshot>,
    /// The points that need an object, as the healthy vault says: found by deleting it.
    needed_by: BTreeMap<Key, BTreeSet<Digest>>,
}

impl Small {
    fn new(cipher: Cipher) -> Self {
        let store = Arc::new(MemoryStore::new(START_MS));
        let vault = init(&store, cipher);
        let mut random = Random(11);
        let mut volume = Volume::new(1, 500);
        let mut points = BTreeMap::new();
        (0..300).for_each(|block| volume.write(block, random.block()));
        for _ in 0..4 {
            let snapshot = volume.snapshot();
            points.insert(send(&vault, &snapshot).unwrap().points[0].id, snapshot);
            change(&mut volume, &mut random);
            volume.resize(500);
        }
        let content = |key: &Key| !key.as_str().starts_with("log/") && !key.as_str().starts_with("keys/");
        let objects =
            keys(store.as_ref()).into_iter().filter(|key| content(key) && key.as_str() != "vault.json");
        let mut needed_by = BTreeMap::new();
        for key in objects {
            let copy = Arc::new(store.copy());
            copy.tamper(&key, None);
            let damaged = open(copy, cipher).unwrap().verify(Depth::Objects, &()).unwrap().damaged;
            let of = damaged.iter().find(|damage| damage.object == key).expect("it is missed");
            needed_by.insert(key, of.points.iter().copied().collect());
        }
        Self { store, cipher, volume, points, needed_by }
    }

    /// The store with the body of `key` replaced.
    fn tampered(&self, key: &Key, body: Option<Vec<u8>>) -> Arc<MemoryStore> {
        let copy = Arc::new(self.store.copy());
        copy.tamper(key, body);
        copy
    }

    fn check(&self, key: &Key, body: Option<Vec<u8>>, what: &str) {
        let (is_gone, needed_by) = (body.is_none(), &self.needed_by[key]);
        let store = self.tampered(key, body);
        let vault = open(store.clone(), self.cipher).unwrap();
        let report = vault.verify(Depth::Content, &()).unwrap();
        let found = report.damaged.iter().find(|damage| damage.object == *key);
        let found = found.unwrap_or_else(|| panic!("{what} of {key} is not found: {report:?}"));
        assert_eq!(found.points.iter().copied().collect::<BTreeSet<_>>(), *needed_by, "{what} of {key}");
        assert_eq!(report.damaged.len(), 1, "{what} of {key}: what is sound is not named");
        // Without keys as well, but which points a pack belongs to can't be known then.
        let keyless = open_locked(store).verify(Depth::Content, &()).unwrap();
        if self.cipher == Cipher::None || !is_gone || !key.as_str().starts_with("packs/") {
            assert!(
                keyless.damaged.iter().any(|damage| damage.object == *key),
                "{what} of {key}, without keys"
            );
        }
        for (id, snapshot) in &self.points {
            self.check_restore(&vault, *id, snapshot, needed_by.contains(id), &format!("{what} of {key}"));
        }
    }

    fn check_restore(&self, vault: &Vault, id: Digest, snapshot: &Snapshot, is_affected: bool, what: &str) {
        let reader = match vault.open_point(id) {
            Ok(reader) => reader,
            Err(error) => {
                assert!(is_affected && error.kind() == Kind::Damaged, "{what}: {error}");
                assert!(error.to_string().contains(&id.to_string()), "{what}: {error}");
                return;
            }
        };
        let target = Target::new(reader.point().bytes);
        let report = reader.restore(&target, &()).expect("everything else is restored");
        let (found, content) = (target.content(), snapshot.content());
        let mut at = 0;
        for lost in &report.lost {
            let (start, end) = (usize::try_from(lost.start).unwrap(), usize::try_from(lost.end).unwrap());
            assert!(found[at..start] == content[at..start], "{what}: restored wrongly");
            at = end;
        }
        assert!(found[at..] == content[at..], "{what}: restored wrongly");
        let lost: u64 = report.lost.iter().map(|lost| lost.end - lost.start).sum();
        assert_eq!(lost, report.lost_bytes, "{what}");
        assert!(is_affected || report.damaged.is_empty(), "{what}: {report:?}");
        assert!(lost == 0 || report.damaged.iter().all(|damage| damage.points.contains(&id)), "{what}");
        let mut stream = Vec::new();
        match reader.restore_to_stream(&mut stream, &()) {
            Ok(_) => assert!(lost == 0 && stream == content, "{what}"),
            Err(error) => assert!(lost > 0 && error.kind() == Kind::Damaged, "{what}: {error}"),
        }
        assert_eq!(lost > 0, report.whole().is_err(), "{what}");
    }

    fn check_all(&self) {
        let mut random = Random(12);
        let all: Vec<Key> = self.needed_by.keys().cloned().collect();
        assert!(all.len() >= 10, "{all:?}");
        for key in &all {
            let body = self.store.get(key).unwrap();
            self.check(key, None, "deletion");
            let places = [0, body.len() / 2, body.len() - 1, 70.min(body.len() - 1)];
            let random_places =
                std::array::from_fn::<_, 6, _>(|_| usize::try_from(random.below(body.len() as u64)).unwrap());
            for at in places.into_iter().chain(random_places) {
                let mut flipped = body.clone();
                flipped[at] ^= 1 << random.below(8);
                self.check(key, Some(flipped), &format!("a flip at {at} of {}", body.len()));
            }
            for length in [0, 1, body.len() / 2, body.len() - 1] {
                self.check(key, Some(body[..length].to_vec()), &format!("the first {length} bytes"));
            }
            self.check(key, Some([&body[..], b"x"].concat()), "a byte too many");
            let folder = |key: &Key| key.as_str().split('/').next().map(str::to_owned);
            for other in all.iter().filter(|other| *other != key && folder(other) == folder(key)) {
                self.check(key, Some(self.store.get(other).unwrap()), &format!("{other} in the place"));
            }
        }
    }
}

#[test]
fn damage_of_a_plain_vault_is_found_and_named() {
    Small::new(Cipher::None).check_all();
}

#[test]
fn damage_of_an_encrypted_vault_is_found_and_named() {
    Small::new(Cipher::Aes256Gcm).check_all();
}

#[test]
fn a_send_on_a_damaged_map_says_so_and_a_baseline_goes_on() {
    let mut small = Small::new(Cipher::None);
    // So much that it takes in every run below it.
    (0..400).step_by(2).for_each(|block| small.volume.write(block, vec![9; 4096]));
    let snapshot = small.volume.snapshot();
    let mut refused = 0;
    for key in small.needed_by.keys().filter(|key| key.as_str().starts_with("runs/")) {
        let mut flipped = small.store.get(key).unwrap();
        flipped[70] ^= 1;
        let vault = open(small.tampered(key, Some(flipped)), Cipher::None).unwrap();
        if let Err(error) = send(&vault, &snapshot) {
            assert!(error.kind() == Kind::Damaged && error.to_string().contains(key.as_str()), "{error}");
            assert!(error.next_step().is_some_and(|hint| hint.contains("baseline")), "{error}");
            refused += 1;
        }
        let options = SendOptions { baseline: true, ..SendOptions::default() };
        let point = send_all(&vault, &[&snapshot], &options).unwrap().points[0].clone();
        assert_eq!(point.parent, None);
        assert!(restored(&vault, point.id) == snapshot.content());
    }
    assert!(refused > 0, "no run below was read");
}
