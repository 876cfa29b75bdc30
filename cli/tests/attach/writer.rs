//! Writes to a block device past every cache, never flushes, and knows what each block must hold.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, OFlags, open};

use crate::emulated;

const BLOCK: usize = 4096;
const THREADS: u64 = 4;
/// Blocks that one thread writes to: few, so that each is written often.
const BLOCKS: u64 = 2048;
/// The same in an emulated machine, which is slow.
const BLOCKS_INSIDE: u64 = 128;

/// Threads that write, each its own blocks.
pub(crate) struct Writers {
    threads: Vec<JoinHandle<Vec<u64>>>,
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// What each block must hold: the number of the write that came last, of every thread. 0 was never written.
pub(crate) struct Written(Vec<Vec<u64>>);

impl Writers {
    pub(crate) fn start(device: &Path) -> Self {
        let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let threads = (0..THREADS).map(|thread| {
            let file = direct(device);
            let (written, stop) = (written.clone(), stop.clone());
            thread::spawn(move || write(&file, thread, &written, &stop))
        });
        Self { threads: threads.collect(), written, stop }
    }

    /// Writes that were answered.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// Ends the threads, none of which may have seen an error.
    pub(crate) fn stop(self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        Written(self.threads.into_iter().map(|thread| thread.join().expect("no error")).collect())
    }
}

impl Written {
    /// Compares every block, whichever way it comes.
    pub(crate) fn check(&self, device: &Path) {
        let file = direct(device);
        for (thread, numbers) in (0..).zip(&self.0) {
            for (block, number) in (0..).zip(numbers) {
                check(&file, thread, block, *number);
            }
        }
    }
}

fn direct(device: &Path) -> File {
    open(device, OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).expect("opened").into()
}

/// Writes random blocks of this thread's, mostly one, else up to eight neighbours at once or so many that the server
/// receives them where they are staged, and reads some back at once.
fn write(file: &File, thread: u64, written: &AtomicU64, stop: &AtomicBool) -> Vec<u64> {
    let mut numbers = vec![0; usize::try_from(blocks()).expect("small")];
    let mut random = thread + 1;
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let count = match random % 16 {
            0 => 17 + random / 16 % 24,
            1..4 => 1 + random / 16 % 8,
            _ => 1,
        };
        let first = random / 64 % (blocks() - count + 1);
        number += 1;
        let mut memory = vec![0; 41 * BLOCK];
        let content = aligned(&mut memory, usize::try_from(count).expect("small"));
        for (block, part) in (first..).zip(content.chunks_exact_mut(BLOCK)) {
            part.copy_from_slice(&stamp(thread, block, number));
        }
        file.write_all_at(content, offset(thread, first)).expect("written");
        written.fetch_add(1, Ordering::SeqCst);
        for block in first..first + count {
            numbers[usize::try_from(block).expect("small")] = number;
        }
        let other = random / 1024 % blocks();
        check(file, thread, other, numbers[usize::try_from(other).expect("small")]);
    }
    numbers
}

fn blocks() -> u64 {
    if emulated::is_inside() { BLOCKS_INSIDE } else { BLOCKS }
}

fn check(file: &File, thread: u64, block: u64, number: u64) {
    let mut memory = vec![0; 2 * BLOCK];
    let found = aligned(&mut memory, 1);
    file.read_exact_at(found, offset(thread, block)).expect("read");
    let expected = if number == 0 { [0; BLOCK] } else { stamp(thread, block, number) };
    let seen = u64::from_le_bytes(*found[16..].first_chunk().expect("8 bytes"));
    assert!(found == expected, "thread {thread} block {block}: write {number} was answered, there is {seen}");
}

fn offset(thread: u64, block: u64) -> u64 {
    (thread * BLOCKS + block) * BLOCK as u64
}

/// A block that says whose it is, all over.
fn stamp(thread: u64, block: u64, number: u64) -> [u8; BLOCK] {
    let mut content = [0; BLOCK];
    for (place, part) in content.chunks_exact_mut(32).enumerate() {
        let words = [thread, block, number, place as u64];
        for (word, into) in words.iter().zip(part.chunks_exact_mut(8)) {
            into.copy_from_slice(&word.to_le_bytes());
        }
    }
    content
}

/// `count` blocks of memory where a device may read it.
fn aligned(memory: &mut [u8], count: usize) -> &mut [u8] {
    let start = memory.as_ptr().align_offset(BLOCK);
    &mut memory[start..start + count * BLOCK]
}
