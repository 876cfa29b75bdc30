//! Block status: what metadata contexts say of a range. It reads the metadata store, so it runs on threads that may
//! wait.
//!
//! 1. An answer about a volume counts every write that was acknowledged before the question came; what came later it
//!    may or may not count.
//! 2. A remembered answer about a volume is used only while no record has taken effect in the pool since before it
//!    was found; one about a snapshot stays true.
//! 3. Memory is bounded: `EXTENTS_MAX` extents an answer, `REMEMBERED_MAX` answers.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::exports::{ALLOCATION, DEPTH, DIRTY, Opened, PoolExports};
use super::protocol::transmission::StatusExtent;
use super::protocol::{DIRTY as IS_DIRTY, allocation};
use crate::catalog::SnapshotKey;
use crate::core::Target;
use crate::delta::{ExtentKind, Point};
use crate::error::{Error, Kind, Result};
use crate::reactor::Handle;
use crate::snapshot::{Comparison, Pin};
use crate::units::{BLOCK_BYTES, BlockIndex, Lsn, VolumeId};

/// Most extents of one context that are found at once.
const EXTENTS_MAX: usize = 32 << 10;
/// Most extents of one context in one answer.
pub(super) const ANSWERED_MAX: usize = 4096;
/// Answers that are remembered.
const REMEMBERED_MAX: usize = 16;

/// A context that a connection has chosen.
#[derive(Debug)]
pub(super) enum Context {
    /// Data or hole.
    Allocation,
    /// In which layer.
    Depth,
    /// What changed since a snapshot, which is not deleted meanwhile.
    Dirty(SnapshotKey, #[expect(dead_code, reason = "held for its drop")] Pin),
}

impl Context {
    /// A context of an opened export by its name.
    pub(super) fn open(exports: &PoolExports, opened: &Opened, name: &str) -> Result<Self> {
        match name {
            ALLOCATION => Ok(Self::Allocation),
            DEPTH => Ok(Self::Depth),
            _ => match name.strip_prefix(DIRTY) {
                Some(snapshot) => {
                    let (snapshot, pin) = exports.snapshot(opened.volume, snapshot)?;
                    Ok(Self::Dirty(snapshot.key(), pin))
                }
                None => Err(Error::new(Kind::NotFound, "find context", format!("there is no {name:?}"))),
            },
        }
    }

    fn question(&self) -> Question {
        match self {
            Self::Allocation => Question::Allocation,
            Self::Depth => Question::Depth,
            Self::Dirty(key, _) => Question::Dirty(*key),
        }
    }
}

/// Bytes of an export that somebody asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) length: u32,
    /// Only the first extent is wanted.
    pub(super) one: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Allocation,
    Depth,
    Dirty(SnapshotKey),
}

/// Blocks of one status; the extents of an answer follow each other without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    end: u64,
    status: u32,
}

struct Found {
    target: Target,
    question: Question,
    /// The next LSN before it was found; `None` for what stays true.
    lsn: Option<Lsn>,
    first: u64,
    runs: Vec<Run>,
}

/// Finds answers, and remembers the last ones: clients ask for one extent after the other.
pub(super) struct StatusFinder {
    handle: Handle,
    remembered: Mutex<VecDeque<Found>>,
}

