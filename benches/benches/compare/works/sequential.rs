//! 1 MiB sequential writes and reads, 4 under way.

use std::time::Duration;

use anyhow::Result;

use crate::figure;
use crate::load::{Load, Pattern, Stop};
use crate::pairs::Pairs;
use crate::place::{Place, filled_volume};
use crate::raw::{Raw, RawWork};
use crate::settings::Settings;
use crate::table::Row;

pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let raw = Raw::create(&place, settings)?;
    let pool = place.pool(settings.file_bytes * 3)?;
    let volume = filled_volume(&pool, "volume", settings.file_bytes)?;
    let stop = Stop::After(Duration::from_secs(settings.seconds));
    let mut rows = Vec::new();
    for (kind, pattern) in [("write", Pattern::SequentialWrite), ("read", Pattern::SequentialRead)] {
        let work = RawWork { kind, block_bytes: 1 << 20, depth: 4, jobs: 1, sync: false };
        let load = Load::large(volume.id(), settings.file_bytes, pattern, stop);
        let bytes = figure::float(load.request_bytes);
        let pairs =
            Pairs::measure(settings, || Ok(raw.run(&work)? * bytes), || Ok(load.run(&pool)?.rate() * bytes))?;
        rows.push(pairs.row(&format!("1 MiB sequential {kind}, depth 4"), 0.85, figure::bandwidth));
    }
    Ok(rows)
}
