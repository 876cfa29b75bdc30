//! Physical blocks: the stored bitmap, and who owns each block.

use std::fmt::Display;
use std::ops::Range;

use super::Run;
use super::report::{DiscrepancyKind, Findings};
use crate::checksum::checksum;
use crate::error::Result;
use crate::format::dead::{CHUNK_BLOCKS, CHUNK_BYTES, PhysicalRun};
use crate::format::keys;
use crate::map::Entry;
use crate::map::store::Family;
use crate::units::{BLOCK_LEN, PAGE_LEN, PhysicalBlock};

/// Two bits for each block up to the end of the data area.
pub(super) struct Blocks {
    area: Range<PhysicalBlock>,
    /// The bitmap as it is stored.
    stored: Vec<u64>,
    /// Blocks that have an owner.
    owned: Vec<u64>,
}

fn word(block: u64) -> usize {
    usize::try_from(block / 64).expect("the block lies in an area that the bitmap was made for")
}

impl Blocks {
    pub(super) fn new(area: Range<PhysicalBlock>) -> Self {
        let words = usize::try_from(area.end.0.div_ceil(64)).expect("a bitmap fits memory");
        Self { area, stored: vec![0; words], owned: vec![0; words] }
    }

    /// Whether the whole run lies in the data area.
    fn contains(&self, run: PhysicalRun) -> bool {
        let end = run.start.0.checked_add(run.blocks);
        run.start >= self.area.start && end.is_some_and(|end| end <= self.area.end.0)
    }

    /// Gives blocks an owner. Returns how many there are in the data area.
    pub(super) fn own(&mut self, run: PhysicalRun, owner: &dyn Display, report: &mut Findings) -> u64 {
        if !self.contains(run) {
            let detail =
                format!("maps {}, the data area is {}..{}", name(run), self.area.start, self.area.end);
            report.add(DiscrepancyKind::OutsideDataArea, owner, detail);
            return 0;
        }
        for block in run.start.0..run.start.0 + run.blocks {
            let (at, bit) = (word(block), 1 << (block % 64));
            if self.owned[at] & bit != 0 {
                let detail = format!("maps block {block}, which has an owner already");
                report.add(DiscrepancyKind::MappedTwice, owner, detail);
            } else if self.stored[at] & bit == 0 {
                let detail = format!("maps block {block}, which is free in the bitmap");
                report.add(DiscrepancyKind::NotAllocated, owner, detail);
            }
            self.owned[at] |= bit;
        }
        run.blocks
    }

    /// Runs of blocks that are in use but have no owner.
    fn leaks(&self) -> impl Iterator<Item = PhysicalRun> {
        let mut block = self.area.start.0;
        std::iter::from_fn(move || {
            let start = self.next(block, true)?;
            let end = self.next(start, false).unwrap_or(self.area.end.0);
            block = end;
            Some(PhysicalRun { start: PhysicalBlock(start), blocks: end - start })
        })
    }

    /// The first block not below `from` that is a leak, or is none.
    fn next(&self, from: u64, leaked: bool) -> Option<u64> {
        let mut block = from;
        while block < self.area.end.0 {
            let leaks = self.stored[word(block)] & !self.owned[word(block)];
            let wanted = (if leaked { leaks } else { !leaks }) >> (block % 64);
            if wanted != 0 {
                let found = block + u64::from(wanted.trailing_zeros());
                return (found < self.area.end.0).then_some(found);
            }
            block = (block / 64 + 1) * 64;
        }
        None
    }
}

fn name(run: PhysicalRun) -> String {
    match run.blocks {
        1 => format!("block {}", run.start),
        blocks => format!("{blocks} blocks from {}", run.start),
    }
}

