//! The batch in the making, with the bitmap's bits that it sets and clears.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::error::{Error, Kind, Result};
use crate::format::dead::{CHUNK_BLOCKS, CHUNK_BYTES, PhysicalRun, push};
use crate::format::keys;
use crate::map::store::{Batch, Family, MapStore, StoreView};
use crate::units::PhysicalBlock;

type Chunk = Box<[u8; CHUNK_BYTES]>;

/// The batch in the making.
pub(super) struct Edits<'a> {
    pub(super) batch: Batch<'a>,
    pub(super) view: &'a StoreView<'a>,
    chunks: BTreeMap<u64, Chunk>,
    freed: Vec<PhysicalRun>,
}

impl<'a> Edits<'a> {
    pub(super) fn new(store: &'a MapStore, view: &'a StoreView<'a>) -> Self {
        Self { batch: store.batch(), view, chunks: BTreeMap::new(), freed: Vec::new() }
    }

    fn bit(&mut self, block: PhysicalBlock) -> Result<(&mut u8, u8)> {
        let chunk = match self.chunks.entry(block.0 / CHUNK_BLOCKS) {
            Entry::Occupied(chunk) => chunk.into_mut(),
            Entry::Vacant(vacant) => {
                let stored = self.view.get(Family::Space, &keys::space(*vacant.key()))?;
                vacant.insert(read_chunk(stored.as_deref())?)
            }
        };
        let at = usize::try_from(block.0 % CHUNK_BLOCKS).map_err(|_| impossible(block))?;
        Ok((&mut chunk[at / 8], 1 << (at % 8)))
    }

    /// The block is mapped from now on.
    pub(super) fn allocate(&mut self, block: PhysicalBlock) -> Result<()> {
        let (byte, mask) = self.bit(block)?;
        if *byte & mask != 0 {
            return Err(contradiction(block, "is mapped twice"));
        }
        *byte |= mask;
        Ok(())
    }

    /// Nothing maps the block any more.
    pub(super) fn free(&mut self, block: PhysicalBlock) -> Result<()> {
        let (byte, mask) = self.bit(block)?;
        if *byte & mask == 0 {
            return Err(contradiction(block, "is freed twice"));
        }
        *byte &= !mask;
        push(&mut self.freed, block);
        Ok(())
    }

    /// Nothing maps the blocks any more.
    pub(super) fn free_run(&mut self, run: PhysicalRun) -> Result<()> {
        (run.start.0..run.start.0 + run.blocks).try_for_each(|block| self.free(PhysicalBlock(block)))
    }

    /// The batch with the bitmap's chunks in it, and what was freed.
    pub(super) fn finish(mut self) -> (Batch<'a>, Vec<PhysicalRun>) {
        for (&index, chunk) in &self.chunks {
            if chunk.iter().all(|&byte| byte == 0) {
                self.batch.delete(Family::Space, &keys::space(index));
            } else {
                self.batch.put(Family::Space, &keys::space(index), &chunk[..]);
            }
        }
        (self.batch, self.freed)
    }
}

/// A chunk of the bitmap as it was stored; absent means that all is free.
pub(super) fn read_chunk(stored: Option<&[u8]>) -> Result<Chunk> {
    let Some(stored) = stored else { return Ok(Box::new([0; CHUNK_BYTES])) };
    let chunk = stored.try_into().map_err(|_| {
        Error::new(
            Kind::Damaged,
            "read bitmap",
            format!("a chunk of {} bytes, not {CHUNK_BYTES}", stored.len()),
        )
    })?;
    Ok(Box::new(chunk))
}

fn impossible(block: PhysicalBlock) -> Error {
    Error::new(Kind::Bug, "write checkpoint", format!("block {block} is out of range"))
}

fn contradiction(block: PhysicalBlock, what: &str) -> Error {
    Error::new(
        Kind::Damaged,
        "write checkpoint",
        format!("the map contradicts itself: physical block {block} {what}"),
    )
    .hint("nothing was changed; run a check of the pool")
}
