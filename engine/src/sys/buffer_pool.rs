//! Recycled memory for reads, so that a read costs no `malloc` and no clearing.
//!
//! Blocks come in powers of two. One goes back when the last reference to its `Memory` is dropped, hence never while
//! a device request still has it.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::memory::{HUGE_BYTES, HeapBlock, Memory};

const SMALLEST_BITS: u32 = 12;
const CLASSES: usize = 15;

/// A pool of heap memory, shared by its clones.
#[derive(Clone)]
pub struct BufferPool(Arc<Shelves>);

struct Shelves {
    idle: Mutex<Idle>,
    bytes_max: usize,
}

struct Idle {
    classes: [Vec<HeapBlock>; CLASSES],
    bytes: usize,
}

impl BufferPool {
    /// A pool that keeps at most `bytes_max` bytes of idle memory; what comes back beyond that is freed.
    pub fn new(bytes_max: usize) -> Self {
        let idle = Idle { classes: Default::default(), bytes: 0 };
        Self(Arc::new(Shelves { idle: Mutex::new(idle), bytes_max }))
    }

    /// Memory of at least `bytes` bytes: the next power of two, at least 4096. Its contents are arbitrary. More than
    /// 64 MiB are allocated and freed each time.
    pub fn get(&self, bytes: usize) -> Arc<Memory> {
        let class = class_of(bytes);
        let Some(shelf) = class.filter(|class| *class < CLASSES) else {
            return Memory::heap(bytes);
        };
        let block = self.0.take(shelf).unwrap_or_else(|| self.0.make(shelf));
        Memory::pooled(Borrowed { block: Some(block), shelves: Arc::downgrade(&self.0) })
    }

    /// Bytes of memory that [`get`](Self::get) takes for so many.
    pub fn footprint(bytes: usize) -> usize {
        match class_of(bytes) {
            Some(class) if class < CLASSES => 1 << (SMALLEST_BITS as usize + class),
            _ => bytes,
        }
    }

    /// Bytes that lie idle.
    pub fn idle_bytes(&self) -> usize {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

/// The size class of a request, counted from 4096 bytes; none for what no power of two can hold.
fn class_of(bytes: usize) -> Option<usize> {
    let bits = bytes.max(1 << SMALLEST_BITS).checked_next_power_of_two()?.trailing_zeros();
    usize::try_from(bits - SMALLEST_BITS).ok()
}

impl Shelves {
    fn take(&self, class: usize) -> Option<HeapBlock> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let block = idle.classes[class].pop()?;
        idle.bytes -= block.bytes();
        Some(block)
    }

    /// A new block. Those of half a huge page come in pairs.
    fn make(&self, class: usize) -> HeapBlock {
        let bytes = 1 << (SMALLEST_BITS as usize + class);
        if bytes != HUGE_BYTES / 2 {
            return HeapBlock::zeroed(bytes);
        }
        let [block, other] = HeapBlock::halves();
        self.put(other);
        block
    }

    fn put(&self, block: HeapBlock) {
        let Some(class) = class_of(block.bytes()) else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes.saturating_add(block.bytes()) <= self.bytes_max {
            idle.bytes += block.bytes();
            idle.classes[class].push(block);
        }
    }
}

/// A block on loan. It outlives its pool if it must.
pub(super) struct Borrowed {
    block: Option<HeapBlock>,
    shelves: Weak<Shelves>,
}

impl Borrowed {
    pub(super) fn start(&self) -> NonNull<u8> {
        self.block.as_ref().map_or(NonNull::dangling(), HeapBlock::start)
    }

    pub(super) fn bytes(&self) -> usize {
        self.block.as_ref().map_or(0, HeapBlock::bytes)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let (Some(block), Some(shelves)) = (self.block.take(), self.shelves.upgrade()) {
            shelves.put(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::MemorySlice;

    #[test]
    fn memory_comes_in_powers_of_two() {
        let pool = BufferPool::new(0);
        for (asked, given) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (1 << 26, 1 << 26)] {
            assert_eq!(pool.get(asked).len(), given);
        }
        assert_eq!(pool.get((64 << 20) + 1).len(), (64 << 20) + 1);
        assert_eq!(pool.idle_bytes(), 0);
    }

    #[test]
    fn a_block_comes_back_with_its_last_reference_and_only_up_to_the_cap() {
        let pool = BufferPool::new(12 << 10);
        let memory = pool.get(8192);
        memory.copy_in(0, b"mark");
        let slice = MemorySlice::new(Arc::clone(&memory), 0, 4096);
        drop(memory);
        assert_eq!(pool.idle_bytes(), 0);
        drop(slice);
        assert_eq!(pool.idle_bytes(), 8192);
        let (again, other) = (pool.get(5000), pool.get(8192));
        assert_eq!(again.bytes(0, 4), b"mark");
        drop((again, other));
        assert_eq!(pool.idle_bytes(), 8192);
        let lent = pool.get(4096);
        drop(pool);
        assert_eq!(lent.bytes(0, 1), [0]);
    }
}
