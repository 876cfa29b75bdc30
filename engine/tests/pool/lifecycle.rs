//! Creating, opening, closing and dropping pools.

use std::path::Path;

use firn_engine::catalog::Tags;
use firn_engine::error::Kind;
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::sys::DeviceKind;

use crate::place::{MIB, Place, assert_same, each_device, kind, pattern, read};

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
    let overwrite = CreateOptions { overwrite: true, ..create.clone() };
    Pool::create(&place.path(), &overwrite, &place.options).expect_err("its metadata is in use");
    pool.create_volume("still", MIB, Tags::new()).expect("the pool in use is whole");
    pool.close().expect("closed");
    assert_eq!(kind(Pool::create(&place.path(), &create, &place.options)), Kind::Conflict);
    let again = CreateOptions { overwrite: true, ..create };
    let other = PoolOptions { meta: Some(place.disk.path().to_owned()), ..place.options.clone() };
    assert_eq!(kind(Pool::create(&place.path(), &again, &other)), Kind::Conflict, "not ours to delete");
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
