//! 4 KiB random writes, 32 under way: how many, and what each costs the disk.

use std::time::Duration;

use anyhow::Result;
use firn_engine::units::BLOCK_BYTES;

use crate::figure::{self, float};
use crate::load::{Load, Pattern, Stop};
use crate::pairs::Pairs;
use crate::place::{Place, filled_volume};
use crate::process;
use crate::raw::{Raw, RawWork};
use crate::settings::Settings;
use crate::table::Row;

const RAW: RawWork<'_> = RawWork { kind: "randwrite", block_bytes: 4096, depth: 32, jobs: 1, sync: false };

pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let raw = Raw::create(&place, settings)?;
    let pool = place.pool(settings.file_bytes * 3)?;
    let volume = filled_volume(&pool, "volume", settings.file_bytes)?;
    let stop = Stop::After(Duration::from_secs(settings.seconds));
    let mut load = Load::small(volume.id(), settings.file_bytes, Pattern::RandomWrite, 32, stop);
    let (mut written, mut device, mut disk) = (0, 0, 0);
    let pairs = Pairs::measure(
        settings,
        || raw.run(&RAW),
        || {
            load.seed += 1;
            let before = (pool.status()?.statistics, process::written_bytes()?);
            let reached = load.run(&pool)?;
            // What a checkpoint does later belongs to these writes too.
            pool.checkpoint()?;
            let after = (pool.status()?.statistics, process::written_bytes()?);
            written += reached.operations * BLOCK_BYTES;
            device += after.0.data_bytes_written + after.0.journal_bytes_written
                - before.0.data_bytes_written
                - before.0.journal_bytes_written;
            disk += after.1 - before.1;
            Ok(reached.rate())
        },
    )?;
    let [device, disk] = [device, disk].map(|bytes| float(bytes) / float(written));
    Ok(vec![
        pairs.row("4 KiB random write, depth 32", 2.0, figure::rate),
        Row::at_most("bytes to the device for each written, depth 32", device, 1.15, figure::ratio),
        Row::noted("the same, with all that the metadata store writes", figure::ratio(disk)),
    ])
}
