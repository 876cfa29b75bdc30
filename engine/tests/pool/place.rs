//! Where a test's pool lies, and what all tests of pools need.

use std::path::PathBuf;

use firn_engine::core::Core;
use firn_engine::error::{Kind, Result};
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::sys::DeviceKind;
use firn_engine::volume::Volume;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const DEVICES: [DeviceKind; 2] = [DeviceKind::Uring, DeviceKind::Plain];

/// A place for one pool: its file, its metadata and its shared memory.
pub(crate) struct Place {
    pub(crate) disk: tempfile::TempDir,
    pub(crate) shared: tempfile::TempDir,
    pub(crate) options: PoolOptions,
}

impl Drop for Place {
    /// Whatever a test did to its pool, everything in it agrees.
    fn drop(&mut self) {
        if self.path().exists() && !std::thread::panicking() {
            let report = Pool::check(&self.path(), &self.options, true).expect("checked");
            assert!(report.is_clean(), "{report:?}");
        }
    }
}

impl Place {
    pub(crate) fn new(device: DeviceKind) -> Self {
        let shared = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let options =
            PoolOptions { device, tail_directory: Some(shared.path().to_owned()), ..PoolOptions::default() };
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        Self { disk, shared, options }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.disk.path().join("pool")
    }

    pub(crate) fn create(&self, bytes: u64) -> Pool {
        let create = CreateOptions { bytes: Some(bytes), ..CreateOptions::default() };
        Pool::create(&self.path(), &create, &self.options).expect("created")
    }

    pub(crate) fn open(&self) -> Pool {
        Pool::open(&self.path(), &self.options).expect("opened")
    }

    pub(crate) fn shared_files(&self) -> usize {
        std::fs::read_dir(self.shared.path()).expect("listed").count()
    }
}

pub(crate) fn each_device(check: impl Fn(Place)) {
    DEVICES.into_iter().for_each(|device| check(Place::new(device)));
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    result.expect_err("refused").kind()
}

/// Blocks that can be told apart: each says who wrote it, and where.
pub(crate) fn pattern(mark: u64, offset: u64, length: usize) -> Vec<u8> {
    let words = (0..length / 8).map(|at| ((mark << 40) | (offset / 8 + at as u64)).to_le_bytes());
    words.flatten().collect()
}

pub(crate) fn read(volume: &Volume, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; length];
    volume.read_at(offset, &mut bytes).expect("read");
    bytes
}

pub(crate) fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    if let Some(at) = found.iter().zip(expected).position(|(found, expected)| found != expected) {
        panic!("{what}: byte {at} of {} is {:02x}, not {:02x}", found.len(), found[at], expected[at]);
    }
}

/// Makes checkpoints until everything that was deleted has given its room back.
pub(crate) fn settle(pool: &Pool) {
    for _ in 0..50 {
        pool.checkpoint().expect("checkpoint");
        let busy = |core: &Core| core.is_checkpointing() || core.catalog().has_reclaims();
        if pool.status().expect("status").waiting_bytes == 0 && !pool.handle().look(busy).expect("looked") {
            return;
        }
    }
    panic!("room does not come back: {:?}", pool.status());
}
