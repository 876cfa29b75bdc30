//! Pools on real files: what a caller sees of pools, volumes, snapshots, groups and clones, on both devices.
//!
//! The files lie on the disk that the build lies on, because tmpfs has no direct I/O.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use firn_engine::catalog::Tags;
use firn_engine::core::{CoreOptions, Request, Response, Target};
use firn_engine::error::{Error, Kind, Result};
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::reactor::{LocalClient, Port};
use firn_engine::sim::random::Random;
use firn_engine::sys::DeviceKind;
use firn_engine::units::VolumeId;
use firn_engine::volume::{Volume, VolumeRequest};

const MIB: u64 = 1 << 20;
const DEVICES: [DeviceKind; 2] = [DeviceKind::Uring, DeviceKind::Plain];

/// A place for one pool: its file, its metadata and its shared memory.
struct Place {
    disk: tempfile::TempDir,
    shared: tempfile::TempDir,
    options: PoolOptions,
}

impl Place {
    fn new(device: DeviceKind) -> Self {
        let shared = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let options =
            PoolOptions { device, tail_directory: Some(shared.path().to_owned()), ..PoolOptions::default() };
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        Self { disk, shared, options }
    }

    fn path(&self) -> PathBuf {
        self.disk.path().join("pool")
    }

    fn create(&self, bytes: u64) -> Pool {
        let create = CreateOptions { bytes: Some(bytes), ..CreateOptions::default() };
        Pool::create(&self.path(), &create, &self.options).expect("created")
    }

    fn open(&self) -> Pool {
        Pool::open(&self.path(), &self.options).expect("opened")
    }

    fn shared_files(&self) -> usize {
        std::fs::read_dir(self.shared.path()).expect("listed").count()
    }
}

fn each_device(check: impl Fn(Place)) {
    DEVICES.into_iter().for_each(|device| check(Place::new(device)));
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    result.expect_err("refused").kind()
}

/// Blocks that can be told apart: each says who wrote it, and where.
fn pattern(mark: u64, offset: u64, length: usize) -> Vec<u8> {
    let words = (0..length / 8).map(|at| (mark << 40 | offset / 8 + at as u64).to_le_bytes());
    words.flatten().collect()
}

fn read(volume: &Volume, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; length];
    volume.read_at(offset, &mut bytes).expect("read");
    bytes
}

fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    if let Some(at) = found.iter().zip(expected).position(|(found, expected)| found != expected) {
        panic!("{what}: byte {at} of {} is {:02x}, not {:02x}", found.len(), found[at], expected[at]);
    }
}

#[test]
fn what_was_written_is_there_after_a_close() {
    each_device(|place| {
        let pool = place.create(64 * MIB);
        let volume = pool.create_volume("a", 8 * MIB, Tags::new()).expect("created");
        let data = pattern(1, 0, 3 << 20);
        volume.write_at(MIB, &data).expect("written");
        assert_same(&read(&volume, MIB, data.len()), &data, "before the close");
        assert_eq!(place.shared_files(), 1);
        pool.close().expect("closed");
        assert_eq!(place.shared_files(), 0, "the shared memory goes with a clean close");
        assert_eq!(kind(volume.read_at(0, &mut [0; 512])), Kind::Unavailable);
        assert_eq!(kind(pool.close()), Kind::Unavailable);
        assert_eq!(kind(pool.status()), Kind::Unavailable);

        let pool = place.open();
        let status = pool.status().expect("status");
        assert!(status.recovery.clean, "{:?}", status.recovery);
        assert_eq!(status.volumes, 1);
        assert!(status.used_bytes >= 3 * MIB && status.read_only.is_none());
        let volume = pool.volume("a").expect("found");
        assert_same(&read(&volume, MIB, data.len()), &data, "after the close");
        assert_same(&read(&volume, 5 * MIB, 4096), &[0; 4096], "what was never written");
        assert_eq!(volume.info().expect("info").mapped_bytes, 3 * MIB);
    });
}

