//! Writes and unmaps: allocate, copy to the tail (what landed there stays where it is), checksum, publish the records, answer. Nothing is looked up in
//! the map; only a request that covers a block in part reads that block first, under a lock.
//!
//! A write is *locked* and waits for its edges when it is not aligned, *parked* while there is no room in the ring,
//! the tail or the pool, and goes on in chunks of at most 16 blocks, each one atomic group of records (I3). A large
//! one does not go through the tail (`direct`).

use std::sync::Arc;

use super::direct::Direct;
use super::read::{Reader, check_range};
use super::room::Room;
use super::{Core, Owner, Response, Target};
use crate::checksum::checksum;
use crate::error::{Error, Result};
use crate::format::dead::PhysicalRun;
use crate::format::journal::{Record, WRITE_BLOCKS_MAX};
use crate::journal::tail::Tail;
use crate::space::Stream;
use crate::sys::{Memory, MemorySlice};
use crate::units::{BLOCK_BYTES, BLOCK_LEN, BlockIndex, LayerId, PhysicalBlock, VolumeId};

/// A run of at least this many bytes is laid down with the sequential ones.
const SEQUENTIAL_BYTES: u64 = 128 << 10;
/// Most bytes that a group's records take: 16 blocks, each in a record of its own.
pub(super) const GROUP_BYTES_MAX: usize = WRITE_BLOCKS_MAX * 22;

/// A write or unmap on its way.
pub(super) struct WriteJob {
    owner: Option<Owner>,
    pub(super) volume: VolumeId,
    offset: u64,
    length: u64,
    /// What is written; `None` makes holes.
    data: Option<MemorySlice>,
    fua: bool,
    /// Blocks before this one are done.
    pub(super) cursor: u64,
    /// The whole first and last block, when the request covers them in part, and where they were read from: the
    /// layer, and how many volumes had been cut by then. A rollback or a cut in between makes them stale.
    edges: [Option<Vec<u8>>; 2],
    edges_from: Option<(LayerId, u64)>,
    edges_pending: u32,
    locked: bool,
    /// Its data is on the device or on its way there, past the tail.
    pub(super) direct: Option<Direct>,
    /// The block is written again as it is.
    rewrite: bool,
    failed: Option<Error>,
    /// The checkpoint that it waits for, when there was no room.
    pub(super) waits_for: Option<u64>,
}

/// How far a write came.
pub(super) enum Advance {
    /// It is answered, or waits for its edges, its lock or a flush.
    Gone,
    /// There is no room for it now.
    Parked(Box<WriteJob>),
}

impl WriteJob {
    pub(super) fn new(
        owner: Owner,
        volume: VolumeId,
        offset: u64,
        length: u64,
        data: Option<MemorySlice>,
        fua: bool,
    ) -> Self {
        Self {
            owner: Some(owner),
            volume,
            offset,
            length,
            data,
            fua,
            cursor: offset / BLOCK_BYTES,
            edges: [None, None],
            edges_from: None,
            edges_pending: 0,
            locked: false,
            direct: None,
            rewrite: false,
            failed: None,
            waits_for: None,
        }
    }

