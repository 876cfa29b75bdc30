//! What was done to the golden pools. It uses every operation of the catalog, every kind of record and key, and ends
//! in a crash with three writes under way, or in a clean close.

use std::path::Path;

use firn_engine::catalog::{Operation, SnapshotKey, Subject, Tags};
use firn_engine::core::Request;
use firn_engine::device::DeviceRequest;
use firn_engine::units::{BLOCK_BYTES, VolumeId};

use crate::driver::{Driver, word};

/// Makes the pool that was closed cleanly.
pub(crate) fn close(directory: &Path) {
    let mut driver = Driver::create(directory);
    checkpointed(&mut driver);
    journaled(&mut driver);
    driver.close();
}

/// Makes the pool whose process died. Returns what it left in shared memory.
pub(crate) fn crash(directory: &Path) -> Vec<u8> {
    let mut driver = Driver::create(directory);
    checkpointed(&mut driver);
    journaled(&mut driver);
    unfinished(&mut driver);
    let memory = driver.tail.clone();
    drop(driver);
    memory.bytes(0, memory.len()).to_vec()
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn key(driver: &Driver, volume: &str, snapshot: &str) -> SnapshotKey {
    let catalog = driver.core.catalog();
    catalog.snapshot_named(catalog.volume_named(volume).expect("a volume"), snapshot).expect("a snapshot").key
}

fn create(driver: &mut Driver, name: &'static str, blocks: u64, tags: Tags) {
    driver.change(move |catalog, created_ms| {
        let (id, layer, bytes) = (VolumeId(catalog.next_volume()), catalog.next_layer(), blocks * BLOCK_BYTES);
        Operation::VolumeCreate { id, layer, name: name.to_owned(), bytes, created_ms, tags }
    });
}
