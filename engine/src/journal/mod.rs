//! The journal: a ring of blocks on the device, whose newest blocks also stand in the tail (`tail::Tail`).
//!
//! 1. A block is sealed when it is full or a flush wants it durable, and never changes afterwards.
//! 2. Blocks are sealed in the order of their sequence; each repeats the checksum of the one before.
//! 3. A ring position is written again only after a checkpoint holds everything its old block said.
//!
//! A block is *open* (being filled in the tail), *sealed* (complete, waiting for or in a device write), *written*
//! (the device has it), and *trimmed* (a checkpoint holds it).

pub mod replay;
pub mod tail;

use std::collections::VecDeque;

use crate::format::journal::{HEADER_LEN, Header, RECORDS_LEN, Record, seal};
use crate::sys::MemorySlice;
use crate::units::{BLOCK_LEN, Epoch, Lsn, PoolId};
use tail::Tail;

/// Where the journal goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The LSN of the next record.
    pub next_lsn: Lsn,
    /// The sequence number of the next block.
    pub next_sequence: u64,
    /// The checksum of the block before.
    pub previous: u32,
}

/// Blocks of the ring kept for recoveries: each writes one to mark where it ended, and many may be interrupted
/// before a checkpoint can be made.
pub const RECOVERY_BLOCKS: u64 = 16;

/// Where the ring lies on the device.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    /// The first block.
    pub start: u64,
    /// How many.
    pub blocks: u64,
}

impl Ring {
    /// Where the block with this sequence lies, in bytes.
    pub fn offset(&self, sequence: u64) -> u64 {
        (self.start + sequence % self.blocks) * BLOCK_LEN as u64
    }
}

struct OpenBlock {
    header: Header,
    used: usize,
}

/// The writing side of the journal.
pub struct Journal {
    ring: Ring,
    pool_id: PoolId,
    incarnation: u64,
    position: Position,
    open: Option<OpenBlock>,
    sealed: VecDeque<u64>,
    in_flight: VecDeque<(u64, bool)>,
    /// Every block below this sequence was written.
    written: u64,
    /// The oldest block that the last checkpoint does not hold.
    oldest: u64,
    scratch: Vec<u8>,
}

impl Journal {
    /// A journal that goes on at `position`, of which blocks from `oldest` on are still needed.
    pub fn new(ring: Ring, pool_id: PoolId, incarnation: u64, position: Position, oldest: u64) -> Self {
        Self {
            ring,
            pool_id,
            incarnation,
            position,
            open: None,
            sealed: VecDeque::new(),
            in_flight: VecDeque::new(),
            written: position.next_sequence,
            oldest,
            scratch: Vec::new(),
        }
    }

    /// The LSN of the next record.
    pub fn next_lsn(&self) -> Lsn {
        self.position.next_lsn
    }

    /// Where a block sealed from now on comes after; meaningful when none is open.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Blocks of the ring that are needed.
    pub fn used_blocks(&self) -> u64 {
        self.position.next_sequence - self.oldest + u64::from(self.open.is_some())
    }

    /// Blocks in the ring.
    pub fn ring_blocks(&self) -> u64 {
        self.ring.blocks
    }

    /// Whether a group of records of `bytes` can be appended now: there is room in the ring and in the tail.
    pub fn has_room(&self, bytes: usize, tail: &Tail) -> bool {
        if self.open.as_ref().is_some_and(|open| open.used + bytes <= RECORDS_LEN) {
            return true;
        }
        // The block that would be opened, after the one that may be open now.
        let sequence = self.position.next_sequence + u64::from(self.open.is_some());
        sequence + 1 - self.oldest + RECOVERY_BLOCKS < self.ring.blocks
            && sequence + 1 - self.written < tail.journal_slots()
    }