    pub(super) fn rewrite(owner: Owner, volume: VolumeId, block: BlockIndex) -> Self {
        let job = Self::new(owner, volume, block.0.saturating_mul(BLOCK_BYTES), BLOCK_BYTES, None, false);
        Self { rewrite: true, ..job }
    }

    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    pub(super) fn data(&self) -> Option<&MemorySlice> {
        self.data.as_ref()
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn first(&self) -> u64 {
        self.offset / BLOCK_BYTES
    }

    pub(super) fn end(&self) -> u64 {
        (self.offset + self.length).div_ceil(BLOCK_BYTES)
    }

    pub(super) fn covers_whole_blocks(&self) -> bool {
        self.partial() == [false, false]
    }

    /// Whether the first and the last block are covered in part; a single block counts as the first.
    fn partial(&self) -> [bool; 2] {
        let single = self.end() - self.first() == 1;
        let front = !self.offset.is_multiple_of(BLOCK_BYTES);
        let back = !(self.offset + self.length).is_multiple_of(BLOCK_BYTES);
        [front || single && back || self.rewrite, back && !single]
    }

    fn edge(&self, block: u64) -> Option<&Vec<u8>> {
        let [front, back] = &self.edges;
        if block == self.first() && front.is_some() {
            front.as_ref()
        } else {
            back.as_ref().filter(|_| block + 1 == self.end())
        }
    }

    /// Lays the request's bytes over the edge blocks that were read.
    fn patch_edges(&mut self) {
        if self.rewrite {
            return;
        }
        let (offset, length) = (self.offset, self.length);
        for (index, block) in [self.first(), self.end() - 1].into_iter().enumerate() {
            let Some(edge) = &mut self.edges[index] else { continue };
            let start = offset.max(block * BLOCK_BYTES);
            let end = (offset + length).min((block + 1) * BLOCK_BYTES);
            let within = |at: u64| usize::try_from(at - block * BLOCK_BYTES).expect("within a block");
            let target = &mut edge[within(start)..within(end)];
            match &self.data {
                Some(data) => {
                    data.copy_out(usize::try_from(start - offset).expect("within the request"), target)
                }
                None => target.fill(0),
            }
        }
    }
}

impl Core {
    pub(super) fn submit_write(&mut self, job: WriteJob) {
        if job.data.is_some() {
            self.statistics.writes += 1;
            self.statistics.written_bytes += job.length;
        } else {
            self.statistics.unmaps += 1;
        }
        if !self.parked_writes.is_empty() {
            // Those before it wait for room; it would only take theirs.
            return self.parked_writes.push_back(job);
        }
        if let Advance::Parked(job) = self.advance_write(job) {
            self.statistics.parked_writes += 1;
            self.parked_writes.push_front(*job);
        }
    }

    pub(super) fn retry_parked(&mut self) {
        self.retry_changes();
        for job in self.locks.take_released() {
            self.parked_writes.push_back(job);
        }
        while let Some(job) = self.parked_writes.pop_front() {
            if let Advance::Parked(job) = self.advance_write(job) {
                self.parked_writes.push_front(*job);
                break;
            }
        }
    }

    /// Locks the blocks of a write that nobody else has locked.
    pub(super) fn lock(&mut self, job: &mut WriteJob) {
        if !job.locked {
            self.locks.lock(job.volume, job.first(), job.end());
            job.locked = true;
        }
    }

    pub(super) fn end_write(&mut self, mut job: WriteJob, result: Result<()>) {
        if let Some(direct) = job.direct.take() {
            self.give_back(direct);
        }
        if std::mem::take(&mut job.locked) {
            self.locks.unlock(job.volume, job.first(), job.end());
        }
        let Some(owner) = job.owner else { return };
        match result {
            Err(error) => self.complete(owner, Err(error)),
            Ok(()) if job.fua => self.flush_for(super::flush::Waiter::Client(owner)),
            Ok(()) => {
                let lsn = self.journal.next_lsn();
                self.complete(owner, Ok(Response::Done(lsn)));
            }
        }
    }

    fn check_write(&self, job: &WriteJob) -> Result<LayerId> {
        self.writable()?;
        let volume = self.catalog.volume(job.volume)?;
        check_range("write", job.offset, job.length, volume.bytes)?;
        Ok(volume.layer)
    }

    /// Takes a write as far as it goes.
    pub(super) fn advance_write(&mut self, mut job: WriteJob) -> Advance {
        let layer = match self.check_write(&job) {
            Ok(layer) if job.length > 0 => layer,
            Ok(_) => {
                self.end_write(job, Ok(()));
                return Advance::Gone;
            }
            Err(error) => {
                self.end_write(job, Err(error));
                return Advance::Gone;
            }
        };
        if !job.locked && self.locks.is_taken(job.volume, job.first(), job.end()) {
            self.locks.wait(job);
            return Advance::Gone;
        }
        if job.direct.is_some() {
            return self.publish_direct(job, layer);
        }
        if job.cursor == job.first() && self.is_direct(&job) {
            self.write_directly(job);
            return Advance::Gone;
        }
        let partial = job.partial();
        if partial != [false, false] && job.edges_from != Some((layer, self.cuts)) {
            self.read_edges(job, layer, partial);
            return Advance::Gone;
        }
        loop {
            if job.cursor >= job.end() {
                self.end_write(job, Ok(()));
                return Advance::Gone;
            }
            match self.stage_chunk(&mut job, layer) {
                Room::Yes => job.waits_for = None,
                Room::Wait => return Advance::Parked(Box::new(job)),
                Room::No(error) => {
                    self.end_write(job, Err(error));
                    return Advance::Gone;
                }
            }
        }
    }

