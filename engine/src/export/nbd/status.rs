//! Block status: what metadata contexts say of a range. It reads the metadata store, so it runs on threads that may
//! wait.
//!
//! 1. An answer about a volume counts every write that was acknowledged before the question came; what came later it
//!    may or may not count.
//! 2. What the store says is remembered: of a snapshot for good, of a volume until the next checkpoint. What was written
//!    to the volume since ([`Recent`]) lies over it, and is looked at for each question. So questions about a volume in
//!    use make no checkpoint, but for one after a change of the catalog, such as a snapshot.
//! 3. Memory is bounded: `EXTENTS_MAX` extents an answer, `REMEMBERED_MAX` answers. A range may be a whole volume of any
//!    size: what was written to it lately is looked at up to a bound, and there the answer ends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::exports::{ALLOCATION, DEPTH, DIRTY, Opened, PoolExports};
use super::protocol::transmission::StatusExtent;
use super::protocol::{DIRTY as IS_DIRTY, allocation};
use super::runs::{EXTENTS_MAX, Run, Runs, SILENT, clipped, joined, nearest};
use crate::catalog::{Catalog, SnapshotKey};
use crate::core::{Recent, Target};
use crate::delta::{ExtentKind, Point};
use crate::error::{Error, Kind, Result};
use crate::reactor::Handle;
use crate::snapshot::{Comparison, Pin, excerpt};
use crate::units::{BLOCK_BYTES, BlockIndex, Epoch, LayerId, PageIndex, VolumeId};

/// Most extents of one context in one answer.
pub(super) const ANSWERED_MAX: usize = 4096;
/// Pages written lately, and holes made lately, that are looked at for an answer, and for one of which only the first
/// extent is wanted: so long may a question about a whole volume keep the reactor.
const LOOKED_AT_MAX: usize = 4096;
const LOOKED_AT_FOR_ONE: usize = 64;
/// Answers that are remembered.
const REMEMBERED_MAX: usize = 16;
/// What was done to blocks since the last checkpoint, as the status of runs.
const WRITTEN: u32 = 1;
const UNMAPPED: u32 = 0;
/// Statuses of allocation.
const DATA: u32 = 0;
const HOLE: u32 = allocation::HOLE | allocation::ZERO;

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
    pub(super) length: u64,
    /// Only the first extent is wanted.
    pub(super) one: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Allocation,
    Depth,
    Dirty(SnapshotKey),
}

impl Question {
    /// The status of a block: what was done to it lately, what the store says, and, of what changed, what the older
    /// point has there.
    fn status(self, lately: u32, stored: u32, held: Option<u32>) -> u32 {
        match (self, lately) {
            (_, SILENT) => stored,
            (Self::Allocation, WRITTEN) => DATA,
            (Self::Allocation, _) => HOLE,
            (Self::Depth, done) => done,
            (Self::Dirty(_), WRITTEN) => IS_DIRTY,
            // A hole at both points is no change.
            (Self::Dirty(_), _) => {
                if held == Some(DATA) {
                    IS_DIRTY
                } else {
                    0
                }
            }
        }
    }
}

/// What the store says.
struct Found {
    target: Target,
    question: Question,
    /// The checkpoint that it is of; `None` for what stays true.
    generation: Option<u64>,
    first: u64,
    runs: Arc<Vec<Run>>,
}

/// A volume as a question finds it.
struct Sight {
    recent: Recent,
    /// What the catalog says of the points that the answer is about.
    excerpt: Catalog,
    head: Point,
    blocks: u64,
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
    /// [`Kind::NotFound`] after the volume was deleted, [`Kind::Invalid`] beyond its end, what the metadata store said.
    pub(super) fn find(
        &self,
        volume: VolumeId,
        target: Target,
        context: &Context,
        range: Range,
    ) -> Result<Vec<StatusExtent>> {
        let question = context.question();
        let found = match target {
            Target::Volume(_) => self.of_volume(volume, question, range)?,
            Target::Snapshot(key) => self.of_a_snapshot(volume, key, question, range)?,
        };
        if found.is_empty() {
            // The volume was made smaller since the range was checked.
            return Err(Error::new(Kind::Invalid, "find block status", "the range is beyond the end"));
        }
        Ok(found)
    }