#[test]
fn a_dropped_pool_loses_nothing_that_was_acknowledged() {
    each_device(|place| {
        let data = pattern(2, 0, 1 << 20);
        {
            let pool = place.create(64 * MIB);
            let volume = pool.create_volume("a", 8 * MIB, Tags::new()).expect("created");
            volume.write_at(512, &data).expect("written");
        }
        assert_eq!(place.shared_files(), 1);
        let pool = place.open();
        assert!(!pool.status().expect("status").recovery.clean);
        assert_same(&read(&pool.volume("a").expect("found"), 512, data.len()), &data, "after the drop");
    });
}

#[test]
fn a_pool_is_open_once_and_created_once() {
    let place = Place::new(DeviceKind::Auto);
    let create = CreateOptions { bytes: Some(64 * MIB), ..CreateOptions::default() };
    assert_eq!(kind(Pool::open(&place.path(), &place.options)), Kind::NotFound);
    let pool = place.create(64 * MIB);
    assert_eq!(kind(Pool::open(&place.path(), &place.options)), Kind::Conflict);
    pool.close().expect("closed");
    assert_eq!(kind(Pool::create(&place.path(), &create, &place.options)), Kind::Conflict);
    let again = CreateOptions { overwrite: true, ..create };
    let pool = Pool::create(&place.path(), &again, &place.options).expect("overwritten");
    assert_eq!(pool.volumes().expect("listed").len(), 0);
}

#[test]
fn a_pool_that_could_not_be_made_leaves_nothing() {
    let place = Place::new(DeviceKind::Auto);
    for bytes in [None, Some(0), Some(4095), Some(256 << 10)] {
        let create = CreateOptions { bytes, ..CreateOptions::default() };
        assert_eq!(kind(Pool::create(&place.path(), &create, &place.options)), Kind::Invalid, "{bytes:?}");
        assert_eq!(std::fs::read_dir(place.disk.path()).expect("listed").count(), 0, "{bytes:?}");
    }
}

#[test]
fn metadata_of_another_pool_is_refused() {
    let (one, other) = (Place::new(DeviceKind::Auto), Place::new(DeviceKind::Auto));
    one.create(64 * MIB).close().expect("closed");
    other.create(64 * MIB).close().expect("closed");
    let with = |meta: &Path| PoolOptions { meta: Some(meta.to_owned()), ..one.options.clone() };
    let foreign = other.disk.path().join("pool.meta");
    assert_eq!(kind(Pool::open(&one.path(), &with(&foreign))), Kind::Conflict);
    assert_eq!(kind(Pool::open(&one.path(), &with(one.shared.path()))), Kind::NotFound);
    one.open();
}

/// What a volume should read as.
struct Model {
    volume: Volume,
    bytes: Vec<u8>,
}

impl Model {
    fn step(&mut self, random: &mut Random, mark: u64) {
        let sectors = self.bytes.len() as u64 / 512;
        let longest = random.pick(&[1, 8, 9, 64, 300, 4000]);
        let first = random.below(sectors);
        let count = random.range(1..longest + 1).min(sectors - first);
        let (offset, length) = (first * 512, usize::try_from(count * 512).expect("small"));
        let at = usize::try_from(offset).expect("small");
        match random.below(10) {
            0 => {
                self.volume.unmap(offset, count * 512).expect("unmapped");
                self.bytes[at..at + length].fill(0);
            }
            1 => {
                let zeros = vec![0; length];
                self.volume.write_at(offset, &zeros).expect("written");
                self.bytes[at..at + length].fill(0);
            }
            2..=6 => {
                let data = pattern(mark, offset, length);
                let written = match random.chance(50_000) {
                    true => self.volume.write_at_fua(offset, &data),
                    false => self.volume.write_at(offset, &data),
                };
                written.expect("written");
                self.bytes[at..at + length].copy_from_slice(&data);
            }
            _ => assert_same(&read(&self.volume, offset, length), &self.bytes[at..at + length], "a read"),
        }
    }