    fn read_edges(&mut self, mut job: WriteJob, layer: LayerId, partial: [bool; 2]) {
        self.lock(&mut job);
        job.edges_from = Some((layer, self.cuts));
        job.edges_pending = partial.iter().map(|&partial| u32::from(partial)).sum();
        self.statistics.partial_writes += 1;
        let (volume, blocks) = (job.volume, [job.first(), job.end() - 1]);
        let job = self.edge_jobs.insert(job);
        for (index, block) in blocks.into_iter().enumerate().filter(|&(index, _)| partial[index]) {
            let reader = Reader::Edge { job, last: index == 1 };
            self.begin_read(reader, Target::Volume(volume), block * BLOCK_BYTES, BLOCK_BYTES);
        }
    }

    pub(super) fn edge_read(&mut self, key: usize, last: bool, result: Result<MemorySlice>) {
        let Some(job) = self.edge_jobs.get_mut(key) else { return };
        match result {
            Ok(slice) => job.edges[usize::from(last)] = Some(slice.bytes(0, BLOCK_LEN).to_vec()),
            Err(error) => job.failed = Some(error),
        }
        job.edges_pending -= 1;
        if job.edges_pending > 0 {
            return;
        }
        let mut job = self.edge_jobs.remove(key);
        if let Some(error) = job.failed.take() {
            return self.end_write(job, Err(error));
        }
        job.patch_edges();
        // Not here: the core may be in the middle of a read's completion.
        self.parked_writes.push_back(job);
    }

    fn stage_chunk(&mut self, job: &mut WriteJob, layer: LayerId) -> Room {
        let first = job.cursor;
        if job.data.is_none() && job.edge(first).is_none() {
            return self.stage_unmap(job, layer);
        }
        let last_edge = u64::from(job.data.is_none());
        // An unmap writes only its edges; a write goes on in whole chunks.
        let end = if last_edge == 1 { first + 1 } else { job.end().min(first + WRITE_BLOCKS_MAX as u64) };
        let source = Source { job, first };
        let zero: Vec<bool> = (first..end).map(|block| is_zero(source.block(block))).collect();
        let data_blocks = zero.iter().filter(|zero| !**zero).count() as u64;
        let is_landed = source.landed(&self.tail, first, end - first).is_some();
        match self.room_for(data_blocks, if is_landed { 0 } else { data_blocks }, job) {
            Room::Yes => {}
            other => return other,
        }
        let stream = if job.length >= SEQUENTIAL_BYTES { Stream::Sequential } else { Stream::Random };
        let records = self.stage_blocks(&Source { job, first }, &zero, layer, stream);
        self.publish(job, layer, &records, first..end);
        job.cursor = end;
        Room::Yes
    }

    /// Brings the chunk's blocks to staged runs and makes their records.
    fn stage_blocks(
        &mut self,
        source: &Source<'_>,
        zero: &[bool],
        layer: LayerId,
        stream: Stream,
    ) -> Vec<Record> {
        let mut records = Vec::with_capacity(1);
        let mut at = 0;
        while at < zero.len() {
            let length = zero[at..].iter().take_while(|&&other| other == zero[at]).count();
            let block = BlockIndex(source.first + at as u64);
            if zero[at] {
                records.push(Record::Unmap { continues: false, layer, block, blocks: length as u64 });
                at += length;
                continue;
            }
            let run = self.space.allocate(stream, length as u64).expect("room_for counted the free blocks");
            let checksums = self.stage_run(source, block.0, run);
            at += checksums.len();
            records.push(Record::Write { continues: false, layer, block, physical: run.start, checksums });
        }
        let last = records.len() - 1;
        for record in &mut records[..last] {
            match record {
                Record::Write { continues, .. } | Record::Unmap { continues, .. } => *continues = true,
                Record::Catalog(_) => {}
            }
        }
        records
    }

