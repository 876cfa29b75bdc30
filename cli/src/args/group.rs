//! `firn group ...`

use clap::{Args, Subcommand};

use crate::name::{SnapshotName, Tag};

/// What is done to a consistency group.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupVerb {
    /// Create a consistency group
    Create(GroupCreate),
    /// List the consistency groups
    #[command(visible_alias = "ls")]
    List,
    /// Take volumes into a group
    Add(GroupMembers),
    /// Let volumes of a group go
    Remove(GroupMembers),
    /// Take a snapshot of every volume of a group, all at one point
    Snapshot(GroupSnapshot),
    /// Delete a group; its volumes and snapshots stay
    #[command(visible_alias = "rm")]
    Delete {
        /// The group
        group: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// `firn group create`
#[derive(Debug, Args)]
pub(crate) struct GroupCreate {
    /// Its name
    pub(crate) group: String,
    /// Volumes that it begins with
    #[arg(value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,
    /// A tag, such as env=production; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) tag: Vec<Tag>,
}

/// `firn group add` and `firn group remove`
#[derive(Debug, Args)]
pub(crate) struct GroupMembers {
    /// The group
    pub(crate) group: String,
    /// The volumes
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,
}

/// `firn group snapshot`
#[derive(Debug, Args)]
pub(crate) struct GroupSnapshot {
    /// The group and the name that the snapshot has on every volume, such as shop@nightly
    #[arg(value_name = "GROUP@SNAPSHOT")]
    pub(crate) snapshot: SnapshotName,
    /// A tag, such as ticket=1234; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) tag: Vec<Tag>,
}
