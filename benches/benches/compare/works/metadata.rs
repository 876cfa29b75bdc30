//! What the metadata store takes on disk, against the data: written in order, and written at random.

use anyhow::Result;
use firn_engine::catalog::Tags;
use firn_engine::pool::Pool;
use firn_engine::units::BLOCK_BYTES;

use crate::figure::{self, float};
use crate::load::{Load, Pattern, Stop};
use crate::place::Place;
use crate::settings::Settings;
use crate::table::Row;

pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let bytes = settings.file_bytes;
    let place = Place::create(settings)?;
    let pool = place.pool(bytes * 3)?;
    let volume = pool.create_volume("volume", bytes, Tags::new())?;
    println!("  writing in order");
    Load::large(volume.id(), bytes, Pattern::SequentialWrite, Stop::Operations(bytes >> 20)).run(&pool)?;
    let sequential = share(&pool)?;
    println!("  writing at random");
    // Four times over: one block in fifty stays where it was in order.
    let stop = Stop::Operations(4 * bytes / BLOCK_BYTES);
    Load::small(volume.id(), bytes, Pattern::RandomWrite, 32, stop).run(&pool)?;
    let random = share(&pool)?;
    Ok(vec![
        Row::at_most("metadata of data written in order", sequential, 0.004, figure::percent),
        Row::at_most("metadata of data written at random", random, 0.008, figure::percent),
    ])
}

/// The files of the metadata store against what is mapped. Nothing is compacted for the occasion.
fn share(pool: &Pool) -> Result<f64> {
    pool.checkpoint()?;
    let status = pool.status()?;
    Ok(float(status.metadata_disk_bytes) / float(status.used_bytes))
}
