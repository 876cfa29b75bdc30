//! What a check found.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// What does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscrepancyKind {
    /// A key or value does not follow the format, or the store could not read it.
    Unreadable,
    /// The catalog does not know the layer, snapshot or other object that a key names.
    Unknown,
    /// A birth or an interval that can't be: 0, not below the pool's epoch, or not in order.
    Epoch,
    /// A block outside the data area is mapped, or has its bit set.
    OutsideDataArea,
    /// A physical block has two owners.
    MappedTwice,
    /// A physical block has an owner, but the bitmap says that it is free.
    NotAllocated,
    /// The bitmap says that a block is in use, but nothing owns it.
    Leaked,
    /// An inherited entry is not what the origin maps.
    Inherited,
    /// A dead entry is not in the undo record of its interval.
    DeadWithoutUndo,
    /// A dead entry, an undo record or a head's block that no snapshot needs, deleted or not.
    Unneeded,
    /// A live snapshot sees a displaced block that is not kept for it.
    UndoWithoutDead,
    /// A clone's page has undo records but no head page.
    UndoWithoutHead,
    /// A keyframe is not what the records after it say.
    Keyframe,
    /// The changed index does not know of a change.
    ChangeMissing,
    /// A count of mapped blocks is wrong or missing.
    Usage,
    /// A block does not hold what its checksum says.
    Checksum,
    /// A block could not be read.
    UnreadableBlock,
}

/// One thing that does not agree with the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discrepancy {
    /// What does not agree.
    pub kind: DiscrepancyKind,
    /// The key, the blocks or the object that it was found at.
    pub subject: String,
    /// The values that contradict each other.
    pub detail: String,
}

/// What a check looked at, and what does not agree.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Layers in the catalog.
    pub layers: u64,
    /// Snapshots in the catalog, those being reclaimed too.
    pub snapshots: u64,
    /// Head pages read.
    pub head_pages: u64,
    /// Undo records read.
    pub undo_records: u64,
    /// Records of the changed index read.
    pub changed_records: u64,
    /// Dead records read.
    pub dead_records: u64,
    /// Blocks that heads own.
    pub head_blocks: u64,
    /// Blocks that dead entries own.
    pub dead_blocks: u64,
    /// Blocks that the bitmap says are in use.
    pub allocated_blocks: u64,
    /// Blocks in use that nothing owns.
    pub leaked_blocks: u64,
    /// Blocks whose checksum was verified and right.
    pub verified_blocks: u64,
    /// Nothing kept a pass from reaching its end. When it is false, leaks and counts were not looked for.
    pub is_complete: bool,
    /// Discrepancies found, listed or not.
    pub discrepancies_total: u64,
    /// The first of them.
    pub discrepancies: Vec<Discrepancy>,
}

impl CheckReport {
    /// Whether everything agrees.
    pub fn is_clean(&self) -> bool {
        self.discrepancies_total == 0 && self.is_complete
    }
}

/// A report in the making.
pub(super) struct Findings {
    pub(super) counts: CheckReport,
    discrepancies_max: usize,
}

impl Findings {
    pub(super) fn new(discrepancies_max: usize) -> Self {
        Self { counts: CheckReport { is_complete: true, ..CheckReport::default() }, discrepancies_max }
    }

    pub(super) fn add(&mut self, kind: DiscrepancyKind, subject: impl Display, detail: impl Display) {
        self.counts.discrepancies_total += 1;
        if self.counts.discrepancies.len() < self.discrepancies_max {
            let (subject, detail) = (subject.to_string(), detail.to_string());
            self.counts.discrepancies.push(Discrepancy { kind, subject, detail });
        }
    }

    pub(super) fn finish(self) -> CheckReport {
        self.counts
    }
}
