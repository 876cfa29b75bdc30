//! Runs of blocks of one status, and how they are laid over each other.

use super::protocol::transmission::StatusExtent;
use super::status::{ANSWERED_MAX, Range};
use crate::units::BLOCK_BYTES;

/// Most extents of one context that are found at once.
pub(super) const EXTENTS_MAX: usize = 32 << 10;
/// The status of blocks of which nothing is said.
pub(super) const SILENT: u32 = u32::MAX;

/// Blocks of one status; the runs of an answer follow each other without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) end: u64,
    pub(super) status: u32,
}

/// Runs in the making.
pub(super) struct Runs {
    pub(super) next: u64,
    pub(super) runs: Vec<Run>,
}

impl Runs {
    /// Runs from the block `first` on.
    pub(super) fn from(first: u64) -> Self {
        Self { next: first, runs: Vec::new() }
    }

    /// All blocks up to `end` have this status, from where it came to.
    pub(super) fn up_to(&mut self, end: u64, status: u32) {
        if end <= self.next {
            return;
        }
        self.next = end;
        match self.runs.last_mut() {
            Some(last) if last.status == status => last.end = end,
            _ => self.runs.push(Run { end, status }),
        }
    }
}

/// Joins runs of several layers from the block `first` on, up to where one of them ends. `choose` makes one status of
/// all that they say of a block, in their order.
pub(super) fn joined(first: u64, layers: &[&[Run]], choose: impl Fn(&[u32]) -> u32) -> Vec<Run> {
    let end = layers.iter().map(|runs| runs.last().map_or(first, |run| run.end)).min().unwrap_or(first);
    let mut at: Vec<usize> = layers.iter().map(|runs| runs.partition_point(|run| run.end <= first)).collect();
    let mut joined = Runs::from(first);
    let mut here = vec![SILENT; layers.len()];
    while joined.next < end && joined.runs.len() < EXTENTS_MAX {
        let mut next = end;
        for ((at, runs), here) in at.iter_mut().zip(layers).zip(&mut here) {
            while runs[*at].end <= joined.next {
                *at += 1;
            }
            next = next.min(runs[*at].end);
            *here = runs[*at].status;
        }
        joined.up_to(next, choose(&here));
    }
    joined.runs
}

/// What the first says that says anything.
pub(super) fn nearest(statuses: &[u32]) -> u32 {
    statuses.iter().copied().find(|status| *status != SILENT).unwrap_or(0)
}

/// The runs from the range's start to its end at most, in bytes.
pub(super) fn clipped(runs: &[Run], range: Range) -> Vec<StatusExtent> {
    let end = range.offset + range.length;
    let most = if range.one { 1 } else { ANSWERED_MAX };
    let mut extents = Vec::new();
    let mut at = range.offset;
    for run in runs.iter().skip_while(|run| run.end * BLOCK_BYTES <= range.offset) {
        if at >= end || extents.len() == most {
            break;
        }
        let stop = (run.end * BLOCK_BYTES).min(end);
        extents.push(StatusExtent { bytes: stop - at, status: run.status });
        at = stop;
    }
    extents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(end: u64, status: u32) -> Run {
        Run { end, status }
    }

    #[test]
    fn the_nearest_layer_that_speaks_decides() {
        let near = [run(4, SILENT), run(6, 1), run(8, 0), run(20, SILENT)];
        let far = [run(2, 2), run(5, SILENT), run(10, 2), run(20, SILENT)];
        let expected = [run(2, 2), run(4, 0), run(6, 1), run(8, 0), run(10, 2), run(20, 0)];
        assert_eq!(joined(0, &[&near, &far], nearest), expected);
        assert_eq!(joined(5, &[&near, &far], nearest), expected[2..], "from a block within a run");
        assert_eq!(joined(0, &[&near, &far[..3]], nearest).last(), Some(&run(10, 2)), "to where one ends");
    }

    #[test]
    fn runs_are_clipped_to_the_bytes_asked_for() {
        let runs = [run(2, 3), run(4, 0), run(100, 3)];
        let extent = |bytes, status| StatusExtent { bytes, status };
        let range = Range { offset: 4096 + 512, length: 8192, one: false };
        assert_eq!(clipped(&runs, range), [extent(3584, 3), extent(4608, 0)]);
        assert_eq!(clipped(&runs, Range { one: true, ..range }), [extent(3584, 3)]);
        let far = Range { offset: 50 * 4096, length: 1 << 40, one: false };
        assert_eq!(clipped(&runs, far), [extent(50 * 4096, 3)]);
    }
}
