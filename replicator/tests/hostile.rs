//! The decoders of the vault's formats with bytes that nobody wrote: golden objects, mutated, and noise. What must hold
//! is in `format::hostile`; a failure prints its seed.

use std::fs;
use std::path::{Path, PathBuf};

use firn_replicator::format::hostile;

/// Numbers that a decoder may trip over.
const EDGES: [u64; 9] = [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 63, u64::MAX];
/// The same for JSON.
const TEXTS: [&str; 12] = [
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e3",
    "0.5",
    "null",
    "[]",
    "{}",
    "\"\"",
    "\"\\ud800\"",
    "true",
    "[[[[[[[[[[",
];

/// Numbers that follow from a seed.
struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(b"hostile").update(&seed.to_le_bytes()).finalize_xof())
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("below a usize")
    }
}

/// Says which seed it was when a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn golden_objects() -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("golden vaults") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => directories.push(path),
                false => found.push((path.clone(), fs::read(&path).expect("readable"))),
            }
        }
    }
    found.sort();
    found
}

fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(40)).min(bytes.len());
        match random.below(8) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            4 => {
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&edge[..width]);
            }
            5 => random.0.fill(&mut bytes[at..end]),
            // Instead of a JSON value, or a part of one.
            _ => {
                let colon =
                    bytes[at..].iter().position(|byte| *byte == b':').map_or(at, |next| at + next + 1);
                let end = bytes[colon..].iter().position(|byte| b",\n}".contains(byte));
                let end = end.map_or(bytes.len(), |next| colon + next);
                bytes.splice(colon..end, TEXTS[random.below(TEXTS.len())].bytes());
            }
        }
    }
    bytes
}

#[test]
fn mutated_objects_are_refused_or_read_rightly() {
    let objects = golden_objects();
    for seed in 0..20_000 {
        let _seed = Seed(seed);
        let mut random = Random::new(seed);
        let (path, bytes) = &objects[random.below(objects.len())];
        let bytes = mutated(bytes, &mut random);
        let is_container = ["packs", "runs"].iter().any(|part| path.iter().any(|name| name == *part));
        match is_container {
            true => {
                hostile::container(&bytes);
                hostile::container(&hostile::forged(&bytes));
            }
            false => hostile::all(&bytes),
        }
    }
}

#[test]
fn mutated_contents_are_refused_or_read_rightly() {
    let mut extents = Vec::new();
    let mut packs = Vec::new();
    for index in 0..20u64 {
        let row = [index * 7, 3 | (index << 32), index];
        extents.extend(row.iter().flat_map(|word| word.to_le_bytes()).take(20));
        let mut pack = [0; 112];
        pack[64..72].copy_from_slice(&(64 + 64 + 56 * index).to_le_bytes());
        pack[72..76].copy_from_slice(&u32::try_from(index).expect("small").to_le_bytes());
        pack[76..80].copy_from_slice(&u32::try_from(16 * index).expect("small").to_le_bytes());
        pack[96] = b'y';
        packs.extend(pack);
    }
    for seed in 0..20_000 {
        let _seed = Seed(seed);
        let mut random = Random::new(seed);
        hostile::extents(&mutated(&extents, &mut random));
        hostile::packs(&mutated(&packs, &mut random));
    }
}

#[test]
fn noise_is_refused() {
    for seed in 0..5_000 {
        let _seed = Seed(seed);
        let mut random = Random::new(seed);
        let mut bytes = vec![0; random.below(2_000)];
        random.0.fill(&mut bytes);
        hostile::all(&bytes);
        hostile::encrypted_frame(&bytes);
    }
}

/// A frame that says it becomes far more than a frame can be is refused by its row, not by running out of memory.
#[test]
fn a_frame_that_blows_up_is_refused() {
    let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 19).expect("compressed");
    assert!(bomb.len() < 64 << 10, "{} bytes", bomb.len());
    hostile::encrypted_frame(&bomb);
    let objects = golden_objects();
    let is_pack = |path: &Path| path.iter().any(|name| name == "packs");
    let (_, pack) = objects.iter().find(|(path, _)| is_pack(path)).expect("a golden pack");
    let mut forged = pack[..64].to_vec();
    forged.extend(&bomb);
    let mut row = pack[pack.len() - 120..pack.len() - 64].to_vec();
    row[8..12].copy_from_slice(&u32::try_from(bomb.len()).expect("small").to_le_bytes());
    row[12..16].copy_from_slice(&(64u32 << 10).to_le_bytes());
    forged.extend(row);
    forged.extend(&pack[pack.len() - 64..]);
    let at = forged.len() - 32;
    forged[at..at + 4].copy_from_slice(&1u32.to_le_bytes());
    hostile::container(&hostile::forged(&forged));
}