    fn of_a_snapshot(
        &self,
        volume: VolumeId,
        key: SnapshotKey,
        question: Question,
        range: Range,
    ) -> Result<Vec<StatusExtent>> {
        let blocks = self.handle.try_look(move |core| {
            core.catalog().volume(volume)?;
            Ok(core.catalog().snapshot(key)?.bytes.div_ceil(BLOCK_BYTES))
        })?;
        let runs = self.of_snapshot(key, question, range.offset / BLOCK_BYTES..blocks)?;
        Ok(clipped(&runs, range))
    }

    fn of_snapshot(
        &self,
        key: SnapshotKey,
        question: Question,
        blocks: std::ops::Range<u64>,
    ) -> Result<Arc<Vec<Run>>> {
        self.remembered(Target::Snapshot(key), question, None, blocks.start, || {
            let chain = self.handle.look(move |core| core.catalog().chain(key.layer, Some(key.epoch)))?;
            let compare = |older, newer| Comparison::new(&self.handle, older, newer);
            compute(&points(chain), question, blocks.clone(), compare)
        })
    }

    fn of_volume(&self, volume: VolumeId, question: Question, range: Range) -> Result<Vec<StatusExtent>> {
        if let Some(sight) = self.look(volume, question, range)? {
            return self.seen(volume, question, &sight, range);
        }
        // The comparison makes a checkpoint, which the next question finds.
        let (chain, blocks) = self.handle.try_look(move |core| {
            let live = core.catalog().volume(volume)?;
            Ok((core.catalog().chain(live.layer, None), live.bytes.div_ceil(BLOCK_BYTES)))
        })?;
        let compare = |older, newer| Comparison::new(&self.handle, older, newer);
        let first = range.offset / BLOCK_BYTES;
        Ok(clipped(&compute(&points(chain), question, first..blocks, compare)?, range))
    }

    /// Looks at the volume as it is now; nothing when that takes a checkpoint.
    fn look(&self, volume: VolumeId, question: Question, range: Range) -> Result<Option<Sight>> {
        let end = (range.offset + range.length).div_ceil(BLOCK_BYTES);
        let first = BlockIndex(range.offset / BLOCK_BYTES).page();
        let pages = first..PageIndex(BlockIndex(end.saturating_sub(1)).page().0 + 1);
        self.handle.try_look(move |core| {
            let catalog = core.catalog();
            let live = catalog.volume(volume)?;
            let most = if range.one { LOOKED_AT_FOR_ONE } else { LOOKED_AT_MAX };
            let Some(recent) = core.recent(live.layer, pages, most) else { return Ok(None) };
            let mut named = points(catalog.chain(live.layer, None));
            if let Question::Dirty(key) = question {
                named.push(key.into());
            }
            let excerpt = excerpt(catalog, named.into_iter())?;
            let blocks = live.bytes.div_ceil(BLOCK_BYTES);
            Ok(Some(Sight { recent, excerpt, head: Point::head(live.layer), blocks }))
        })
    }

    /// What the store says of a volume, and over it what was written since.
    fn seen(
        &self,
        volume: VolumeId,
        question: Question,
        sight: &Sight,
        range: Range,
    ) -> Result<Vec<StatusExtent>> {
        let Sight { recent, excerpt, head, blocks } = sight;
        let first = range.offset / BLOCK_BYTES;
        let stored =
            self.remembered(Target::Volume(volume), question, Some(recent.generation), first, || {
                let compare =
                    |older, newer| Ok(Comparison::stored(&self.handle, excerpt.clone(), older, newer));
                compute(&points(excerpt.chain(head.layer, None)), question, first..*blocks, compare)
            })?;
        let end = (range.offset + range.length).div_ceil(BLOCK_BYTES).min(*blocks).min(recent.said.end().0);
        let mut lately = Runs::from(first);
        recent.said.runs(BlockIndex(first), BlockIndex(end), |end, is_data| {
            let done = is_data.map_or(SILENT, |is_data| if is_data { WRITTEN } else { UNMAPPED });
            lately.up_to(end.0, done);
        });
        lately.runs.truncate(EXTENTS_MAX);
        let has_holes = lately.runs.iter().any(|run| run.status == UNMAPPED);
        let runs = match question {
            Question::Dirty(older) if has_holes => {
                let held = self.of_snapshot(older, Question::Allocation, first..*blocks)?;
                joined(first, &[&lately.runs, &stored, &held], |of| {
                    question.status(of[0], of[1], Some(of[2]))
                })
            }
            _ => joined(first, &[&lately.runs, &stored], |of| question.status(of[0], of[1], None)),
        };
        Ok(clipped(&runs, range))
    }