impl StatusFinder {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, remembered: Mutex::default() }
    }

    /// What a context says of a range, from its start on; at least one extent, maybe not to the range's end.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after the volume was deleted, what the metadata store said.
    pub(super) fn find(
        &self,
        volume: VolumeId,
        target: Target,
        context: &Context,
        range: Range,
    ) -> Result<Vec<StatusExtent>> {
        let question = context.question();
        let (lsn, point, blocks) = self.handle.try_look(move |core| {
            let catalog = core.catalog();
            let live = catalog.volume(volume)?;
            Ok(match target {
                Target::Volume(_) => (Some(core.next_lsn()), Point::head(live.layer), live.bytes),
                Target::Snapshot(key) => (None, key.into(), catalog.snapshot(key)?.bytes),
            })
        })?;
        let blocks = blocks.div_ceil(BLOCK_BYTES);
        let first = range.offset / BLOCK_BYTES;
        let matches = |found: &Found| {
            let covers = found.first <= first && found.runs.last().is_some_and(|run| run.end > first);
            found.target == target && found.question == question && found.lsn == lsn && covers
        };
        if let Some(found) = self.lock().iter().find(|found| matches(found)) {
            return Ok(clipped(&found.runs, range));
        }
        let runs = self.compute(point, question, first, blocks)?;
        let answer = clipped(&runs, range);
        let mut remembered = self.lock();
        remembered.retain(|found| found.target != target || found.question != question);
        if remembered.len() == REMEMBERED_MAX {
            remembered.pop_front();
        }
        remembered.push_back(Found { target, question, lsn, first, runs });
        Ok(answer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Found>> {
        // What is remembered is replaced whole.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compute(&self, point: Point, question: Question, first: u64, blocks: u64) -> Result<Vec<Run>> {
        match question {
            Question::Allocation => {
                let hole = allocation::HOLE | allocation::ZERO;
                self.runs(None, point, first..blocks, hole, |_| 0)
            }
            Question::Dirty(older) => self.runs(Some(older.into()), point, first..blocks, 0, |_| IS_DIRTY),
            Question::Depth => self.depth(point, first, blocks),
        }
    }

    /// Runs of what changed from `older` to `newer`, `status` of its kind, and of `otherwise` between.
    fn runs(
        &self,
        older: Option<Point>,
        newer: Point,
        blocks: std::ops::Range<u64>,
        otherwise: u32,
        status: impl Fn(ExtentKind) -> u32,
    ) -> Result<Vec<Run>> {
        let mut runs = Runs { next: blocks.start, runs: Vec::new() };
        let range = BlockIndex(blocks.start)..BlockIndex(blocks.end);
        Comparison::new(&self.handle, older, newer)?.run(range, |extent| {
            runs.up_to(extent.first.0, otherwise);
            runs.up_to(extent.first.0 + extent.blocks, status(extent.kind));
            Ok(runs.runs.len() < EXTENTS_MAX)
        })?;
        if runs.runs.len() < EXTENTS_MAX {
            runs.up_to(blocks.end, otherwise);
        }
        Ok(runs.runs)
    }

    /// The depth of a block is that of the first layer that speaks of it: 1 the volume's own, 2 its origin's, and so
    /// on; 0 of a hole.
    fn depth(&self, point: Point, first: u64, blocks: u64) -> Result<Vec<Run>> {
        let chain = self.handle.look(move |core| core.catalog().chain(point.layer, point.at))?;
        let points: Vec<Point> = chain.iter().map(|&(layer, at)| Point { layer, at }).collect();
        let mut layers = Vec::new();
        for (depth, (index, &newer)) in (1..).zip(points.iter().enumerate()) {
            let older = points.get(index + 1).copied();
            let said = |kind| if kind == ExtentKind::Data { depth } else { 0 };
            layers.push(self.runs(older, newer, first..blocks, u32::MAX, said)?);
        }
        Ok(overlaid(first, &layers))
    }
}

/// Joins runs of several layers, nearest first; `u32::MAX` is what a layer does not speak of.
fn overlaid(first: u64, layers: &[Vec<Run>]) -> Vec<Run> {
    let end = layers.iter().filter_map(|runs| runs.last()).map(|run| run.end).min().unwrap_or(first);
    let mut at = vec![0; layers.len()];
    let mut joined = Runs { next: first, runs: Vec::new() };
    while joined.next < end && joined.runs.len() < EXTENTS_MAX {
        for (at, runs) in at.iter_mut().zip(layers) {
            while runs[*at].end <= joined.next {
                *at += 1;
            }
        }
        let here = || at.iter().zip(layers).map(|(&at, runs)| runs[at]);
        let status = here().map(|run| run.status).find(|status| *status != u32::MAX).unwrap_or(0);
        let next = here().map(|run| run.end).min().unwrap_or(end).min(end);
        joined.up_to(next, status);
    }
    joined.runs
}

/// Runs in the making.
struct Runs {
    next: u64,
    runs: Vec<Run>,
}

impl Runs {
    fn up_to(&mut self, end: u64, status: u32) {
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

/// The runs from the range's start to its end at most, in bytes.
fn clipped(runs: &[Run], range: Range) -> Vec<StatusExtent> {
    let end = range.offset + u64::from(range.length);
    let most = if range.one { 1 } else { ANSWERED_MAX };
    let mut extents = Vec::new();
    let mut at = range.offset;
    for run in runs.iter().skip_while(|run| run.end * BLOCK_BYTES <= range.offset) {
        if at >= end || extents.len() == most {
            break;
        }
        let stop = (run.end * BLOCK_BYTES).min(end);
        let bytes = u32::try_from(stop - at).expect("within a range of 32 bits");
        extents.push(StatusExtent { bytes, status: run.status });
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
        const SILENT: u32 = u32::MAX;
        let near = vec![run(4, SILENT), run(6, 1), run(8, 0), run(20, SILENT)];
        let far = vec![run(2, 2), run(5, SILENT), run(10, 2), run(20, SILENT)];
        let joined = overlaid(0, &[near, far]);
        assert_eq!(joined, [run(2, 2), run(4, 0), run(6, 1), run(8, 0), run(10, 2), run(20, 0)]);
    }

    #[test]
    fn runs_are_clipped_to_the_bytes_asked_for() {
        let runs = [run(2, 3), run(4, 0), run(100, 3)];
        let extent = |bytes, status| StatusExtent { bytes, status };
        let range = Range { offset: 4096 + 512, length: 8192, one: false };
        assert_eq!(clipped(&runs, range), [extent(3584, 3), extent(4608, 0)]);
        assert_eq!(clipped(&runs, Range { one: true, ..range }), [extent(3584, 3)]);
        let far = Range { offset: 50 * 4096, length: u32::MAX - 511, one: false };
        assert_eq!(clipped(&runs, far), [extent(50 * 4096, 3)]);
    }
}
