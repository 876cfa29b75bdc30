//! 4 KiB random reads, 32 under way, every checksum verified.

use std::time::Duration;

use anyhow::Result;

use crate::figure;
use crate::load::{Load, Pattern, Stop};
use crate::pairs::Pairs;
use crate::place::{Place, filled_volume};
use crate::raw::{Raw, RawWork};
use crate::settings::Settings;
use crate::table::Row;

const RAW: RawWork<'_> = RawWork { kind: "randread", block_bytes: 4096, depth: 32, jobs: 1, sync: false };

pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let raw = Raw::create(&place, settings)?;
    let pool = place.pool(settings.file_bytes * 2)?;
    let volume = filled_volume(&pool, "volume", settings.file_bytes)?;
    let stop = Stop::After(Duration::from_secs(settings.seconds));
    let mut load = Load::small(volume.id(), settings.file_bytes, Pattern::RandomRead, 32, stop);
    let pairs = Pairs::measure(
        settings,
        || raw.run(&RAW),
        || {
            load.seed += 1;
            Ok(load.run(&pool)?.rate())
        },
    )?;
    Ok(vec![pairs.row("4 KiB random read, depth 32", 0.85, figure::rate)])
}
