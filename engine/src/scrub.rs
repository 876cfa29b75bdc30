//! The online scrub: reads every block that a volume or a snapshot maps, each once, while the pool is in use, and
//! tells which are damaged.
//!
//! 1. Blocks are read through the core, as any reader does: what is overwritten meanwhile is no damage.
//! 2. A volume's head is read as what it maps beyond its origin; a snapshot as what changed after it. Together that
//!    is every block once, whatever is shared.
//! 3. The cursor names what is done; a scrub that goes on from it reads the rest.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Head, SnapshotKey};
use crate::core::Target;
use crate::delta::{DeltaExtent, ExtentKind, Point, allocation, delta};
use crate::error::{Kind, Result};
use crate::pool::Pool;
use crate::sys::Clock;
use crate::units::{BLOCK_BYTES, BLOCK_LEN, BlockIndex, LayerId};

/// Blocks read at once.
const READ_BLOCKS: u64 = 256;
/// Damaged blocks that are listed; all are counted.
const DAMAGED_MAX: usize = 1000;

/// How far a scrub came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubCursor {
    /// Views of layers before this one are done.
    pub layer: u32,
    /// Snapshots of the layer from this epoch on are done; `None` when its head is not done either.
    pub epoch: Option<u32>,
    /// Blocks of the view under way before this one are done.
    pub block: u64,
}

/// How a scrub goes about it.
#[derive(Clone, Debug, Default)]
pub struct ScrubOptions {
    /// Most bytes read in a second; `None` for as fast as it goes.
    pub bytes_per_second: Option<u64>,
    /// Where to go on.
    pub resume: ScrubCursor,
}

/// A damaged block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedBlock {
    /// The volume's name.
    pub volume: String,
    /// The newest snapshot that sees it; `None` for the volume itself.
    pub snapshot: Option<String>,
    /// Where it lies in the volume, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub detail: String,
}

/// What a scrub found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Bytes read.
    pub read_bytes: u64,
    /// Damaged blocks.
    pub damaged_blocks: u64,
    /// The first 1000 of them.
    pub damaged: Vec<DamagedBlock>,
    /// How far it came.
    pub cursor: ScrubCursor,
    /// Everything was read.
    pub complete: bool,
}

/// A view whose own blocks are read: what it maps that `beside` does not.
struct Step {
    point: Point,
    beside: Option<Point>,
    target: Target,
    blocks: u64,
    volume: String,
    snapshot: Option<String>,
}

impl Pool {
    /// Reads every block, with the present data in use, and reports which are damaged. `progress` is called after
    /// each read; when it says `false` the scrub ends where it is, and its report's cursor says where to go on.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] after the pool was closed or when the metadata can't be read. Damaged data is in the
    /// report and is no error.
    pub fn scrub(
        &self,
        options: &ScrubOptions,
        clock: &dyn Clock,
        mut progress: impl FnMut(&ScrubReport) -> bool,
    ) -> Result<ScrubReport> {
        self.checkpoint()?;
        let catalog = self.handle().look(|core| core.catalog().clone())?;
        let began = clock.monotonic();
        let mut report = ScrubReport { cursor: options.resume, ..ScrubReport::default() };
        for step in steps(&catalog, &options.resume) {
            let cursor = ScrubCursor {
                layer: step.point.layer.0,
                epoch: step.point.at.map(|epoch| epoch.0),
                block: 0,
            };
            let resumed = options.resume.layer == cursor.layer && options.resume.epoch == cursor.epoch;
            report.cursor = ScrubCursor { block: if resumed { options.resume.block } else { 0 }, ..cursor };
            let ended = self.scrub_view(&catalog, &step, &mut report, |report| {
                if let Some(rate) = options.bytes_per_second.filter(|rate| *rate > 0) {
                    let due = Duration::from_millis(report.read_bytes.saturating_mul(1000) / rate);
                    let early = due.saturating_sub(clock.monotonic().saturating_sub(began));
                    std::thread::park_timeout(early);
                }
                progress(report)
            })?;
            if !ended {
                return Ok(report);
            }
        }
        report.complete = true;
        Ok(report)
    }

