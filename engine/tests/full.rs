//! The file system under the metadata is full: writers get an error, reads and deletes go on, nothing is lost, and
//! when there is room again the pool goes on, by itself or opened again. Needs root, to mount a small tmpfs.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use firn_engine::core::CoreOptions;
use firn_engine::error::Kind;
use firn_engine::map::store::StoreOptions;
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};

struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(bytes: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "firn-test"])
            .arg(directory.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mounting a tmpfs needs root");
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

fn block(stamp: u64) -> Vec<u8> {
    (0..512_u64).flat_map(|word| (stamp << 16 | word).to_le_bytes()).collect()
}

fn fill_up(path: &Path) {
    let mut size = 1 << 20;
    let mut file = std::fs::File::create(path).expect("a file");
    while size > 0 {
        // Until not even one more byte fits.
        match std::io::Write::write(&mut file, &vec![1; size]) {
            Ok(1..) => {}
            _ => size /= 2,
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods, clippy::too_many_lines)] // One story, told in order; it waits for RocksDB.
fn a_full_metadata_file_system_stops_writers_and_nothing_else() {
    let metadata = Mounted::new(24 << 20);
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
    let shared = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
    let options = PoolOptions {
        meta: Some(metadata.path().join("meta")),
        tail_directory: Some(shared.path().to_owned()),
        core: CoreOptions { checkpoint_interval_ms: 200, ..CoreOptions::default() },
        // RocksDB, where it found the file system full itself, goes on when its write buffers fit.
        store: StoreOptions { write_buffer_bytes: 256 << 10, ..StoreOptions::default() },
        ..PoolOptions::default()
    };
    let path = disk.path().join("pool");
    let create =
        CreateOptions { bytes: Some(256 << 20), journal_blocks: Some(256), ..CreateOptions::default() };
    let pool = Pool::create(&path, &create, &options).expect("created");
    let volume = pool.create_volume("v", 64 << 20, Default::default()).expect("a volume");
    let mut stamps = vec![0_u64; 16384];
    for (at, stamp) in stamps.iter_mut().enumerate().step_by(3) {
        *stamp = at as u64 + 1;
        volume.write_at(at as u64 * 4096, &block(*stamp)).expect("written");
    }
    volume.snapshot("before", Default::default()).expect("a snapshot");
    pool.checkpoint().expect("a checkpoint");

    let filler = metadata.path().join("filler");
    fill_up(&filler);
    let mut next = 1_000_000;
    let mut refused = None;
    for round in 0..200_000_usize {
        let at = round * 7919 % stamps.len();
        match volume.write_at(at as u64 * 4096, &block(next)) {
            Ok(()) => stamps[at] = next,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
        next += 1;
    }
    let refused = refused.expect("writers must be told at some point");
    assert_eq!(refused.kind(), Kind::OutOfSpace, "{refused}");
    assert!(refused.next_step().is_some(), "the error says what to do");
    let check = |volume: &firn_engine::volume::Volume, stamps: &[u64]| {
        for (at, &stamp) in stamps.iter().enumerate().step_by(5) {
            let mut found = vec![9; 4096];
            volume.read_at(at as u64 * 4096, &mut found).expect("reads go on");
            let expected = if stamp == 0 { vec![0; 4096] } else { block(stamp) };
            assert!(found == expected, "block {at}");
        }
    };
    check(&volume, &stamps);

    std::fs::remove_file(&filler).expect("removed");
    let began = Instant::now();
    let mut went_on = false;
    while !went_on && began.elapsed() < Duration::from_secs(20) {
        went_on = pool.checkpoint().is_ok();
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("the pool {} by itself", if went_on { "went on" } else { "did not go on" });
    // A checkpoint is not begun without room. But one that was under way when the file system ran full makes RocksDB
    // refuse every other until it is opened again: then the pool is.
    let (pool, volume) = if went_on {
        (pool, volume)
    } else {
        drop((volume, pool));
        let pool = Pool::open(&path, &options).expect("opens");
        let volume = pool.volume("v").expect("there");
        check(&volume, &stamps);
        (pool, volume)
    };
    volume.write_at(0, &block(next)).expect("there is room again");
    stamps[0] = next;
    volume.snapshot_named("before").expect("there").delete().expect("deleted");
    pool.checkpoint().expect("a checkpoint");
    check(&volume, &stamps);
    drop((volume, pool));

    let pool = Pool::open(&path, &options).expect("opens");
    check(&pool.volume("v").expect("there"), &stamps);
    pool.close().expect("closed");
}
