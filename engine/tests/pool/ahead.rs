//! Who reads in order is read ahead, and sees no difference but the time.

use std::os::unix::fs::FileExt;

use firn_engine::catalog::Tags;
use firn_engine::core::Statistics;
use firn_engine::error::Kind;
use firn_engine::pool::Pool;
use firn_engine::sys::DeviceKind;
use firn_engine::volume::Volume;

use crate::place::{MIB, Place, each_device, pattern, read};

const LENGTH: usize = 64 << 10;
const PIECE: u64 = LENGTH as u64;
const BYTES: u64 = 16 * MIB;

fn statistics(pool: &Pool) -> Statistics {
    pool.status().expect("status").statistics
}

/// A volume all of which is written, each 64 KiB another pattern.
fn filled(pool: &Pool) -> Volume {
    let volume = pool.create_volume("a", BYTES, Tags::new()).expect("created");
    for at in (0..BYTES).step_by(LENGTH) {
        volume.write_at(at, &wanted(at, 0)).expect("written");
    }
    pool.checkpoint().expect("a checkpoint");
    volume
}

fn wanted(at: u64, version: u64) -> Vec<u8> {
    pattern(at / PIECE + 1, version, LENGTH)
}

#[test]
fn reads_in_order_are_answered_from_memory_and_others_are_not() {
    each_device(|place| {
        let pool = place.create(64 * MIB);
        let volume = filled(&pool);
        let before = statistics(&pool);
        for at in (0..BYTES).step_by(LENGTH) {
            assert_eq!(read(&volume, at, LENGTH), wanted(at, 0), "at {at}");
        }
        let after = statistics(&pool);
        let reads = BYTES / PIECE;
        assert_eq!(after.reads - before.reads, reads);
        assert!(after.read_ahead_hits > reads * 9 / 10, "{} of {reads}", after.read_ahead_hits);
        assert_eq!(after.device_bytes_read - before.device_bytes_read, BYTES, "each block once");
        assert!(after.device_reads - before.device_reads < reads / 4, "in large pieces");

        for at in (0..BYTES / PIECE).rev().map(|piece| piece * PIECE) {
            assert_eq!(read(&volume, at, 4096), wanted(at, 0)[..4096]);
        }
        assert_eq!(statistics(&pool).read_ahead_bytes, after.read_ahead_bytes, "not for reads that jump");
        pool.close().expect("closed");
    });
}

#[test]
fn what_is_written_or_rolled_back_meanwhile_is_seen() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = filled(&pool);
    volume.snapshot("before", Tags::new()).expect("a snapshot");
    for (number, at) in (0..BYTES).step_by(LENGTH).enumerate() {
        // Now and then what comes next is written anew, and it has been read ahead by then.
        if number % 7 == 6 {
            volume.write_at(at, &wanted(at, 1)).expect("written");
        }
        let version = u64::from(number % 7 == 6);
        assert_eq!(read(&volume, at, LENGTH), wanted(at, version), "at {at}");
    }
    // Half of it read in order, then the whole is another.
    for at in (0..BYTES).step_by(LENGTH) {
        if at == BYTES / 2 {
            volume.rollback("before", None).expect("rolled back");
        }
        let version = u64::from(at / PIECE % 7 == 6 && at < BYTES / 2);
        assert_eq!(read(&volume, at, LENGTH), wanted(at, version), "at {at}");
    }
    pool.close().expect("closed");
}

/// I4: only who asks for a damaged block is told.
#[test]
fn a_damaged_block_that_was_read_ahead_fails_its_own_read_only() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = filled(&pool);
    let damaged = 9 * MIB;
    let file =
        std::fs::OpenOptions::new().read(true).write(true).open(place.path()).expect("the pool's file");
    let image = std::fs::read(place.path()).expect("readable");
    let block = &wanted(damaged, 0)[..4096];
    let at = image.chunks(4096).position(|found| found == block).expect("it is on the device") as u64 * 4096;
    file.write_all_at(&[!block[100]], at + 100).expect("damaged");
    file.sync_all().expect("synced");

    for at in (0..BYTES).step_by(LENGTH) {
        let mut found = vec![0; LENGTH];
        let result = volume.read_at(at, &mut found);
        match at == damaged {
            true => assert_eq!(result.expect_err("it is damaged").kind(), Kind::Damaged),
            false => assert!(result.is_ok() && found == wanted(at, 0), "at {at}: {result:?}"),
        }
    }
    let statistics = statistics(&pool);
    assert_eq!((statistics.damaged_reads, statistics.reads_again), (1, 1));
    assert!(statistics.read_ahead_hits > 0);
    assert!(
        statistics.read_ahead_bytes < 2 * BYTES,
        "{} bytes: it was tried again and again",
        statistics.read_ahead_bytes
    );
    file.write_all_at(&block[100..101], at + 100).expect("mended");
    pool.close().expect("closed");
}

/// I5: a stream that stands still keeps no block from being used again.
#[test]
fn freed_blocks_come_back_while_a_stream_stands_still() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = filled(&pool);
    let free = statistics(&pool).free_blocks;
    for at in (0..BYTES / 2).step_by(LENGTH) {
        assert_eq!(read(&volume, at, LENGTH), wanted(at, 0));
    }
    // More than the pool has room for, unless what is displaced comes back each time.
    for version in 1..12 {
        for at in (0..BYTES).step_by(LENGTH) {
            volume.write_at(at, &wanted(at, version)).expect("there is room again");
        }
        assert_eq!(read(&volume, BYTES / 2, LENGTH), wanted(BYTES / 2, version));
    }
    pool.checkpoint().expect("a checkpoint");
    assert_eq!(statistics(&pool).free_blocks + statistics(&pool).waiting_blocks, free);
    pool.close().expect("closed");
}
