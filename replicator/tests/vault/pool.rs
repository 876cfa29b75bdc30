//! From a real pool into a vault in a directory and back, across resizes, discards, clones and rollbacks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::volume::Volume;
use firn_replicator::error::Kind;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::Who;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{DirectoryStore, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::send::{SendOptions, SentPoint};
use firn_replicator::vault::sink::{FileSink, VolumeSink};
use firn_replicator::vault::source::SnapshotSource;

use crate::model::Random;

const MIB: u64 = 1 << 20;

struct Place {
    disk: tempfile::TempDir,
    shared: tempfile::TempDir,
    pool: Pool,
    vault: Vault,
}

impl Place {
    fn new() -> Self {
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let shared = tempfile::tempdir_in("/dev/shm").unwrap();
        let options =
            PoolOptions { tail_directory: Some(shared.path().to_owned()), ..PoolOptions::default() };
        let create = CreateOptions { bytes: Some(128 * MIB), ..CreateOptions::default() };
        let pool = Pool::create(&disk.path().join("pool"), &create, &options).unwrap();
        let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&disk.path().join("vault")).unwrap());
        let options = InitOptions {
            probed: store.capabilities(),
            cipher: Cipher::None,
            lock: None,
            signing: SigningKey::from_bytes(&[5; 32]),
            unlock: None,
            who: Who::default(),
            cache: None,
        };
        let vault = Vault::init(store, options).unwrap();
        Self { disk, shared, pool, vault }
    }

    fn send(&self, volume: &Volume, snapshot: &str) -> SentPoint {
        let source = SnapshotSource::open(&self.pool, volume, snapshot).unwrap();
        self.vault.send(&[&source], &SendOptions::default(), &()).unwrap().points[0].clone()
    }

    /// The point is what the snapshot is, in a new volume and in a file.
    fn check(&self, id: Digest, volume: &Volume, snapshot: &str) {
        let snapshot = volume.snapshot_named(snapshot).unwrap();
        let reader = self.vault.open_point(id).unwrap();
        let bytes = reader.point().bytes;
        assert_eq!(bytes, snapshot.info().unwrap().bytes);
        let mut expected = vec![0; usize::try_from(bytes).unwrap()];
        snapshot.read_at(0, &mut expected).unwrap();
        let target = self.pool.create_volume("restored", bytes, BTreeMap::new()).unwrap();
        let sink = VolumeSink { volume: target.clone(), is_new: true };
        let _ = reader.restore(&sink, &()).unwrap().whole().unwrap();
        let mut found = vec![1; expected.len()];
        target.read_at(0, &mut found).unwrap();
        assert!(found == expected, "the volume is not the snapshot");
        target.delete(true).unwrap();
        let path = self.disk.path().join("restored");
        std::fs::write(&path, vec![0xaa; expected.len()]).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let _ = reader.restore(&FileSink::new(file, false), &()).unwrap().whole().unwrap();
        assert!(std::fs::read(&path).unwrap() == expected, "the file is not the snapshot");
    }
}

fn scribble(volume: &Volume, random: &mut Random, bytes: u64) {
    for _ in 0..30 {
        let offset = random.below(bytes / 4096) * 4096;
        match random.below(4) {
            0 => volume.unmap(offset, (random.below(100) * 4096).min(bytes - offset)).unwrap(),
            _ => volume.write_at(offset, &random.block()).unwrap(),
        }
    }
}

