//! What the golden volumes hold: blocks that can be told from each other, and from what they should not be.

use std::fmt::Write as _;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;
/// The letter of a block of zeros: a hole.
pub(crate) const HOLE: u8 = b'.';
/// The letter of a block that can't be compressed.
pub(crate) const NOISE: u8 = b'n';

/// Block `index` of a volume, filled with `letter`: its letter and index, repeated.
pub(crate) fn block(letter: u8, index: u64) -> Vec<u8> {
    match letter {
        HOLE => vec![0; BLOCK],
        NOISE => {
            let mut bytes = vec![0; BLOCK];
            blake3::Hasher::new()
                .update(b"noise")
                .update(&index.to_le_bytes())
                .finalize_xof()
                .fill(&mut bytes);
            bytes
        }
        _ => format!("{}{index:07}", char::from(letter)).into_bytes().repeat(BLOCK / 8),
    }
}

/// A volume's content as runs of letters: `16a 44. 2b` are 16 blocks of `a`, 44 holes, and 2 of `b`. What none of
/// these wrote is `?`.
pub(crate) fn describe(volume: &[u8]) -> String {
    assert!(volume.len().is_multiple_of(BLOCK), "a volume is whole blocks");
    let letters: Vec<u8> = volume.chunks(BLOCK).zip(0..).map(|(bytes, index)| letter(bytes, index)).collect();
    let mut text = String::new();
    for run in letters.chunk_by(|one, other| one == other) {
        let count = if run.len() == 1 { String::new() } else { run.len().to_string() };
        write!(text, "{count}{} ", char::from(run[0])).expect("memory");
    }
    text.trim_end().to_owned()
}

fn letter(bytes: &[u8], index: u64) -> u8 {
    let candidates = [HOLE, NOISE, bytes[0]];
    candidates.into_iter().find(|&letter| block(letter, index) == bytes).unwrap_or(b'?')
}
