//! The tail: what was acknowledged and is not on the device yet, in a shared-memory file (I8). When the process
//! dies and the kernel lives, the next open finishes from here what the dead process had begun.
//!
//! 1. A data slot's word names the physical block its 4096 bytes belong to; it is set after the bytes are there and
//!    cleared after the device has them.
//! 2. A journal slot's words name its block's sequence and how many records of it are published; a record is
//!    published after its bytes are there, and acknowledged after it is published.
//! 3. The LSN after the last published record is set after that record is published.
//! 4. The file is believed only when its boot id, pool id and incarnation are those of this kernel, this pool and
//!    the pool's last open: after a power cut or a move it is ignored.
//!
//! ```text
//! 0    8  magic "FIRNTAIL"   8  4  version   12  4  zero   16 16 pool id   32 16 boot id   48  8 incarnation
//! 56   8  data slots        64  8  journal slots   72  8  LSN after the last published record
//! 4096 ..  data words, 8 bytes each: physical block, 0 free; padded to 4096
//!      ..  journal words, 16 bytes each: sequence + 1 (0 free), records << 32 | bytes; padded to 4096
//!      ..  journal slots, 4096 bytes each
//!      ..  data slots, 4096 bytes each
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::format::journal::{HEADER_LEN, Header, RECORDS_LEN, seal};
use crate::format::{FORMAT_VERSION, Malformed};
use crate::sys::{Memory, MemorySlice};
use crate::units::{BLOCK_LEN, Lsn, PhysicalBlock, PoolId};

const MAGIC: &[u8; 8] = b"FIRNTAIL";
const WORDS_AT: usize = 4096;
const NEXT_LSN_AT: usize = 72;

/// Whose tail it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailOwner {
    /// The pool.
    pub pool_id: PoolId,
    /// The running kernel.
    pub boot_id: [u8; 16],
    /// The open of the pool.
    pub incarnation: u64,
}

/// How much the tail holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailShape {
    /// Blocks of data.
    pub data_slots: u64,
    /// Journal blocks.
    pub journal_slots: u64,
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    journal_words: usize,
    journal: usize,
    data: usize,
    bytes: usize,
}

impl TailShape {
    fn layout(self) -> Option<Layout> {
        let pad = |bytes: usize| bytes.checked_next_multiple_of(BLOCK_LEN);
        let (data_slots, journal_slots) =
            (usize::try_from(self.data_slots).ok()?, usize::try_from(self.journal_slots).ok()?);
        let journal_words = WORDS_AT.checked_add(pad(data_slots.checked_mul(8)?)?)?;
        let journal = journal_words.checked_add(pad(journal_slots.checked_mul(16)?)?)?;
        let data = journal.checked_add(journal_slots.checked_mul(BLOCK_LEN)?)?;
        let bytes = data.checked_add(data_slots.checked_mul(BLOCK_LEN)?)?;
        Some(Layout { journal_words, journal, data, bytes })
    }

    /// Bytes of memory that such a tail needs.
    ///
    /// # Panics
    /// When the slots would not fit an address space.
    pub fn bytes(self) -> usize {
        self.layout().expect("a tail's slots fit memory").bytes
    }
}

/// The tail in memory.
pub struct Tail {
    memory: Arc<Memory>,
    shape: TailShape,
    layout: Layout,
}

impl Tail {
    /// Makes a new tail of `memory`, which has at least the shape's bytes.
    ///
    /// # Panics
    /// When the memory is too small.
    pub fn create(memory: Arc<Memory>, shape: TailShape, owner: TailOwner) -> Self {
        let layout = shape.layout().expect("a tail's slots fit memory");
        assert!(memory.len() >= layout.bytes);
        memory.fill_zero(0, layout.journal);
        memory.copy_in(8, &FORMAT_VERSION.to_le_bytes());
        memory.copy_in(16, &owner.pool_id.0);
        memory.copy_in(32, &owner.boot_id);
        for (at, value) in [(48, owner.incarnation), (56, shape.data_slots), (64, shape.journal_slots)] {
            memory.copy_in(at, &value.to_le_bytes());
        }
        std::sync::atomic::fence(Ordering::Release);
        memory.copy_in(0, MAGIC);
        Self { memory, shape, layout }
    }

