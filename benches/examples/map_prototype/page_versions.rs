//! Format B: every version of a page is a key of its own, newest first, and an index by epoch.
//!
//! versions  page, !epoch  -> all 64 entries as that epoch left them
//! written   epoch, page   -> nothing
//!
//! The current pages are held in memory for the checkpoint, so that ingest is timed at this format's best.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};
use rocksdb::WriteBatch;

use crate::codec::Part::{Page as PagePart, U32};
use crate::codec::{Layout, Reader, key, key_u32, put_entries, take_entries};
use crate::format::{MapFormat, merge_order};
use crate::model::{Block, Change, Deletion, Entry, EpochWrites, FILL_EPOCH, PAGE_LEN, Page, Span, Workload};
use crate::store::{Family, Filter, Store};

pub(crate) struct PageVersions {
    store: Store,
    current: Vec<Page>,
}

impl PageVersions {
    pub(crate) fn create(path: &Path, pages: u32) -> Result<Self> {
        let versions = Family {
            name: "versions",
            is_compressed: true,
            block_bytes: 16 << 10,
            filter: Filter::Prefix,
            level0_files: 4,
        };
        let families = [versions, Family { name: "written", filter: Filter::None, ..versions }];
        let current = vec![[None; PAGE_LEN]; pages as usize];
        Ok(Self { store: Store::create(path, &families)?, current })
    }

    fn put(&self, batch: &mut WriteBatch, page: u32, epoch: u32) -> Result<()> {
        let mut value = Vec::with_capacity(1024);
        put_entries(&mut value, Layout::Row, u64::MAX, &self.current[page as usize]);
        batch.put_cf(self.store.family("versions")?, key(&[PagePart(page), U32(!epoch)]), value);
        batch.put_cf(self.store.family("written")?, key(&[U32(epoch), PagePart(page)]), b"");
        Ok(())
    }

    /// Pages written in the epochs after `span.older` up to `span.newer`.
    fn written(&self, span: Span) -> Result<Vec<u32>> {
        let mut pages = Vec::new();
        let mut iterator = self.store.iterate("written", key(&[U32(span.newer + 1)]))?;
        iterator.seek(key(&[U32(span.older + 1)]));
        while let Some(key) = iterator.key() {
            pages.push(key_u32(key, 10)?);
            iterator.next();
        }
        iterator.status()?;
        pages.sort_unstable();
        pages.dedup();
        Ok(pages)
    }
}

impl MapFormat for PageVersions {
    fn store(&self) -> &Store {
        &self.store
    }

    fn fill(&mut self, workload: &Workload, pages: Range<u32>) -> Result<()> {
        let mut batch = WriteBatch::default();
        for page in pages {
            self.current[page as usize] = workload.fill_page(page);
            self.put(&mut batch, page, FILL_EPOCH)?;
        }
        self.store.commit(batch)
    }

    fn checkpoint(&mut self, epochs: &[EpochWrites]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for group in merge_order(epochs).chunk_by(|a, b| (a.page, a.epoch) == (b.page, b.epoch)) {
            for merged in group {
                self.current[merged.page as usize][merged.slot] = merged.entry;
            }
            self.put(&mut batch, group[0].page, group[0].epoch)?;
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
        Ok(self.page_at(block.page(), snapshot)?[block.slot()])
    }

    fn page_at(&self, page: u32, snapshot: u32) -> Result<Page> {
        let mut iterator = self.store.iterate_prefix("versions", key(&[PagePart(page + 1)]))?;
        iterator.seek(key(&[PagePart(page), U32(!snapshot)]));
        iterator.status()?;
        let mut found = [None; PAGE_LEN];
        take_entries(&mut Reader(iterator.value().context("no version")?), Layout::Row, 0, &mut found)?;
        Ok(found)
    }

    fn delta(&self, span: Span) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for page in self.written(span)? {
            let (older, newer) = (self.page_at(page, span.older)?, self.page_at(page, span.newer)?);
            let differing = (0..PAGE_LEN).filter(|&slot| older[slot] != newer[slot]);
            changes.extend(
                differing.map(|s| Change { block: Block(page * 64 + s as u32), is_data: newer[s].is_some() }),
            );
        }
        Ok(changes)
    }

    fn freed(&self, deletion: Deletion) -> Result<Vec<u64>> {
        let Deletion { previous, snapshot, next } = deletion;
        let mut freed = Vec::new();
        let before =
            (previous >= FILL_EPOCH).then(|| self.written(Span { older: previous, newer: snapshot }));
        let before = before.transpose()?;
        for page in self.written(Span { older: snapshot, newer: next })? {
            if before.as_ref().is_some_and(|pages| pages.binary_search(&page).is_err()) {
                continue;
            }
            let (here, later) = (self.page_at(page, snapshot)?, self.page_at(page, next)?);
            let displaced = here.iter().zip(&later).filter(|(here, later)| here != later);
            let dying = displaced.filter_map(|(here, _)| *here).filter(|entry| entry.birth > previous);
            freed.extend(dying.map(|entry| entry.physical));
        }
        freed.sort_unstable();
        Ok(freed)
    }
}
