//! Whether everything in the pool's metadata agrees, while the pool is in use.

use std::path::PathBuf;

use firn_engine::check::CheckReport;
use firn_engine::error::Error;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::report::Report;
use super::{LongOperation, Route, Served, Told};

/// A check of the metadata.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolCheck {}

/// A check tells nothing before it is done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Checking {}

/// What a check found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Checked {
    /// The file or block device.
    #[schema(value_type = String)]
    pub(crate) path: PathBuf,
    /// Everything agrees.
    pub(crate) is_sound: bool,
    /// What was counted, and the first thousand discrepancies: each has a kind, a subject and a detail.
    #[serde(flatten)]
    pub(crate) report: Report,
}

impl Checked {
    pub(crate) fn new(path: PathBuf, report: CheckReport) -> Self {
        Self { path, is_sound: report.is_clean(), report: Report(report) }
    }
}

impl LongOperation for PoolCheck {
    type Event = Checking;
    type View = Checked;
    const ROUTE: Route = Route::post("/v1/pool/check", "Check that everything in the pool's metadata agrees");

    fn run(self, served: &Served, _told: &mut dyn Told<Checking>) -> Result<Checked, Error> {
        Ok(Checked::new(served.path.clone(), served.pool.check_metadata()?))
    }
}
