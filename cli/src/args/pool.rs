//! `firn pool ...`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::size::Size;

/// What is done to a pool.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolVerb {
    /// Create a pool on a file, which is made, or on a block device
    Create(PoolCreate),
    /// Show how the pool is doing
    Status,
    /// Make the pool larger
    Grow(PoolGrow),
    /// Check that everything in the pool's metadata agrees
    ///
    /// A daemon checks it while the pool is in use. Without a daemon nobody may have the pool open meanwhile, what is
    /// checked is the last checkpoint, and nothing on the device is changed. A pool that is not sound ends this with
    /// exit status 5.
    Check {
        /// Read all data too, and compare it with its checksums; not through a daemon, where `pool scrub` does it
        #[arg(long)]
        data: bool,
    },
    /// Read every block once, and find those that are damaged
    ///
    /// The pool may be in use. Damage ends this with exit status 5.
    Scrub(PoolScrub),
}

/// `firn pool create`
#[derive(Debug, Args)]
pub(crate) struct PoolCreate {
    /// The file or block device [default: what --pool says]
    pub(crate) path: Option<PathBuf>,
    /// The size of the file; a block device is used whole
    #[arg(long)]
    pub(crate) size: Option<Size>,
    /// Write zeros through the file now
    ///
    /// Later writes then never wait for the file system to find room, and the room can't be taken by anyone else.
    #[arg(long)]
    pub(crate) preallocate: bool,
    /// The size of the journal [default: 256M, less in a pool below 4G]
    #[arg(long, value_name = "SIZE")]
    pub(crate) journal: Option<Size>,
    /// Take a file, block device or metadata directory that is in use, and lose what is in it
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `firn pool grow`
#[derive(Debug, Args)]
pub(crate) struct PoolGrow {
    /// The size it is to have then
    #[arg(long)]
    pub(crate) size: Size,
    /// Write zeros through the new part now
    #[arg(long)]
    pub(crate) preallocate: bool,
}

/// `firn pool scrub`
#[derive(Debug, Args)]
pub(crate) struct PoolScrub {
    /// The most that is read in a second
    #[arg(long, value_name = "SIZE")]
    pub(crate) rate: Option<Size>,
    /// Keep in this file how far it came, and go on from there; the file is removed when all was read
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
}
