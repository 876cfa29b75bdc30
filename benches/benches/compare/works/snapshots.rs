//! Taking a snapshot of a 1 TiB volume that has none and of one that has 10,000; deleting one of the 10,000.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use firn_engine::catalog::Tags;
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::sys::{Clock, SystemClock};
use firn_engine::units::BLOCK_BYTES;
use firn_engine::volume::Volume;

use crate::figure::{self, float, quantile};
use crate::load::{Load, Pattern, Stop};
use crate::place::Place;
use crate::settings::Settings;
use crate::table::Row;

const VOLUME_BYTES: u64 = 1 << 40;
const SNAPSHOTS: u64 = 10_000;
/// Writes between two snapshots.
const BETWEEN: u64 = 16;
/// Snapshots that are timed on each of the two volumes.
const TIMED: u64 = 2_000;
/// Blocks that only one snapshot sees, in the two that are deleted.
const FREED: [u64; 2] = [256, 16_384];

pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let create = CreateOptions { bytes: Some(16 << 30), ..CreateOptions::default() };
    let pool = Pool::create(&place.path("pool"), &create, &PoolOptions::default())?;
    let few = pool.create_volume("few", VOLUME_BYTES, Tags::new())?;
    let many = pool.create_volume("many", VOLUME_BYTES, Tags::new())?;
    println!("  {SNAPSHOTS} snapshots of a 1 TiB volume");
    for number in 0..SNAPSHOTS {
        write(&pool, &many, BETWEEN, number)?;
        many.snapshot(&format!("number-{number}"), Tags::new())?;
    }
    let (mut none, mut ten_thousand) = (Vec::new(), Vec::new());
    for number in 0..TIMED {
        none.push(timed(&pool, &few, number)?);
        ten_thousand.push(timed(&pool, &many, number)?);
    }
    let [none, ten_thousand] = [none, ten_thousand].map(|mut times| quantile(&mut times, 99));
    let mut rows = vec![
        Row::at_most("snapshot creation, p99, no snapshot before", none, 0.005, figure::time),
        Row::at_most("snapshot creation, p99, 10,000 before", ten_thousand, 0.005, figure::time),
        Row::at_most("the second against the first", ten_thousand / none, 1.2, figure::ratio),
    ];
    rows.extend(deleted(&pool, &many)?);
    Ok(rows)
}

/// A few random writes.
fn write(pool: &Pool, volume: &Volume, blocks: u64, seed: u64) -> Result<()> {
    let stop = Stop::Operations(blocks);
    let load = Load::small(volume.id(), VOLUME_BYTES, Pattern::RandomWrite, blocks.min(16), stop);
    Load { seed: seed + 1, ..load }.run(pool).map(drop)
}

/// The seconds that a snapshot takes; it is deleted again, so that the number before the next is the same.
fn timed(pool: &Pool, volume: &Volume, number: u64) -> Result<f64> {
    write(pool, volume, BETWEEN, 1 << 32 | number)?;
    let start = SystemClock.monotonic();
    let snapshot = volume.snapshot("timed", Tags::new())?;
    let time = SystemClock.monotonic() - start;
    snapshot.delete()?;
    Ok(time.as_secs_f64())
}

/// Deletes two snapshots of many: the call's time, and what the metadata store is given to write for each, which is
/// the work in the background.
fn deleted(pool: &Pool, volume: &Volume) -> Result<Vec<Row>> {
    let mut calls = Vec::new();
    let mut work = Vec::new();
    for (index, &blocks) in FREED.iter().enumerate() {
        // Only the snapshot in the middle sees what is written here: it is overwritten before the next.
        let load = Load::small(
            volume.id(),
            blocks * BLOCK_BYTES,
            Pattern::SequentialWrite,
            16,
            Stop::Operations(blocks),
        );
        load.run(pool)?;
        let victim = volume.snapshot(&format!("victim-{index}"), Tags::new())?;
        load.run(pool)?;
        volume.snapshot(&format!("after-{index}"), Tags::new())?;
        settle(pool)?;
        let before = pool.status()?;
        let start = SystemClock.monotonic();
        victim.delete()?;
        calls.push((SystemClock.monotonic() - start).as_secs_f64());
        settle(pool)?;
        let after = pool.status()?;
        let freed = (after.free_bytes - before.free_bytes) / BLOCK_BYTES;
        if freed < blocks {
            bail!("deleting a snapshot that alone sees {blocks} blocks gave {freed} back");
        }
        work.push(
            float(after.statistics.checkpoint_bytes - before.statistics.checkpoint_bytes) / float(freed),
        );
    }
    let call = calls.iter().copied().fold(0.0, f64::max);
    Ok(vec![
        Row::at_most("deleting one of 10,000 snapshots returns in", call, 0.010, figure::time),
        Row::noted(
            "metadata written for each block freed: 256 freed, 16,384 freed",
            format!("{:.1} B, {:.1} B", work[0], work[1]),
        ),
    ])
}

/// Waits until nothing that was deleted takes room any more.
fn settle(pool: &Pool) -> Result<()> {
    let patience = SystemClock.monotonic() + Duration::from_secs(120);
    loop {
        pool.checkpoint()?;
        if !pool.handle().look(|core| core.catalog().has_reclaims())? && pool.status()?.waiting_bytes == 0 {
            return Ok(());
        }
        (SystemClock.monotonic() < patience).then_some(()).context("what was deleted does not come back")?;
    }
}
