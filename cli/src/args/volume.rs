//! `firn volume ...`

use clap::{Args, Subcommand};

use crate::name::Tag;
use crate::size::Size;

/// What is done to a volume.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// Create an empty volume, which takes room only for what is written to it
    Create(VolumeCreate),
    /// List the volumes
    #[command(visible_alias = "ls")]
    List,
    /// Show one volume
    Show {
        /// The volume
        volume: String,
    },
    /// Make a volume larger or smaller
    Resize(VolumeResize),
    /// Give a volume another name
    Rename {
        /// The volume
        volume: String,
        /// Its new name
        name: String,
    },
    /// Delete volumes
    #[command(visible_alias = "rm")]
    Delete(VolumeDelete),
    /// Set tags on a volume, or take some away
    Tag(VolumeTag),
}

/// `firn volume create`
#[derive(Debug, Args)]
pub(crate) struct VolumeCreate {
    /// Its name
    pub(crate) volume: String,
    /// Its size; it may be more than the pool has
    #[arg(long)]
    pub(crate) size: Size,
    /// A tag, such as env=production; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) tag: Vec<Tag>,
}

/// `firn volume resize`
#[derive(Debug, Args)]
pub(crate) struct VolumeResize {
    /// The volume
    pub(crate) volume: String,
    /// The size it is to have then
    #[arg(long)]
    pub(crate) size: Size,
    /// Cut off what is written beyond the new end; snapshots keep it
    #[arg(long)]
    pub(crate) force: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `firn volume delete`
#[derive(Debug, Args)]
pub(crate) struct VolumeDelete {
    /// The volumes
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,
    /// Delete their snapshots too
    #[arg(long)]
    pub(crate) with_snapshots: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `firn volume tag`
#[derive(Debug, Args)]
pub(crate) struct VolumeTag {
    /// The volume
    pub(crate) volume: String,
    /// Tags to set, such as env=production
    #[arg(value_name = "KEY=VALUE", required_unless_present = "remove")]
    pub(crate) tags: Vec<Tag>,
    /// A tag to take away; may be given again
    #[arg(long, value_name = "KEY")]
    pub(crate) remove: Vec<String>,
}