    fn check(&self, what: &str) {
        assert_same(&read(&self.volume, 0, self.bytes.len()), &self.bytes, what);
    }
}

#[test]
fn unaligned_reads_and_writes_follow_the_model() {
    each_device(|place| {
        let mut random = Random::new(11);
        let pool = place.create(128 * MIB);
        let length = (6 << 20) + 4096;
        let volume = pool.create_volume("a", length as u64, Tags::new()).expect("created");
        let mut model = Model { volume, bytes: vec![0; length] };
        let mut snapshots = Vec::new();
        for step in 0..600 {
            model.step(&mut random, step + 1);
            if step % 100 == 50 {
                let snapshot = model.volume.snapshot(&format!("s{step}"), Tags::new()).expect("taken");
                snapshots.push((snapshot, model.bytes.clone()));
            }
            if step % 150 == 149 {
                pool.checkpoint().expect("checkpoint");
            }
        }
        model.check("the volume");
        for (snapshot, bytes) in &snapshots {
            let mut found = vec![0; length];
            snapshot.read_at(0, &mut found).expect("read");
            assert_same(&found, bytes, "a snapshot");
        }
        drop(pool);
        let pool = place.open();
        model.volume = pool.volume("a").expect("found");
        model.check("after a restart");
        for (found, (_, bytes)) in model.volume.snapshots().expect("listed").iter().zip(&snapshots) {
            let mut content = vec![0; length];
            found.read_at(0, &mut content).expect("read");
            assert_same(&content, bytes, "a snapshot after a restart");
        }
    });
}

#[test]
fn ranges_that_can_not_be_are_refused() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", MIB, Tags::new()).expect("created");
    for (offset, length) in [(1, 512), (0, 511), (MIB, 512), (MIB - 512, 1024), (u64::MAX - 511, 512)] {
        let mut bytes = vec![1; length];
        assert_eq!(kind(volume.write_at(offset, &bytes)), Kind::Invalid, "{offset} {length}");
        assert_eq!(kind(volume.read_at(offset, &mut bytes)), Kind::Invalid, "{offset} {length}");
        assert_eq!(kind(volume.unmap(offset, length as u64)), Kind::Invalid, "{offset} {length}");
    }
    volume.write_at(0, &[]).expect("nothing");
    volume.read_at(0, &mut []).expect("nothing");
}

#[test]
fn several_threads_write_several_volumes() {
    each_device(|place| {
        let pool = place.create(128 * MIB);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let pool = &pool;
                scope.spawn(move || {
                    let name = format!("volume-{thread}");
                    let volume = pool.create_volume(&name, 4 * MIB, Tags::new()).expect("created");
                    let mut random = Random::new(thread);
                    let mut model = Model { volume, bytes: vec![0; 4 << 20] };
                    for step in 0..150 {
                        model.step(&mut random, thread << 16 | step + 1);
                        if step % 40 == 0 {
                            model.volume.flush().expect("flushed");
                        }
                    }
                    model.check("at the thread's end");
                });
            }
        });
        assert_eq!(pool.volumes().expect("listed").len(), 4);
        pool.close().expect("closed");
    });
}

