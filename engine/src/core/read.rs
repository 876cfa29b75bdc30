//! Reads: find the map, read what lies on the device, believe only what matches its checksum (I4).
//!
//! A read is *waiting* for map pages (`Reads::loading`), then *reading* segments, then answered. Its ticket is taken
//! when it begins and given back when it ends, and no block freed in between is used again (core invariant 4).

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::ahead::{Content, Known};
use super::checkpointing::WorkItem;
use super::devicing::Pending;
use super::request::READ_BYTES_MAX;
use super::{Core, Owner, Response, Target};
use crate::catalog::SnapshotKey;
use crate::checksum::checksum;
use crate::device::DeviceRequest;
use crate::error::{Error, Kind, Result};
use crate::map::Entry;
use crate::map::cache::View;
use crate::map::resolve::Found;
use crate::sys::{Memory, MemorySlice};
use crate::units::{BLOCK_BYTES, BLOCK_LEN, BlockIndex, PageIndex, PhysicalBlock, SECTOR_BYTES};

/// Most blocks one device read asks for.
const SEGMENT_BLOCKS_MAX: usize = 256;

/// Who a read is for.
#[derive(Clone, Copy)]
pub(super) enum Reader {
    /// A client.
    Client(Owner),
    /// A write that needs the rest of its first or last block.
    Edge { job: usize, last: bool },
    /// Nobody yet.
    Ahead { piece: u64, bytes: u64 },
}

struct ReadOp {
    reader: Reader,
    target: Target,
    offset: u64,
    length: u64,
    buffer: Arc<Memory>,
    /// Where in the buffer the first block begins.
    start: usize,
    /// What the map said of each block, if it is read ahead.
    entries: Vec<Entry>,
    missing_pages: usize,
    outstanding: usize,
    error: Option<Error>,
    ticket: u64,
}

impl ReadOp {
    fn is_asked_for(&self) -> bool {
        !matches!(self.reader, Reader::Ahead { .. })
    }
}

/// Neighbouring blocks that one device read fetches.
pub(super) struct Segment {
    op: usize,
    block: BlockIndex,
    physical: PhysicalBlock,
    checksums: Vec<u32>,
    into: MemorySlice,
    again: bool,
}

/// Reads under way.
#[derive(Default)]
pub(super) struct Reads {
    ops: Slab<ReadOp>,
    loading: FxHashMap<(View, PageIndex), Vec<usize>>,
    /// Whether the reads from `first_ticket` on have ended.
    ended: VecDeque<bool>,
    first_ticket: u64,
}

impl Reads {
    fn ticket(&mut self) -> u64 {
        self.ended.push_back(false);
        self.next_ticket() - 1
    }

    /// The ticket that the next read gets.
    pub(super) fn next_ticket(&self) -> u64 {
        self.first_ticket + self.ended.len() as u64
    }

    /// The ticket of the oldest read under way, or the next one's.
    pub(super) fn oldest_ticket(&self) -> u64 {
        self.first_ticket
    }

    pub(super) fn end(&mut self, ticket: u64) {
        let at = usize::try_from(ticket - self.first_ticket).expect("reads in flight fit memory");
        self.ended[at] = true;
        while self.ended.front() == Some(&true) {
            self.ended.pop_front();
            self.first_ticket += 1;
        }
    }
}

impl Core {
    pub(super) fn submit_read(&mut self, owner: Owner, target: Target, offset: u64, length: u64) {
        self.statistics.reads += 1;
        self.statistics.read_bytes += length;
        self.begin_read(Reader::Client(owner), target, offset, length);
        self.note_read(target, offset, length);
    }

