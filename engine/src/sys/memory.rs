//! Memory that a device reads into and writes from: aligned, of a fixed size, shared by reference count.
//!
//! 1. A `Memory` never moves and is never freed while a `MemorySlice` of it lives; a device keeps the slice of each
//!    request until its completion was reaped.
//! 2. Every byte is initialised from the start (zeroed, or left over from an earlier use of ours).
//! 3. The methods take `&self` and check bounds, but not who else is looking. The owner of a range (its reactor
//!    thread, or the one thread it lent the range to) sees to it that nobody reads what is being written: it leaves
//!    a range alone while a device request has it, and it holds no `bytes` of a range that it copies into.
//!    What threads or processes share goes through [`Memory::atomic_u64`].

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::buffer_pool::Borrowed;

/// What every memory starts at a multiple of, as O_DIRECT wants it.
pub(super) const ALIGNMENT: usize = 4096;
/// The size of a huge page. The kernel cuts a request whose memory is scattered at so many pieces as the device takes
/// (254 pages here, which makes two requests of 1 MiB); memory in one piece goes as one.
pub(super) const HUGE_BYTES: usize = 2 << 20;

/// Memory of a fixed size and place, aligned to 4096 bytes.
pub struct Memory {
    start: NonNull<u8>,
    length: usize,
    // Held for its drop, which frees the memory.
    _backing: Backing,
}

#[expect(dead_code, reason = "held for their drop")]
enum Backing {
    Heap(HeapBlock),
    Pooled(Borrowed),
    Mapping(Mapping),
    Part(Lent),
}

/// What a part of another memory keeps: the memory, and who is to know when the part is dropped.
#[expect(dead_code, reason = "held for its drop")]
struct Lent {
    lease: Box<dyn Send + Sync>,
    whole: Arc<Memory>,
}

