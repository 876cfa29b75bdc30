//! The vault's decoders on bytes that came from anybody, as `format::hostile` has it.
//!
//! The replicator's formats are compiled once more into this crate, without what else the replicator needs, for the same
//! reason as the engine's are into `firn-fuzz`; they are apart because both have a `crate::format`.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each part of the replicator is here for a part of itself"
)]

#[path = "../../../engine/src/error.rs"]
mod error;
#[path = "../../../replicator/src/format/mod.rs"]
mod format;
mod store;

use std::fs;
use std::path::Path;

/// Larger golden objects teach a fuzzer nothing more, and slow it down.
const SEED_BYTES_MAX: usize = 8 << 10;

/// Every decoder of the vault's formats, with the same bytes.
///
/// # Panics
/// When one of them does what it must not.
pub fn vault_formats(bytes: &[u8]) {
    format::hostile::all(bytes);
    format::hostile::encrypted_frame(bytes);
}

/// The objects of the golden vaults.
///
/// # Panics
/// When they can't be read.
pub fn seeds() -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../replicator/tests/golden");
    let (mut folders, mut seeds) = (vec![golden], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("the golden vaults are in the repository");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        paths.sort();
        for path in paths {
            let is_source = path.extension().is_some_and(|extension| extension == "rs" || extension == "md");
            match path.is_dir() {
                true => folders.push(path),
                false if is_source => {}
                false => seeds.push(fs::read(path).expect("readable")),
            }
        }
    }
    seeds.retain(|seed| (1..=SEED_BYTES_MAX).contains(&seed.len()));
    seeds
}