    /// Looks at a tail that another process left; `None` when it is not the one that `owner` says.
    pub fn open(memory: Arc<Memory>, owner: TailOwner) -> Option<Self> {
        if memory.len() < WORDS_AT {
            return None;
        }
        let mut header = [0; 72];
        memory.copy_out(0, &mut header);
        let word = |at: usize| header[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or(0);
        let same = header[..8] == MAGIC[..]
            && header[8..12] == FORMAT_VERSION.to_le_bytes()
            && header[16..32] == owner.pool_id.0
            && header[32..48] == owner.boot_id
            && word(48) == owner.incarnation;
        let shape = TailShape { data_slots: word(56), journal_slots: word(64) };
        let layout = shape.layout().filter(|layout| same && layout.bytes <= memory.len())?;
        (shape.data_slots > 0 && shape.journal_slots > 0).then_some(Self { memory, shape, layout })
    }

    /// All of its memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Data slots.
    pub fn data_slots(&self) -> u64 {
        self.shape.data_slots
    }

    /// Journal slots.
    pub fn journal_slots(&self) -> u64 {
        self.shape.journal_slots
    }

    fn index(slot: u64) -> usize {
        usize::try_from(slot).expect("slots fit memory")
    }

    /// The bytes of `count` data slots that lie beside each other, from `slot` on.
    pub fn data(&self, slot: u64, count: u64) -> MemorySlice {
        assert!(slot + count <= self.shape.data_slots);
        let at = self.layout.data + Self::index(slot) * BLOCK_LEN;
        MemorySlice::new(self.memory.clone(), at, Self::index(count) * BLOCK_LEN)
    }

    /// The data slots from `slot` on as memory of their own, which drops `lease` at its end.
    pub fn part(&self, slot: u64, bytes: usize, lease: Box<dyn Send + Sync>) -> MemorySlice {
        let all = self.data(slot, bytes.div_ceil(BLOCK_LEN) as u64);
        MemorySlice::new(Memory::part(&self.memory, all.offset(), bytes, lease), 0, bytes)
    }

    /// The data slot at which a slice begins, if it lies in whole slots.
    pub fn slot_of(&self, slice: &MemorySlice) -> Option<u64> {
        let offset = self.memory.place_of(slice)?.checked_sub(self.layout.data)?;
        offset.is_multiple_of(BLOCK_LEN).then_some((offset / BLOCK_LEN) as u64)
    }

    /// The slot's bytes are complete and belong to this physical block; block 0 says that the slot is free.
    pub fn set_data(&self, slot: u64, block: PhysicalBlock) {
        self.memory.atomic_u64(WORDS_AT + Self::index(slot) * 8).store(block.0, Ordering::Release);
    }

    fn journal_slot(&self, sequence: u64) -> usize {
        Self::index(sequence % self.shape.journal_slots)
    }

    /// The slot of the journal block with this sequence.
    pub fn journal_block(&self, sequence: u64) -> MemorySlice {
        self.journal_blocks(sequence, 1)
    }

    /// The slots of `count` journal blocks from `first` on, which don't wrap.
    pub fn journal_blocks(&self, first: u64, count: u64) -> MemorySlice {
        let slot = self.journal_slot(first);
        assert!(slot as u64 + count <= self.shape.journal_slots);
        let at = self.layout.journal + slot * BLOCK_LEN;
        MemorySlice::new(self.memory.clone(), at, Self::index(count) * BLOCK_LEN)
    }

    fn word(&self, sequence: u64, word: usize) -> &std::sync::atomic::AtomicU64 {
        self.memory.atomic_u64(self.layout.journal_words + self.journal_slot(sequence) * 16 + word * 8)
    }

    /// A journal block is begun: no record is published yet.
    pub fn open_block(&self, header: &Header) {
        self.journal_block(header.sequence).copy_in(0, &header.encode(0));
        self.word(header.sequence, 1).store(0, Ordering::Release);
        self.word(header.sequence, 0).store(header.sequence + 1, Ordering::Release);
    }

    /// The block's first `count` records, of `bytes` bytes, are complete.
    pub fn publish(&self, sequence: u64, count: u32, bytes: u32) {
        self.word(sequence, 1).store(u64::from(count) << 32 | u64::from(bytes), Ordering::Release);
    }

    /// Every record below this LSN is published.
    pub fn set_next_lsn(&self, lsn: Lsn) {
        self.memory.atomic_u64(NEXT_LSN_AT).store(lsn.0, Ordering::Release);
    }

    /// What a dead process left: every record below this LSN was published, and may have been acknowledged.
    pub fn left_next_lsn(&self) -> Lsn {
        Lsn(self.memory.atomic_u64(NEXT_LSN_AT).load(Ordering::Acquire))
    }

    /// The device has the block.
    pub fn release_block(&self, sequence: u64) {
        self.word(sequence, 0).store(0, Ordering::Release);
    }

    /// What a dead process left: data slots in use with their physical blocks.
    pub fn left_data(&self) -> Vec<(u64, PhysicalBlock)> {
        (0..self.shape.data_slots)
            .map(|slot| {
                let word = self.memory.atomic_u64(WORDS_AT + Self::index(slot) * 8).load(Ordering::Acquire);
                (slot, PhysicalBlock(word))
            })
            .filter(|(_, block)| block.0 != 0)
            .collect()
    }

    /// What a dead process left: journal blocks that may not be on the device, oldest first, sealed as far as their
    /// records were published.
    ///
    /// # Errors
    /// [`Malformed`] when the words or a header contradict each other.
    pub fn left_journal(&self) -> Result<Vec<(u64, Vec<u8>)>, Malformed> {
        let mut sequences: Vec<_> = (0..self.shape.journal_slots)
            .map(|slot| self.word(slot, 0).load(Ordering::Acquire))
            .filter_map(|word| word.checked_sub(1))
            .collect();
        sequences.sort_unstable();
        if sequences.windows(2).any(|pair| pair[0] + 1 != pair[1]) {
            return Err(Malformed("journal blocks in the tail have gaps"));
        }
        let mut previous = None;
        let mut blocks = Vec::new();
        for sequence in sequences {
            let published = self.word(sequence, 1).load(Ordering::Acquire);
            let mut block = vec![0; BLOCK_LEN];
            self.journal_block(sequence).copy_out(0, &mut block);
            let (mut header, _) = Header::decode(&block)?;
            let [bytes, count] = [published & u64::from(u32::MAX), published >> 32]
                .map(|half| u32::try_from(half).expect("32 bits were kept"));
            let used = usize::try_from(bytes).map_err(|_| Malformed("records in the tail are too long"))?;
            if header.sequence != sequence || used > RECORDS_LEN {
                return Err(Malformed("journal block in the tail contradicts its word"));
            }
            block[HEADER_LEN + used..].fill(0);
            header.count = count;
            header.bytes = bytes;
            // No record is durable before its block is written; the field may be half of an interrupted seal.
            header.durable_lsn = header.durable_lsn.min(header.first_lsn);
            // A block is begun only when the one before is sealed, so it knows that one's checksum.
            if previous.is_some_and(|previous| previous != header.previous) {
                return Err(Malformed("journal blocks in the tail are not a chain"));
            }
            previous = Some(seal(&mut block, &header));
            blocks.push((sequence, block));
        }
        Ok(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: TailShape = TailShape { data_slots: 10, journal_slots: 4 };
    const OWNER: TailOwner = TailOwner { pool_id: PoolId([1; 16]), boot_id: [2; 16], incarnation: 3 };

    #[test]
    fn only_its_owner_believes_it() {
        let memory = Memory::heap(SHAPE.bytes());
        Tail::create(memory.clone(), SHAPE, OWNER);
        assert!(Tail::open(memory.clone(), OWNER).is_some());
        assert!(Tail::open(memory.clone(), TailOwner { incarnation: 4, ..OWNER }).is_none());
        assert!(Tail::open(memory.clone(), TailOwner { boot_id: [0; 16], ..OWNER }).is_none());
        memory.copy_in(56, &u64::MAX.to_le_bytes());
        assert!(Tail::open(memory, OWNER).is_none());
        assert!(Tail::open(Memory::heap(512), OWNER).is_none());
    }

    #[test]
    fn keeps_what_was_published() {
        let memory = Memory::heap(SHAPE.bytes());
        let tail = Tail::create(memory.clone(), SHAPE, OWNER);
        tail.data(7, 1).copy_in(0, &[9; 4096]);
        tail.set_data(7, PhysicalBlock(55));
        let left = Tail::open(memory, OWNER).expect("ours");
        assert_eq!(left.left_data(), [(7, PhysicalBlock(55))]);
        assert_eq!(left.left_journal(), Ok(vec![]));
        tail.set_data(7, PhysicalBlock(0));
        assert!(left.left_data().is_empty());
    }
}
