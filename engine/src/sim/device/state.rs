//! What there is of a disk: the medium, the cache over it, and requests in flight.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::block::{Block, bytes_of, take};
use super::disk::DiskStatistics;
use super::{KILLED, device_offset};
use crate::device::{DeviceCompletion, DeviceRequest};
use crate::sim::faults::Faults;
use crate::sim::random::Random;
use crate::sys::MemorySlice;
use crate::units::{BLOCK_BYTES, BLOCK_LEN};

/// A write that the device holds and a power cut may lose. Whole blocks are shared with the table that reads see.
#[derive(Debug)]
pub(super) struct CachedWrite {
    /// Its place in the order of completion, from 1.
    pub(super) sequence: u64,
    pub(super) first: usize,
    pub(super) blocks: Vec<Arc<Block>>,
}

#[derive(Debug)]
pub(super) enum Work {
    Read { first: usize, into: MemorySlice },
    Write { first: usize, from: MemorySlice, early: Option<Vec<Arc<Block>>> },
    Sync { barrier: u64 },
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) token: u64,
    pub(super) work: Work,
}

/// A request that will never be done, waiting for its handle to ask.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) incarnation: u64,
    pub(super) token: u64,
    pub(super) why: io::Error,
}

#[derive(Debug)]
pub(super) struct State {
    /// What survives everything, a block each; `None` is zeros.
    pub(super) medium: Vec<Option<Arc<Block>>>,
    /// What reads see: the medium under the cache. It differs from the medium only in blocks that are volatile.
    pub(super) current: Vec<Option<Arc<Block>>>,
    /// The sequence of the write that each block of the medium holds; an older one never replaces it (invariant 4).
    pub(super) hardened: Vec<u64>,
    /// Completed writes by sequence, which is dense and ends at `completed`.
    pub(super) cache: VecDeque<CachedWrite>,
    /// Those that a failed sync took out of the reach of later ones.
    pub(super) forgotten: Vec<CachedWrite>,
    pub(super) completed: u64,
    pub(super) in_flight: Vec<InFlight>,
    pub(super) refused: Vec<Refused>,
    /// The live handle's number; 0 before the first.
    pub(super) incarnation: u64,
    pub(super) is_cut: bool,
    pub(super) completions_until_cut: Option<u64>,
    /// How the last incarnation ended.
    pub(super) ending: &'static str,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) statistics: DiskStatistics,
}

impl State {
    pub(super) fn new(medium: Vec<Option<Arc<Block>>>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let faults = Faults::new(random.fork());
        Self {
            current: medium.clone(),
            hardened: vec![0; medium.len()],
            medium,
            cache: VecDeque::new(),
            forgotten: Vec::new(),
            completed: 0,
            in_flight: Vec::new(),
            refused: Vec::new(),
            incarnation: 0,
            is_cut: false,
            completions_until_cut: None,
            ending: KILLED,
            random,
            faults,
            statistics: DiskStatistics::default(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        device_offset(self.medium.len())
    }

    pub(super) fn grow(&mut self, blocks: usize) {
        assert!(blocks >= self.medium.len(), "a disk doesn't shrink");
        self.medium.resize(blocks, None);
        self.current.resize(blocks, None);
        self.hardened.resize(blocks, 0);
    }

    pub(super) fn is_live(&self, incarnation: u64) -> bool {
        incarnation == self.incarnation && !self.is_cut
    }

    pub(super) fn refuse(&mut self, incarnation: u64, token: u64, why: io::Error) {
        self.refused.push(Refused { incarnation, token, why });
    }

    /// Answers every refused request of this handle, and says how many.
    pub(super) fn answer_refused(
        &mut self,
        incarnation: u64,
        completions: &mut Vec<DeviceCompletion>,
    ) -> usize {
        let before = completions.len();
        for refused in self.refused.extract_if(.., |refused| refused.incarnation == incarnation) {
            completions.push(DeviceCompletion { token: refused.token, result: Err(refused.why) });
        }
        completions.len() - before
    }

    pub(super) fn submit(&mut self, incarnation: u64, token: u64, request: DeviceRequest) {
        if !self.is_live(incarnation) {
            return self.refuse(incarnation, token, io::Error::other(self.ending));
        }
        let work = match request {
            DeviceRequest::Read { offset, into } => {
                self.place(offset, into.len()).map(|first| Work::Read { first, into })
            }
            DeviceRequest::Write { offset, from } => self.place(offset, from.len()).map(|first| {
                self.statistics.overlaps += u64::from(self.is_in_flight(first, from.len() / BLOCK_LEN));
                let early = self.random.coin().then(|| take(&from));
                Work::Write { first, from, early }
            }),
            DeviceRequest::Sync => Ok(Work::Sync { barrier: self.completed }),
        };
        match work {
            Ok(work) => self.in_flight.push(InFlight { token, work }),
            Err(why) => self.refuse(incarnation, token, why),
        }
    }

    /// The first block of a request, or what a kernel says to one that is misaligned or passes the end.
    pub(super) fn place(&self, offset: u64, length: usize) -> io::Result<usize> {
        let first = usize::try_from(offset / BLOCK_BYTES).unwrap_or(usize::MAX);
        let end = first.saturating_add(length / BLOCK_LEN);
        if !offset.is_multiple_of(BLOCK_BYTES) || !length.is_multiple_of(BLOCK_LEN) || end > self.medium.len()
        {
            let message = format!("{length} bytes at {offset} don't fit a disk of {} bytes", self.bytes());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(first)
    }

    pub(super) fn is_in_flight(&self, first: usize, count: usize) -> bool {
        self.in_flight.iter().any(|other| match &other.work {
            Work::Read { first: at, into: memory } | Work::Write { first: at, from: memory, .. } => {
                *at < first + count && first < *at + memory.len() / BLOCK_LEN
            }
            Work::Sync { .. } => false,
        })
    }

    /// Completes one of the requests in flight. There is one.
    pub(super) fn complete_one(&mut self) -> DeviceCompletion {
        let index = self.random.index(self.in_flight.len());
        let InFlight { token, work } = self.in_flight.swap_remove(index);
        let result = match work {
            Work::Read { first, into } => self.read(first, &into),
            Work::Write { first, from, early } => self.write(first, early.unwrap_or_else(|| take(&from))),
            Work::Sync { barrier } => self.sync(barrier),
        };
        self.count_completion();
        DeviceCompletion { token, result }
    }

    pub(super) fn count_completion(&mut self) {
        if let Some(left) = &mut self.completions_until_cut {
            *left -= 1;
            self.cut_when_due();
        }
    }

    pub(super) fn cut_when_due(&mut self) {
        if self.completions_until_cut == Some(0) {
            self.cut_power();
            self.is_cut = true;
        }
    }

    pub(super) fn copy_of_medium(&self, block: usize) -> Block {
        Block::filled_by(|bytes| bytes.copy_from_slice(bytes_of(&self.medium[block])))
    }

    pub(super) fn edit(&mut self, block: usize, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.copy_of_medium(block);
        change(&mut bytes.0);
        let bytes = Some(Arc::new(bytes));
        let is_cached = match (&self.medium[block], &self.current[block]) {
            (Some(medium), Some(current)) => !Arc::ptr_eq(medium, current),
            (medium, current) => medium.is_some() || current.is_some(),
        };
        if !is_cached {
            self.current[block].clone_from(&bytes);
        }
        self.medium[block] = bytes;
    }
}
