//! Staged writes: acknowledged data on its way from the tail to the device.
//!
//! 1. Runs are staged, issued and released in one order; a slot is used again only after the device has its bytes. Slots
//!    of the ring are used again in that order too; a landing's when nobody has it any more (`landing`).
//! 2. Until then, reads of its physical block are answered from the slot.
//! 3. Neighbours, in the tail and on the device, leave as one device write: the device charges per request.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::format::dead::PhysicalRun;
use crate::journal::tail::Tail;
use crate::sys::{Memory, MemorySlice};
use crate::units::PhysicalBlock;

/// Most blocks in one device write.
const WRITE_BLOCKS_MAX: u64 = 128;

#[derive(Clone, Debug)]
struct Staged {
    slot: u64,
    physical: u64,
    blocks: u64,
    done: bool,
    kept: Kept,
}

/// What is given back with a run.
#[derive(Clone, Debug)]
enum Kept {
    /// Slots of the ring, up to this position.
    Ring(u64),
    /// A landing, which others may still have.
    Landing { _memory: Arc<Memory> },
}

/// The ring of data slots.
pub(super) struct Staging {
    slots: u64,
    /// Positions count slots for ever; position mod slots is the slot.
    next: u64,
    oldest: u64,
    runs: VecDeque<Staged>,
    /// Runs released and runs issued since the start.
    released: u64,
    issued: u64,
    by_block: FxHashMap<u64, u64>,
}

/// A device write of staged runs.
pub(super) struct StagedWrite {
    pub(super) physical: PhysicalBlock,
    pub(super) from: MemorySlice,
    pub(super) first_run: u64,
    pub(super) runs: u64,
}

impl Staging {
    pub(super) fn new(slots: u64) -> Self {
        Self {
            slots,
            next: 0,
            oldest: 0,
            runs: VecDeque::new(),
            released: 0,
            issued: 0,
            by_block: FxHashMap::default(),
        }
    }

    /// Whether `blocks` blocks, in however many runs, can be staged now.
    pub(super) fn has_room(&self, blocks: u64) -> bool {
        // Twice, because a run that would wrap leaves the ring's end unused.
        self.slots - (self.next - self.oldest) >= 2 * blocks
    }

    /// Blocks that the device may not have.
    pub(super) fn blocks(&self) -> u64 {
        self.by_block.len() as u64
    }

    /// Takes slots for a run; the caller fills them and marks them in the tail. Returns the first slot.
    pub(super) fn stage(&mut self, run: PhysicalRun) -> u64 {
        let slot = self.next % self.slots;
        if slot + run.blocks > self.slots {
            let rest = self.slots - slot;
            self.next += rest;
            let kept = Kept::Ring(self.next);
            self.runs.push_back(Staged { slot, physical: 0, blocks: rest, done: true, kept });
        }
        let slot = self.next % self.slots;
        self.next += run.blocks;
        assert!(self.next - self.oldest <= self.slots, "the caller asked for room");
        self.push(run, slot, Kept::Ring(self.next));
        slot
    }

    /// Stages a run whose bytes are in slots beyond the ring already, which `memory` keeps. No slot is staged twice in
    /// one loan: the release of the first would free the second's word.
    pub(super) fn stage_in_place(&mut self, run: PhysicalRun, slot: u64, memory: Arc<Memory>) {
        assert!(slot >= self.slots, "the ring's slots are lent to nobody");
        self.push(run, slot, Kept::Landing { _memory: memory });
    }

    fn push(&mut self, run: PhysicalRun, slot: u64, kept: Kept) {
        let physical = run.start.0;
        self.runs.push_back(Staged { slot, physical, blocks: run.blocks, done: false, kept });
        (0..run.blocks).for_each(|at| _ = self.by_block.insert(physical + at, slot + at));
    }

    /// The slot that holds a physical block's bytes, while the device may not have them.
    pub(super) fn slot_of(&self, block: PhysicalBlock) -> Option<u64> {
        if self.by_block.is_empty() { None } else { self.by_block.get(&block.0).copied() }
    }

    /// A mark for everything staged so far.
    pub(super) fn mark(&self) -> u64 {
        self.released + self.runs.len() as u64
    }

    /// Whether the device was given everything staged before the mark.
    pub(super) fn is_issued_to(&self, mark: u64) -> bool {
        self.issued >= mark
    }

    /// Whether the device has everything staged before the mark.
    pub(super) fn is_written_to(&self, mark: u64) -> bool {
        self.released >= mark
    }

    /// The next device write, of as many neighbouring runs as go together. Without `unfinished`, only one that what
    /// is staged later can't make longer.
    pub(super) fn next_write(&mut self, tail: &Tail, unfinished: bool) -> Option<StagedWrite> {
        let at = |run: u64, released: u64| usize::try_from(run - released).expect("runs fit memory");
        while self.runs.get(at(self.issued, self.released)).is_some_and(|run| run.physical == 0) {
            self.issued += 1;
        }
        let first_run = self.issued;
        let first = self.runs.get(at(first_run, self.released))?;
        let mut blocks = first.blocks;
        let mut end = first_run + 1;
        let mut finished = false;
        while let Some(run) = self.runs.get(at(end, self.released)) {
            let neighbour = run.physical == first.physical + blocks && run.slot == first.slot + blocks;
            if !neighbour || blocks + run.blocks > WRITE_BLOCKS_MAX {
                finished = true;
                break;
            }
            blocks += run.blocks;
            end += 1;
        }
        if !finished && !unfinished {
            return None;
        }
        let (physical, from) = (PhysicalBlock(first.physical), tail.data(first.slot, blocks));
        self.issued = end;
        Some(StagedWrite { physical, from, first_run, runs: end - first_run })
    }

    /// The device has these runs.
    pub(super) fn completed(&mut self, first_run: u64, runs: u64, tail: &Tail) {
        for run in first_run..first_run + runs {
            let at = usize::try_from(run - self.released).expect("runs fit memory");
            self.runs[at].done = true;
        }
        while self.runs.front().is_some_and(|run| run.done) && self.released < self.issued {
            let Some(run) = self.runs.pop_front() else { break };
            self.released += 1;
            if run.physical != 0 {
                for at in 0..run.blocks {
                    tail.set_data(run.slot + at, PhysicalBlock(0));
                    self.by_block.remove(&(run.physical + at));
                }
            }
            // Only now: a landing whose last run this is may be filled anew.
            if let Kept::Ring(position) = run.kept {
                self.oldest = position;
            }
        }
    }
}