#[test]
fn names_tags_holds_and_pins() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", MIB, Tags::from([("env".into(), "test".into())])).expect("created");
    assert_eq!(kind(pool.create_volume("a", MIB, Tags::new())), Kind::Conflict);
    assert_eq!(kind(pool.create_volume("-", MIB, Tags::new())), Kind::Invalid);
    assert_eq!(kind(pool.create_volume("b", 512, Tags::new())), Kind::Invalid);
    volume.rename("b").expect("renamed");
    assert_eq!(kind(pool.volume("a")), Kind::NotFound);
    volume.tag("tier", "gold").expect("tagged");
    volume.untag("env").expect("untagged");
    let info = pool.volume("b").expect("found").info().expect("info");
    assert_eq!((info.name.as_str(), info.tags), ("b", Tags::from([("tier".into(), "gold".into())])));

    let snapshot = volume.snapshot("s", Tags::new()).expect("taken");
    assert_eq!(kind(volume.snapshot("s", Tags::new())), Kind::Conflict);
    snapshot.hold("audit").expect("held");
    assert_eq!(kind(snapshot.delete()), Kind::Conflict);
    assert_eq!(kind(volume.delete(true)), Kind::Conflict);
    assert_eq!(kind(snapshot.release("other")), Kind::NotFound);
    snapshot.release("audit").expect("released");
    let pin = snapshot.pin().expect("pinned");
    assert_eq!(kind(snapshot.delete()), Kind::Conflict);
    drop(pin);
    assert_eq!(kind(volume.delete(false)), Kind::Conflict);
    snapshot.rename("t").expect("renamed");
    snapshot.tag("kept", "yes").expect("tagged");
    assert_eq!(volume.snapshot_named("t").expect("found").info().expect("info").tags["kept"], "yes");
    snapshot.delete().expect("deleted");
    assert_eq!(kind(snapshot.info()), Kind::NotFound);
    assert_eq!(kind(snapshot.read_at(0, &mut [0; 512])), Kind::NotFound);
    volume.delete(false).expect("deleted");
    assert_eq!(kind(volume.write_at(0, &[1; 512])), Kind::NotFound);
}

#[test]
fn a_group_is_snapshotted_at_one_point() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let [one, other] = ["one", "other"].map(|name| pool.create_volume(name, MIB, Tags::new()).expect("created"));
    let group = pool.create_group("database", Tags::new()).expect("created");
    assert_eq!(kind(group.snapshot("empty", Tags::new())), Kind::Invalid);
    group.add(&one).expect("added");
    group.add(&other).expect("added");
    one.write_at(0, &pattern(1, 0, 4096)).expect("written");
    let snapshots = group.snapshot("s", Tags::new()).expect("taken");
    other.write_at(0, &pattern(2, 0, 4096)).expect("written");
    assert_eq!(snapshots[0].key().epoch, snapshots[1].key().epoch);
    let mut bytes = vec![9; 4096];
    snapshots[1].read_at(0, &mut bytes).expect("read");
    assert_eq!(bytes, [0; 4096]);
    snapshots[0].read_at(0, &mut bytes).expect("read");
    assert_eq!(bytes, pattern(1, 0, 4096));
    assert_eq!(snapshots[0].info().expect("info").group.as_deref(), Some("database"));
    assert_eq!(group.info().expect("info").volumes, ["one", "other"]);

    let second = pool.create_group("second", Tags::new()).expect("created");
    assert_eq!(kind(second.add(&one)), Kind::Conflict);
    assert_eq!(kind(second.remove(&one)), Kind::NotFound);
    group.remove(&one).expect("removed");
    second.add(&one).expect("added");
    group.rename("app").expect("renamed");
    assert_eq!(pool.group("app").expect("found").volumes().expect("listed").len(), 1);
    group.delete().expect("deleted");
    assert_eq!(kind(group.info()), Kind::NotFound);
    assert_eq!(pool.groups().expect("listed").len(), 1);
    assert_eq!(other.info().expect("info").group, None);
}