#[test]
fn points_of_a_real_volume_are_what_its_snapshots_are() {
    let place = Place::new();
    let mut random = Random(21);
    let volume = place.pool.create_volume("db", 4 * MIB, BTreeMap::new()).unwrap();
    let mut points = Vec::new();
    for (index, bytes) in [4 * MIB, 8 * MIB, MIB, 6 * MIB, 6 * MIB].into_iter().enumerate() {
        volume.resize(bytes, true).unwrap();
        scribble(&volume, &mut random, bytes);
        let name = format!("s{index}");
        volume.snapshot(&name, BTreeMap::new()).unwrap();
        let point = place.send(&volume, &name);
        assert_eq!(point.parent, points.last().map(|(id, _)| *id));
        points.push((point.id, name));
    }
    // What was cut off and grown again between two snapshots is a hole.
    volume.resize(MIB, true).unwrap();
    volume.resize(6 * MIB, true).unwrap();
    volume.snapshot("cut", BTreeMap::new()).unwrap();
    points.push((place.send(&volume, "cut").id, "cut".to_owned()));
    volume.rollback("s1", Some("displaced")).unwrap();
    scribble(&volume, &mut random, MIB);
    volume.snapshot("rolled", BTreeMap::new()).unwrap();
    let rolled = place.send(&volume, "rolled");
    assert!(rolled.parent.is_some());
    points.push((rolled.id, "rolled".to_owned()));
    for (id, name) in &points {
        place.check(*id, &volume, name);
    }
    let held = volume.snapshot_named("rolled").unwrap();
    assert_eq!(held.delete().unwrap_err().kind(), Kind::Conflict, "the common snapshot is held");
    volume.snapshot_named("cut").unwrap().delete().unwrap();
    place.pool.close().unwrap();
}

/// A pool's image that is copied or put back gives the epochs of its layers anew. A copy took the original's point for
/// one of its own snapshot of that epoch, and sent what changed since that on top of other content.
#[test]
fn a_copy_of_a_pool_sends_nothing_on_top_of_the_originals_points() {
    let mut place = Place::new();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = |tail: &tempfile::TempDir| PoolOptions {
        tail_directory: Some(tail.path().to_owned()),
        ..PoolOptions::default()
    };
    let volume = place.pool.create_volume("db", 4 * MIB, BTreeMap::new()).unwrap();
    scribble(&volume, &mut Random(23), 4 * MIB);
    place.pool.close().unwrap();
    let (original, copy) = (place.disk.path().join("pool"), place.disk.path().join("copy"));
    copy_pool(&original, &copy);
    place.pool = Pool::open(&original, &options(&place.shared)).unwrap();
    let volume = place.pool.volume("db").unwrap();
    scribble(&volume, &mut Random(24), 4 * MIB);
    volume.snapshot("a", BTreeMap::new()).unwrap();
    let sent_of = volume.snapshot_named("a").unwrap().key();
    place.send(&volume, "a");
    place.pool.close().unwrap();
    place.pool = Pool::open(&copy, &options(&elsewhere)).unwrap();
    let volume = place.pool.volume("db").unwrap();
    scribble(&volume, &mut Random(25), 4 * MIB);
    volume.snapshot("x", BTreeMap::new()).unwrap();
    assert_eq!(volume.snapshot_named("x").unwrap().key(), sent_of, "the same identity, of other content");
    scribble(&volume, &mut Random(26), 4 * MIB);
    volume.snapshot("b", BTreeMap::new()).unwrap();
    let point = place.send(&volume, "b");
    assert_eq!(point.parent, None);
    place.check(point.id, &volume, "b");
    place.pool.close().unwrap();
}

/// Copies a closed pool: its file and its metadata.
fn copy_pool(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    let meta = |pool: &Path| pool.with_extension("meta");
    std::fs::create_dir(meta(to)).unwrap();
    for entry in std::fs::read_dir(meta(from)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), meta(to).join(entry.file_name())).unwrap();
    }
}

#[test]
fn without_a_common_snapshot_a_baseline_is_sent() {
    let place = Place::new();
    let volume = place.pool.create_volume("db", 4 * MIB, BTreeMap::new()).unwrap();
    scribble(&volume, &mut Random(22), 4 * MIB);
    volume.snapshot("a", BTreeMap::new()).unwrap();
    place.send(&volume, "a");
    volume.snapshot("b", BTreeMap::new()).unwrap();
    let a = volume.snapshot_named("a").unwrap();
    a.release(&place.vault.hold_reason()).unwrap();
    a.delete().unwrap();
    let point = place.send(&volume, "b");
    assert_eq!(point.parent, None);
    place.check(point.id, &volume, "b");
    let source = SnapshotSource::open(&place.pool, &volume, "b").unwrap();
    assert_eq!(place.vault.common_snapshot(&source).unwrap().map(|(id, _)| id), Some(point.id));
    drop(source);
    place.pool.close().unwrap();
}
