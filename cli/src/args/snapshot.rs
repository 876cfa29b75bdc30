//! `firn snapshot ...`

use clap::{Args, Subcommand};

use crate::name::{SnapshotName, Tag};

/// What is done to a snapshot.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    /// Take a snapshot of a volume
    Create(SnapshotCreate),
    /// List snapshots
    #[command(visible_alias = "ls")]
    List {
        /// Only this volume's
        volume: Option<String>,
    },
    /// Show one snapshot
    Show {
        /// The snapshot, such as pg@before-upgrade
        #[arg(value_name = "VOLUME@SNAPSHOT")]
        snapshot: SnapshotName,
    },
    /// Delete snapshots
    #[command(visible_alias = "rm")]
    Delete(SnapshotDelete),
    /// Keep a snapshot from being deleted
    Hold(SnapshotHold),
    /// Take back a hold
    Release(SnapshotHold),
    /// Make a volume what one of its snapshots is
    ///
    /// What the volume was until now is kept as a snapshot, so a rollback can be rolled back.
    Rollback(SnapshotRollback),
}

/// `firn snapshot create`
#[derive(Debug, Args)]
pub(crate) struct SnapshotCreate {
    /// The volume and the new snapshot's name, such as pg@before-upgrade
    #[arg(value_name = "VOLUME@SNAPSHOT")]
    pub(crate) snapshot: SnapshotName,
    /// A tag, such as ticket=1234; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) tag: Vec<Tag>,
}

/// `firn snapshot delete`
#[derive(Debug, Args)]
pub(crate) struct SnapshotDelete {
    /// The snapshots, such as pg@before-upgrade
    #[arg(required = true, value_name = "VOLUME@SNAPSHOT")]
    pub(crate) snapshots: Vec<SnapshotName>,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `firn snapshot hold` and `firn snapshot release`
#[derive(Debug, Args)]
pub(crate) struct SnapshotHold {
    /// The snapshot, such as pg@before-upgrade
    #[arg(value_name = "VOLUME@SNAPSHOT")]
    pub(crate) snapshot: SnapshotName,
    /// Why; each reason is a hold of its own
    #[arg(long, default_value = "user", value_name = "REASON")]
    pub(crate) reason: String,
}

/// `firn snapshot rollback`
#[derive(Debug, Args)]
pub(crate) struct SnapshotRollback {
    /// The snapshot, such as pg@before-upgrade
    #[arg(value_name = "VOLUME@SNAPSHOT")]
    pub(crate) snapshot: SnapshotName,
    /// The name of the snapshot that keeps what the volume was [default: before-rollback-N]
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) keep_as: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}