    fn scrub_view(
        &self,
        catalog: &Catalog,
        step: &Step,
        report: &mut ScrubReport,
        mut go_on: impl FnMut(&ScrubReport) -> bool,
    ) -> Result<bool> {
        let mut ended = true;
        let walked = self.handle().walk(|view| {
            let range = BlockIndex(report.cursor.block)..BlockIndex(step.blocks);
            let mut visit = |extent: DeltaExtent| {
                let mut block = extent.first.0;
                let end = extent.first.0 + extent.blocks;
                while extent.kind == ExtentKind::Data && block < end && ended {
                    let count = READ_BLOCKS.min(end - block);
                    self.scrub_blocks(step, block..block + count, report)?;
                    block += count;
                    report.cursor.block = block;
                    ended = go_on(report);
                }
                Ok(ended)
            };
            match step.beside {
                Some(beside) => delta(view, catalog, beside, step.point, range, &mut visit),
                None => allocation(view, catalog, step.point, range, &mut visit),
            }
        });
        match walked {
            // Deleted meanwhile, and its room given back: nothing of it is left to read.
            Err(error) if error.kind() == Kind::NotFound => Ok(true),
            other => other.map(|()| ended),
        }
    }

    fn scrub_blocks(&self, step: &Step, blocks: Range<u64>, report: &mut ScrubReport) -> Result<()> {
        let count = usize::try_from(blocks.end - blocks.start).unwrap_or(0);
        let mut buffer = vec![0; count * BLOCK_LEN];
        report.read_bytes += buffer.len() as u64;
        let whole = self.handle().read(step.target, blocks.start * BLOCK_BYTES, &mut buffer);
        let error = match whole {
            Ok(()) => return Ok(()),
            // The volume shrank or went, or the snapshot did.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => return Ok(()),
            Err(error) => error,
        };
        if count > 1 {
            return blocks
                .into_iter()
                .try_for_each(|block| self.scrub_blocks(step, block..block + 1, report));
        }
        if self.handle().look(|_| ()).is_err() {
            return Err(error);
        }
        report.damaged_blocks += 1;
        if report.damaged.len() < DAMAGED_MAX {
            report.damaged.push(DamagedBlock {
                volume: step.volume.clone(),
                snapshot: step.snapshot.clone(),
                offset: blocks.start * BLOCK_BYTES,
                detail: error.to_string(),
            });
        }
        Ok(())
    }
}

/// The views to read, layer by layer: the head first, then the snapshots from the newest to the oldest.
fn steps(catalog: &Catalog, resume: &ScrubCursor) -> Vec<Step> {
    let mut steps = Vec::new();
    for layer in catalog.layers().filter(|layer| layer.id >= LayerId(resume.layer)) {
        let origin = layer.origin.map(|origin| Point::from(SnapshotKey::from(origin)));
        let volume = catalog.volume(layer.volume).ok();
        let mut next = None;
        if let (Head::Live, Some(volume)) = (layer.head, volume) {
            next = Some(Point::head(layer.id));
            steps.push(Step {
                point: Point::head(layer.id),
                beside: origin,
                target: Target::Volume(volume.id),
                blocks: volume.bytes / BLOCK_BYTES,
                volume: volume.name.clone(),
                snapshot: None,
            });
        }
        for epoch in catalog.live_epochs(layer.id).into_iter().rev() {
            let key = SnapshotKey { layer: layer.id, epoch };
            let Ok(snapshot) = catalog.snapshot(key) else { continue };
            let beside = next.or(origin);
            next = Some(Point::from(key));
            steps.push(Step {
                point: Point::from(key),
                beside,
                target: Target::Snapshot(key),
                blocks: snapshot.bytes / BLOCK_BYTES,
                volume: volume.map(|volume| volume.name.clone()).unwrap_or_default(),
                snapshot: Some(snapshot.name.clone()),
            });
        }
    }
    let done = steps
        .iter()
        .position(|step| {
            let is_left = match (step.point.at, resume.epoch) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(epoch), Some(done_to)) => epoch.0 <= done_to,
            };
            step.point.layer.0 > resume.layer || is_left
        })
        .unwrap_or(0);
    steps.split_off(done)
}
