//! What can be typed. Help, man pages and completions all come from here.

pub(crate) mod attach;
pub(crate) mod clone;
pub(crate) mod group;
pub(crate) mod pool;
pub(crate) mod snapshot;
pub(crate) mod transfer;
pub(crate) mod volume;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Copy-on-write volumes with instant snapshots
///
/// firn keeps volumes in a pool, which is one file or block device. A snapshot copies nothing and takes no time; what
/// changed between two snapshots is known to the block; a clone is a writable volume that begins as a snapshot.
///
/// Names are written as pg for a volume and pg@before-upgrade for one of its snapshots. Sizes are written as 100G,
/// 1.5T or 4096; 1K is 1024 bytes.
#[derive(Debug, Parser)]
#[command(name = "firn", version, after_long_help = crate::exit::statuses())]
#[command(disable_help_subcommand = true, subcommand_value_name = "NOUN", subcommand_help_heading = "Nouns")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options for every command")]
pub(crate) struct Globals {
    /// The pool: a file or block device
    #[arg(long, global = true, env = "FIRN_POOL", hide_env_values = true, value_name = "PATH")]
    pub(crate) pool: Option<PathBuf>,
    /// The directory of the pool's metadata
    ///
    /// Without it, it is the pool's path with .meta after it. A pool on a block device needs it.
    #[arg(long, global = true, env = "FIRN_META", hide_env_values = true, value_name = "DIR")]
    pub(crate) meta: Option<PathBuf>,
    /// Answer in JSON, sizes in bytes; errors too, on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What is worked on.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Pools: create, status, grow, check
    #[command(subcommand, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Pool(pool::PoolVerb),
    /// Volumes: create, list, show, resize, rename, delete, tag
    #[command(subcommand, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Volume(volume::VolumeVerb),
    /// Snapshots: create, list, show, delete, hold, release, rollback
    #[command(subcommand, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Snapshot(snapshot::SnapshotVerb),
    /// Consistency groups: create, list, add, remove, snapshot, delete
    #[command(subcommand, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Group(group::GroupVerb),
    /// Clones: create, detach
    #[command(subcommand, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Clone(clone::CloneVerb),
    /// What changed between two snapshots, or a snapshot and now
    Delta(transfer::Delta),
    /// Fill a volume from a file or block device
    Import(transfer::Import),
    /// Write a volume or snapshot to a file, block device or stdout
    Export(transfer::Export),
    /// Make a volume or snapshot a block device, and mount it
    Attach(attach::Attach),
    /// Take an attached block device away
    Detach(attach::Detach),
    /// Serve an attached block device; `firn attach` starts it
    #[command(hide = true)]
    AttachHelper(attach::Helper),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual
    Man {
        /// Write a page per command into this directory instead
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_argument_and_command_has_help() {
        fn look(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }
}
