//! The bytes of a block, and where the memory of dropped ones goes.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use super::ZEROS;
use crate::sys::MemorySlice;
use crate::units::BLOCK_LEN;

thread_local! {
    /// The memory of dropped blocks. Without it the kernel would zero every page of each of 10,000 seeded runs
    /// anew, which takes twice as long as the runs themselves. It has no effect on what a run does.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Most blocks that a thread keeps spare: 64 MiB.
const SPARE_BLOCKS_MAX: usize = 16_384;

/// The bytes of one block.
#[derive(Debug)]
pub(super) struct Block(pub(super) Vec<u8>);

impl Block {
    /// A block that `fill` fills entirely; it finds any bytes there.
    pub(super) fn filled_by(fill: impl FnOnce(&mut [u8])) -> Self {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        let mut block = Self(spare.unwrap_or_else(|| vec![0; BLOCK_LEN]));
        fill(&mut block.0);
        block
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        Self::filled_by(|bytes| bytes.copy_from_slice(&self.0))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.0);
        // It fails when the thread is ending; then the memory is simply freed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_BLOCKS_MAX {
                spare.push(bytes);
            }
        });
    }
}

pub(super) fn bytes_of(block: &Option<Arc<Block>>) -> &[u8] {
    block.as_ref().map_or(&ZEROS, |block| &block.0)
}

pub(super) fn take(from: &MemorySlice) -> Vec<Arc<Block>> {
    let copy = |index| Arc::new(Block::filled_by(|bytes| from.copy_out(index * BLOCK_LEN, bytes)));
    (0..from.len() / BLOCK_LEN).map(copy).collect()
}