    pub(super) fn begin_read(&mut self, reader: Reader, target: Target, offset: u64, length: u64) {
        let blocks_bytes =
            (offset % BLOCK_BYTES).saturating_add(length).div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        let checked =
            self.resolve_target(target).and_then(|(_, bytes)| check_range("read", offset, length, bytes));
        let bytes = match (checked, usize::try_from(blocks_bytes)) {
            (Ok(()), Ok(bytes)) if length <= READ_BYTES_MAX => bytes,
            (Err(error), _) => return self.answer_read(reader, Err(error)),
            _ => {
                let detail = format!("{length} bytes, at most {READ_BYTES_MAX} are read at once");
                return self.answer_read(reader, Err(Error::new(Kind::Invalid, "read", detail)));
            }
        };
        let buffer = self.buffers.get(bytes);
        let ticket = self.reads.ticket();
        let op = ReadOp {
            reader,
            target,
            offset,
            length,
            buffer,
            start: 0,
            entries: Vec::new(),
            missing_pages: 0,
            outstanding: 0,
            error: None,
            ticket,
        };
        let key = self.reads.ops.insert(op);
        self.map_read(key);
    }

    /// The view that a target is now, and its size in bytes.
    pub(super) fn resolve_target(&self, target: Target) -> Result<(View, u64)> {
        match target {
            Target::Volume(id) => {
                let volume = self.catalog.volume(id)?;
                Ok((View { layer: volume.layer, at: None }, volume.bytes))
            }
            Target::Snapshot(key) => {
                let snapshot = self.catalog.snapshot(key)?;
                Ok((View { layer: key.layer, at: Some(key.epoch) }, snapshot.bytes))
            }
        }
    }

    /// Looks every block up; asks for the pages that are missing, else reads.
    pub(super) fn map_read(&mut self, key: usize) {
        let op = &self.reads.ops[key];
        let (target, offset, length) = (op.target, op.offset, op.length);
        // Resolved anew each time: a rollback or a delete may have come while pages were loaded.
        let view = match self.resolve_target(target).and_then(|(view, bytes)| {
            check_range("read", offset, length, bytes)?;
            Ok(view)
        }) {
            Ok(view) => view,
            Err(error) => {
                self.reads.ops[key].error = Some(error);
                return self.finish_read(key);
            }
        };
        let first = offset / BLOCK_BYTES;
        let end = (offset + length).div_ceil(BLOCK_BYTES);
        let mut entries = Vec::with_capacity(usize::try_from(end - first).unwrap_or(0));
        let mut missing = Vec::new();
        for block in (first..end).map(BlockIndex) {
            match self.lookup(view, block) {
                Some(entry) => entries.push(entry),
                None if missing.last() == Some(&block.page()) => {}
                None => missing.push(block.page()),
            }
        }
        if missing.is_empty() {
            return self.read_entries(key, BlockIndex(first), entries);
        }
        self.reads.ops[key].missing_pages = missing.len();
        for page in missing {
            let waiting = self.reads.loading.entry((view, page)).or_default();
            waiting.push(key);
            if waiting.len() == 1 {
                self.load(view, page);
            }
        }
    }

    fn load(&mut self, view: View, page: PageIndex) {
        self.statistics.page_loads += 1;
        let chain = self.catalog.chain(view.layer, view.at);
        let generation = self.checkpoints.generation();
        self.work.push(WorkItem::Load { view, page, chain, generation });
    }

    /// A worker read a page from RocksDB.
    pub(super) fn page_loaded(
        &mut self,
        view: View,
        page: PageIndex,
        generation: u64,
        chain: &[(crate::units::LayerId, Option<crate::units::Epoch>)],
        result: Result<Found>,
    ) {
        if !self.reads.loading.contains_key(&(view, page)) {
            return;
        }
        // A checkpoint was completed meanwhile: what was read may lack it, and the overlay it came from is gone.
        if generation != self.checkpoints.generation() && result.is_ok() {
            return self.load(view, page);
        }
        let waiting = self.reads.loading.remove(&(view, page)).unwrap_or_default();
        match result {
            Ok(found) => self.cache_found(view, page, chain, found),
            Err(error) => {
                for &key in &waiting {
                    if let Some(op) = self.reads.ops.get_mut(key) {
                        op.error = Some(error.clone());
                    }
                }
            }
        }
        for key in waiting {
            let Some(op) = self.reads.ops.get_mut(key) else { continue };
            op.missing_pages -= 1;
            if op.missing_pages > 0 {
                continue;
            }
            if op.error.is_some() { self.finish_read(key) } else { self.map_read(key) }
        }
    }

