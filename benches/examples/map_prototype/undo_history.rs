//! Format A: the head, and undo records of what was displaced; indexes of what changed and of what died.
//!
//! head      page                          -> since_keyframe u8, entries
//! history   page, epoch_end               -> mask and displaced entries; a keyframe: 0xff, mask, all 64 entries
//! changed   epoch_end, page               -> mask, data before, data after
//! dead      epoch_end, birth, page        -> physical runs
//!
//! `Indexes::Chunked` keeps the last two as lists of up to 2 KiB instead:
//! changed   epoch_end, first page         -> (page, mask, data before, data after)*
//! dead      epoch_end, first birth, chunk -> (birth, physical run)*

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};
use rocksdb::WriteBatch;

use crate::codec::Part::{Page as PagePart, U16, U32};
use crate::codec::{
    Layout, Reader, key, key_u32, mapped, put_entries, put_mask, put_signed, put_varint, slots, take_entries,
    take_mask,
};
use crate::format::{MapFormat, Merged, group_masks, merge_order};
use crate::model::{Block, Change, Deletion, Entry, EpochWrites, PAGE_LEN, Page, Span, Workload};
use crate::store::{Family, Filter, Store};

const KEYFRAME: u8 = 0xff;
const CHUNK_BYTES: usize = 2048;

/// When an undo record carries all 64 entries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keyframes {
    Never,
    EveryRecords(u8),
    EveryEntries(u8),
}

/// How `changed` and `dead` are keyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Indexes {
    PerPage,
    Chunked,
}

/// One way to keep format A.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UndoOptions {
    pub(crate) is_head_compressed: bool,
    pub(crate) is_past_compressed: bool,
    pub(crate) head_block_bytes: usize,
    pub(crate) head_filter: Filter,
    pub(crate) head_level0_files: i32,
    pub(crate) history_filter: Filter,
    pub(crate) keyframes: Keyframes,
    pub(crate) layout: Layout,
    pub(crate) indexes: Indexes,
}

impl UndoOptions {
    fn families(&self) -> [Family; 4] {
        let past = Family {
            name: "history",
            is_compressed: self.is_past_compressed,
            block_bytes: 16 << 10,
            filter: self.history_filter,
            level0_files: 4,
        };
        let head = Family {
            name: "head",
            is_compressed: self.is_head_compressed,
            block_bytes: self.head_block_bytes,
            filter: self.head_filter,
            level0_files: self.head_level0_files,
        };
        let index = Family { filter: Filter::None, ..past };
        [head, past, Family { name: "changed", ..index }, Family { name: "dead", ..index }]
    }
}

pub(crate) struct UndoHistory {
    store: Store,
    options: UndoOptions,
}

#[derive(Clone, Copy, Debug)]
struct ChangedMasks {
    mask: u64,
    before: u64,
    after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DeadRun {
    birth: u32,
    physical: u64,
    length: u64,
}

struct Head {
    since_keyframe: u8,
    page: Page,
}

/// What a checkpoint collects per epoch end, for the chunked indexes.
#[derive(Default)]
struct Collected {
    changed: Vec<(u32, ChangedMasks)>,
    dead: Vec<DeadRun>,
}

impl UndoHistory {
    pub(crate) fn create(path: &Path, options: UndoOptions) -> Result<Self> {
        Ok(Self { store: Store::create(path, &options.families())?, options })
    }

    fn put_head(&self, batch: &mut WriteBatch, page: u32, head: &Head) -> Result<()> {
        let mut value = vec![head.since_keyframe];
        put_entries(&mut value, self.options.layout, u64::MAX, &head.page);
        batch.put_cf(self.store.family("head")?, key(&[PagePart(page)]), value);
        Ok(())
    }

    fn take_head(&self, value: &[u8], skip: u64, page: &mut Page) -> Result<u8> {
        let mut reader = Reader(value);
        let since_keyframe = reader.u8()?;
        take_entries(&mut reader, self.options.layout, skip, page)?;
        Ok(since_keyframe)
    }

    fn is_keyframe_due(&self, since_keyframe: u8, entries: u32) -> (bool, u8) {
        match self.options.keyframes {
            Keyframes::Never => (false, 0),
            Keyframes::EveryRecords(interval) => {
                (since_keyframe + 1 >= interval, (since_keyframe + 1) % interval)
            }
            Keyframes::EveryEntries(interval) => {
                let since = u32::from(since_keyframe) + entries;
                let is_due = since >= u32::from(interval);
                (is_due, if is_due { 0 } else { since as u8 })
            }
        }
    }

