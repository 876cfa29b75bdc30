//! Memory over ten minutes of random writes with a snapshot every half minute, against what the options allow.

use std::time::Duration;

use anyhow::Result;
use firn_engine::catalog::Tags;
use firn_engine::pool::PoolOptions;

use crate::figure::{self, float};
use crate::load::{Load, Pattern, Stop};
use crate::place::{Place, filled_volume};
use crate::process;
use crate::settings::Settings;
use crate::table::Row;

/// Between two looks.
const PIECE: Duration = Duration::from_secs(30);

pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let pool = place.pool(settings.file_bytes * 4)?;
    let volume = filled_volume(&pool, "volume", settings.file_bytes)?;
    let most = PoolOptions::default().memory_bytes_max(settings.file_bytes * 4);
    let mut load =
        Load::small(volume.id(), settings.file_bytes, Pattern::RandomWrite, 32, Stop::After(PIECE));
    let mut curve = Vec::new();
    println!(
        "    seconds   process   shared memory   caches and changes   metadata store   writes/s   mean device write"
    );
    for piece in 1..=settings.memory_seconds.div_ceil(PIECE.as_secs()) {
        load.seed += 1;
        let snapshot = volume.snapshot(&format!("piece-{piece}"), Tags::new())?;
        let before = pool.status()?.statistics;
        let reached = load.run(&pool)?;
        snapshot.delete()?;
        let (status, anonymous) = (pool.status()?, process::anonymous_bytes()?);
        let shared = status.memory_bytes - status.statistics.cache_bytes - status.statistics.overlay_bytes;
        println!(
            "    {:>7} {:>9} {:>15} {:>20} {:>16} {:>10} {:>15.1} KiB",
            piece * PIECE.as_secs(),
            figure::mebibytes(float(anonymous)),
            figure::mebibytes(float(shared)),
            figure::mebibytes(float(status.memory_bytes - shared)),
            figure::mebibytes(float(status.metadata_memory_bytes)),
            figure::rate(reached.rate()),
            float(status.statistics.data_bytes_written - before.data_bytes_written)
                / float((status.statistics.data_writes - before.data_writes).max(1))
                / 1024.0,
        );
        curve.push(float(anonymous + shared));
    }
    let peak = curve.iter().copied().fold(0.0, f64::max);
    let work = format!("memory, {} s of random writes", settings.memory_seconds);
    Ok(vec![Row::at_most(&work, peak, float(most), figure::mebibytes)])
}
