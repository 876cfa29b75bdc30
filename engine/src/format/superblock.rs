//! The superblock: what a pool is and where its parts lie. Two copies, at blocks 0 and 1, written one after the
//! other with a sync between, so that at every moment at least one is whole.
//!
//! ```text
//! 0    8  magic "FIRNPOOL"          72   8  data start, block
//! 8    4  version                   80   8  blocks in the pool
//! 12   4  checksum (see below)      88   4  blocks in a region
//! 16  16  pool id                   92   4  state: 0 open or crashed, 1 closed cleanly
//! 32   8  sequence                  96   8  first LSN after the clean close
//! 40   8  incarnation              104   8  journal sequence after the clean close
//! 48   8  created, ms since 1970   112   8  block bytes (4096)
//! 56   8  journal start, block     120  ..  zero
//! 64   8  journal blocks
//! ```
//! The checksum is over all 4096 bytes with its own four taken as zero.

use super::bytes::Reader;
use super::{FORMAT_VERSION, Malformed};
use crate::checksum::checksum;
use crate::units::{BLOCK_BYTES, BLOCK_LEN, PoolId};

const MAGIC: [u8; 8] = *b"FIRNPOOL";
const CHECKSUM_AT: usize = 12;
/// Where the two copies lie, in blocks.
pub const COPIES: [u64; 2] = [0, 1];
/// The first block that is not a superblock's; the journal starts here.
pub const JOURNAL_START: u64 = 16;

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The pool's identity.
    pub pool_id: PoolId,
    /// Rises with every write of the superblock; the higher copy is the newer.
    pub sequence: u64,
    /// Rises with every open of the pool, and marks the journal blocks and the shared-memory file written since.
    pub incarnation: u64,
    /// When the pool was created, in ms since 1970.
    pub created_ms: u64,
    /// First block of the journal.
    pub journal_start: u64,
    /// Blocks in the journal's ring.
    pub journal_blocks: u64,
    /// First block of the data area.
    pub data_start: u64,
    /// Blocks in the pool, superblocks and journal included.
    pub pool_blocks: u64,
    /// Blocks in an allocation region.
    pub region_blocks: u32,
    /// Set when the pool was closed cleanly: everything is durable and the journal ends at exactly this point.
    pub clean: Option<CleanEnd>,
}

/// Where the journal ended at a clean close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanEnd {
    /// The LSN that the next record would have had.
    pub next_lsn: u64,
    /// The sequence number that the next journal block would have had.
    pub next_sequence: u64,
}

/// What [`Superblock::decode`] says of a whole superblock that a newer firn wrote.
pub const NEWER_VERSION: Malformed = Malformed("pool format version is not 1: a newer firn wrote it");

impl Superblock {
    /// The 4096 bytes of one copy.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.pool_id.0);
        for value in [
            self.sequence,
            self.incarnation,
            self.created_ms,
            self.journal_start,
            self.journal_blocks,
            self.data_start,
            self.pool_blocks,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&self.region_blocks.to_le_bytes());
        out.extend_from_slice(&u32::from(self.clean.is_some()).to_le_bytes());
        let clean = self.clean.unwrap_or(CleanEnd { next_lsn: 0, next_sequence: 0 });
        out.extend_from_slice(&clean.next_lsn.to_le_bytes());
        out.extend_from_slice(&clean.next_sequence.to_le_bytes());
        out.extend_from_slice(&BLOCK_BYTES.to_le_bytes());
        out.resize(BLOCK_LEN, 0);
        let sum = checksum(&out);
        out[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads one copy.
    ///
    /// # Errors
    /// [`Malformed`] when it is not a superblock of a version we know, or is damaged, or contradicts itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() != BLOCK_LEN {
            return Err(Malformed("a superblock is 4096 bytes"));
        }
        let mut reader = Reader::new(bytes);
        if reader.array::<8>()? != MAGIC {
            return Err(Malformed("no firn pool here (magic)"));
        }
        let version = reader.u32()?;
        let stored = reader.u32()?;
        let mut copy = bytes.to_vec();
        copy[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
        if checksum(&copy) != stored {
            return Err(Malformed("superblock checksum does not match"));
        }
        // After the checksum: a flipped bit in the version is damage, not a pool from the future.
        if version != FORMAT_VERSION {
            return Err(NEWER_VERSION);
        }
        let superblock = Self::fields(&mut reader)?;
        superblock.validate()?;
        Ok(superblock)
    }

    fn fields(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let pool_id = PoolId(reader.array()?);
        let [sequence, incarnation, created_ms] = [reader.u64()?, reader.u64()?, reader.u64()?];
        let [journal_start, journal_blocks] = [reader.u64()?, reader.u64()?];
        let [data_start, pool_blocks] = [reader.u64()?, reader.u64()?];
        let region_blocks = reader.u32()?;
        let state = reader.u32()?;
        let end = CleanEnd { next_lsn: reader.u64()?, next_sequence: reader.u64()? };
        if state > 1 {
            return Err(Malformed("superblock state is neither 0 nor 1"));
        }
        if reader.u64()? != BLOCK_BYTES {
            return Err(Malformed("block size is not 4096"));
        }
        Ok(Self {
            pool_id,
            sequence,
            incarnation,
            created_ms,
            journal_start,
            journal_blocks,
            data_start,
            pool_blocks,
            region_blocks,
            clean: (state == 1).then_some(end),
        })
    }

    fn validate(&self) -> Result<(), Malformed> {
        let journal_end = self.journal_start.checked_add(self.journal_blocks);
        let ordered = self.journal_start >= JOURNAL_START
            && self.journal_blocks >= 16
            && journal_end.is_some_and(|end| end <= self.data_start)
            && self.data_start < self.pool_blocks
            && self.pool_blocks < 1 << 40
            && self.region_blocks >= 64
            && self.region_blocks.is_multiple_of(64);
        if ordered { Ok(()) } else { Err(Malformed("superblock geometry contradicts itself")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock {
            pool_id: PoolId([7; 16]),
            sequence: 3,
            incarnation: 2,
            created_ms: 1_700_000_000_000,
            journal_start: JOURNAL_START,
            journal_blocks: 64,
            data_start: 128,
            pool_blocks: 4096,
            region_blocks: 1024,
            clean: Some(CleanEnd { next_lsn: 9, next_sequence: 4 }),
        }
    }

    #[test]
    fn comes_back_and_every_flipped_bit_is_found() {
        let bytes = sample().encode();
        assert_eq!(Superblock::decode(&bytes), Ok(sample()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn geometry_is_checked() {
        let wrong = Superblock { data_start: 20, ..sample() };
        assert!(Superblock::decode(&wrong.encode()).is_err());
        assert!(Superblock::decode(&[0; 10]).is_err());
    }
}
