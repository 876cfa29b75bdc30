//! Large aligned writes: the data goes to the device from the request's own memory, and takes effect when it is there.
//! Copying it to the tail would cost more than the wait.
//!
//! 1. Nothing is published or answered before the device has the bytes, so the tail need not hold them (I8).
//! 2. The range is locked from the first device write to the last record, so that nobody reads the edges of a block
//!    that is about to change.
//! 3. A block that was allocated and will not be published is given back at once: no map has ever named it.
//!
//! *new* -(`write_directly`)-> *writing* -(`finish_direct`)-> *publishing* (parked while the journal has no room) ->
//! answered.

use std::collections::VecDeque;

use super::Core;
use super::devicing::Pending;
use super::room::Room;
use super::write::{Advance, WriteJob, is_zero};
use crate::checksum::checksum;
use crate::device::DeviceRequest;
use crate::format::dead::PhysicalRun;
use crate::format::journal::{Record, WRITE_BLOCKS_MAX};
use crate::space::Stream;
use crate::units::{BLOCK_LEN, BlockIndex, LayerId, PhysicalBlock};

/// Most blocks of one device write.
const RUN_BLOCKS_MAX: u64 = 256;

/// What a write has on the device, or on its way there.
pub(super) struct Direct {
    /// Blocks allocated and not published yet, in the order of the data.
    runs: VecDeque<PhysicalRun>,
    /// Of every block of the request.
    checksums: Vec<u32>,
    /// Device writes under way.
    outstanding: usize,
}

impl Core {
    /// Whether a write takes this way: it is large, covers whole blocks, none of them is zero, and there is room for
    /// all of it at once. In a pool that is nearly full it goes through the tail, a chunk at a time, each of which can
    /// wait for what the one before displaced.
    pub(super) fn is_direct(&self, job: &WriteJob) -> bool {
        let Some(data) = job.data() else { return false };
        job.length() >= self.options.direct_bytes
            && job.covers_whole_blocks()
            && data.offset().is_multiple_of(BLOCK_LEN)
            && self.has_space(job.end() - job.first())
            && !data.bytes(0, data.len()).chunks_exact(BLOCK_LEN).any(is_zero)
    }

    /// Allocates the blocks, for which there is room, and hands the data to the device.
    pub(super) fn write_directly(&mut self, mut job: WriteJob) {
        let blocks = job.end() - job.first();
        let Some(data) = job.data().cloned() else { return };
        let runs = self.allocate_runs(blocks);
        let checksums = data.bytes(0, data.len()).chunks_exact(BLOCK_LEN).map(checksum).collect();
        self.lock(&mut job);
        job.direct = Some(Direct { runs: runs.clone(), checksums, outstanding: runs.len() });
        let job = self.direct_jobs.insert(job);
        let mut at = 0;
        for run in runs {
            let from = data.slice(at, index(run.blocks) * BLOCK_LEN);
            at += from.len();
            self.statistics.data_writes += 1;
            self.statistics.data_bytes_written += from.len() as u64;
            let request = DeviceRequest::Write { offset: run.start.offset(), from };
            self.request(Pending::Direct { job }, request);
        }
    }

    fn allocate_runs(&mut self, blocks: u64) -> VecDeque<PhysicalRun> {
        let mut runs = VecDeque::new();
        let mut left = blocks;
        while left > 0 {
            let want = left.min(RUN_BLOCKS_MAX);
            let run = self.space.allocate(Stream::Sequential, want).expect("the free blocks were counted");
            left -= run.blocks;
            runs.push_back(run);
        }
        runs
    }

    /// One of a write's device writes has ended.
    pub(super) fn finish_direct(&mut self, key: usize, result: std::io::Result<()>) {
        if let Err(error) = result {
            self.fail("a write of data", error);
        }
        let outstanding = self.direct_jobs.get_mut(key).and_then(|job| job.direct.as_mut()).map(|direct| {
            direct.outstanding -= 1;
            direct.outstanding
        });
        if outstanding != Some(0) {
            return;
        }
        let job = self.direct_jobs.remove(key);
        if let Advance::Parked(job) = self.advance_write(job) {
            // Before those that wait for room: what it displaces may be that.
            self.parked_writes.push_front(*job);
        }
    }

    /// Lets a write whose data the device has take effect, a group of records at a time.
    pub(super) fn publish_direct(&mut self, mut job: WriteJob, layer: LayerId) -> Advance {
        while job.cursor < job.end() {
            match self.room_for(0, 0, &mut job) {
                Room::Yes => {}
                Room::Wait => return Advance::Parked(Box::new(job)),
                Room::No(error) => {
                    self.end_write(job, Err(error));
                    return Advance::Gone;
                }
            }
            let (first, base) = (job.cursor, job.first());
            let end = job.end().min(first + WRITE_BLOCKS_MAX as u64);
            let Some(direct) = &mut job.direct else { break };
            let records = direct.records(layer, base, first..end);
            self.publish(&job, layer, &records, first..end);
            job.cursor = end;
        }
        self.end_write(job, Ok(()));
        Advance::Gone
    }

    /// Rule 3.
    pub(super) fn give_back(&mut self, direct: Direct) {
        direct.runs.into_iter().for_each(|run| self.space.release(run));
    }
}

impl Direct {
    /// The records of some of the blocks, whose runs are taken out.
    fn records(&mut self, layer: LayerId, base: u64, blocks: std::ops::Range<u64>) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::with_capacity(1);
        let mut block = blocks.start;
        while block < blocks.end {
            let run = self.runs.front_mut().expect("every block has a run");
            let count = run.blocks.min(blocks.end - block);
            let physical = run.start;
            *run = PhysicalRun { start: PhysicalBlock(physical.0 + count), blocks: run.blocks - count };
            if run.blocks == 0 {
                self.runs.pop_front();
            }
            let checksums = self.checksums[index(block - base)..index(block + count - base)].to_vec();
            let continues = block + count < blocks.end;
            records.push(Record::Write { continues, layer, block: BlockIndex(block), physical, checksums });
            block += count;
        }
        records
    }
}

fn index(blocks: u64) -> usize {
    usize::try_from(blocks).expect("a request fits memory")
}
