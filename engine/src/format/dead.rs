//! Values of `dead` (blocks that snapshots keep from being free) and `space` (the allocation bitmap).
//!
//! ```text
//! dead   runs to the end of the value: varint first physical block, varint blocks
//! space  512 bytes: bit n of byte m is block 4096 * chunk + 8 * m + n; set means allocated
//! ```

use super::Malformed;
use super::bytes::{Reader, put_varint};
use crate::units::PhysicalBlock;

/// Blocks that one chunk of the bitmap tells of.
pub const CHUNK_BLOCKS: u64 = 4096;
/// Bytes of a chunk.
pub const CHUNK_BYTES: usize = 512;

/// Consecutive physical blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhysicalRun {
    /// The first block.
    pub start: PhysicalBlock,
    /// How many, at least 1.
    pub blocks: u64,
}

/// Adds a block to a list of runs, lengthening the last one when it is its neighbour.
pub fn push(runs: &mut Vec<PhysicalRun>, block: PhysicalBlock) {
    match runs.last_mut() {
        Some(last) if last.start.0 + last.blocks == block.0 => last.blocks += 1,
        _ => runs.push(PhysicalRun { start: block, blocks: 1 }),
    }
}

/// The value of a `dead` key.
pub fn encode(runs: &[PhysicalRun]) -> Vec<u8> {
    let mut out = Vec::with_capacity(runs.len() * 6);
    for run in runs {
        put_varint(&mut out, run.start.0);
        put_varint(&mut out, run.blocks);
    }
    out
}

/// Reads the value of a `dead` key.
///
/// # Errors
/// [`Malformed`] when it does not follow the format or a run is out of range.
pub fn decode(value: &[u8]) -> Result<Vec<PhysicalRun>, Malformed> {
    let mut reader = Reader::new(value);
    let mut runs = Vec::new();
    while reader.remaining() > 0 {
        let (start, blocks) = (reader.varint()?, reader.varint()?);
        if start == 0 || blocks == 0 || start >= 1 << 40 || blocks > 1 << 40 {
            return Err(Malformed("dead run out of range"));
        }
        runs.push(PhysicalRun { start: PhysicalBlock(start), blocks });
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back() {
        let mut runs = Vec::new();
        [5, 6, 7, 900, 901, 3].into_iter().for_each(|block| push(&mut runs, PhysicalBlock(block)));
        assert_eq!(runs.len(), 3);
        assert_eq!(decode(&encode(&runs)), Ok(runs));
        assert!(decode(&[0, 1]).is_err() && decode(&[5]).is_err());
    }
}