    /// Completes a page with what the overlays know of the layers beneath the view (and, for a snapshot, of its own
    /// layer before it), and keeps it.
    fn cache_found(
        &mut self,
        view: View,
        page: PageIndex,
        chain: &[(crate::units::LayerId, Option<crate::units::Epoch>)],
        found: Found,
    ) {
        let mut content = found.page;
        let overlays = [
            self.retired.as_ref().map(|retired| &*retired.overlay),
            self.frozen.as_deref(),
            Some(&self.active),
        ];
        let deepest = (found.depth + 1).min(chain.len());
        for (depth, &(layer, at)) in chain[..deepest].iter().enumerate().rev() {
            // The head's own overlays are looked up beside the cache (core invariant 3).
            if depth > 0 || at.is_some() {
                overlays.iter().flatten().for_each(|overlay| overlay.apply(layer, page, at, &mut content));
            }
        }
        self.cache.insert(view, page, content);
    }

    fn read_entries(&mut self, key: usize, first: BlockIndex, entries: Vec<Entry>) {
        if self.take_from_ahead(key, first, &entries) {
            return;
        }
        let buffer = self.reads.ops[key].buffer.clone();
        let mut segments: Vec<Segment> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let at = index * BLOCK_LEN;
            if entry.is_hole() {
                buffer.fill_zero(at, BLOCK_LEN);
                continue;
            }
            if let Some(slot) = self.staging.slot_of(entry.physical) {
                buffer.copy_in(at, self.tail.data(slot, 1).bytes(0, BLOCK_LEN));
                continue;
            }
            if let Some(last) = segments.last_mut()
                && last.physical.0 + last.checksums.len() as u64 == entry.physical.0
                && last.into.offset() + last.into.len() == at
                && last.checksums.len() < SEGMENT_BLOCKS_MAX
            {
                last.checksums.push(entry.checksum);
                last.into = MemorySlice::new(buffer.clone(), last.into.offset(), last.into.len() + BLOCK_LEN);
                continue;
            }
            segments.push(Segment {
                op: key,
                block: BlockIndex(first.0 + index as u64),
                physical: entry.physical,
                checksums: vec![entry.checksum],
                into: MemorySlice::new(buffer.clone(), at, BLOCK_LEN),
                again: false,
            });
        }
        let op = &mut self.reads.ops[key];
        op.outstanding = segments.len();
        if !op.is_asked_for() {
            op.entries = entries;
        }
        if segments.is_empty() {
            return self.finish_read(key);
        }
        segments.into_iter().for_each(|segment| self.read_segment(segment));
    }

    /// Whether a client's read was answered by what was read ahead, or will be.
    fn take_from_ahead(&mut self, key: usize, first: BlockIndex, entries: &[Entry]) -> bool {
        let op = &mut self.reads.ops[key];
        if !matches!(op.reader, Reader::Client(_)) {
            return false;
        }
        let parts = match self.ahead.find(op.target, first.0, entries) {
            Known::Nothing => return false,
            Known::Coming(piece) => {
                self.ahead.wait(piece, key);
                return true;
            }
            Known::Here(parts) => parts,
        };
        match &parts[..] {
            [part] => (op.buffer, op.start) = (part.memory().clone(), part.offset()),
            parts => {
                let mut at = 0;
                for part in parts {
                    op.buffer.copy_in(at, part.bytes(0, part.len()));
                    at += part.len();
                }
            }
        }
        self.statistics.read_ahead_hits += 1;
        self.finish_read(key);
        true
    }

    fn read_segment(&mut self, segment: Segment) {
        self.statistics.device_reads += 1;
        self.statistics.device_bytes_read += segment.into.len() as u64;
        let request = DeviceRequest::Read { offset: segment.physical.offset(), into: segment.into.clone() };
        self.request(Pending::Read(segment), request);
    }

    pub(super) fn finish_segment(&mut self, segment: Segment, result: std::io::Result<()>) {
        let verdict = match result {
            Ok(()) => verify(&segment),
            Err(source) => {
                let detail = format!("block {} at physical block {}", segment.block, segment.physical);
                Err(Error::io("read from the device", detail, source))
            }
        };
        let op = &mut self.reads.ops[segment.op];
        let is_asked_for = op.is_asked_for();
        // Once more, in case the damage was on the way and not on the medium.
        if verdict.is_err() && !segment.again && is_asked_for {
            self.statistics.reads_again += 1;
            return self.read_segment(Segment { again: true, ..segment });
        }
        if let Err(error) = verdict {
            self.statistics.damaged_reads += u64::from(is_asked_for);
            op.error = Some(error);
        }
        op.outstanding -= 1;
        if op.outstanding == 0 {
            self.finish_read(segment.op);
        }
    }

    fn finish_read(&mut self, key: usize) {
        let op = self.reads.ops.remove(key);
        if let Reader::Ahead { piece, bytes } = op.reader {
            let (entries, buffer, ticket) = (op.entries, op.buffer, op.ticket);
            let read = if op.error.is_none() { Ok(Content { entries, buffer, ticket }) } else { Err(ticket) };
            return self.piece_read(piece, bytes, read);
        }
        self.reads.end(op.ticket);
        let result = match op.error {
            Some(error) => Err(error),
            None => {
                let start = op.start + usize::try_from(op.offset % BLOCK_BYTES).expect("below 4096");
                let length = usize::try_from(op.length).expect("it was allocated");
                Ok(MemorySlice::new(op.buffer, start, length))
            }
        };
        self.answer_read(op.reader, result);
    }

    fn answer_read(&mut self, reader: Reader, result: Result<MemorySlice>) {
        match reader {
            Reader::Client(owner) => self.complete(owner, result.map(Response::Data)),
            Reader::Edge { job, last } => self.edge_read(job, last, result),
            Reader::Ahead { .. } => debug_assert!(false, "its range was checked"),
        }
    }

    pub(super) fn pin(&mut self, owner: Owner, key: SnapshotKey, pinned: bool) {
        let result = match pinned {
            true => self.catalog.snapshot(key).map(|_| *self.pins.entry(key).or_default() += 1),
            false => {
                if let Some(count) = self.pins.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        self.pins.remove(&key);
                    }
                }
                Ok(())
            }
        };
        let lsn = self.journal.next_lsn();
        self.complete(owner, result.map(|()| Response::Done(lsn)));
    }
}

