//! Reading the journal after a crash: the chain of whole blocks from the checkpoint on, and where it ends.
//!
//! 1. A block belongs to the chain when it is whole, lies at its place, has the next sequence, repeats the checksum
//!    of the block before, and begins no later than where the block before ended. Beginning earlier, it says that a
//!    recovery cut the records from there on.
//! 2. Where the chain ends, what follows is the torn tail and is cut, unless some later block of the ring says
//!    that more than the chain holds was durable: then it is damage, and the pool does not open (I7).

use super::{Position, Ring};
use crate::error::{Error, Kind, Result};
use crate::format::journal::{self, HEADER_LEN, Header, Record};
use crate::units::{BLOCK_LEN, Lsn, PoolId};

/// Blocks read at once.
const CHUNK_BLOCKS: u64 = 256;

/// A block of the chain. It keeps its bytes: decoded, the records of a full ring would take gigabytes.
pub struct ChainBlock {
    /// Its header.
    pub header: Header,
    /// Its checksum field.
    pub sum: u32,
    bytes: Vec<u8>,
    kept: usize,
}

impl ChainBlock {
    /// How many of its records were not cut.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The LSN after the last record that was not cut.
    pub fn end(&self) -> Lsn {
        Lsn(self.header.first_lsn.0 + self.kept as u64)
    }

    /// Takes away the records from `lsn` on.
    pub fn cut(&mut self, lsn: Lsn) {
        let keep = usize::try_from(lsn.0.saturating_sub(self.header.first_lsn.0)).unwrap_or(usize::MAX);
        self.kept = self.kept.min(keep);
    }

    /// Its records that were not cut.
    ///
    /// # Errors
    /// None that isn't a bug: the chain took the block because they can be read.
    pub fn records(&self) -> Result<Vec<Record>> {
        let mut records = journal::records(&self.bytes, self.header.count, self.header.bytes)
            .map_err(|source| Error::new(Kind::Bug, "replay journal", "a block changed").source(source))?;
        records.truncate(self.kept);
        Ok(records)
    }
}

/// The chain from the checkpoint on.
pub struct Chain {
    /// Its blocks.
    pub blocks: Vec<ChainBlock>,
    /// Where it ends.
    pub end: Position,
    /// Every record below this was durable when the journal last said so.
    pub durable: Lsn,
    /// The highest incarnation that wrote in it.
    pub incarnation: u64,
}

/// Reads the chain. `read` fills a buffer from an offset in bytes on the device.
///
/// # Errors
/// [`Kind::Damaged`] when a record that was durable can't be read; else what `read` said.
pub fn read_chain(
    ring: Ring,
    pool_id: PoolId,
    start: Position,
    mut read: impl FnMut(u64, u64) -> Result<Vec<u8>>,
) -> Result<Chain> {
    let mut chain = Chain { blocks: Vec::new(), end: start, durable: start.next_lsn, incarnation: 0 };
    let mut buffer = Buffer::default();
    while chain.blocks.len() as u64 + 1 < ring.blocks {
        let bytes = buffer.block(ring, chain.end.next_sequence, &mut read)?;
        let Some((header, sum, kept)) = link(bytes, pool_id, &chain.end) else { break };
        let used = HEADER_LEN + usize::try_from(header.bytes).unwrap_or(0);
        let bytes = bytes.get(..used).unwrap_or(bytes).to_vec();
        cut(&mut chain.blocks, header.first_lsn);
        chain.durable = chain.durable.max(header.durable_lsn);
        chain.incarnation = chain.incarnation.max(header.incarnation);
        chain.end = Position {
            next_lsn: Lsn(header.first_lsn.0 + kept as u64),
            next_sequence: header.sequence + 1,
            previous: sum,
        };
        chain.blocks.push(ChainBlock { header, sum, bytes, kept });
    }
    check_lost(ring, pool_id, &chain, &mut read)?;
    Ok(chain)
}

/// The block's header, checksum field and number of records, when it is the chain's next.
fn link(bytes: &[u8], pool_id: PoolId, end: &Position) -> Option<(Header, u32, usize)> {
    let (header, sum) = journal::open(bytes).ok()?;
    let linked = header.pool_id == pool_id
        && header.sequence == end.next_sequence
        && header.previous == end.previous
        && header.first_lsn <= end.next_lsn;
    let records = journal::records(bytes, header.count, header.bytes).ok().filter(|_| linked)?;
    Some((header, sum, records.len()))
}

/// Takes away the records from `lsn` on.
fn cut(blocks: &mut [ChainBlock], lsn: Lsn) {
    for block in blocks.iter_mut().rev() {
        block.cut(lsn);
        if block.header.first_lsn < lsn {
            return;
        }
    }
}

/// Looks for a later block that knows of more durable records than the chain has.
fn check_lost(
    ring: Ring,
    pool_id: PoolId,
    chain: &Chain,
    read: &mut impl FnMut(u64, u64) -> Result<Vec<u8>>,
) -> Result<()> {
    let bad = chain.end.next_sequence;
    let mut buffer = Buffer::default();
    for sequence in bad..bad + ring.blocks {
        let bytes = buffer.block(ring, sequence, read)?;
        let Ok((header, _)) = journal::open(bytes) else { continue };
        let ours = header.pool_id == pool_id
            && header.sequence >= bad
            && header.sequence % ring.blocks == sequence % ring.blocks;
        if ours && header.durable_lsn > chain.end.next_lsn {
            return Err(damaged(format!(
                "journal block {bad} is damaged or lost: block {} says that every record before {} was durable, \
                 but only those before {} can be read",
                header.sequence, header.durable_lsn, chain.end.next_lsn
            )));
        }
    }
    Ok(())
}

fn damaged(detail: String) -> Error {
    Error::new(Kind::Damaged, "replay journal", detail)
        .hint("acknowledged writes are missing on this device: restore the volumes from a copy, or a copy of the device")
}

/// Chunks of the ring, as they are read.
#[derive(Default)]
struct Buffer {
    start: u64,
    bytes: Vec<u8>,
}

impl Buffer {
    fn block(
        &mut self,
        ring: Ring,
        sequence: u64,
        read: &mut impl FnMut(u64, u64) -> Result<Vec<u8>>,
    ) -> Result<&[u8]> {
        let place = sequence % ring.blocks;
        let held = self.start..self.start + (self.bytes.len() / BLOCK_LEN) as u64;
        if !held.contains(&place) {
            let count = CHUNK_BLOCKS.min(ring.blocks - place);
            self.bytes = read((ring.start + place) * BLOCK_LEN as u64, count * BLOCK_LEN as u64)?;
            self.start = place;
        }
        let at = usize::try_from(place - self.start).expect("within a chunk") * BLOCK_LEN;
        Ok(&self.bytes[at..at + BLOCK_LEN])
    }
}