    /// Applies one epoch's overwrites of one page to its head, and records what they displaced.
    fn displace(
        &self,
        batch: &mut WriteBatch,
        collected: &mut BTreeMap<u32, Collected>,
        head: &mut Head,
        group: &[Merged],
    ) -> Result<()> {
        let (page, epoch_end) = (group[0].page, group[0].epoch - 1);
        let (mask, after) = group_masks(group);
        let (is_keyframe, since_keyframe) = self.is_keyframe_due(head.since_keyframe, mask.count_ones());
        head.since_keyframe = since_keyframe;
        let mut value = Vec::new();
        if is_keyframe {
            value.push(KEYFRAME);
            put_mask(&mut value, mask, false);
        }
        let recorded = if is_keyframe { u64::MAX } else { mask };
        put_entries(&mut value, self.options.layout, recorded, &head.page);
        batch.put_cf(self.store.family("history")?, key(&[PagePart(page), U32(epoch_end)]), value);

        let masks = ChangedMasks { mask, before: mask & mapped(&head.page), after };
        let dead = dead_runs(slots(mask).filter_map(|slot| head.page[slot]).collect());
        if self.options.indexes == Indexes::Chunked {
            let collected = collected.entry(epoch_end).or_default();
            collected.changed.push((page, masks));
            collected.dead.extend(dead);
        } else {
            self.put_per_page(batch, page, epoch_end, masks, &dead)?;
        }
        for merged in group {
            head.page[merged.slot] = merged.entry;
        }
        Ok(())
    }

    fn put_per_page(
        &self,
        batch: &mut WriteBatch,
        page: u32,
        epoch_end: u32,
        masks: ChangedMasks,
        dead: &[DeadRun],
    ) -> Result<()> {
        let mut value = Vec::new();
        put_changed(&mut value, masks);
        batch.put_cf(self.store.family("changed")?, key(&[U32(epoch_end), PagePart(page)]), value);
        for runs in dead.chunk_by(|a, b| a.birth == b.birth) {
            let mut value = Vec::new();
            for run in runs {
                value.extend_from_slice(&run.physical.to_be_bytes()[3..]);
                value.push(run.length as u8);
            }
            let key = key(&[U32(epoch_end), U32(runs[0].birth), PagePart(page)]);
            batch.put_cf(self.store.family("dead")?, key, value);
        }
        Ok(())
    }

