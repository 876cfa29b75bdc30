//! A 4 KiB random write, then a flush, then the next: by one writer and by 16.

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
    let pool = place.pool(settings.file_bytes * 2)?;
    let volume = filled_volume(&pool, "volume", settings.file_bytes)?;
    let stop = Stop::After(Duration::from_secs(settings.seconds));
    let mut rows = Vec::new();
    for (writers, target) in [(1, 0.85), (16, 1.2)] {
        let work = RawWork { kind: "randwrite", block_bytes: 4096, depth: 1, jobs: writers, sync: true };
        let small = Load::small(volume.id(), settings.file_bytes, Pattern::RandomWrite, writers, stop);
        let mut load = Load { flush_each: true, ..small };
        let pairs = Pairs::measure(
            settings,
            || raw.run(&work),
            || {
                load.seed += 1;
                Ok(load.run(&pool)?.rate())
            },
        )?;
        let writers = if writers == 1 { "1 writer".to_owned() } else { format!("{writers} writers") };
        rows.push(pairs.row(&format!("4 KiB write + flush, {writers}"), target, figure::rate));
    }
    Ok(rows)
}