fn verify(segment: &Segment) -> Result<()> {
    let bytes = segment.into.bytes(0, segment.into.len());
    for (index, (block, &expected)) in bytes.chunks_exact(BLOCK_LEN).zip(&segment.checksums).enumerate() {
        let found = checksum(block);
        if found != expected {
            let index = index as u64;
            let detail = format!(
                "block {} at physical block {} has checksum {found:08x}, not {expected:08x}",
                segment.block.0 + index,
                segment.physical.0 + index
            );
            return Err(Error::new(Kind::Damaged, "read", detail).hint(
                "the volume's other blocks are not affected; restore this one from a copy, or write it again",
            ));
        }
    }
    Ok(())
}

/// Whether a request's range is aligned and lies within `bytes`.
pub(super) fn check_range(operation: &'static str, offset: u64, length: u64, bytes: u64) -> Result<()> {
    if !offset.is_multiple_of(SECTOR_BYTES) || !length.is_multiple_of(SECTOR_BYTES) {
        let detail = format!("{length} bytes at {offset} are not aligned to 512");
        return Err(Error::new(Kind::Invalid, operation, detail));
    }
    if offset.checked_add(length).is_none_or(|end| end > bytes) {
        let detail = format!("{length} bytes at {offset} reach beyond the end at {bytes}");
        return Err(Error::new(Kind::Invalid, operation, detail));
    }
    Ok(())
}