#[test]
fn clones_of_any_depth_read_through_and_detach() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(128 * MIB);
    let volume = pool.create_volume("a", 8 * MIB, Tags::new()).expect("created");
    let old = pattern(1, 0, 4 << 20);
    volume.write_at(0, &old).expect("written");
    let snapshot = volume.snapshot("s", Tags::new()).expect("taken");
    volume.write_at(0, &pattern(2, 0, 4 << 20)).expect("written");

    let clone = snapshot.clone_to("clone", Tags::new()).expect("cloned");
    clone.write_at(4096, &pattern(3, 0, 4096)).expect("written");
    let mut expected = old.clone();
    expected[4096..8192].copy_from_slice(&pattern(3, 0, 4096));
    let deep = clone.snapshot("s", Tags::new()).expect("taken").clone_to("deep", Tags::new()).expect("cloned");
    deep.unmap(MIB, 512 << 10).expect("unmapped");
    assert_same(&read(&clone, 0, old.len()), &expected, "the clone");
    expected[1 << 20..(1 << 20) + (512 << 10)].fill(0);
    assert_same(&read(&deep, 0, old.len()), &expected, "the clone's clone");
    assert_eq!(deep.info().expect("info").origin.expect("a clone").volume.as_deref(), Some("clone"));
    assert_eq!(snapshot.info().expect("info").clones, 1);

    // Its snapshot is the origin of another, so it can't be detached.
    assert_eq!(kind(clone.detach(|_| ())), Kind::Conflict);
    assert_eq!(kind(volume.detach(|_| ())), Kind::Conflict);
    let mut seen = 0;
    deep.detach(|progress| seen = progress.copied_blocks).expect("detached");
    assert_eq!(seen, (4 << 20) / 4096 - (512 << 10) / 4096);
    assert_eq!(deep.info().expect("info").origin, None);

    // With all it stood on gone, it is still whole.
    clone.delete(true).expect("deleted");
    volume.delete(true).expect("deleted");
    settle(&pool);
    assert_same(&read(&deep, 0, old.len()), &expected, "the detached clone");
    drop(pool);
    let pool = place.open();
    let deep = pool.volume("deep").expect("found");
    assert_same(&read(&deep, 0, old.len()), &expected, "the detached clone after a restart");
    let status = pool.status().expect("status");
    assert_eq!(status.used_bytes - status.waiting_bytes, deep.info().expect("info").mapped_bytes);
}

/// Waits until everything that was deleted has given its room back.
fn settle(pool: &Pool) {
    for _ in 0..20 {
        pool.checkpoint().expect("checkpoint");
        if pool.status().expect("status").waiting_bytes == 0 && !is_reclaiming(pool) {
            return;
        }
    }
    panic!("room does not come back: {:?}", pool.status());
}

fn is_reclaiming(pool: &Pool) -> bool {
    pool.handle().look(firn_engine::core::Core::is_checkpointing).expect("looked")
}

#[test]
fn a_rollback_can_be_undone() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", MIB, Tags::new()).expect("created");
    let (first, second) = (pattern(1, 0, 1 << 20), pattern(2, 0, 1 << 20));
    volume.write_at(0, &first).expect("written");
    volume.snapshot("good", Tags::new()).expect("taken");
    volume.write_at(0, &second).expect("written");
    volume.resize(2 * MIB, false).expect("grown");
    let displaced = volume.rollback("good", None).expect("rolled back");
    assert_eq!(displaced, "before-rollback-1");
    assert_eq!(volume.info().expect("info").bytes, MIB);
    assert_same(&read(&volume, 0, 1 << 20), &first, "rolled back");
    volume.write_at(0, &pattern(3, 0, 8192)).expect("written");
    let again = volume.rollback(&displaced, None).expect("undone");
    assert_eq!(again, "before-rollback-2");
    assert_same(&read(&volume, 0, 1 << 20), &second, "undone");
    assert_eq!(volume.info().expect("info").bytes, 2 * MIB);
    assert_eq!(volume.rollback("good", Some("mine")).expect("rolled back"), "mine");
    assert_eq!(kind(volume.rollback("nothing", None)), Kind::NotFound);
    assert_eq!(kind(volume.rollback("good", Some("mine"))), Kind::Conflict);
    let names: Vec<_> =
        volume.snapshots().expect("listed").iter().map(|one| one.info().expect("info").name).collect();
    assert_eq!(names, ["good", "before-rollback-1", "before-rollback-2", "mine"]);
    drop(pool);
    assert_same(&read(&place.open().volume("a").expect("found"), 0, 1 << 20), &first, "after a restart");
}

