//! What requests do once they complete: reads, writes and syncs, and the faults that strike them.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::block::{Block, bytes_of};
use super::state::{CachedWrite, State};
use super::{SECTOR_LEN, device_offset};
use crate::sim::faults::{Access, FaultKind, Stroke};
use crate::sys::MemorySlice;
use crate::units::BLOCK_LEN;

impl State {
    pub(super) fn read(&mut self, first: usize, into: &MemorySlice) -> io::Result<()> {
        let bytes = device_offset(first)..device_offset(first + into.len() / BLOCK_LEN);
        if let Some(stroke) = self.faults.strike(Access::Read, &bytes) {
            into.copy_in(0, &[0xDB; SECTOR_LEN]);
            return Err(self.fail(&stroke, bytes));
        }
        for (index, block) in self.current[first..][..into.len() / BLOCK_LEN].iter().enumerate() {
            into.copy_in(index * BLOCK_LEN, bytes_of(block));
        }
        self.statistics.reads += 1;
        self.statistics.read_bytes += bytes.end - bytes.start;
        Ok(())
    }

    pub(super) fn write(&mut self, first: usize, mut blocks: Vec<Arc<Block>>) -> io::Result<()> {
        let bytes = device_offset(first)..device_offset(first + blocks.len());
        let stroke = self.faults.strike(Access::Write, &bytes);
        let mut stored_at = Some(first);
        if let Some(stroke) = &stroke {
            stored_at = match stroke.kind {
                FaultKind::WriteError => {
                    self.write_some(first, blocks);
                    return Err(self.fail(stroke, bytes));
                }
                FaultKind::MisdirectedWrite => self.elsewhere(first, blocks.len(), stroke.misdirect_to),
                FaultKind::FlippedBit => {
                    let byte = self.faults.random().index(blocks.len() * BLOCK_LEN);
                    let bit = self.faults.random().below(8);
                    Arc::make_mut(&mut blocks[byte / BLOCK_LEN]).0[byte % BLOCK_LEN] ^= 1 << bit;
                    let place = device_offset(first) + u64::try_from(byte).expect("an offset fits 64 bits");
                    self.faults.record_flip(place);
                    Some(first)
                }
                _ => None,
            };
            if stroke.kind != FaultKind::FlippedBit {
                self.faults.record(stroke, bytes.clone(), stored_at.map(device_offset));
            }
        }
        self.statistics.writes += 1;
        self.statistics.written_bytes += bytes.end - bytes.start;
        if let Some(first) = stored_at {
            self.cache_write(first, blocks);
        }
        Ok(())
    }

    /// Writes any of the blocks, each wholly or not.
    pub(super) fn write_some(&mut self, first: usize, blocks: Vec<Arc<Block>>) {
        for (index, block) in blocks.into_iter().enumerate() {
            if self.random.coin() {
                self.cache_write(first + index, vec![block]);
            }
        }
    }

    pub(super) fn cache_write(&mut self, first: usize, blocks: Vec<Arc<Block>>) {
        self.completed += 1;
        for (current, block) in self.current[first..].iter_mut().zip(&blocks) {
            *current = Some(Arc::clone(block));
        }
        self.cache.push_back(CachedWrite { sequence: self.completed, first, blocks });
    }

    /// Where a misdirected write of `count` blocks goes, if the disk has another place for it.
    pub(super) fn elsewhere(&mut self, first: usize, count: usize, chosen: Option<u64>) -> Option<usize> {
        if let Some(offset) = chosen {
            return self.place(offset, count * BLOCK_LEN).ok();
        }
        let before = (first + 1).saturating_sub(count);
        let after = (self.medium.len() + 1).saturating_sub(first + 2 * count);
        let places = before + after;
        let place = (places > 0).then(|| self.faults.random().index(places))?;
        Some(if place < before { place } else { first + count + (place - before) })
    }

    pub(super) fn sync(&mut self, barrier: u64) -> io::Result<()> {
        if let Some(stroke) = self.faults.strike(Access::Sync, &(0..0)) {
            if self.random.coin() {
                let covered = self.cache.partition_point(|write| write.sequence <= barrier);
                self.forgotten.extend(self.cache.drain(..covered));
            }
            return Err(self.fail(&stroke, 0..0));
        }
        self.harden(barrier);
        self.statistics.syncs += 1;
        Ok(())
    }

    /// Puts the cached writes up to `barrier` on the medium, in the order in which they completed.
    pub(super) fn harden(&mut self, barrier: u64) {
        while let Some(write) = self.cache.pop_front_if(|write| write.sequence <= barrier) {
            for (block, bytes) in (write.first..).zip(write.blocks) {
                self.medium[block] = Some(bytes);
                self.hardened[block] = write.sequence;
            }
        }
    }

    pub(super) fn fail(&mut self, stroke: &Stroke, bytes: Range<u64>) -> io::Error {
        let error = io::Error::other(format!("injected {:?} at {bytes:?}", stroke.kind));
        self.faults.record(stroke, bytes, None);
        error
    }
}