    fn put_chunks(&self, batch: &mut WriteBatch, epoch_end: u32, mut collected: Collected) -> Result<()> {
        let changed = self.store.family("changed")?;
        let mut rest = collected.changed.as_slice();
        while let Some(&(first, _)) = rest.first() {
            let (value, count) = changed_chunk(rest);
            batch.put_cf(changed, key(&[U32(epoch_end), PagePart(first)]), value);
            rest = &rest[count..];
        }
        let dead = self.store.family("dead")?;
        collected.dead.sort_unstable();
        let mut rest = collected.dead.as_slice();
        let mut chunk = 0;
        while let Some(first) = rest.first() {
            let (value, count) = dead_chunk(rest);
            batch.put_cf(dead, key(&[U32(epoch_end), U32(first.birth), U16(chunk)]), value);
            chunk += 1;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// The changed masks of one record or chunk, in page order.
    fn take_changed(&self, key: &[u8], value: &[u8], masks: &mut Vec<(u32, ChangedMasks)>) -> Result<()> {
        let mut page = key_u32(key, 10)?;
        let mut reader = Reader(value);
        while !reader.is_empty() {
            if self.options.indexes == Indexes::Chunked {
                page += u32::try_from(reader.varint()?)?;
            }
            masks.push((page, take_changed(&mut reader)?));
        }
        Ok(())
    }

    fn freed_per_page(&self, deletion: Deletion, freed: &mut Vec<u64>) -> Result<()> {
        let mut iterator = self.store.iterate("dead", key(&[U32(deletion.next)]))?;
        for epoch_end in deletion.snapshot..deletion.next {
            iterator.seek(key(&[U32(epoch_end), U32(deletion.previous + 1)]));
            while let Some((found, value)) = iterator.item() {
                if key_u32(found, 4)? != epoch_end || key_u32(found, 8)? > deletion.snapshot {
                    break;
                }
                for run in value.chunks_exact(6) {
                    let first = u64::from_be_bytes([0, 0, 0, run[0], run[1], run[2], run[3], run[4]]);
                    freed.extend(first..first + u64::from(run[5]));
                }
                iterator.next();
            }
            iterator.status()?;
        }
        Ok(())
    }

    fn freed_chunked(&self, deletion: Deletion, freed: &mut Vec<u64>) -> Result<()> {
        let mut iterator = self.store.iterate("dead", key(&[U32(deletion.next)]))?;
        let first_birth = deletion.previous + 1;
        for epoch_end in deletion.snapshot..deletion.next {
            iterator.seek_for_prev(key(&[U32(epoch_end), U32(first_birth), U16(0)]));
            let is_within = match iterator.key() {
                Some(found) => key_u32(found, 4)? == epoch_end,
                None => false,
            };
            if !is_within {
                iterator.seek(key(&[U32(epoch_end)]));
            }
            while let Some((found, value)) = iterator.item() {
                if key_u32(found, 4)? != epoch_end || key_u32(found, 8)? > deletion.snapshot {
                    break;
                }
                take_dead_chunk(key_u32(found, 8)?, value, deletion, freed)?;
                iterator.next();
            }
            iterator.status()?;
        }
        Ok(())
    }
}

impl MapFormat for UndoHistory {
    fn store(&self) -> &Store {
        &self.store
    }

    fn fill(&mut self, workload: &Workload, pages: Range<u32>) -> Result<()> {
        let mut batch = WriteBatch::default();
        for page in pages {
            self.put_head(&mut batch, page, &Head { since_keyframe: 0, page: workload.fill_page(page) })?;
        }
        self.store.commit(batch)
    }

    fn checkpoint(&mut self, epochs: &[EpochWrites]) -> Result<()> {
        let merged = merge_order(epochs);
        let mut batch = WriteBatch::default();
        let mut collected = BTreeMap::new();
        let pages: Vec<&[Merged]> = merged.chunk_by(|a, b| a.page == b.page).collect();
        for pages in pages.chunks(256) {
            let keys: Vec<Vec<u8>> = pages.iter().map(|page| key(&[PagePart(page[0].page)])).collect();
            let heads = self.store.get_sorted("head", &keys)?;
            for (of_page, value) in pages.iter().zip(heads) {
                let mut head = Head { since_keyframe: 0, page: [None; PAGE_LEN] };
                head.since_keyframe = self.take_head(&value.context("no head")?, 0, &mut head.page)?;
                for group in of_page.chunk_by(|a, b| a.epoch == b.epoch) {
                    self.displace(&mut batch, &mut collected, &mut head, group)?;
                }
                self.put_head(&mut batch, of_page[0].page, &head)?;
            }
        }
        for (epoch_end, collected) in collected {
            self.put_chunks(&mut batch, epoch_end, collected)?;
        }
        self.store.commit(batch)
    }

    fn live_page(&self, page: u32) -> Result<Page> {
        let mut found = [None; PAGE_LEN];
        let value = self.store.get("head", &key(&[PagePart(page)]))?.context("no head")?;
        self.take_head(&value, 0, &mut found)?;
        Ok(found)
    }

    fn live_block(&self, block: Block) -> Result<Option<Entry>> {
        Ok(self.live_page(block.page())?[block.slot()])
    }

    fn block_at(&self, block: Block, snapshot: u32) -> Result<Option<Entry>> {
        let bit = 1 << block.slot();
        let mut found = [None; PAGE_LEN];
        let mut iterator = self.store.iterate_prefix("history", key(&[PagePart(block.page() + 1)]))?;
        iterator.seek(key(&[PagePart(block.page()), U32(snapshot)]));
        while let Some(value) = iterator.value() {
            if let Some(entries) = entries_of(value)? {
                let (mask, _) = take_mask(&mut entries.clone())?;
                if mask & bit != 0 {
                    take_entries(&mut entries.clone(), self.options.layout, !bit, &mut found)?;
                    return Ok(found[block.slot()]);
                }
            }
            iterator.next();
        }
        iterator.status()?;
        self.live_block(block)
    }

    fn page_at(&self, page: u32, snapshot: u32) -> Result<Page> {
        let mut found = [None; PAGE_LEN];
        let mut done = 0;
        let mut iterator = self.store.iterate_prefix("history", key(&[PagePart(page + 1)]))?;
        iterator.seek(key(&[PagePart(page), U32(snapshot)]));
        while let (true, Some(value)) = (done != u64::MAX, iterator.value()) {
            if let Some(mut entries) = entries_of(value)? {
                done |= take_entries(&mut entries, self.options.layout, done, &mut found)?;
            }
            iterator.next();
        }
        if done != u64::MAX {
            iterator.status()?;
            let value = self.store.get("head", &key(&[PagePart(page)]))?.context("no head")?;
            self.take_head(&value, done, &mut found)?;
        }
        Ok(found)
    }

    fn delta(&self, span: Span) -> Result<Vec<Change>> {
        let mut masks = Vec::new();
        let mut iterator = self.store.iterate("changed", key(&[U32(span.newer)]))?;
        iterator.seek(key(&[U32(span.older)]));
        while let Some((key, value)) = iterator.item() {
            self.take_changed(key, value, &mut masks)?;
            iterator.next();
        }
        iterator.status()?;
        // Stable: the masks of a page stay in the order of their epochs.
        masks.sort_by_key(|(page, _)| *page);
        let mut changes = Vec::new();
        for of_page in masks.chunk_by(|a, b| a.0 == b.0) {
            push_changes(of_page[0].0, of_page, &mut changes);
        }
        Ok(changes)
    }

    fn freed(&self, deletion: Deletion) -> Result<Vec<u64>> {
        let mut freed = Vec::new();
        if self.options.indexes == Indexes::Chunked {
            self.freed_chunked(deletion, &mut freed)?;
        } else {
            self.freed_per_page(deletion, &mut freed)?;
        }
        freed.sort_unstable();
        Ok(freed)
    }
}

/// The entries of an undo record, behind the keyframe's own mask if it is one.
fn entries_of(value: &[u8]) -> Result<Option<Reader<'_>>> {
    let mut reader = Reader(value);
    if value.first() == Some(&KEYFRAME) {
        reader.u8()?;
        take_mask(&mut reader)?;
    }
    Ok((!reader.is_empty()).then_some(reader))
}

/// What changed from the first of `records` to the last: holes that stayed or became holes again are not in it.
fn push_changes(page: u32, records: &[(u32, ChangedMasks)], changes: &mut Vec<Change>) {
    let (mut mask, mut before, mut after) = (0, 0, 0);
    for (_, record) in records {
        before |= record.before & !mask;
        mask |= record.mask;
        after = after & !record.mask | record.after;
    }
    let block = |slot| Block(page * 64 + slot as u32);
    changes.extend(
        slots(mask & (before | after)).map(|s| Change { block: block(s), is_data: after >> s & 1 != 0 }),
    );
}

fn put_changed(out: &mut Vec<u8>, masks: ChangedMasks) {
    let has_holes = masks.before != masks.mask || masks.after != masks.mask;
    put_mask(out, masks.mask, has_holes);
    if has_holes {
        put_mask(out, masks.before, false);
        put_mask(out, masks.after, false);
    }
}

fn take_changed(reader: &mut Reader<'_>) -> Result<ChangedMasks> {
    let (mask, has_holes) = take_mask(reader)?;
    if !has_holes {
        return Ok(ChangedMasks { mask, before: mask, after: mask });
    }
    Ok(ChangedMasks { mask, before: take_mask(reader)?.0, after: take_mask(reader)?.0 })
}

fn changed_chunk(records: &[(u32, ChangedMasks)]) -> (Vec<u8>, usize) {
    let mut value = Vec::new();
    let mut last = records[0].0;
    for (count, &(page, masks)) in records.iter().enumerate() {
        if value.len() >= CHUNK_BYTES {
            return (value, count);
        }
        put_varint(&mut value, u64::from(page - last));
        put_changed(&mut value, masks);
        last = page;
    }
    (value, records.len())
}

/// The entries by birth and place, neighbours joined.
fn dead_runs(mut entries: Vec<Entry>) -> Vec<DeadRun> {
    entries.sort_unstable_by_key(|entry| (entry.birth, entry.physical));
    let mut runs: Vec<DeadRun> = Vec::with_capacity(entries.len());
    for entry in entries {
        match runs.last_mut() {
            Some(run) if run.birth == entry.birth && run.physical + run.length == entry.physical => {
                run.length += 1
            }
            _ => runs.push(DeadRun { birth: entry.birth, physical: entry.physical, length: 1 }),
        }
    }
    runs
}

fn dead_chunk(runs: &[DeadRun]) -> (Vec<u8>, usize) {
    let mut value = Vec::new();
    let (mut birth, mut expected) = (runs[0].birth, 0);
    for (count, run) in runs.iter().enumerate() {
        if value.len() >= CHUNK_BYTES {
            return (value, count);
        }
        put_varint(&mut value, u64::from(run.birth - birth));
        // The length's low bit rides below the distance: 0 says a run of one.
        put_signed(&mut value, (run.physical.cast_signed() - expected) << 1 | i64::from(run.length > 1));
        if run.length > 1 {
            put_varint(&mut value, run.length);
        }
        birth = run.birth;
        expected = (run.physical + run.length).cast_signed();
    }
    (value, runs.len())
}

fn take_dead_chunk(first_birth: u32, value: &[u8], deletion: Deletion, freed: &mut Vec<u64>) -> Result<()> {
    let mut reader = Reader(value);
    let (mut birth, mut expected) = (first_birth, 0);
    while !reader.is_empty() {
        birth += u32::try_from(reader.varint()?)?;
        let distance = reader.signed()?;
        let length = if distance & 1 == 1 { reader.varint()? } else { 1 };
        let physical = (expected + (distance >> 1)).cast_unsigned();
        expected = (physical + length).cast_signed();
        if birth > deletion.previous && birth <= deletion.snapshot {
            freed.extend(physical..physical + length);
        }
    }
    Ok(())
}