    /// What is remembered from block `first` on, or what `compute` finds.
    fn remembered(
        &self,
        target: Target,
        question: Question,
        generation: Option<u64>,
        first: u64,
        compute: impl FnOnce() -> Result<Vec<Run>>,
    ) -> Result<Arc<Vec<Run>>> {
        let matches = |found: &Found| {
            let covers = found.first <= first && found.runs.last().is_some_and(|run| run.end > first);
            found.target == target && found.question == question && found.generation == generation && covers
        };
        if let Some(found) = self.lock().iter().find(|found| matches(found)) {
            return Ok(found.runs.clone());
        }
        let runs = Arc::new(compute()?);
        let mut remembered = self.lock();
        remembered.retain(|found| found.target != target || found.question != question);
        if remembered.len() == REMEMBERED_MAX {
            remembered.pop_front();
        }
        remembered.push_back(Found { target, question, generation, first, runs: runs.clone() });
        Ok(runs)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Found>> {
        // What is remembered is replaced whole.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn points(chain: Vec<(LayerId, Option<Epoch>)>) -> Vec<Point> {
    chain.into_iter().map(|(layer, at)| Point { layer, at }).collect()
}

/// Finds the runs of a point, which `chain` begins with. `compare` makes comparisons.
fn compute(
    chain: &[Point],
    question: Question,
    blocks: std::ops::Range<u64>,
    compare: impl Fn(Option<Point>, Point) -> Result<Comparison>,
) -> Result<Vec<Run>> {
    let point = chain[0];
    match question {
        Question::Allocation => runs(&compare(None, point)?, blocks, HOLE, |_| DATA),
        Question::Dirty(older) => runs(&compare(Some(older.into()), point)?, blocks, 0, |_| IS_DIRTY),
        // That of a block is that of the first layer that speaks of it: 1 the volume's own, 2 its origin's, and so on;
        // 0 of a hole.
        Question::Depth => {
            let first = blocks.start;
            let mut layers = Vec::new();
            for (depth, (index, &newer)) in (1..).zip(chain.iter().enumerate()) {
                let comparison = compare(chain.get(index + 1).copied(), newer)?;
                let said = |kind| if kind == ExtentKind::Data { depth } else { 0 };
                layers.push(runs(&comparison, blocks.clone(), SILENT, said)?);
            }
            let layers: Vec<&[Run]> = layers.iter().map(Vec::as_slice).collect();
            Ok(joined(first, &layers, nearest))
        }
    }
}

/// Runs of what a comparison shows, `status` of its kind, and of `otherwise` between.
fn runs(
    comparison: &Comparison,
    blocks: std::ops::Range<u64>,
    otherwise: u32,
    status: impl Fn(ExtentKind) -> u32,
) -> Result<Vec<Run>> {
    let mut runs = Runs::from(blocks.start);
    comparison.run(BlockIndex(blocks.start)..BlockIndex(blocks.end), |extent| {
        runs.up_to(extent.first.0, otherwise);
        runs.up_to(extent.first.0 + extent.blocks, status(extent.kind));
        Ok(runs.runs.len() < EXTENTS_MAX)
    })?;
    if runs.runs.len() < EXTENTS_MAX {
        runs.up_to(blocks.end, otherwise);
    }
    Ok(runs.runs)
}