// SAFETY: the memory belongs to this value (heap, or a private reference to a mapping) and nothing about it is bound
// to a thread. Access through `&self` from several threads is kept apart by rule 3 of the module.
unsafe impl Send for Memory {}
// SAFETY: as for Send.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed heap memory of `bytes` bytes.
    pub fn heap(bytes: usize) -> Arc<Self> {
        let block = HeapBlock::zeroed(bytes);
        Arc::new(Self { start: block.start, length: bytes, _backing: Backing::Heap(block) })
    }

    /// The first `bytes` bytes of `file`, mapped shared and present. The caller has made sure that the file has
    /// them allocated; nobody may shorten it while the memory lives.
    pub(super) fn shared(file: impl AsFd, bytes: usize) -> rustix::io::Result<Arc<Self>> {
        let mapping = Mapping::new(file, bytes)?;
        Ok(Arc::new(Self { start: mapping.start, length: bytes, _backing: Backing::Mapping(mapping) }))
    }

    /// A pool's block, which goes back when the memory is dropped.
    pub(super) fn pooled(block: Borrowed) -> Arc<Self> {
        let (start, length) = (block.start(), block.bytes());
        Arc::new(Self { start, length, _backing: Backing::Pooled(block) })
    }

    /// A part of `whole` as memory of its own, which drops `lease` when nobody has it any more. Panics if it is not
    /// inside, or `offset` is no multiple of 4096. The part's owner is the range's owner (rule 3).
    pub fn part(whole: &Arc<Self>, offset: usize, length: usize, lease: Box<dyn Send + Sync>) -> Arc<Self> {
        assert!(offset.is_multiple_of(ALIGNMENT), "a part at {offset} is not aligned");
        let start = whole.range(offset, length);
        let lent = Lent { lease, whole: Arc::clone(whole) };
        Arc::new(Self { start, length, _backing: Backing::Part(lent) })
    }

    /// Where a slice lies in this memory, if it does: it may be of a part.
    pub fn place_of(&self, slice: &MemorySlice) -> Option<usize> {
        let offset = slice.address(0).addr().checked_sub(self.start.addr().get())?;
        offset.checked_add(slice.len()).filter(|end| *end <= self.length).map(|_| offset)
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies `source` to `offset`. Panics if it does not fit.
    pub fn copy_in(&self, offset: usize, source: &[u8]) {
        let target = self.range(offset, source.len());
        // SAFETY: `range` checked that the target lies in this memory; `source` is a live borrow that, by rule 3,
        // is not of the same range; both are bytes, so any alignment does.
        unsafe { target.copy_from_nonoverlapping(NonNull::from(source).cast(), source.len()) }
    }

    /// Copies from `offset` into the whole of `target`. Panics if the range is not inside.
    pub fn copy_out(&self, offset: usize, target: &mut [u8]) {
        let source = self.range(offset, target.len());
        // SAFETY: `range` checked that the source lies in this memory and rule 2 says it is initialised; `target` is
        // borrowed exclusively, so it cannot overlap; nobody writes the range meanwhile by rule 3.
        unsafe { source.copy_to_nonoverlapping(NonNull::from(&mut *target).cast(), target.len()) }
    }

    /// Zeroes `length` bytes from `offset`. Panics if the range is not inside.
    pub fn fill_zero(&self, offset: usize, length: usize) {
        let target = self.range(offset, length);
        // SAFETY: `range` checked that the target lies in this memory; nobody else looks at it by rule 3.
        unsafe { target.write_bytes(0, length) }
    }

    /// The bytes of a range, in place. For the range's owner, while nothing writes to it (rule 3). Panics if the
    /// range is not inside.
    pub fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let start = self.range(offset, length);
        // SAFETY: `range` checked that the range lies in this memory, which lives as long as `self`; its bytes are
        // initialised (rule 2) and not written while the borrow lives (rule 3).
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// Eight bytes as an atomic number in native byte order, for what several threads or processes look at.
    /// Panics if `offset` is not a multiple of 8 or not inside.
    pub fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "an atomic at {offset} is not aligned");
        let start = self.range(offset, size_of::<u64>());
        // SAFETY: in bounds by `range`, and it lives as long as `self`; aligned because the memory starts at a
        // multiple of 4096 and `offset` is one of 8; by rule 3 the owner looks at these bytes only this way while
        // they are shared.
        unsafe { AtomicU64::from_ptr(start.cast().as_ptr()) }
    }

    /// The start of a range inside; panics if it is not.
    fn range(&self, offset: usize, length: usize) -> NonNull<u8> {
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.length);
        assert!(inside, "{length} bytes at {offset} are not inside {} bytes of memory", self.length);
        // SAFETY: `offset` is at most the length, so the result is in the allocation or one past its end.
        unsafe { self.start.add(offset) }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.length)
    }
}

/// A range of a [`Memory`], which it keeps alive. All offsets are relative to the slice.
#[derive(Clone)]
pub struct MemorySlice {
    memory: Arc<Memory>,
    offset: usize,
    length: usize,
}

impl MemorySlice {
    /// `length` bytes from `offset`. Panics if they are not inside.
    pub fn new(memory: Arc<Memory>, offset: usize, length: usize) -> Self {
        memory.range(offset, length);
        Self { memory, offset, length }
    }

    /// All of a memory.
    pub fn whole(memory: Arc<Memory>) -> Self {
        let length = memory.len();
        Self { memory, offset: 0, length }
    }

    /// A part of this slice. Panics if it is not inside.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let offset = self.inside(offset, length);
        Self { memory: Arc::clone(&self.memory), offset, length }
    }

    /// What it is a slice of.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Where in the memory it starts.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// As [`Memory::copy_in`].
    pub fn copy_in(&self, offset: usize, source: &[u8]) {
        self.memory.copy_in(self.inside(offset, source.len()), source);
    }

    /// As [`Memory::copy_out`].
    pub fn copy_out(&self, offset: usize, target: &mut [u8]) {
        self.memory.copy_out(self.inside(offset, target.len()), target);
    }

    /// As [`Memory::fill_zero`].
    pub fn fill_zero(&self, offset: usize, length: usize) {
        self.memory.fill_zero(self.inside(offset, length), length);
    }

    /// As [`Memory::bytes`].
    pub fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        self.memory.bytes(self.inside(offset, length), length)
    }

    /// The address of the part from `offset` on, for the kernel.
    pub(super) fn address(&self, offset: usize) -> *mut u8 {
        self.memory.range(self.inside(offset, 0), 0).as_ptr()
    }

    fn inside(&self, offset: usize, length: usize) -> usize {
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.length);
        assert!(inside, "{length} bytes at {offset} are not inside a slice of {} bytes", self.length);
        self.offset + offset
    }
}