#[test]
fn snapshots_know_what_they_hold_and_give_it_back() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(128 * MIB);
    let volume = pool.create_volume("a", 16 * MIB, Tags::new()).expect("created");
    volume.write_at(0, &pattern(1, 0, 8 << 20)).expect("written");
    let first = volume.snapshot("first", Tags::new()).expect("taken");
    volume.write_at(0, &pattern(2, 0, 2 << 20)).expect("written");
    let second = volume.snapshot("second", Tags::new()).expect("taken");
    volume.write_at(MIB, &pattern(3, 0, 4 << 20)).expect("written");
    pool.checkpoint().expect("checkpoint");
    let [one, two] = [&first, &second].map(|snapshot| snapshot.info().expect("info"));
    assert_eq!((one.referenced_bytes, one.exclusive_bytes), (8 * MIB, 2 * MIB));
    // Of what the second one wrote, half is in the head; of what it shares with the first, 3 MiB were displaced.
    assert_eq!((two.referenced_bytes, two.exclusive_bytes), (8 * MIB, MIB));
    settle(&pool);
    let used = || pool.status().expect("status").used_bytes;
    let before = used();
    first.delete().expect("deleted");
    settle(&pool);
    assert_eq!(before - used(), 2 * MIB);
    assert_eq!(second.info().expect("info").exclusive_bytes, 4 * MIB);
    second.delete().expect("deleted");
    settle(&pool);
    assert_eq!(used(), 8 * MIB);

    // What a rollback displaced is held by its snapshot alone.
    volume.snapshot("base", Tags::new()).expect("taken");
    volume.write_at(0, &pattern(4, 0, 3 << 20)).expect("written");
    let displaced = volume.rollback("base", None).expect("rolled back");
    let displaced = volume.snapshot_named(&displaced).expect("found");
    let info = displaced.info().expect("info");
    assert_eq!((info.referenced_bytes, info.exclusive_bytes), (8 * MIB, 3 * MIB));
    displaced.delete().expect("deleted");
    settle(&pool);
    assert_eq!(used(), 8 * MIB);
    volume.delete(true).expect("deleted");
    settle(&pool);
    assert_eq!(used(), 0);
}

#[test]
fn a_deleted_volume_gives_its_room_back_after_a_restart() {
    let place = Place::new(DeviceKind::Auto);
    {
        let pool = place.create(64 * MIB);
        let volume = pool.create_volume("a", 16 * MIB, Tags::new()).expect("created");
        volume.write_at(0, &pattern(1, 0, 16 << 20)).expect("written");
        pool.checkpoint().expect("checkpoint");
        volume.delete(false).expect("deleted");
    }
    let pool = place.open();
    settle(&pool);
    assert_eq!(pool.status().expect("status").used_bytes, 0);
}

#[test]
fn a_full_pool_refuses_writes_and_nothing_else() {
    each_device(|place| {
        let pool = place.create(64 * MIB);
        let [keep, fill] =
            ["keep", "fill"].map(|name| pool.create_volume(name, 128 * MIB, Tags::new()).expect("created"));
        let kept = pattern(1, 0, 1 << 20);
        keep.write_at(0, &kept).expect("written");
        let full = (0..128_u64).find_map(|at| fill.write_at(at * MIB, &pattern(at, 0, 1 << 20)).err());
        assert_eq!(full.expect("full at some point").kind(), Kind::OutOfSpace);
        assert_eq!(kind(fill.write_at(127 * MIB, &pattern(9, 0, 1 << 20))), Kind::OutOfSpace);
        assert_same(&read(&keep, 0, 1 << 20), &kept, "while full");
        keep.snapshot("s", Tags::new()).expect("taken while full").delete().expect("deleted while full");
        let status = pool.status().expect("status");
        assert!(status.free_bytes < status.reserve_bytes + MIB, "{status:?}");
        assert!(status.statistics.out_of_space > 0 && status.read_only.is_none());

        // An unmap gives room too, and a write waits for it by itself.
        fill.unmap(0, 8 * MIB).expect("unmapped");
        keep.write_at(2 * MIB, &kept).expect("written after the unmap");
        fill.delete(false).expect("deleted while full");
        for at in 0..32 {
            keep.write_at(at * MIB, &kept).expect("written after the delete");
        }
        drop(pool);
        let pool = place.open();
        assert_same(&read(&pool.volume("keep").expect("found"), 31 * MIB, 1 << 20), &kept, "after a restart");
    });
}

