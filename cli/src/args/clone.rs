//! `firn clone ...`

use clap::{Args, Subcommand};

use crate::name::{SnapshotName, Tag};

/// What is done to a clone. Beyond that it is a volume like any other.
#[derive(Debug, Subcommand)]
pub(crate) enum CloneVerb {
    /// Make a writable volume of a snapshot, which copies nothing
    Create(CloneCreate),
    /// Make a clone stand on its own
    ///
    /// Copies every block that it still shares with its origin. When it fails or is interrupted, another one goes on
    /// from there.
    Detach {
        /// The clone
        volume: String,
    },
}

/// `firn clone create`
#[derive(Debug, Args)]
pub(crate) struct CloneCreate {
    /// The snapshot, such as pg@before-upgrade
    #[arg(value_name = "VOLUME@SNAPSHOT")]
    pub(crate) snapshot: SnapshotName,
    /// The new volume's name
    pub(crate) volume: String,
    /// A tag, such as env=test; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) tag: Vec<Tag>,
}
