//! Opening a pool again whose process died with a full journal.

use anyhow::{Result, ensure};
use firn_engine::catalog::Tags;
use firn_engine::core::CoreOptions;
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::sys::{Clock, SystemClock};
use firn_engine::units::BLOCK_BYTES;

use crate::figure::{self, float};
use crate::load::{Load, Pattern, Stop};
use crate::place::Place;
use crate::settings::Settings;
use crate::table::Row;

/// A sparse file.
const POOL_BYTES: u64 = 256 << 30;
const VOLUME_BYTES: u64 = 64 << 30;
/// What is written as data; the rest of the journal is filled with writes of zeros, which take no room.
const DATA_BYTES: u64 = 8 << 30;
/// Requests between two looks at the journal.
const PORTION: u64 = 100_000;

pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let path = place.path("pool");
    let create = CreateOptions { bytes: Some(POOL_BYTES), ..CreateOptions::default() };
    // No checkpoint empties it before it is full, nor does one to give room back: the pool is far larger than the data.
    let core = CoreOptions {
        checkpoint_journal_percent: 100,
        checkpoint_interval_ms: u64::MAX,
        overlay_bytes: 4 << 30,
        ..CoreOptions::default()
    };
    let filling = PoolOptions { core, ..PoolOptions::default() };
    let pool = Pool::create(&path, &create, &filling)?;
    let volume = pool.create_volume("volume", VOLUME_BYTES, Tags::new())?;
    println!("  filling the journal");
    let data = Stop::Operations(DATA_BYTES / BLOCK_BYTES);
    Load::small(volume.id(), VOLUME_BYTES, Pattern::RandomWrite, 32, data).run(&pool)?;
    let mut holes =
        Load::small(volume.id(), VOLUME_BYTES, Pattern::RandomHole, 32, Stop::Operations(PORTION));
    let share = loop {
        holes.seed += 1;
        holes.run(&pool)?;
        let statistics = pool.status()?.statistics;
        ensure!(statistics.checkpoints == 0, "a checkpoint emptied the journal");
        let share = float(statistics.journal_blocks) / float(statistics.journal_blocks_max);
        if share > 0.97 {
            break share;
        }
    };
    // As the death of the process: what is in shared memory stays there.
    drop(pool);
    let start = SystemClock.monotonic();
    let pool = Pool::open(&path, &PoolOptions::default())?;
    let seconds = (SystemClock.monotonic() - start).as_secs_f64();
    let recovery = pool.status()?.recovery;
    pool.close()?;
    let work = format!(
        "reopening after a kill, the journal {} full, {:.1} M records",
        figure::percent(share),
        float(recovery.records) / 1e6
    );
    Ok(vec![Row::at_most(&work, seconds, 5.0, figure::time)])
}
