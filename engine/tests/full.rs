//! The file system under the metadata is full: writers get an error, reads and deletes go on, nothing is lost, and
//! when there is room again the pool goes on by itself, whatever RocksDB was doing. Needs root, to mount a small tmpfs.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firn_engine::catalog::Tags;
use firn_engine::core::CoreOptions;
use firn_engine::delta::DeltaExtent;
use firn_engine::error::{Error, Kind, Result};
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::units::{BLOCK_BYTES, BlockIndex, PAGE_BLOCKS};
use firn_engine::volume::Volume;

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

/// A pool whose metadata lies on a small file system, and what its volume must hold.
struct Place {
    metadata: Mounted,
    disk: tempfile::TempDir,
    _shared: tempfile::TempDir,
    options: PoolOptions,
    stamps: Vec<u64>,
    next: u64,
}

/// Blocks that are written, each in a map page of its own: checkpoints take a while.
const BLOCKS: usize = 16_384;

fn offset(at: usize) -> u64 {
    at as u64 * PAGE_BLOCKS * BLOCK_BYTES
}

impl Place {
    fn new() -> Self {
        let metadata = Mounted::new(24 << 20);
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        let shared = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let options = PoolOptions {
            meta: Some(metadata.path().join("meta")),
            tail_directory: Some(shared.path().to_owned()),
            core: CoreOptions { checkpoint_interval_ms: 200, ..CoreOptions::default() },
            ..PoolOptions::default()
        };
        Self { metadata, disk, _shared: shared, options, stamps: vec![0; BLOCKS], next: 1_000_000 }
    }

    fn path(&self) -> std::path::PathBuf {
        self.disk.path().join("pool")
    }

    fn create(&mut self) -> (Pool, Volume) {
        let create =
            CreateOptions { bytes: Some(256 << 20), journal_blocks: Some(256), ..CreateOptions::default() };
        let pool = Pool::create(&self.path(), &create, &self.options).expect("created");
        let volume = pool.create_volume("v", offset(BLOCKS), Tags::new()).expect("a volume");
        for at in (0..BLOCKS).step_by(3) {
            self.write(&volume, at).expect("written");
        }
        volume.snapshot("before", Tags::new()).expect("a snapshot");
        pool.checkpoint().expect("a checkpoint");
        (pool, volume)
    }

    fn filler(&self) -> std::path::PathBuf {
        self.metadata.path().join("filler")
    }

    fn write(&mut self, volume: &Volume, at: usize) -> Result<()> {
        self.next += 1;
        volume.write_at(offset(at), &block(self.next))?;
        self.stamps[at] = self.next;
        Ok(())
    }

    /// Writes here and there until it is refused, at most `writes` times.
    fn write_until_refused(&mut self, volume: &Volume, writes: usize) -> Option<Error> {
        (0..writes).find_map(|round| self.write(volume, round * 7919 % BLOCKS).err())
    }

    fn check(&self, volume: &Volume) {
        for (at, &stamp) in self.stamps.iter().enumerate().step_by(5) {
            let mut found = vec![9; 4096];
            volume.read_at(offset(at), &mut found).expect("reads go on");
            let expected = if stamp == 0 { vec![0; 4096] } else { block(stamp) };
            assert!(found == expected, "block {at}");
        }
    }

    /// There is room again: checkpoints go on by themselves. Then everything is there, also after a restart.
    fn goes_on(mut self, pool: Pool, volume: Volume) {
        wait_for_checkpoint(&pool);
        self.check(&volume);
        self.write(&volume, 0).expect("there is room again");
        volume.snapshot_named("before").expect("there").delete().expect("deleted");
        pool.checkpoint().expect("a checkpoint");
        self.check(&volume);
        assert!(pool.check_metadata().expect("checked").is_clean());
        drop((volume, pool));
        let pool = Pool::open(&self.path(), &self.options).expect("opens");
        self.check(&pool.volume("v").expect("there"));
        pool.close().expect("closed");
        let report = Pool::check(&self.path(), &self.options, true).expect("checked");
        assert!(report.is_clean(), "{report:?}");
    }
}

/// Waits until a checkpoint succeeds. Each attempt that fails says so at once; the next is made a second later.
#[allow(clippy::disallowed_methods)] // It waits for RocksDB.
fn wait_for_checkpoint(pool: &Pool) {
    let began = Instant::now();
    loop {
        let Err(error) = pool.checkpoint() else { return };
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint, and there is room: {error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Fills the file system up when RocksDB has begun to write a table, or after some seconds.
#[allow(clippy::disallowed_methods)] // It waits for RocksDB.
fn fill_in_the_middle(tables: &Path, filler: &Path) {
    let count = || {
        let names =
            std::fs::read_dir(tables).expect("a directory").map(|entry| entry.expect("one").file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".sst")).count()
    };
    let (began, before) = (Instant::now(), count());
    while count() <= before && began.elapsed() < Duration::from_secs(4) {}
    fill_up(filler);
}

#[test]
fn a_full_metadata_file_system_stops_writers_and_nothing_else() {
    let mut place = Place::new();
    let (pool, volume) = place.create();
    fill_up(&place.filler());
    let refused = place.write_until_refused(&volume, 200_000).expect("writers must be told at some point");
    assert_eq!(refused.kind(), Kind::OutOfSpace, "{refused}");
    assert!(refused.next_step().is_some(), "the error says what to do");
    place.check(&volume);
    std::fs::remove_file(place.filler()).expect("removed");
    place.goes_on(pool, volume);
}

/// RocksDB meets the full file system itself, in the middle of its writes, and may then refuse all others until it is
/// opened again: the pool does so by itself, under a reader.
#[test]
#[allow(clippy::disallowed_methods)] // The file system fills at moments that have nothing to do with the pool's.
fn a_file_system_that_fills_in_the_middle_of_a_checkpoint_is_got_over() {
    let mut place = Place::new();
    let (pool, volume) = place.create();
    let done = AtomicBool::new(false);
    let filler = place.filler();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let (done, filler, began) = (&done, &filler, &began);
        let tables = place.options.meta.clone().expect("given");
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                fill_in_the_middle(&tables, filler);
                std::thread::sleep(Duration::from_millis(20));
                std::fs::remove_file(filler).expect("removed");
            }
        });
        let snapshot = volume.snapshot_named("before").expect("there");
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let mut blocks = 0;
                let mut count = |extent: DeltaExtent| {
                    blocks += extent.blocks;
                    Ok(true)
                };
                snapshot.allocation(BlockIndex(0)..BlockIndex(u64::MAX), &mut count).expect("walks go on");
                assert_eq!(blocks, BLOCKS.div_ceil(3) as u64);
            }
        });
        // It succeeds every ten seconds or so; without any the test would prove nothing.
        let mut reopened = 0;
        while reopened < 2 && began.elapsed() < Duration::from_secs(180) {
            let error = place.write_until_refused(&volume, 2_000);
            assert!(error.is_none_or(|error| error.kind() == Kind::OutOfSpace));
            place.check(&volume);
            reopened = pool.status().expect("known").metadata_reopened;
        }
        done.store(true, Ordering::Relaxed);
        println!("opened again {reopened} times in {:?}", began.elapsed());
        assert!(reopened > 0, "RocksDB never met the full file system");
    });
    place.goes_on(pool, volume);
}
