//! A journal block: a header of 72 bytes and the records that follow each other in it.
//!
//! ```text
//! 0   4  magic "FJNL"                40  8  first LSN: the LSN of the first record
//! 4   4  checksum of bytes 8..4096   48  8  durable LSN: every record before it was synced when this was written
//! 8  16  pool id                     56  4  epoch when the first record was made
//! 24  8  sequence                    60  4  number of records
//! 32  8  incarnation                 64  4  bytes of records
//!                                    68  4  checksum field of the block before
//! 72 ..  records, then zeros
//!
//! record   1  kind
//!   1 write    1 count-1 in the low 4 bits, bit 7: the next record belongs to the same write
//!              4 layer   6 first block   6 first physical block   4*count checksums
//!   2 unmap    1 zero (bit 7 as above)   4 layer   6 first block   6 blocks
//!   3 catalog  2 length  then that many bytes: one `catalog::Operation` in JSON
//! ```
//! The block with sequence *n* lies at journal start + *n* mod journal blocks. Records of *n* whose LSN is not below
//! the first LSN of *n*+1 were cut by a recovery and are void.

use super::Malformed;
use super::bytes::{Reader, put_u48};
use crate::checksum::checksum;
use crate::units::{BLOCK_LEN, BlockIndex, Epoch, LayerId, Lsn, PhysicalBlock, PoolId};

const MAGIC: [u8; 4] = *b"FJNL";
/// Bytes before the first record.
pub const HEADER_LEN: usize = 72;
/// Bytes that records may take in one block.
pub const RECORDS_LEN: usize = BLOCK_LEN - HEADER_LEN;
/// Blocks that one write record can map; aligned writes up to this are untorn (I3).
pub const WRITE_BLOCKS_MAX: usize = 16;
const CONTINUES: u8 = 0x80;
const _: () = assert!(HEADER_LEN + 3 * (18 + 4 * WRITE_BLOCKS_MAX) < BLOCK_LEN);

/// What stands before the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The pool it belongs to.
    pub pool_id: PoolId,
    /// The block's number since the pool was created.
    pub sequence: u64,
    /// The open of the pool that wrote it.
    pub incarnation: u64,
    /// LSN of the first record.
    pub first_lsn: Lsn,
    /// Every record below this LSN was durable when the block was sealed.
    pub durable_lsn: Lsn,
    /// Epoch in force before the first record.
    pub epoch: Epoch,
    /// Records in the block.
    pub count: u32,
    /// Bytes they take.
    pub bytes: u32,
    /// The checksum of the block before.
    pub previous: u32,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Consecutive blocks of a layer now map to consecutive physical blocks.
    Write {
        /// The next record belongs to the same atomic group.
        continues: bool,
        /// The layer written to.
        layer: LayerId,
        /// The first block.
        block: BlockIndex,
        /// Where it lies on the device.
        physical: PhysicalBlock,
        /// One checksum a block, 1 to 16.
        checksums: Vec<u32>,
    },
    /// Consecutive blocks of a layer are holes now.
    Unmap {
        /// The next record belongs to the same atomic group.
        continues: bool,
        /// The layer.
        layer: LayerId,
        /// The first block.
        block: BlockIndex,
        /// How many, at least 1.
        blocks: u64,
    },
    /// A change of the catalog, in JSON.
    Catalog(Vec<u8>),
}

impl Record {
    /// Bytes that the record takes.
    pub fn encoded_len(&self) -> usize {
        match self {
            Record::Write { checksums, .. } => 18 + 4 * checksums.len(),
            Record::Unmap { .. } => 18,
            Record::Catalog(json) => 3 + json.len(),
        }
    }

    /// Whether the next record belongs to the same atomic group.
    pub fn continues(&self) -> bool {
        match self {
            Record::Write { continues, .. } | Record::Unmap { continues, .. } => *continues,
            Record::Catalog(_) => false,
        }
    }

    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flag = if self.continues() { CONTINUES } else { 0 };
        match self {
            Record::Write { layer, block, physical, checksums, .. } => {
                assert!((1..=WRITE_BLOCKS_MAX).contains(&checksums.len()));
                let [count, ..] = (checksums.len() - 1).to_le_bytes();
                out.extend_from_slice(&[1, count | flag]);
                out.extend_from_slice(&layer.0.to_le_bytes());
                put_u48(out, block.0);
                put_u48(out, physical.0);
                checksums.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
            }
            Record::Unmap { layer, block, blocks, .. } => {
                out.extend_from_slice(&[2, flag]);
                out.extend_from_slice(&layer.0.to_le_bytes());
                put_u48(out, block.0);
                put_u48(out, *blocks);
            }
            Record::Catalog(json) => {
                let [low, high, ..] = json.len().to_le_bytes();
                out.extend_from_slice(&[3, low, high]);
                out.extend_from_slice(json);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u8()? {
            1 => {
                let flags = reader.u8()?;
                let count = usize::from(flags & 0x0f) + 1;
                let layer = LayerId(reader.u32()?);
                let block = BlockIndex(reader.u48()?);
                let physical = PhysicalBlock(reader.u48()?);
                let checksums = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
                Ok(Record::Write { continues: flags & CONTINUES != 0, layer, block, physical, checksums })
            }
            2 => {
                let continues = reader.u8()? & CONTINUES != 0;
                let layer = LayerId(reader.u32()?);
                let block = BlockIndex(reader.u48()?);
                let blocks = reader.u48()?;
                if blocks == 0 || block.0 + blocks > 1 << 48 {
                    return Err(Malformed("unmap record of an impossible range"));
                }
                Ok(Record::Unmap { continues, layer, block, blocks })
            }
            3 => {
                let length = usize::from(reader.u16()?);
                Ok(Record::Catalog(reader.take(length)?.to_vec()))
            }
            _ => Err(Malformed("journal record of unknown kind")),
        }
    }
}

impl Header {
    /// The header's 72 bytes with `sum` in the checksum's place.
    pub fn encode(&self, sum: u32) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&self.pool_id.0);
        for value in [self.sequence, self.incarnation, self.first_lsn.0, self.durable_lsn.0] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for value in [self.epoch.0, self.count, self.bytes, self.previous] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&out);
        header
    }

    /// Reads the header, whatever the block's checksum says.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one.
    pub fn decode(block: &[u8]) -> Result<(Self, u32), Malformed> {
        let mut reader = Reader::new(block);
        if reader.array::<4>()? != MAGIC {
            return Err(Malformed("no journal block (magic)"));
        }
        let sum = reader.u32()?;
        let header = Self {
            pool_id: PoolId(reader.array()?),
            sequence: reader.u64()?,
            incarnation: reader.u64()?,
            first_lsn: Lsn(reader.u64()?),
            durable_lsn: Lsn(reader.u64()?),
            epoch: Epoch(reader.u32()?),
            count: reader.u32()?,
            bytes: reader.u32()?,
            previous: reader.u32()?,
        };
        Ok((header, sum))
    }
}

