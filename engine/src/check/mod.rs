//! The offline check: whether everything that the store says of the map agrees, and on request whether every block
//! still holds what its checksum says.
//!
//! 1. An owner of a physical block is a head entry born after its layer's origin, or a dead entry. Each block of the
//!    data area has one owner and its bit in the bitmap set, or none and its bit clear.
//! 2. A head entry, or an undo entry, not born after the layer's origin is what the origin maps there.
//! 3. A dead entry is what the undo record of its layer, page and interval displaced, and a live snapshot sees it;
//!    what only deleted snapshots see is there as long as they are being reclaimed. And the other way round: what an
//!    undo record displaced and a live snapshot sees is a dead entry.
//! 4. An undo record displaces only what the changed index says was changed; a keyframe agrees with what comes after
//!    it, wherever a live snapshot reads it; what a head holds since a live snapshot was changed since.
//! 5. The counts of mapped blocks are those of the map.
//! 6. Nothing names a layer, a snapshot or an epoch that the catalog does not know.
//!
//! What can't be read is one more discrepancy, not the end of the check. Memory: two bits for each block of the pool,
//! the undo records of one page, the names of the intervals, and a bounded list of discrepancies.

mod blocks;
mod dead;
mod layer;
mod page;
mod report;
mod scan;
#[cfg(test)]
mod tests;
mod undo;
mod usage;

use std::collections::BTreeMap;
use std::ops::Range;

pub use report::{CheckReport, Discrepancy, DiscrepancyKind};

use crate::catalog::Catalog;
use crate::error::{Kind, Result};
use crate::map::store::StoreView;
use crate::units::{Epoch, LayerId, PhysicalBlock};

/// Reads consecutive blocks of the device into a buffer of as many times 4096 bytes.
pub type ReadBlocks<'a> = dyn FnMut(PhysicalBlock, u64, &mut [u8]) -> Result<()> + 'a;

/// What is checked, and how much is told.
pub struct CheckOptions<'a> {
    /// Discrepancies that are listed; all are counted.
    pub discrepancies_max: usize,
    /// Reads the data, to verify the checksum of every block that has an owner; `None` checks metadata only.
    pub read: Option<&'a mut ReadBlocks<'a>>,
}

impl Default for CheckOptions<'_> {
    fn default() -> Self {
        Self { discrepancies_max: 1000, read: None }
    }
}

/// Checks the state that `view` shows. `catalog` is the one loaded from the same state (or the one in memory, when
/// nothing happened since that checkpoint), accepted by [`Catalog::loaded`]; `area` is the data area.
///
/// # Errors
/// What the store said when it could not be read at all. Damage is reported, not returned.
pub fn check(
    view: &StoreView<'_>,
    catalog: &Catalog,
    area: Range<PhysicalBlock>,
    options: CheckOptions<'_>,
) -> Result<CheckReport> {
    let mut layers = layer::facts(catalog);
    let mut run = Run {
        view,
        catalog,
        epoch: catalog.epoch(),
        report: report::Findings::new(options.discrepancies_max),
        blocks: blocks::Blocks::new(area),
        read: options.read,
    };
    run.report.counts.layers = layers.len() as u64;
    run.report.counts.snapshots = catalog.snapshots.len() as u64;
    run.pass("bitmap", &mut layers, |run, _| run.load_bitmap())?;
    run.pass("changed", &mut layers, |run, layers| run.changed(layers))?;
    run.pass("head and history", &mut layers, |run, layers| run.pages(layers))?;
    run.pass("dead", &mut layers, |run, layers| run.dead(layers))?;
    run.pass("catalog", &mut layers, |run, layers| run.counters(layers))?;
    run.report_leaks();
    Ok(run.report.finish())
}

type Layers = BTreeMap<LayerId, layer::LayerFacts>;

/// One check under way.
struct Run<'v, 'r> {
    view: &'v StoreView<'v>,
    catalog: &'v Catalog,
    /// The epoch that a write made now would be born in.
    epoch: Epoch,
    report: report::Findings,
    blocks: blocks::Blocks,
    read: Option<&'r mut ReadBlocks<'r>>,
}

impl Run<'_, '_> {
    /// Does one pass. When the store itself is damaged the pass ends, and the check goes on with the next.
    fn pass(
        &mut self,
        name: &str,
        layers: &mut Layers,
        work: impl FnOnce(&mut Self, &mut Layers) -> Result<()>,
    ) -> Result<()> {
        match work(self, layers) {
            Err(error) if error.kind() == Kind::Damaged => {
                self.report.counts.is_complete = false;
                self.report.add(DiscrepancyKind::Unreadable, name, error.to_string());
                Ok(())
            }
            result => result,
        }
    }
}
