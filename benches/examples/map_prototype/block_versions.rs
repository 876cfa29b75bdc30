//! Format B2: every version of a block is a key of its own, newest first, and an index by epoch.
//!
//! versions  block, !epoch -> physical u40, checksum u32; nothing for a hole
//! written   epoch, page   -> mask of blocks
//!
//! The checkpoint writes blindly, which an engine could not: it must know what it displaced to free it at once when
//! no snapshot needs it. So ingest is timed at this format's best.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};
use rocksdb::{DBRawIterator, WriteBatch};

use crate::codec::Part::{Page as PagePart, U32};
use crate::codec::{Reader, key, key_u32, put_mask, slots, take_mask};
use crate::format::{MapFormat, group_masks, merge_order};
use crate::model::{Block, Change, Deletion, Entry, EpochWrites, FILL_EPOCH, PAGE_LEN, Page, Span, Workload};
use crate::store::{Family, Filter, Store};

/// Older versions that a page read steps over before it seeks.
const STEPS_MAX: usize = 8;

pub(crate) struct BlockVersions {
    store: Store,
}

impl BlockVersions {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let versions = Family {
            name: "versions",
            is_compressed: true,
            block_bytes: 16 << 10,
            filter: Filter::Prefix,
            level0_files: 4,
        };
        let families = [versions, Family { name: "written", filter: Filter::None, ..versions }];
        Ok(Self { store: Store::create(path, &families)? })
    }

    fn put(&self, batch: &mut WriteBatch, block: Block, epoch: u32, entry: Option<Entry>) -> Result<()> {
        let mut value = Vec::with_capacity(9);
        if let Some(entry) = entry {
            value.extend_from_slice(&entry.physical.to_be_bytes()[3..]);
            value.extend_from_slice(&entry.checksum.to_be_bytes());
        }
        batch.put_cf(self.store.family("versions")?, key(&[PagePart(block.0), U32(!epoch)]), value);
        Ok(())
    }

    fn put_written(&self, batch: &mut WriteBatch, page: u32, epoch: u32, mask: u64) -> Result<()> {
        let mut value = Vec::new();
        put_mask(&mut value, mask, false);
        batch.put_cf(self.store.family("written")?, key(&[U32(epoch), PagePart(page)]), value);
        Ok(())
    }

    /// Blocks written in the epochs after `span.older` up to `span.newer`.
    fn written(&self, span: Span) -> Result<Vec<Block>> {
        let mut blocks = Vec::new();
        let mut iterator = self.store.iterate("written", key(&[U32(span.newer + 1)]))?;
        iterator.seek(key(&[U32(span.older + 1)]));
        while let Some((key, value)) = iterator.item() {
            let page = key_u32(key, 10)?;
            let (mask, _) = take_mask(&mut Reader(value))?;
            blocks.extend(slots(mask).map(|slot| Block(page * 64 + slot as u32)));
            iterator.next();
        }
        iterator.status()?;
        blocks.sort_unstable();
        blocks.dedup();
        Ok(blocks)
    }
}

impl MapFormat for BlockVersions {
    fn store(&self) -> &Store {
        &self.store
    }

    fn fill(&mut self, workload: &Workload, pages: Range<u32>) -> Result<()> {
        let mut batch = WriteBatch::default();
        for page in pages {
            for (slot, entry) in workload.fill_page(page).into_iter().enumerate() {
                self.put(&mut batch, Block(page * 64 + slot as u32), FILL_EPOCH, entry)?;
            }
            self.put_written(&mut batch, page, FILL_EPOCH, u64::MAX)?;
        }
        self.store.commit(batch)
    }

    fn checkpoint(&mut self, epochs: &[EpochWrites]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for group in merge_order(epochs).chunk_by(|a, b| (a.page, a.epoch) == (b.page, b.epoch)) {
            let (page, epoch) = (group[0].page, group[0].epoch);
            for merged in group {
                self.put(&mut batch, Block(page * 64 + merged.slot as u32), epoch, merged.entry)?;
            }
            self.put_written(&mut batch, page, epoch, group_masks(group).0)?;
        }
        self.store.commit(batch)
    }

    fn live_page(&self, page: u32) -> Result<Page> {
        self.page_at(page, u32::MAX)
    }

    fn live_block(&self, block: Block) -> Result<Option<Entry>> {
        self.block_at(block, u32::MAX)
    }

    fn block_at(&self, block: Block, snapshot: u32) -> Result<Option<Entry>> {
        let mut iterator = self.store.iterate_prefix("versions", key(&[PagePart(block.0 + 1)]))?;
        iterator.seek(key(&[PagePart(block.0), U32(!snapshot)]));
        iterator.status()?;
        let (key, value) = iterator.item().context("no version")?;
        take_entry(key, value)
    }

    fn page_at(&self, page: u32, snapshot: u32) -> Result<Page> {
        let mut found = [None; PAGE_LEN];
        let mut iterator = self.store.iterate("versions", key(&[PagePart((page + 1) * 64)]))?;
        iterator.seek(key(&[PagePart(page * 64), U32(!snapshot)]));
        for (slot, entry) in found.iter_mut().enumerate() {
            advance(&mut iterator, Block(page * 64 + slot as u32), snapshot)?;
            let (key, value) = iterator.item().context("no version")?;
            *entry = take_entry(key, value)?;
        }
        Ok(found)
    }

    fn delta(&self, span: Span) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for block in self.written(span)? {
            let (older, newer) = (self.block_at(block, span.older)?, self.block_at(block, span.newer)?);
            if older.is_some() || newer.is_some() {
                changes.push(Change { block, is_data: newer.is_some() });
            }
        }
        Ok(changes)
    }

    fn freed(&self, deletion: Deletion) -> Result<Vec<u64>> {
        let Deletion { previous, snapshot, next } = deletion;
        let mut freed = Vec::new();
        let before =
            (previous >= FILL_EPOCH).then(|| self.written(Span { older: previous, newer: snapshot }));
        let before = before.transpose()?;
        for block in self.written(Span { older: snapshot, newer: next })? {
            if before.as_ref().is_none_or(|blocks| blocks.binary_search(&block).is_ok()) {
                freed.extend(self.block_at(block, snapshot)?.map(|entry| entry.physical));
            }
        }
        freed.sort_unstable();
        Ok(freed)
    }
}

/// Moves on to the newest version of `block` that `snapshot` sees: some steps, then a seek.
fn advance(iterator: &mut DBRawIterator<'_>, block: Block, snapshot: u32) -> Result<()> {
    let target = key(&[PagePart(block.0), U32(!snapshot)]);
    for _ in 0..STEPS_MAX {
        if iterator.key().is_none_or(|key| key >= target.as_slice()) {
            return Ok(iterator.status()?);
        }
        iterator.next();
    }
    iterator.seek(target);
    Ok(iterator.status()?)
}

fn take_entry(key: &[u8], value: &[u8]) -> Result<Option<Entry>> {
    let &[a, b, c, d, e, f, g, h, i] = value else { return Ok(None) };
    let physical = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
    Ok(Some(Entry { physical, checksum: u32::from_be_bytes([f, g, h, i]), birth: !key_u32(key, 10)? }))
}
