//! The online scrub on a real file whose blocks are damaged behind the pool's back.

use std::os::unix::fs::FileExt;

use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::scrub::{ScrubCursor, ScrubOptions, ScrubReport};
use firn_engine::sys::SystemClock;

const MIB: u64 = 1 << 20;

fn scrub(pool: &Pool, resume: ScrubCursor, mut progress: impl FnMut(&ScrubReport) -> bool) -> ScrubReport {
    let options = ScrubOptions { bytes_per_second: None, resume };
    pool.scrub(&options, &SystemClock, &mut progress).expect("scrubbed")
}

/// I4: every flipped byte of data that something maps is reported, with its place; what nothing maps is not read.
#[test]
fn finds_each_damaged_block_and_goes_on_where_it_was() {
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
    let shared = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
    let options = PoolOptions { tail_directory: Some(shared.path().to_owned()), ..PoolOptions::default() };
    let path = disk.path().join("pool");
    let create =
        CreateOptions { bytes: Some(64 * MIB), journal_blocks: Some(256), ..CreateOptions::default() };
    let pool = Pool::create(&path, &create, &options).expect("created");
    let volume = pool.create_volume("pg", 16 * MIB, Default::default()).expect("a volume");
    let bytes =
        |mark: u8| (0..MIB).map(|at| ((at / 4096 + at).to_le_bytes()[0] ^ mark) | 1).collect::<Vec<u8>>();
    volume.write_at(0, &bytes(0x10)).expect("written");
    volume.write_at(8 * MIB, &bytes(0x20)).expect("written");
    volume.snapshot("before", Default::default()).expect("a snapshot");
    volume.write_at(0, &bytes(0x30)).expect("written");
    volume.snapshot_named("before").expect("there").clone_to("copy", Default::default()).expect("a clone");
    pool.flush().expect("flushed");

    let report = scrub(&pool, ScrubCursor::default(), |_| true);
    assert!(report.complete && report.damaged_blocks == 0, "{report:?}");
    assert_eq!(report.read_bytes, 3 * MIB, "every block once: two of the head, one only of the snapshot");

    // One byte in a block of the head and one in a block that only the snapshot and its clone see.
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("the pool's file");
    let image = std::fs::read(&path).expect("readable");
    for (mark, block) in [(0x20, 7_usize), (0x10, 3)] {
        let wanted = &bytes(mark)[block * 4096..(block + 1) * 4096];
        let at = image.chunks(4096).position(|found| found == wanted).expect("the block is on the device")
            as u64
            * 4096;
        file.write_all_at(&[!wanted[100]], at + 100).expect("damaged");
    }
    file.sync_all().expect("synced");

    // Stopped after each read and gone on from its cursor, it finds the same.
    let mut cursor = ScrubCursor::default();
    let (mut damaged, mut read_bytes) = (Vec::new(), 0);
    for _ in 0..100 {
        let report = scrub(&pool, cursor, |_| false);
        cursor = report.cursor;
        damaged.extend(report.damaged);
        read_bytes += report.read_bytes;
        if report.complete {
            break;
        }
    }
    let mut places: Vec<_> = damaged
        .iter()
        .map(|block| (block.volume.as_str(), block.snapshot.as_deref(), block.offset))
        .collect();
    places.sort();
    assert_eq!(places, [("pg", None, 8 * MIB + 7 * 4096), ("pg", Some("before"), 3 * 4096)]);
    assert!(read_bytes < 6 * MIB, "what was done is not read again: {read_bytes}");
    pool.close().expect("closed");
}
