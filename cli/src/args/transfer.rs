//! `firn delta`, `firn import` and `firn export`

use std::path::PathBuf;

use clap::Args;

use crate::name::{PointName, SnapshotName};
use crate::size::Size;

/// `firn delta`
#[derive(Debug, Args)]
pub(crate) struct Delta {
    /// The older one, such as pg@monday
    #[arg(value_name = "VOLUME@SNAPSHOT")]
    pub(crate) older: SnapshotName,
    /// The newer one: a snapshot, or the volume as it is now
    #[arg(value_name = "VOLUME[@SNAPSHOT]")]
    pub(crate) newer: PointName,
    /// List what changed: offset, length, and whether there is data or a hole now
    #[arg(long)]
    pub(crate) extents: bool,
}

/// `firn import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file or block device, or an NBD server's export, such as nbd://host/pg or nbd+unix:///pg?socket=PATH
    pub(crate) file: PathBuf,
    /// The volume, which is created if there is none
    pub(crate) volume: String,
    /// The new volume's size [default: the file's]
    #[arg(long)]
    pub(crate) size: Option<Size>,
    /// Make a volume that exists what the file is; writes only the blocks that differ
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// `firn export`
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The volume as it is now, or a snapshot such as pg@before-upgrade
    #[arg(value_name = "VOLUME[@SNAPSHOT]")]
    pub(crate) point: PointName,
    /// The file or block device, or - for stdout; what was never written becomes a hole in a file
    pub(crate) file: PathBuf,
    /// Take a file or block device that exists, and lose what is in it
    #[arg(long)]
    pub(crate) overwrite: bool,
}
