//! What changed between two points of a volume, exact to the block; and what one point maps.
//!
//! 1. Every answer is about one checkpoint: the view of the store and the catalog are of the same state. The caller
//!    made that checkpoint and keeps both points from being deleted while it asks.
//! 2. Layers form a tree. Two points have a lowest common point, where their chains of origins meet; what changed is
//!    what the intervals on the two paths from there say. It needs no snapshot at the common point.
//! 3. A block changed on a path is, at the path's end, what its last change made of it, and at the common point what
//!    its first change found. So the state at either end follows from masks alone; no map page is read.
//! 4. A block that was written or unmapped on either path is reported unless it is a hole at both points; no other
//!    block is. It may hold the same bytes: a delta knows of writes, not of contents.
//! 5. The cost is that of the changes, not of what exists: an interval without changes in the range costs one seek,
//!    a window without changes none. Memory is bounded by `window::RECORDS_MAX` and the number of intervals.

mod allocation;
mod extent;
#[cfg(test)]
pub(crate) mod model;
mod path;
#[cfg(test)]
mod tests;
mod window;

use std::ops::Range;

pub use allocation::allocation;
pub use extent::{DeltaExtent, ExtentKind};
pub use path::Point;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::map::store::StoreView;
use crate::units::{BLOCK_BYTES, BlockIndex};

/// Shows `visit` every extent of `range` that differs between two points, in block order, neighbours of one kind
/// merged, until it says stop (`false`). The kind is the state at `newer`. The points may be given in either order
/// of time.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when the points share no origin,
/// [`Kind::NotFound`](crate::error::Kind::NotFound) when one does not exist, or what the store or `visit` said.
pub fn delta(
    view: &StoreView<'_>,
    catalog: &Catalog,
    older: Point,
    newer: Point,
    range: Range<BlockIndex>,
    visit: impl FnMut(DeltaExtent) -> Result<bool>,
) -> Result<()> {
    let segments = path::segments(catalog, older, newer)?;
    let pages = extent::pages(&range);
    let mut extents = extent::Extents::new(range, visit);
    let mut windows = window::Windows::new(view, segments, pages)?;
    while windows.next()? {
        for (page, masks) in windows.pages() {
            if !extents.page(page, masks.data(), masks.holes())? {
                return Ok(());
            }
        }
    }
    extents.finish()
}

/// How much a delta reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangedBytes {
    /// Bytes that hold data at the newer point.
    pub data: u64,
    /// Bytes that became holes.
    pub holes: u64,
}

/// Adds up a delta.
///
/// # Errors
/// As [`delta`].
pub fn changed_bytes(
    view: &StoreView<'_>,
    catalog: &Catalog,
    older: Point,
    newer: Point,
    range: Range<BlockIndex>,
) -> Result<ChangedBytes> {
    let mut sum = ChangedBytes::default();
    delta(view, catalog, older, newer, range, |extent| {
        match extent.kind {
            ExtentKind::Data => sum.data += extent.blocks * BLOCK_BYTES,
            ExtentKind::Hole => sum.holes += extent.blocks * BLOCK_BYTES,
        }
        Ok(true)
    })?;
    Ok(sum)
}
