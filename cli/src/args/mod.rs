//! What can be typed. Help, man pages and completions all come from here.

pub(crate) mod attach;
pub(crate) mod clone;
pub(crate) mod group;
pub(crate) mod pool;
pub(crate) mod serve;
pub(crate) mod snapshot;
pub(crate) mod transfer;
pub(crate) mod vault;
pub(crate) mod volume;

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
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
    /// The pool: a file or block device, which the command opens itself unless a daemon is named
    #[arg(long, global = true, env = "FIRN_POOL", hide_env_values = true, value_name = "PATH")]
    pub(crate) pool: Option<PathBuf>,
    /// The socket of the daemon that is asked [default: the runtime directory's firn.sock, when no pool is named]
    ///
    /// The runtime directory is /run/firn for root and firn in $XDG_RUNTIME_DIR for others; $FIRN_RUNTIME names
    /// another.
    #[arg(long, global = true, env = "FIRN_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The directory of the pool's metadata
    ///
    /// Without it, it is the pool's path with .meta after it. A pool on a block device needs it.
    #[arg(long, global = true, env = "FIRN_META", hide_env_values = true, value_name = "DIR")]
    pub(crate) meta: Option<PathBuf>,
    /// The directory where vaults are known by name, and this machine's signing key is
    ///
    /// Without it, it is /var/lib/firn for root and firn in $XDG_STATE_HOME, or ~/.local/state, for others.
    #[arg(long, global = true, env = "FIRN_STATE", hide_env_values = true, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Answer in JSON, sizes in bytes; errors too, on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[arg(skip)]
    pub(crate) typed: Typed,
}

/// What was typed, and is not from the environment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Typed {
    pub(crate) pool: bool,
    pub(crate) socket: bool,
}

impl Cli {
    /// What was typed. Ends the program when that can't be, or when help was asked for.
    pub(crate) fn typed() -> Self {
        let matches = Self::command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        cli.globals.typed = Typed::of(&matches);
        cli
    }
}

impl Typed {
    /// Options for every command may stand before or after each noun and verb, and arrive at the last of them.
    fn of(matches: &ArgMatches) -> Self {
        let mut last = matches;
        while let Some((_, inner)) = last.subcommand() {
            last = inner;
        }
        let is_typed = |id| last.value_source(id) == Some(ValueSource::CommandLine);
        Self { pool: is_typed("pool"), socket: is_typed("socket") }
    }
}

/// What is worked on.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Pools: create, status, grow, check, scrub
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
    /// Vaults: recovery points in a second place, kept as long as they must be
    #[command(subcommand, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Vault(Box<vault::VaultVerb>),
    /// What changed between two snapshots, or a snapshot and now
    Delta(transfer::Delta),
    /// Serve a pool: the HTTP API, NBD clients and metrics
    Serve(Box<serve::Serve>),
    /// Fill a volume from a file, a block device or an NBD server
    Import(transfer::Import),
    /// Write a volume or snapshot to a file, block device or stdout
    Export(transfer::Export),
    /// Make a volume or snapshot a block device, and mount it
    Attach(attach::Attach),
    /// Take an attached block device away
    Detach(attach::Detach),
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
    use super::*;

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_was_typed_is_known_wherever_it_stands() {
        for (line, pool, socket) in [
            ("firn --pool p volume list", true, false),
            ("firn volume --pool p list --socket s", true, true),
            ("firn volume list", false, false),
            ("firn serve --socket s", false, true),
        ] {
            let matches = Cli::command().try_get_matches_from(line.split(' ')).expect("it can be typed");
            let typed = Typed::of(&matches);
            assert_eq!((typed.pool, typed.socket), (pool, socket), "{line}");
        }
    }

    #[test]
    fn every_option_of_the_daemon_is_a_flag_a_variable_and_a_key() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").expect("firn serve");
        let full = serve::ServeOptions {
            nbd_listen: Some(Vec::new()),
            ..toml::from_str(
                "pool = \"p\"\nmeta = \"m\"\nstate = \"st\"\nsocket = \"s\"\nnbd_socket = \"n\"\ntls_certificate = \"c\"\n\
                 tls_key = \"k\"\ntls_client_authority = \"a\"\nallow_plaintext = true\nnbd_connections = 1\n\
                 api_connections = 1\nmetrics_listen = \"127.0.0.1:1\"\ncache = \"1M\"\nlog = \"warn\"\n\
                 log_format = \"json\"",
            )
            .expect("the keys")
        };
        let full = toml::Table::try_from(full).expect("a table");
        let globals = ["pool", "meta", "state", "socket"];
        let elsewhere = ["config", "check_config", "print_openapi", "help"];
        let mut flags: Vec<_> = serve.get_arguments().map(|flag| flag.get_id().as_str()).collect();
        flags.retain(|flag| !elsewhere.contains(flag));
        flags.extend(globals);
        flags.sort_unstable();
        let mut keys: Vec<_> = full.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, flags);
        for flag in serve.get_arguments().filter(|flag| keys.contains(&flag.get_id().as_str())) {
            assert!(flag.get_env().is_some() && flag.get_long().is_some(), "{}", flag.get_id());
        }
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
