//! The two copies of the superblock: at every moment at least one is whole, and a damaged one is mended.
//!
//! A copy that a newer firn wrote is not damaged: whatever the other one says, the pool is not ours to open.

use super::RecoveryReport;
use super::blocking::Blocking;
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{COPIES, NEWER_VERSION, Superblock};
use crate::units::{BLOCK_LEN, PhysicalBlock};

/// Writes both copies, one after the other, each synced.
pub(super) fn write(device: &mut Blocking<'_>, superblock: &Superblock) -> Result<()> {
    let bytes = superblock.encode();
    for copy in COPIES {
        device.write_bytes(PhysicalBlock(copy).offset(), &bytes)?;
        device.drain()?;
        device.sync()?;
    }
    Ok(())
}

type Copies = [std::result::Result<Superblock, String>; 2];

fn read_copies(device: &mut Blocking<'_>) -> Result<Copies> {
    let mut newer = false;
    let copies = COPIES.map(|copy| {
        let bytes =
            device.read(PhysicalBlock(copy).offset(), BLOCK_LEN as u64).map_err(|error| error.to_string())?;
        Superblock::decode(&bytes).map_err(|why| {
            newer |= why == NEWER_VERSION;
            why.0.to_owned()
        })
    });
    if newer {
        return Err(Error::new(Kind::Invalid, "open pool", NEWER_VERSION.0)
            .hint("open it with the firn that wrote it, or a newer one"));
    }
    Ok(copies)
}

/// The newer of the two; mends the other one when it is damaged.
pub(super) fn read(device: &mut Blocking<'_>, report: &mut RecoveryReport) -> Result<Superblock> {
    let copies = read_copies(device)?;
    let newest = copies.iter().flatten().max_by_key(|superblock| superblock.sequence).cloned();
    let Some(mut newest) = newest else {
        let whys: Vec<_> = copies.iter().filter_map(|copy| copy.as_ref().err()).cloned().collect();
        return Err(Error::new(
            Kind::Damaged,
            "open pool",
            format!("neither superblock can be read: {}", whys.join("; ")),
        )
        .hint("is this the pool's device or file?"));
    };
    if let [Ok(first), Ok(second)] = &copies
        && first.pool_id != second.pool_id
    {
        return Err(Error::new(Kind::Damaged, "open pool", "the two superblocks belong to different pools"));
    }
    if let Some(why) = copies.iter().find_map(|copy| copy.as_ref().err()) {
        report.repaired_superblock = true;
        report.notes.push(format!("a superblock was damaged and was written again: {why}"));
        // The lost copy may have been the newer one, and may have said that the pool is open: don't trust `clean`.
        newest.clean = None;
        newest.sequence += 1;
        write(device, &newest)?;
    }
    Ok(newest)
}

/// The superblock of a pool that is not open, to know whose it is.
///
/// # Errors
/// [`Kind::Damaged`] when neither copy can be read, [`Kind::Invalid`] when a newer firn wrote one.
pub fn read_superblock(device: &mut dyn Device) -> Result<Superblock> {
    let copies = read_copies(&mut Blocking::new(device))?;
    let why = copies.iter().find_map(|copy| copy.as_ref().err()).cloned();
    copies.into_iter().flatten().max_by_key(|superblock| superblock.sequence).ok_or_else(|| {
        Error::new(
            Kind::Damaged,
            "open pool",
            format!("no superblock can be read: {}", why.unwrap_or_default()),
        )
        .hint("is this the pool's device or file?")
    })
}
