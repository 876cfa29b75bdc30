//! What a map format must do, and the merge order that all of them share.

use std::ops::Range;

use anyhow::Result;

use crate::model::{Block, Change, Deletion, Entry, EpochWrites, Page, Span, Workload};
use crate::store::Store;

/// A way to keep a volume's map and its past in RocksDB.
pub(crate) trait MapFormat {
    fn store(&self) -> &Store;
    /// Writes these pages as the fill left them, durably.
    fn fill(&mut self, workload: &Workload, pages: Range<u32>) -> Result<()>;
    /// Writes some epochs in one batch, durably.
    fn checkpoint(&mut self, epochs: &[EpochWrites]) -> Result<()>;
    fn live_page(&self, page: u32) -> Result<Page>;
    fn live_block(&self, block: Block) -> Result<Option<Entry>>;
    fn block_at(&self, block: Block, snapshot: u32) -> Result<Option<Entry>>;
    fn page_at(&self, page: u32, snapshot: u32) -> Result<Page>;
    /// In block order.
    fn delta(&self, span: Span) -> Result<Vec<Change>>;
    /// In rising order.
    fn freed(&self, deletion: Deletion) -> Result<Vec<u64>>;
}

/// One overwrite in the order in which a checkpoint merges it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merged {
    pub(crate) page: u32,
    pub(crate) epoch: u32,
    pub(crate) slot: usize,
    pub(crate) entry: Option<Entry>,
}

/// All overwrites of a checkpoint by page, then epoch, then slot.
pub(crate) fn merge_order(epochs: &[EpochWrites]) -> Vec<Merged> {
    let mut merged: Vec<Merged> = epochs
        .iter()
        .flat_map(|e| {
            let in_epoch = e.overwrites.iter();
            in_epoch.map(|w| Merged {
                page: w.block.page(),
                epoch: e.epoch,
                slot: w.block.slot(),
                entry: w.entry,
            })
        })
        .collect();
    merged.sort_unstable_by_key(|m| (m.page, m.epoch, m.slot));
    merged
}

/// The slots of a group, and those whose new entry is data.
pub(crate) fn group_masks(group: &[Merged]) -> (u64, u64) {
    group.iter().fold((0, 0), |(mask, data), merged| {
        let bit = 1_u64 << merged.slot;
        (mask | bit, if merged.entry.is_some() { data | bit } else { data })
    })
}
