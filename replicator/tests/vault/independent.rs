//! The independent reader in `docs/reader`, and vaults that the library made: every live point is what its snapshot was.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use firn_replicator::format::digest::Digest;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{MemoryStore, Store};
use firn_replicator::vault::send::SendOptions;

use crate::model::{Random, Snapshot, Volume};
use crate::place::{START_MS, init, keys, prune, send_all};
use crate::random::change;

#[path = "../golden/python.rs"]
mod python;

/// The store's objects as files.
fn downloaded(store: &MemoryStore) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for key in keys(store) {
        let path = directory.path().join(key.as_str());
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        fs::write(path, store.get(&key).expect("it is there")).expect("written");
    }
    directory
}

fn check_seed(seed: u64, cipher: Cipher) {
    let mut random = Random(seed);
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, cipher);
    let mut volumes = [Volume::new(1, 400), Volume::new(2, 300)];
    let options = SendOptions { group: Some("shop".to_owned()), ..SendOptions::default() };
    let mut live = BTreeMap::<Digest, Snapshot>::new();
    for round in 0..12 {
        volumes.iter_mut().for_each(|volume| change(volume, &mut random));
        let snapshots = volumes.each_mut().map(Volume::snapshot);
        let sent = send_all(&vault, &snapshots.each_ref(), &options).expect("sent").points;
        let pruned: Vec<Digest> = live.keys().copied().take(3).collect();
        if round % 3 == 2 {
            prune(&vault, &pruned);
            pruned.iter().for_each(|id| drop(live.remove(id)));
        }
        live.extend(sent.iter().map(|point| point.id).zip(snapshots));
    }
    let vault = downloaded(&store);
    let key_file = vault.path().join(".key");
    fs::write(&key_file, format!("firn key file 1\n{}\n", "06".repeat(32))).expect("written");
    let secret = match cipher {
        Cipher::None => vec![],
        Cipher::Aes256Gcm => vec!["--key-file", key_file.to_str().expect("text")],
    };
    let reader = python::Reader::new();
    let verified = reader.run("verify", vault.path(), &secret);
    let expected =
        format!("{} points, 0 of them not read for want of a key, 0 objects damaged\n", live.len());
    assert_eq!(
        (verified.status, str::from_utf8(&verified.out)),
        (0, Ok(&*expected)),
        "seed {seed}: {verified:?}"
    );
    for (id, snapshot) in &live {
        let point = id.to_string();
        let restored = reader.run("restore", vault.path(), &[&[&*point, "--to", "-"], &*secret].concat());
        assert_eq!(restored.status, 0, "seed {seed}, point {id}: {}", restored.err);
        assert!(restored.out == snapshot.content(), "seed {seed}, point {id} is not its snapshot");
    }
}

#[test]
fn the_reader_restores_what_the_library_sent() {
    check_seed(1, Cipher::None);
}

#[test]
fn the_reader_restores_what_the_library_encrypted() {
    check_seed(2, Cipher::Aes256Gcm);
}
