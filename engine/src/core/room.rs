//! Whether there is room for a write, and blocks that wait until no read can need them.

use std::collections::VecDeque;

use super::Core;
use super::write::{GROUP_BYTES_MAX, WriteJob};
use crate::error::{Error, Kind};
use crate::format::dead::PhysicalRun;
use crate::journal::RECOVERY_BLOCKS;

/// Runs given back in one turn, so that a large checkpoint never stalls the reactor.
const RELEASE_RUNS_MAX: usize = 4096;

/// Whether a chunk can be staged.
pub(super) enum Room {
    /// It can, now.
    Yes,
    /// Not now; something under way will make room.
    Wait,
    /// Nothing under way will make room.
    No(Error),
}

/// Freed blocks, with the ticket of the first read that began after they were freed.
#[derive(Default)]
pub(super) struct Quarantine {
    batches: VecDeque<(u64, VecDeque<PhysicalRun>)>,
    pub(super) blocks: u64,
}

impl Core {
    /// Blocks that are kept free so that checkpoints and deletes are never stuck: 2 %.
    pub(super) fn reserve_blocks(&self) -> u64 {
        self.space.blocks() / 50
    }

    /// Room for so many blocks of data, of which `slots` are to be in the tail's ring.
    pub(super) fn room_for(&mut self, blocks: u64, slots: u64, job: &mut WriteJob) -> Room {
        let memory_is_short = self.active.bytes > 2 * self.options.overlay_bytes;
        let ready = self.journal.has_room(GROUP_BYTES_MAX, &self.tail)
            && self.staging.has_room(slots)
            && !memory_is_short;
        if !ready {
            return match self.checkpoints.failure() {
                Some(error) if self.journal.has_room(0, &self.tail) || memory_is_short => {
                    Room::No(stuck(error))
                }
                Some(error)
                    if self.journal.used_blocks() + RECOVERY_BLOCKS + 2 >= self.journal.ring_blocks() =>
                {
                    Room::No(stuck(error))
                }
                _ => Room::Wait,
            };
        }
        if blocks == 0 || self.has_space(blocks) {
            return Room::Yes;
        }
        self.wait_for_space(blocks, job)
    }

    /// Whether the pool has so many blocks to give now.
    pub(super) fn has_space(&self, blocks: u64) -> bool {
        self.space.free_blocks() >= blocks + self.reserve_blocks()
    }

    /// Space displaced by overwrites comes back at a checkpoint: a write waits for one that began after it came.
    fn wait_for_space(&mut self, blocks: u64, job: &mut WriteJob) -> Room {
        if let Some(error) = self.checkpoints.failure() {
            return Room::No(stuck(error));
        }
        // What large writes displace counts from when they are published: a checkpoint before that brings none of it.
        if !self.direct_jobs.is_empty() {
            job.waits_for = None;
            return Room::Wait;
        }
        let may_come = !self.active.is_empty()
            || self.frozen.is_some()
            || self.retired.is_some()
            || self.quarantine.blocks > 0
            || self.catalog.has_reclaims();
        let target = *job.waits_for.get_or_insert_with(|| self.checkpoints.started() + 1);
        let busy = self.quarantine.blocks > 0 || self.catalog.has_reclaims();
        if may_come && (self.checkpoints.completed() < target || busy) {
            self.checkpoints.force_up_to(target);
            return Room::Wait;
        }
        self.statistics.out_of_space += 1;
        let detail = format!(
            "{blocks} blocks are needed, {} of {} are free and {} of them are kept in reserve",
            self.space.free_blocks(),
            self.space.blocks(),
            self.reserve_blocks()
        );
        Room::No(
            Error::new(Kind::OutOfSpace, "write", detail)
                .hint("delete snapshots or volumes, or grow the pool"),
        )
    }

    /// Blocks that nothing maps any more; they come back when every read that may know them has ended.
    pub(super) fn free_later(&mut self, runs: Vec<PhysicalRun>) {
        self.quarantine.blocks += runs.iter().map(|run| run.blocks).sum::<u64>();
        self.quarantine.batches.push_back((self.reads.next_ticket(), runs.into()));
    }

    pub(super) fn release_quarantine(&mut self) {
        let mut left = RELEASE_RUNS_MAX;
        while let Some(&(ticket, _)) = self.quarantine.batches.front() {
            if self.reads.oldest_ticket() < ticket {
                self.drop_pieces_before(ticket);
            }
            if self.reads.oldest_ticket() < ticket {
                return;
            }
            let Some((_, runs)) = self.quarantine.batches.front_mut() else { return };
            while let Some(run) = runs.pop_front() {
                self.space.release(run);
                self.quarantine.blocks -= run.blocks;
                left -= 1;
                if left == 0 {
                    return;
                }
            }
            self.quarantine.batches.pop_front();
        }
    }
}

fn stuck(cause: &Error) -> Error {
    Error::new(cause.kind(), "write", "no checkpoint can be made, and the journal has no more room")
        .source(cause.clone())
        .hint("free space on the file system of the metadata directory; the pool goes on by itself")
}
