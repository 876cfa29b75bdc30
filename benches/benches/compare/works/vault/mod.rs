//! What the vault reaches, beside restic, borg and `qemu-img convert` on the same data in the same run.
//!
//! 1. The volume is in a pool of this process; the peers' image is a raw file that every write goes to as well.
//! 2. The order rotates from round to round. Before each timed piece everything is on the disk (`sync`), after each
//!    restore the file is synced within the time.
//! 3. No page cache is dropped: peers find the image there, and everybody finds what it stored. firn reads its pool
//!    from the disk, past the cache. restic always encrypts; firn and borg don't here. A peer's time includes the start
//!    of its process, in which restic derives its key and borg loads Python; firn runs in this one.
//! 4. What firn restores is compared with the image to the byte, outside of the time.

mod contest;
mod counting;
mod data;
mod firn;
mod memory;
mod pages;
mod peers;
mod sent_bytes;
mod watch;

use anyhow::Result;
use firn_engine::sys::{Clock, SystemClock};

use self::pages::Content;
use crate::settings::Settings;
use crate::table::Row;

pub(super) use self::memory::run as memory;
pub(crate) use self::memory::{COMPACT, compact};
pub(super) use self::sent_bytes::run as bytes;

/// Pages as databases write them.
pub(super) fn database(settings: &Settings) -> Result<Vec<Row>> {
    contest::run(settings, Content::Database, "database pages")
}

/// Pages that nobody can make smaller.
pub(super) fn incompressible(settings: &Settings) -> Result<Vec<Row>> {
    contest::run(settings, Content::Noise, "incompressible")
}

/// How long `work` takes, in seconds.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = SystemClock.monotonic();
    let done = work()?;
    Ok(((SystemClock.monotonic() - start).as_secs_f64(), done))
}