/// Completes a block in place: `block` holds the records from byte 72 on; the header and the checksum are written.
/// Returns the checksum, which the next block repeats.
pub fn seal(block: &mut [u8], header: &Header) -> u32 {
    assert!(block.len() == BLOCK_LEN);
    block[..HEADER_LEN].copy_from_slice(&header.encode(0));
    let sum = checksum(&block[8..]);
    block[4..8].copy_from_slice(&sum.to_le_bytes());
    sum
}

/// A whole block as it was read, with its checksum proven.
///
/// # Errors
/// [`Malformed`] when it is not a journal block or is damaged.
pub fn open(block: &[u8]) -> Result<(Header, u32), Malformed> {
    if block.len() != BLOCK_LEN {
        return Err(Malformed("a journal block is 4096 bytes"));
    }
    let (header, sum) = Header::decode(block)?;
    if checksum(&block[8..]) != sum {
        return Err(Malformed("journal block checksum does not match"));
    }
    Ok((header, sum))
}

/// The records of a block whose header said `count` and `bytes`.
///
/// # Errors
/// [`Malformed`] when they do not fill exactly what the header said.
pub fn records(block: &[u8], count: u32, bytes: u32) -> Result<Vec<Record>, Malformed> {
    let length = usize::try_from(bytes).map_err(|_| Malformed("journal records too long"))?;
    let mut area = Reader::new(block);
    area.take(HEADER_LEN)?;
    let mut reader = Reader::new(area.take(length)?);
    let mut records = Vec::new();
    while reader.remaining() > 0 {
        records.push(Record::decode(&mut reader)?);
    }
    if u32::try_from(records.len()) != Ok(count) {
        return Err(Malformed("journal block holds another number of records than it says"));
    }
    if records.last().is_some_and(Record::continues) {
        return Err(Malformed("journal block ends within a group of records"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_records() -> Vec<Record> {
        vec![
            Record::Write {
                continues: true,
                layer: LayerId(3),
                block: BlockIndex(1 << 40),
                physical: PhysicalBlock(77),
                checksums: vec![1, 2, 3],
            },
            Record::Unmap { continues: false, layer: LayerId(3), block: BlockIndex(9), blocks: 1 << 47 },
            Record::Catalog(b"{}".to_vec()),
        ]
    }

    fn sample() -> (Vec<u8>, Header) {
        let mut bytes = Vec::new();
        sample_records().iter().for_each(|record| record.encode(&mut bytes));
        assert_eq!(bytes.len(), sample_records().iter().map(Record::encoded_len).sum::<usize>());
        let header = Header {
            pool_id: PoolId([1; 16]),
            sequence: 5,
            incarnation: 2,
            first_lsn: Lsn(10),
            durable_lsn: Lsn(9),
            epoch: Epoch(4),
            count: 3,
            bytes: u32::try_from(bytes.len()).expect("small"),
            previous: 42,
        };
        let mut block = vec![0; BLOCK_LEN];
        block[HEADER_LEN..HEADER_LEN + bytes.len()].copy_from_slice(&bytes);
        seal(&mut block, &header);
        (block, header)
    }

    #[test]
    fn comes_back() {
        let (block, header) = sample();
        let (read, _) = open(&block).expect("whole");
        assert_eq!(read, header);
        assert_eq!(records(&block, read.count, read.bytes), Ok(sample_records()));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (block, _) = sample();
        for bit in 0..block.len() * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_wrong_count_or_length_is_refused() {
        let (block, header) = sample();
        assert!(records(&block, header.count + 1, header.bytes).is_err());
        assert!(records(&block, header.count, header.bytes - 1).is_err());
        assert!(records(&block, header.count, u32::MAX).is_err());
    }
}