impl Run<'_, '_> {
    pub(super) fn load_bitmap(&mut self) -> Result<()> {
        let mut scan = self.view.scan(Family::Space, None);
        scan.seek(&[]);
        while let Some((key, value)) = scan.item()? {
            match (keys::read_space(key), <&[u8; CHUNK_BYTES]>::try_from(value)) {
                (Ok(chunk), Ok(bytes)) => self.load_chunk(chunk, bytes),
                (Ok(chunk), Err(_)) => {
                    let detail = format!("has {} bytes, not {CHUNK_BYTES}", value.len());
                    self.report.add(
                        DiscrepancyKind::Unreadable,
                        format_args!("bitmap chunk {chunk}"),
                        detail,
                    );
                }
                (Err(source), _) => self.unreadable(Family::Space, key, &source),
            }
            scan.advance();
        }
        Ok(())
    }

    fn load_chunk(&mut self, chunk: u64, bytes: &[u8; CHUNK_BYTES]) {
        let mut outside = 0;
        for (index, &byte) in (0_u64..).zip(bytes).filter(|&(_, &byte)| byte != 0) {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                let block =
                    chunk.checked_mul(CHUNK_BLOCKS).map(|first| PhysicalBlock(first + 8 * index + bit));
                match block.filter(|block| self.blocks.area.contains(block)) {
                    Some(block) => {
                        self.blocks.stored[word(block.0)] |= 1 << (block.0 % 64);
                        self.report.counts.allocated_blocks += 1;
                    }
                    None => outside += 1,
                }
            }
        }
        if outside > 0 {
            let detail = format!("says that {outside} blocks outside the data area are in use");
            self.report.add(DiscrepancyKind::OutsideDataArea, format_args!("bitmap chunk {chunk}"), detail);
        }
    }

    pub(super) fn report_leaks(&mut self) {
        if !self.report.counts.is_complete {
            return;
        }
        for run in self.blocks.leaks() {
            self.report.counts.leaked_blocks += run.blocks;
            self.report.add(DiscrepancyKind::Leaked, name(run), "in use in the bitmap, but nothing maps it");
        }
    }

    /// Compares the data of entries in `slots` of a page with their checksums; runs on the device are read at once.
    pub(super) fn verify(&mut self, entries: &[Entry; PAGE_LEN], slots: u64, owner: &dyn Display) {
        if self.read.is_none() || slots == 0 {
            return;
        }
        let mut buffer = vec![0; PAGE_LEN * BLOCK_LEN];
        let mut slot = 0;
        while slot < PAGE_LEN {
            let wanted = |slot: usize| slots >> slot & 1 == 1;
            let next = |slot: usize| entries[slot].physical.0;
            let mut end = slot + 1;
            while wanted(slot) && end < PAGE_LEN && wanted(end) && next(end) == next(end - 1) + 1 {
                end += 1;
            }
            if wanted(slot) {
                self.verify_run(&entries[slot..end], slot, &mut buffer[..(end - slot) * BLOCK_LEN], owner);
            }
            slot = end;
        }
    }

    fn verify_run(&mut self, entries: &[Entry], first_slot: usize, buffer: &mut [u8], owner: &dyn Display) {
        let run = PhysicalRun { start: entries[0].physical, blocks: entries.len() as u64 };
        let Some(read) = self.read.as_mut().filter(|_| self.blocks.contains(run)) else { return };
        if let Err(error) = read(run.start, run.blocks, buffer) {
            let detail = format!("{} can't be read: {error}", name(run));
            return self.report.add(DiscrepancyKind::UnreadableBlock, owner, detail);
        }
        for (index, (entry, bytes)) in entries.iter().zip(buffer.chunks_exact(BLOCK_LEN)).enumerate() {
            let found = checksum(bytes);
            if found == entry.checksum {
                self.report.counts.verified_blocks += 1;
            } else {
                let detail = format!(
                    "slot {}: block {} has checksum {found:#010x}, the map says {:#010x}",
                    first_slot + index,
                    entry.physical,
                    entry.checksum
                );
                self.report.add(DiscrepancyKind::Checksum, owner, detail);
            }
        }
    }
}
