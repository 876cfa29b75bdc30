//! Pools that are full, room that comes back, and sizes that change.

use firn_engine::catalog::Tags;
use firn_engine::error::Kind;
use firn_engine::sys::DeviceKind;

use crate::place::{MIB, Place, assert_same, each_device, kind, pattern, read, settle};

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

/// A large write takes its blocks before it displaces others: those that came meanwhile and found no room were refused,
/// though every one of them only overwrites.
#[test]
fn large_overwrites_at_depth_in_a_nearly_full_pool_all_find_room() {
    each_device(|place| {
        let pool = place.create(64 * MIB);
        let volume = pool.create_volume("a", 128 * MIB, Tags::new()).expect("created");
        let mut filled = 0;
        while pool.status().is_ok_and(|status| status.free_bytes > status.reserve_bytes + 8 * MIB) {
            volume.write_at(filled * MIB, &pattern(1, filled, 1 << 20)).expect("written");
            filled += 1;
        }
        pool.checkpoint().expect("checkpoint");
        std::thread::scope(|scope| {
            for writer in 0..16_u64 {
                let volume = &volume;
                scope.spawn(move || {
                    for round in 0..4 {
                        let bytes = pattern(round, writer, 1 << 20);
                        volume.write_at(writer * MIB, &bytes).expect("an overwrite finds room");
                    }
                });
            }
        });
        for writer in 0..16_u64 {
            let last = pattern(3, writer, 1 << 20);
            assert_same(&read(&volume, writer * MIB, 1 << 20), &last, "the last round");
        }
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