    fn stage_run(&mut self, source: &Source<'_>, block: u64, run: PhysicalRun) -> Vec<u32> {
        let landed = source.landed(&self.tail, block, run.blocks);
        let slot = match &landed {
            Some((slot, memory)) => {
                self.staging.stage_in_place(run, *slot, Arc::clone(memory));
                self.statistics.landed_blocks += run.blocks;
                *slot
            }
            None => self.staging.stage(run),
        };
        let into = self.tail.data(slot, run.blocks);
        let count = usize::try_from(run.blocks).expect("at most 16");
        let checksums = (0..count)
            .map(|index| {
                let bytes = source.block(block + index as u64);
                if landed.is_none() {
                    into.copy_in(index * BLOCK_LEN, bytes);
                }
                checksum(bytes)
            })
            .collect();
        for index in 0..run.blocks {
            self.tail.set_data(slot + index, PhysicalBlock(run.start.0 + index));
        }
        checksums
    }

    fn stage_unmap(&mut self, job: &mut WriteJob, layer: LayerId) -> Room {
        match self.room_for(0, 0, job) {
            Room::Yes => {}
            other => return other,
        }
        let first = job.cursor;
        let end = if job.edges[1].is_some() { job.end() - 1 } else { job.end() };
        let end =
            self.active.unmap_step(layer, BlockIndex(first)..BlockIndex(end), self.options.unmap_pages).0;
        let record = Record::Unmap { continues: false, layer, block: BlockIndex(first), blocks: end - first };
        self.publish(job, layer, &[record], first..end);
        job.cursor = end;
        Room::Yes
    }

    /// Appends the group of records and lets it take effect.
    pub(super) fn publish(
        &mut self,
        job: &WriteJob,
        layer: LayerId,
        records: &[Record],
        blocks: std::ops::Range<u64>,
    ) {
        let epoch = self.catalog.epoch();
        let lsn = self.journal.append(records, epoch, self.durable, &self.tail);
        for record in records {
            match record {
                Record::Write { block, physical, checksums, .. } => {
                    self.active.put_run(layer, *block, epoch, *physical, checksums);
                    self.flushes.wrote_blocks(checksums.len() as u64);
                }
                Record::Unmap { block, blocks, .. } => self.active.unmap(layer, *block, *blocks, epoch),
                Record::Catalog(_) => {}
            }
        }
        self.note(lsn, job.owner, blocks, None);
    }
}

/// Where a chunk's blocks come from: the request, or an edge block that was read.
struct Source<'a> {
    job: &'a WriteJob,
    first: u64,
}

impl Source<'_> {
    /// The slot of blocks whose bytes are in the tail already, and what keeps it.
    fn landed(&self, tail: &Tail, block: u64, blocks: u64) -> Option<(u64, &Arc<Memory>)> {
        let data = self.job.data.as_ref().filter(|_| self.job.covers_whole_blocks())?;
        let at = usize::try_from(block * BLOCK_BYTES - self.job.offset).expect("within the request");
        let length = usize::try_from(blocks * BLOCK_BYTES).expect("within the request");
        Some((tail.slot_of(&data.slice(at, length))?, data.memory()))
    }

    fn block(&self, block: u64) -> &[u8] {
        if let Some(edge) = self.job.edge(block) {
            return edge;
        }
        let at = usize::try_from(block * BLOCK_BYTES - self.job.offset).expect("within the request");
        match &self.job.data {
            Some(data) => data.bytes(at, BLOCK_LEN),
            None => &[0; BLOCK_LEN],
        }
    }
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().take(16).all(|&byte| byte == 0)
        && bytes.chunks(64).all(|part| part.iter().fold(0, |or, &byte| or | byte) == 0)
}
