//! A delta of 1 GiB changed at random in a 1 TiB volume, exact to the block.

use anyhow::{Result, ensure};
use firn_engine::catalog::Tags;
use firn_engine::delta::ExtentKind;
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::sys::{Clock, SystemClock};
use firn_engine::units::{BLOCK_BYTES, BlockIndex};

use crate::figure::{self, median};
use crate::load::{Load, Pattern, Stop};
use crate::place::Place;
use crate::random::Random;
use crate::settings::Settings;
use crate::table::Row;

const VOLUME_BYTES: u64 = 1 << 40;
const CHANGED_BYTES: u64 = 1 << 30;
const SEED: u64 = 7;

pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let create = CreateOptions { bytes: Some(8 << 30), ..CreateOptions::default() };
    let pool = Pool::create(&place.path("pool"), &create, &PoolOptions::default())?;
    let volume = pool.create_volume("volume", VOLUME_BYTES, Tags::new())?;
    let older = volume.snapshot("older", Tags::new())?;
    let blocks = CHANGED_BYTES / BLOCK_BYTES;
    println!("  writing 1 GiB at random into 1 TiB");
    let load = Load::small(volume.id(), VOLUME_BYTES, Pattern::RandomWrite, 32, Stop::Operations(blocks));
    Load { seed: SEED, ..load }.run(&pool)?;
    let newer = volume.snapshot("newer", Tags::new())?;
    pool.checkpoint()?;
    let wanted = places(blocks);
    let mut times = Vec::new();
    for _ in 0..settings.rounds {
        let mut found = Vec::new();
        let start = SystemClock.monotonic();
        newer.changes_since(&older, BlockIndex(0)..BlockIndex(VOLUME_BYTES / BLOCK_BYTES), |extent| {
            ensure_data(extent.kind)?;
            found.extend(extent.first.0..extent.first.0 + extent.blocks);
            Ok(true)
        })?;
        times.push((SystemClock.monotonic() - start).as_secs_f64());
        ensure!(found == wanted, "the delta has {} blocks, not the {} written", found.len(), wanted.len());
    }
    Ok(vec![Row::at_most("delta, 1 GiB changed in 1 TiB", median(&times), 1.0, figure::time)])
}

fn ensure_data(kind: ExtentKind) -> firn_engine::error::Result<()> {
    use firn_engine::error::{Error, Kind};
    match kind {
        ExtentKind::Data => Ok(()),
        ExtentKind::Hole => Err(Error::new(Kind::Bug, "compare", "a hole where only data was written")),
    }
}

/// The blocks that the load wrote, each once, in order.
fn places(operations: u64) -> Vec<u64> {
    let mut random = Random::new(SEED);
    // The load fills its buffers with numbers of the same row, a buffer before each of its first requests.
    let mut places: Vec<u64> = Vec::new();
    for operation in 0..operations {
        if operation < 32 {
            random.bytes(usize::try_from(BLOCK_BYTES).unwrap_or(4096));
        }
        places.push(random.below(VOLUME_BYTES / BLOCK_BYTES));
    }
    places.sort_unstable();
    places.dedup();
    places
}