#[test]
fn a_volume_shrinks_only_where_nothing_is_cut() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", 4 * MIB, Tags::new()).expect("created");
    volume.write_at(2 * MIB - 4096, &pattern(1, 0, 4096)).expect("written");
    volume.snapshot("s", Tags::new()).expect("taken");
    volume.resize(2 * MIB, false).expect("nothing is cut");
    assert_eq!(kind(volume.resize(2 * MIB - 4096, false)), Kind::Conflict);
    assert_eq!(kind(volume.resize(512, true)), Kind::Invalid);
    volume.resize(2 * MIB - 4096, true).expect("forced");
    assert_eq!(kind(volume.read_at(2 * MIB - 4096, &mut [0; 512])), Kind::Invalid);
    volume.resize(4 * MIB, false).expect("grown");
    assert_same(&read(&volume, 2 * MIB - 4096, 4096), &[0; 4096], "what was cut off");
    let mut bytes = vec![0; 4096];
    volume.snapshot_named("s").expect("found").read_at(2 * MIB - 4096, &mut bytes).expect("read");
    assert_eq!(bytes, pattern(1, 0, 4096), "the snapshot keeps it");
}

#[test]
fn a_pool_grows() {
    each_device(|place| {
        let pool = place.create(32 * MIB);
        let volume = pool.create_volume("a", 64 * MIB, Tags::new()).expect("created");
        let full = (0..64).find_map(|at| volume.write_at(at * MIB, &pattern(at + 1, 0, 1 << 20)).err());
        assert_eq!(full.expect("full at some point").kind(), Kind::OutOfSpace);
        assert_eq!(kind(pool.grow(16 * MIB, false)), Kind::Invalid);
        pool.grow(96 * MIB, true).expect("grown");
        for at in 0..64 {
            volume.write_at(at * MIB, &pattern(at + 1, 0, 1 << 20)).expect("written");
        }
        drop(pool);
        let pool = place.open();
        assert_eq!(pool.status().expect("status").pool_bytes, 96 * MIB);
        for at in 0..64 {
            assert_same(
                &read(&pool.volume("a").expect("found"), at * MIB, 1 << 20),
                &pattern(at + 1, 0, 1 << 20),
                "after growing",
            );
        }
        pool.close().expect("closed");
    });
}

#[test]
fn submitted_requests_are_answered_once_each() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", 16 * MIB, Tags::new()).expect("created");
    let (sender, answers) = channel();
    for at in 0..64_u64 {
        let data = volume.buffer(8192);
        data.copy_in(0, &pattern(at + 1, 0, 8192));
        let sender = sender.clone();
        let write = VolumeRequest::Write { offset: at * 8192, data, fua: at % 8 == 0 };
        volume.submit(write, move |result| sender.send((at, result)).expect("heard"));
    }
    drop(sender);
    let mut done: Vec<u64> = answers.iter().map(|(at, result)| result.map(|_| at).expect("written")).collect();
    done.sort_unstable();
    assert_eq!(done, (0..64).collect::<Vec<_>>());
    assert_eq!(read(&volume, 63 * 8192, 8192), pattern(64, 0, 8192));
}

/// Writes every block of a volume and reads it back, all on the reactor's thread.
struct Echo {
    volume: VolumeId,
    next: u64,
    blocks: u64,
    wrong: u64,
    left: u64,
    report: std::sync::mpsc::Sender<u64>,
}

impl LocalClient for Echo {
    fn turn(&mut self, port: &mut Port<'_>) -> bool {
        while self.next < self.blocks.min(32) {
            self.write(port);
        }
        self.left > 0
    }