    /// Appends a group of records, which is atomic, and publishes it in the tail. `epoch` is the epoch in force
    /// before the group. Returns the first record's LSN.
    ///
    /// # Panics
    /// When there is no room; the caller asks first.
    pub fn append(&mut self, records: &[Record], epoch: Epoch, durable: Lsn, tail: &Tail) -> Lsn {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        records.iter().for_each(|record| record.encode(&mut bytes));
        assert!(bytes.len() <= RECORDS_LEN && self.has_room(bytes.len(), tail));
        if self.open.as_ref().is_some_and(|open| open.used + bytes.len() > RECORDS_LEN) {
            self.seal(durable, tail);
        }
        let sequence = self.position.next_sequence;
        let open = self.open.get_or_insert_with(|| {
            let header = Header {
                pool_id: self.pool_id,
                sequence,
                incarnation: self.incarnation,
                first_lsn: self.position.next_lsn,
                durable_lsn: durable,
                epoch,
                count: 0,
                bytes: 0,
                previous: self.position.previous,
            };
            tail.open_block(&header);
            OpenBlock { header, used: 0 }
        });
        tail.journal_block(sequence).copy_in(HEADER_LEN + open.used, &bytes);
        open.used += bytes.len();
        open.header.count += u32::try_from(records.len()).expect("a group is small");
        open.header.bytes += u32::try_from(bytes.len()).expect("a group is small");
        tail.publish(sequence, open.header.count, open.header.bytes);
        let lsn = self.position.next_lsn;
        self.position.next_lsn = Lsn(lsn.0 + records.len() as u64);
        tail.set_next_lsn(self.position.next_lsn);
        self.scratch = bytes;
        lsn
    }

    /// Seals the open block, when there is one.
    pub fn seal(&mut self, durable: Lsn, tail: &Tail) {
        let Some(open) = self.open.take() else { return };
        let slot = tail.journal_block(self.position.next_sequence);
        let header = Header { durable_lsn: durable, ..open.header };
        let mut block = vec![0; BLOCK_LEN];
        slot.copy_out(HEADER_LEN, &mut block[HEADER_LEN..HEADER_LEN + open.used]);
        self.position.previous = seal(&mut block, &header);
        // The records stay as they are; only the header and the zeros after them are new.
        slot.copy_in(HEADER_LEN + open.used, &block[HEADER_LEN + open.used..]);
        slot.copy_in(0, &block[..HEADER_LEN]);
        self.sealed.push_back(self.position.next_sequence);
        self.position.next_sequence += 1;
    }

    /// An empty block that only repeats how far the journal is durable; sealed at once.
    pub fn beacon(&mut self, epoch: Epoch, durable: Lsn, tail: &Tail) {
        if self.open.is_none() && self.has_room(1, tail) {
            self.append(&[], epoch, durable, tail);
            self.seal(durable, tail);
        }
    }

    /// The sequence up to which blocks are sealed; a flush waits until all below are written.
    pub fn sealed_to(&self) -> u64 {
        self.position.next_sequence
    }

    /// Whether every block below `sequence` was written.
    pub fn is_written_to(&self, sequence: u64) -> bool {
        self.written >= sequence
    }

    /// Blocks sealed and not on their way yet.
    pub fn waiting(&self) -> usize {
        self.sealed.len()
    }

    /// The next sealed blocks that lie beside each other in the ring and in the tail: where they go, the first one's
    /// sequence, and their bytes.
    pub fn next_write(&mut self, tail: &Tail) -> Option<(u64, u64, MemorySlice)> {
        let first = self.sealed.pop_front()?;
        let mut count = 1;
        while count < 16
            && self.sealed.front() == Some(&(first + count))
            && (first + count) % self.ring.blocks != 0
            && (first + count) % tail.journal_slots() != 0
        {
            self.sealed.pop_front();
            count += 1;
        }
        (first..first + count).for_each(|sequence| self.in_flight.push_back((sequence, false)));
        Some((self.ring.offset(first), first, tail.journal_blocks(first, count)))
    }

    /// The device has `count` blocks from `first` on.
    pub fn completed(&mut self, first: u64, count: u64, tail: &Tail) {
        for (sequence, done) in &mut self.in_flight {
            *done |= (first..first + count).contains(sequence);
        }
        while let Some(&(sequence, true)) = self.in_flight.front() {
            self.in_flight.pop_front();
            self.written = sequence + 1;
            tail.release_block(sequence);
        }
    }

    /// A checkpoint holds everything before block `sequence`.
    pub fn trim(&mut self, sequence: u64) {
        self.oldest = self.oldest.max(sequence);
    }
}
