//! 4 KiB random writes, 32 under way, right after a snapshot and with 1,000 of them: against a volume of the same pool
//! that has none, in turn.

use std::time::Duration;

use anyhow::Result;
use firn_engine::catalog::Tags;
use firn_engine::pool::Pool;
use firn_engine::volume::Volume;

use crate::figure;
use crate::load::{Load, Pattern, Stop};
use crate::pairs::Pairs;
use crate::place::{Place, filled_volume};
use crate::settings::Settings;
use crate::table::Row;

/// The minute after a snapshot (the first, the thousandth), in pieces that alternate with the other volume's.
const PIECES: u64 = 12;
const PIECE: Duration = Duration::from_secs(5);
const SNAPSHOTS: u64 = 1_000;
/// Writes between two of them.
const BETWEEN: u64 = 64;

/// The minute after the first.
pub(crate) fn first(settings: &Settings) -> Result<Vec<Row>> {
    let minute = compare(settings, |_, kept| Ok(kept.snapshot("first", Tags::new()).map(drop)?))?;
    Ok(vec![minute.row("4 KiB random write, the minute after a snapshot", 0.95, figure::rate)])
}

/// The minute after the thousandth.
pub(crate) fn thousandth(settings: &Settings) -> Result<Vec<Row>> {
    let minute = compare(settings, |pool, kept| {
        let mut few = small(kept, settings, Stop::Operations(BETWEEN));
        for number in 0..SNAPSHOTS {
            few.seed += 1;
            few.run(pool)?;
            kept.snapshot(&format!("number-{number}"), Tags::new())?;
        }
        Ok(())
    })?;
    Ok(vec![minute.row("4 KiB random write, 1,000 snapshots", 0.95, figure::rate)])
}

/// Loads a volume of which `take` took snapshots, and one that has none.
fn compare(settings: &Settings, take: impl FnOnce(&Pool, &Volume) -> Result<()>) -> Result<Pairs> {
    let place = Place::create(settings)?;
    // Two volumes, a snapshot of one that is overwritten whole, and what waits for a checkpoint.
    let pool = place.pool(settings.file_bytes * 5)?;
    let plain = filled_volume(&pool, "plain", settings.file_bytes)?;
    let kept = filled_volume(&pool, "kept", settings.file_bytes)?;
    take(&pool, &kept)?;
    alternate(&pool, [&plain, &kept], settings, PIECES, PIECE)
}

fn small(volume: &Volume, settings: &Settings, stop: Stop) -> Load {
    Load::small(volume.id(), settings.file_bytes, Pattern::RandomWrite, 32, stop)
}

/// Loads both volumes in turn.
fn alternate(
    pool: &Pool,
    volumes: [&Volume; 2],
    settings: &Settings,
    pieces: u64,
    piece: Duration,
) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    for seed in 0..pieces {
        let [plain, kept] = volumes.map(|volume| {
            let load = small(volume, settings, Stop::After(piece));
            Load { seed: 1_000 + seed, ..load }.run(pool)
        });
        pairs.add(plain?.rate(), kept?.rate());
    }
    Ok(pairs)
}
