//! What changed between two points.

use firn_engine::delta::ExtentKind;
use firn_engine::error::Error;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LongOperation, Route, Served, Told};
use crate::extents::{Extent, View};
use crate::name::{PointName, SnapshotName};

/// Two points to compare.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delta {
    /// The older one, such as pg@monday.
    #[schema(value_type = String)]
    pub(crate) older: SnapshotName,
    /// The newer one: a snapshot, or the volume as it is now.
    #[schema(value_type = String)]
    pub(crate) newer: PointName,
    /// Tell each extent that changed.
    #[serde(default)]
    pub(crate) extents: bool,
}

/// A range of bytes that changed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ChangedExtent {
    /// Where it begins in the volume.
    pub(crate) offset: u64,
    /// How long it is.
    pub(crate) length: u64,
    /// What is there at the newer point.
    pub(crate) kind: Content,
}

/// What is in a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// What was written.
    Data,
    /// Zeros that take no room.
    Hole,
}

/// How much changed.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub(crate) struct Changed {
    /// The older point.
    pub(crate) older: String,
    /// The newer point.
    pub(crate) newer: String,
    /// Data and holes together.
    pub(crate) changed_bytes: u64,
    /// What holds data at the newer point.
    pub(crate) data_bytes: u64,
    /// What became a hole.
    pub(crate) hole_bytes: u64,
    /// How many extents that is.
    pub(crate) extents_total: u64,
}

impl Changed {
    fn add(&mut self, extent: Extent) {
        self.extents_total += 1;
        self.changed_bytes += extent.length;
        match extent.kind {
            ExtentKind::Data => self.data_bytes += extent.length,
            ExtentKind::Hole => self.hole_bytes += extent.length,
        }
    }
}

impl From<Extent> for ChangedExtent {
    fn from(extent: Extent) -> Self {
        let kind = match extent.kind {
            ExtentKind::Data => Content::Data,
            ExtentKind::Hole => Content::Hole,
        };
        Self { offset: extent.offset, length: extent.length, kind }
    }
}

impl LongOperation for Delta {
    type Event = ChangedExtent;
    type View = Changed;
    const ROUTE: Route = Route::get("/v1/delta", "What changed between two points, exact to 4 KiB");

    fn run(self, served: &Served, told: &mut dyn Told<ChangedExtent>) -> Result<Changed, Error> {
        let older = served.snapshot(&self.older)?;
        let newer = View::find(served, &self.newer)?;
        let (older_name, newer_name) = (self.older.to_string(), self.newer.to_string());
        let mut changed = Changed { older: older_name, newer: newer_name, ..Changed::default() };
        newer.changed_since(&older, |extent| {
            changed.add(extent);
            if self.extents { told.event(extent.into()) } else { told.listening() }
        })?;
        Ok(changed)
    }
}