    fn completed(&mut self, tag: u64, result: Result<Response>, port: &mut Port<'_>) {
        match result.expect("done") {
            Response::Data(data) => {
                self.wrong += u64::from(data.bytes(0, 4096) != pattern(tag + 1, 0, 4096));
                self.left -= 1;
                if self.left == 0 {
                    self.report.send(self.wrong).expect("heard");
                } else if self.next < self.blocks {
                    self.write(port);
                }
            }
            _ => {
                let target = Target::Volume(self.volume);
                port.submit(tag, Request::Read { target, offset: tag * 4096, length: 4096 });
            }
        }
    }
}

impl Echo {
    fn write(&mut self, port: &mut Port<'_>) {
        let data = firn_engine::sys::MemorySlice::new(port.buffers().get(4096), 0, 4096);
        data.copy_in(0, &pattern(self.next + 1, 0, 4096));
        let (volume, offset) = (self.volume, self.next * 4096);
        port.submit(self.next, Request::Write { volume, offset, data, fua: false });
        self.next += 1;
    }
}

#[test]
fn a_local_client_lives_on_the_reactors_thread() {
    each_device(|place| {
        let pool = place.create(64 * MIB);
        let volume = pool.create_volume("a", 16 * MIB, Tags::new()).expect("created").id();
        let (report, heard) = channel();
        pool.attach_client(Box::new(Echo { volume, next: 0, blocks: 4096, wrong: 0, left: 4096, report }));
        assert_eq!(heard.recv().expect("the client ends"), 0);
    });
}

/// A client with a bug.
struct Panics;

impl LocalClient for Panics {
    fn turn(&mut self, _: &mut Port<'_>) -> bool {
        panic!("a bug on the reactor's thread")
    }

    fn completed(&mut self, _: u64, _: Result<Response>, _: &mut Port<'_>) {}
}

#[test]
fn a_panic_is_an_error_for_those_who_wait_and_loses_nothing() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", MIB, Tags::new()).expect("created");
    volume.write_at(0, &pattern(1, 0, 4096)).expect("written");
    pool.attach_client(Box::new(Panics));
    let ended = (0..1000).find_map(|_| volume.flush().err());
    let error: Error = ended.expect("the reactor is gone");
    assert_eq!(error.kind(), Kind::Bug, "{error}");
    assert!(error.to_string().contains("a bug on the reactor's thread"), "{error}");
    assert_eq!(kind(pool.close()), Kind::Bug);
    drop(pool);
    assert_eq!(read(&place.open().volume("a").expect("found"), 0, 4096), pattern(1, 0, 4096));
}

#[test]
fn memory_keeps_to_its_caps_when_the_map_is_larger() {
    let core = CoreOptions { cache_bytes: 1 << 20, overlay_bytes: 1 << 20, ..CoreOptions::default() };
    let place = Place::new(DeviceKind::Auto);
    let place = Place { options: PoolOptions { core, ..place.options.clone() }, ..place };
    let pool = place.create(256 * MIB);
    let volume = pool.create_volume("a", 1 << 40, Tags::new()).expect("created");
    let mut random = Random::new(5);
    let blocks: Vec<u64> = (0..20_000).map(|_| random.below(1 << 28)).collect();
    let mut most = 0;
    for (index, block) in blocks.iter().enumerate() {
        volume.write_at(block * 4096, &pattern(block + 1, 0, 4096)).expect("written");
        if index % 500 == 0 {
            most = most.max(pool.status().expect("status").statistics.overlay_bytes);
        }
    }
    assert!(most < 5 << 20, "{most} bytes of changes in memory");
    let repeated = |block: &u64| blocks.iter().filter(|other| *other == block).count() > 1;
    for block in blocks.iter().step_by(97).filter(|block| !repeated(block)) {
        assert_eq!(read(&volume, block * 4096, 4096), pattern(block + 1, 0, 4096), "block {block}");
    }
    assert!(pool.status().expect("status").statistics.cache_bytes <= 2 << 20);
}