impl fmt::Debug for MemorySlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemorySlice({} bytes at {} of {:?})", self.length, self.offset, self.memory)
    }
}

/// Aligned memory of this process alone, initialised. From [`HUGE_BYTES`] on it lies in huge pages where there are any.
pub(super) struct HeapBlock {
    start: NonNull<u8>,
    bytes: usize,
    origin: Origin,
}

enum Origin {
    Heap(Layout),
    #[expect(dead_code, reason = "held for its drop")]
    Huge(Arc<Mapping>),
}

// SAFETY: the block owns its memory, which is bound to no thread, and has no methods that touch the contents.
unsafe impl Send for HeapBlock {}

impl HeapBlock {
    pub(super) fn zeroed(bytes: usize) -> Self {
        let huge = (bytes >= HUGE_BYTES).then(|| Mapping::huge(bytes)).and_then(rustix::io::Result::ok);
        match huge {
            Some(mapping) => Self { start: mapping.start, bytes, origin: Origin::Huge(Arc::new(mapping)) },
            None => Self::on_heap(bytes),
        }
    }

    /// Two blocks that share a huge page.
    pub(super) fn halves() -> [Self; 2] {
        let bytes = HUGE_BYTES / 2;
        let Ok(mapping) = Mapping::huge(HUGE_BYTES).map(Arc::new) else {
            return [Self::on_heap(bytes), Self::on_heap(bytes)];
        };
        [0, bytes].map(|offset| {
            // SAFETY: the mapping has twice as many bytes.
            let start = unsafe { mapping.start.add(offset) };
            Self { start, bytes, origin: Origin::Huge(Arc::clone(&mapping)) }
        })
    }

