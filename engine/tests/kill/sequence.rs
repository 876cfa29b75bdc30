//! What the writer does, decided by a seed, so that the checker can make it again.

use std::collections::BTreeSet;

use firn_engine::sim::random::Random;

/// Sectors of each volume.
pub(crate) const SECTORS: u64 = 4096;
const BLOCK_SECTORS: u64 = 8;
/// Blocks of a request that take effect at once (I3).
const ATOMIC_BLOCKS: usize = 16;
const SNAPSHOTS_MAX: usize = 5;

/// Something that the writer does.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Write { volume: usize, first: u64, sectors: u64, durable: bool },
    Unmap { volume: usize, first: u64, sectors: u64, durable: bool },
    Flush,
    Checkpoint,
    Snapshot { volumes: Vec<usize>, name: String },
    Delete { volume: usize, name: String },
    Rollback { volume: usize, to: String, displaced: String },
}

impl Operation {
    pub(crate) fn is_aligned(&self) -> bool {
        match self {
            Self::Write { first, sectors, .. } | Self::Unmap { first, sectors, .. } => {
                first % BLOCK_SECTORS == 0 && sectors % BLOCK_SECTORS == 0
            }
            _ => true,
        }
    }

    pub(crate) fn is_on_catalog(&self) -> bool {
        matches!(self, Self::Snapshot { .. } | Self::Delete { .. } | Self::Rollback { .. })
    }

    /// Whether it is durable when it is acknowledged.
    pub(crate) fn is_durable(&self) -> bool {
        let durable = matches!(self, Self::Write { durable: true, .. } | Self::Unmap { durable: true, .. });
        durable || self.is_on_catalog()
    }

    /// The ranges of sectors that take effect one after the other, each at once.
    pub(crate) fn steps(&self) -> Vec<(u64, u64)> {
        let (first, end, unmap) = match *self {
            Self::Write { first, sectors, .. } => (first, first + sectors, false),
            Self::Unmap { first, sectors, .. } => (first, first + sectors, true),
            _ => return vec![(0, 0)],
        };
        let mut cuts: BTreeSet<u64> = match unmap {
            false => {
                let groups = (first / BLOCK_SECTORS..).step_by(ATOMIC_BLOCKS);
                groups.map(|block| block * BLOCK_SECTORS).take_while(|at| *at < end).collect()
            }
            true => [first.next_multiple_of(BLOCK_SECTORS), end - end % BLOCK_SECTORS].into(),
        };
        cuts.retain(|at| (first + 1..end).contains(at));
        let starts = std::iter::once(first).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(std::iter::once(end));
        starts.zip(ends).collect()
    }
}

/// The sequence of operations that a seed decides. Both sides make it. In every other round little is flushed.
pub(crate) struct Sequence {
    random: Random,
    number: u64,
    round: u64,
    snapshots: [BTreeSet<String>; 2],
}

impl Sequence {
    pub(crate) fn new(seed: u64, round: u64, snapshots: [BTreeSet<String>; 2]) -> Self {
        Self { random: Random::new(seed ^ round << 32), number: 0, round, snapshots }
    }

    /// The next operation's number, from 1 in each round, and what it is.
    pub(crate) fn next(&mut self) -> (u64, Operation) {
        self.number += 1;
        let often = self.round.is_multiple_of(2);
        let operation = match self.random.below(if often { 1000 } else { 4000 }) {
            0..2 => self.snapshot(),
            2..4 => self.change_snapshots(),
            4..8 => Operation::Checkpoint,
            8..40 if often => Operation::Flush,
            40..80 => {
                let (volume, first, sectors) = self.range(512);
                Operation::Unmap { volume, first, sectors, durable: often && self.random.percent(10) }
            }
            80..110 => {
                let (volume, first, sectors) = self.range(160);
                Operation::Write { volume, first, sectors, durable: often && self.random.percent(10) }
            }
            _ => {
                let volume = self.random.index(2);
                let blocks = self.random.pick(&[1, 1, 1, 1, 2, 4, 16, 40]);
                let first = self.random.below(SECTORS / BLOCK_SECTORS - blocks + 1) * BLOCK_SECTORS;
                let durable = often && self.random.percent(2);
                Operation::Write { volume, first, sectors: blocks * BLOCK_SECTORS, durable }
            }
        };
        (self.number, operation)
    }

    pub(crate) fn range(&mut self, most: u64) -> (usize, u64, u64) {
        let sectors = self.random.range(1..most);
        (self.random.index(2), self.random.below(SECTORS - sectors + 1), sectors)
    }

    pub(crate) fn name(&self, prefix: &str) -> String {
        format!("{prefix}-{}-{}", self.round, self.number)
    }

    pub(crate) fn snapshot(&mut self) -> Operation {
        let volumes = self.random.pick(&[[true, true], [true, false], [false, true]]);
        let volumes: Vec<usize> = (0..2).filter(|volume| volumes[*volume]).collect();
        if let Some(&volume) = volumes.iter().find(|volume| self.snapshots[**volume].len() >= SNAPSHOTS_MAX) {
            return self.delete(volume);
        }
        let name = self.name("s");
        volumes.iter().for_each(|&volume| _ = self.snapshots[volume].insert(name.clone()));
        Operation::Snapshot { volumes, name }
    }

    pub(crate) fn change_snapshots(&mut self) -> Operation {
        let volume = self.random.index(2);
        match self.snapshots[volume].len() {
            0 => Operation::Flush,
            SNAPSHOTS_MAX.. => self.delete(volume),
            _ if self.random.coin() => self.delete(volume),
            count => {
                let to =
                    self.snapshots[volume].iter().nth(self.random.index(count)).expect("counted").clone();
                let displaced = self.name("r");
                self.snapshots[volume].insert(displaced.clone());
                Operation::Rollback { volume, to, displaced }
            }
        }
    }

    pub(crate) fn delete(&mut self, volume: usize) -> Operation {
        let at = self.random.index(self.snapshots[volume].len());
        let name = self.snapshots[volume].iter().nth(at).expect("counted").clone();
        self.snapshots[volume].remove(&name);
        Operation::Delete { volume, name }
    }
}
