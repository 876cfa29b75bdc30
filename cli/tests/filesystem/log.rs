//! A file that only grows, by one record at a time, each of which is synced: what a snapshot of it must hold is known
//! to the record, whenever it was taken.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A record is its number, four times. Blocks are whole multiples of it, so none lies in two.
const RECORD: usize = 32;

/// How far the log is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    begun: AtomicU64,
    synced: AtomicU64,
}

impl Progress {
    /// Records that a snapshot may hold if it is taken before this is asked.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Records that a snapshot must hold if it is taken after this was asked.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::SeqCst)
    }
}

fn path(mount: &Path) -> PathBuf {
    mount.join("log")
}

/// Goes on with the log of a mounted volume until it is over.
pub(crate) fn grow(mount: &Path, progress: &Progress, is_over: &AtomicBool) {
    let file = File::options().create(true).truncate(false).write(true).open(path(mount)).expect("opened");
    let mut number = progress.synced();
    while !is_over.load(Ordering::SeqCst) {
        progress.begun.store(number + 1, Ordering::SeqCst);
        file.write_all_at(&record(number), number * RECORD as u64).expect("written");
        file.sync_data().expect("synced");
        number += 1;
        progress.synced.store(number, Ordering::SeqCst);
    }
}

/// Reads a log that nobody writes to, which must be whole, and gives how far it is.
pub(crate) fn read(mount: &Path) -> Progress {
    let content = std::fs::read(path(mount)).expect("read");
    assert_eq!(content.len() % RECORD, 0, "half a record");
    for (number, found) in (0..).zip(content.chunks_exact(RECORD)) {
        assert!(found == record(number), "record {number} in {} is {found:?}", mount.display());
    }
    let records = (content.len() / RECORD) as u64;
    Progress { begun: records.into(), synced: records.into() }
}

fn record(number: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&number.to_le_bytes()));
    record
}