    fn on_heap(bytes: usize) -> Self {
        let layout =
            Layout::from_size_align(bytes.max(1), ALIGNMENT).expect("a size that fits an address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Self { start, bytes: layout.size(), origin: Origin::Heap(layout) },
            None => handle_alloc_error(layout),
        }
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for HeapBlock {
    fn drop(&mut self) {
        if let Origin::Heap(layout) = self.origin {
            // SAFETY: allocated with this layout in `on_heap` and freed only here.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is bound to no thread, and has no methods that touch the contents.
unsafe impl Send for Mapping {}
// SAFETY: as for Send.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed memory of this process alone, of whole huge pages from the start of one. Where the kernel has none free it
    /// is of small ones.
    fn huge(bytes: usize) -> rustix::io::Result<Self> {
        let length = bytes.checked_next_multiple_of(HUGE_BYTES).ok_or(rustix::io::Errno::NOMEM)?;
        // More than is needed, since the kernel chooses where it starts: what lies before and behind goes back.
        let mapped = length.checked_add(HUGE_BYTES).ok_or(rustix::io::Errno::NOMEM)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so no existing memory is replaced.
        let start = unsafe { mmap_anonymous(null_mut(), mapped, access, MapFlags::PRIVATE)? };
        let before = start.align_offset(HUGE_BYTES);
        // SAFETY: `before` is less than a huge page, which is how much more was mapped.
        let first = unsafe { start.byte_add(before) };
        let behind = mapped - before - length;
        // SAFETY: both ranges lie in what was just mapped, outside of what is kept; nothing points into them.
        unsafe {
            if before > 0 {
                munmap(start, before)?;
            }
            if behind > 0 {
                munmap(first.byte_add(length), behind)?;
            }
            // Advice: where it is not taken the memory is as good, in more pieces.
            let _ = madvise(first, length, Advice::LinuxHugepage);
        }
        let start = NonNull::new(first.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { start, length })
    }

    fn new(file: impl AsFd, length: usize) -> rustix::io::Result<Self> {
        // Populated, so that the data path takes no page fault.
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: no address is asked for, so no existing memory is replaced. That the file is not shortened under
        // the mapping is the duty of the caller.
        let start = unsafe { mmap(null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0)? };
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Self { start, length }),
            None => Err(rustix::io::Errno::NOMEM),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this address and length are mapped since it was made, unmapped only here, and by rule 1 nothing points
        // into it any more. It can only fail for arguments that were never mapped.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::Ordering;

    #[test]
    fn heap_memory_is_zeroed_aligned_and_keeps_what_is_copied_in() {
        let memory = Memory::heap(10_000);
        assert_eq!(memory.len(), 10_000);
        assert!(MemorySlice::whole(Arc::clone(&memory)).address(0).addr().is_multiple_of(ALIGNMENT));
        assert!(memory.bytes(0, 10_000).iter().all(|byte| *byte == 0));
        memory.copy_in(9_990, b"0123456789");
        let slice = MemorySlice::new(memory, 9_000, 1_000);
        let mut read = [0; 4];
        slice.copy_out(996, &mut read);
        assert_eq!(&read, b"6789");
        slice.fill_zero(997, 2);
        assert_eq!(slice.slice(990, 10).bytes(6, 4), b"6\0\09");
    }

    #[test]
    fn large_memory_starts_at_a_huge_page_and_is_zeroed() {
        for bytes in [HUGE_BYTES, HUGE_BYTES + 1, 5 * HUGE_BYTES - 4096] {
            let memory = Memory::heap(bytes);
            assert_eq!(memory.len(), bytes);
            assert!(memory.start.addr().get().is_multiple_of(HUGE_BYTES));
            assert!(memory.bytes(0, bytes).iter().all(|byte| *byte == 0));
            memory.copy_in(bytes - 1, b"x");
        }
        let [first, second] = HeapBlock::halves();
        assert_eq!((first.bytes(), second.bytes()), (HUGE_BYTES / 2, HUGE_BYTES / 2));
        assert_eq!(second.start().addr().get() - first.start().addr().get(), first.bytes());
        drop(first);
        // SAFETY: the second half lives, and nobody else looks at it.
        assert_eq!(unsafe { second.start().add(second.bytes() - 1).read() }, 0);
    }

    #[test]
    fn whatever_is_not_inside_is_refused() {
        let memory = Memory::heap(4096);
        let slice = MemorySlice::new(Arc::clone(&memory), 1024, 1024);
        let refused: [&dyn Fn(); 10] = [
            &|| memory.copy_in(4093, b"1234"),
            &|| memory.copy_out(usize::MAX, &mut [0; 2]),
            &|| memory.fill_zero(0, 4097),
            &|| _ = memory.bytes(4097, 0),
            &|| _ = memory.atomic_u64(4),
            &|| _ = memory.atomic_u64(4096),
            &|| _ = MemorySlice::new(Arc::clone(&memory), 4000, 97),
            &|| _ = slice.slice(1024, 1),
            &|| slice.copy_in(1023, b"12"),
            &|| _ = slice.bytes(0, 1025),
        ];
        for (case, call) in refused.iter().enumerate() {
            assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "case {case} was let through");
        }
        assert!(slice.slice(1024, 0).is_empty());
    }

    #[test]
    fn a_part_is_the_same_bytes_and_says_when_it_ends() {
        let whole = Memory::heap(16 << 10);
        let told = Arc::new(());
        let part = Memory::part(&whole, 8192, 4096, Box::new(Arc::clone(&told)));
        part.copy_in(100, b"same");
        assert_eq!(whole.bytes(8292, 4), b"same");
        let slice = MemorySlice::new(part, 64, 512);
        assert_eq!(whole.place_of(&slice), Some(8256));
        assert_eq!(whole.place_of(&MemorySlice::whole(Memory::heap(4096))), None);
        assert_eq!(Arc::strong_count(&told), 2);
        assert!(
            catch_unwind(AssertUnwindSafe(|| Memory::part(&whole, 12 << 10, 4097, Box::new(())))).is_err()
        );
        drop(slice);
        assert_eq!(Arc::strong_count(&told), 1);
    }

    #[test]
    fn an_atomic_is_the_same_bytes() {
        let memory = Memory::heap(64);
        memory
            .atomic_u64(56)
            .store(u64::from_ne_bytes(*b"published".first_chunk().expect("8 bytes")), Ordering::Release);
        assert_eq!(memory.bytes(56, 8), b"publishe");
    }
}
