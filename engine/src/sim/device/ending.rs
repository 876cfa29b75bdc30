//! How an incarnation ends: by a power cut or the death of its process, and what is left of what was volatile.

use std::sync::Arc;
use std::{io, mem};

use super::block::{Block, take};
use super::state::{CachedWrite, InFlight, State, Work};
use super::{KILLED, POWER_CUT, SECTOR_LEN};
use crate::sim::faults::PowerCut;
use crate::units::BLOCK_LEN;

impl State {
    pub(super) fn crash(&mut self) {
        if !self.is_cut {
            self.cut_power();
        }
        self.is_cut = false;
        self.incarnation += 1;
    }

    /// Decides what of all that is volatile reaches the medium; nothing is in flight or cached afterwards.
    pub(super) fn cut_power(&mut self) {
        self.ending = POWER_CUT;
        self.completions_until_cut = None;
        let mut volatile = mem::take(&mut self.forgotten);
        volatile.extend(self.cache.drain(..));
        for (first, blocks) in self.abandon_in_flight() {
            volatile.push(CachedWrite { sequence: u64::MAX, first, blocks });
        }
        let cut = PowerCut::draw(&mut self.random);
        let mut spared = Vec::new();
        for write in volatile {
            let mut masks = vec![0; write.blocks.len()];
            cut.spare(&mut self.random, &mut masks);
            for ((block, bytes), mask) in (write.first..).zip(write.blocks).zip(masks) {
                let mask = if write.sequence < self.hardened[block] { 0 } else { mask };
                spared.push((block, mask, bytes));
            }
        }
        spared.sort_by_key(|(block, ..)| *block);
        for candidates in spared.chunk_by(|one, other| one.0 == other.0) {
            let block = candidates[0].0;
            self.settle(block, candidates);
            self.current[block] = self.medium[block].clone();
        }
    }

    /// Gives each sector of a block to one of the writes that spared it, or to what the medium held.
    pub(super) fn settle(&mut self, block: usize, candidates: &[(usize, u8, Arc<Block>)]) {
        if let [(_, u8::MAX, bytes)] = candidates {
            self.medium[block] = Some(Arc::clone(bytes));
        }
        if candidates.len() == 1 && matches!(candidates[0].1, 0 | u8::MAX) {
            return;
        }
        let mut settled = self.copy_of_medium(block);
        for sector in 0..BLOCK_LEN / SECTOR_LEN {
            let mut rivals = 0;
            for (_, _, bytes) in candidates.iter().filter(|(_, mask, _)| mask >> sector & 1 == 1) {
                rivals += 1;
                if self.random.below(rivals) == 0 {
                    let place = sector * SECTOR_LEN..(sector + 1) * SECTOR_LEN;
                    settled.0[place.clone()].copy_from_slice(&bytes.0[place]);
                }
            }
        }
        self.medium[block] = Some(Arc::new(settled));
    }

    pub(super) fn kill(&mut self) {
        if self.is_cut {
            return;
        }
        self.ending = KILLED;
        if self.in_flight.iter().any(|other| matches!(other.work, Work::Sync { .. })) && self.random.coin() {
            self.harden(self.completed);
        }
        let mut writes = self.abandon_in_flight();
        self.random.shuffle(&mut writes);
        for (first, blocks) in writes {
            match self.random.below(3) {
                0 => {}
                1 => self.cache_write(first, blocks),
                _ => self.write_some(first, blocks),
            }
        }
        self.incarnation += 1;
    }

    /// Refuses everything in flight, and hands back the writes among it.
    pub(super) fn abandon_in_flight(&mut self) -> Vec<(usize, Vec<Arc<Block>>)> {
        let mut writes = Vec::new();
        for InFlight { token, work } in mem::take(&mut self.in_flight) {
            self.refuse(self.incarnation, token, io::Error::other(self.ending));
            if let Work::Write { first, from, early } = work {
                writes.push((first, early.unwrap_or_else(|| take(&from))));
            }
        }
        writes
    }
}
