//! `firn attach` and `firn detach`

use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use firn_engine::error::Error;

use crate::name::PointName;
use crate::runtime;

/// `firn attach`
#[derive(Debug, Args)]
#[command(
    after_long_help = "The device goes on when the daemon is restarted: requests wait, and then continue. A \
    snapshot's device is read-only, and mounted as it was taken, without its file system's recovery; for a recovered \
    state make a clone of it and attach that."
)]
pub(crate) struct Attach {
    /// What becomes a block device, such as pg or pg@before-upgrade
    #[arg(value_name = "VOLUME[@SNAPSHOT]", required_unless_present = "list")]
    pub(crate) name: Option<PointName>,
    /// Mount its file system there
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,
    /// Make a file system on it first; refused when there is something on it
    #[arg(long, value_name = "TYPE")]
    pub(crate) mkfs: Option<FileSystem>,
    /// List what is attached instead
    #[arg(long, conflicts_with_all = ["name", "mount", "mkfs"])]
    pub(crate) list: bool,
    /// The server: the path of its unix socket, or an NBD URI without the export's name
    ///
    /// Without it, it is nbd.sock beside the daemon's own socket, where `firn serve` listens.
    #[arg(long, env = "FIRN_NBD", hide_env_values = true, value_name = "SOCKET|URI")]
    pub(crate) nbd: Option<String>,
    /// How the kernel is shown it; without it, by its NBD client where it has one, else by FUSE
    ///
    /// The kernel has an NBD client when the module nbd is loaded, of Linux 5.14 or later. TLS, several connections and
    /// --reconnect-timeout are beyond it.
    #[arg(long, env = "FIRN_ATTACH_BY", hide_env_values = true, value_name = "WAY")]
    pub(crate) by: Option<By>,
    /// How many connections to the server
    #[arg(long, default_value = "1", value_name = "COUNT")]
    pub(crate) connections: NonZeroU8,
    /// Let requests fail when the server is away for so long, such as 5m; without it they wait
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) reconnect_timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
}

/// `firn detach`
#[derive(Debug, Args)]
pub(crate) struct Detach {
    /// The volume or snapshot, its device, or where it is mounted
    #[arg(value_name = "VOLUME|DEVICE|DIR")]
    pub(crate) target: String,
    /// Don't wait for what uses it or for the server: what is not written yet is lost
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
}

/// Where is written down what is attached.
#[derive(Debug, Args)]
pub(crate) struct Runtime {
    /// The directory where is written down what is attached
    ///
    /// Without it, it is /run/firn for root and firn in $XDG_RUNTIME_DIR for others.
    #[arg(long, env = "FIRN_RUNTIME", hide_env_values = true, value_name = "DIR")]
    pub(crate) runtime: Option<PathBuf>,
}

impl Runtime {
    /// The directory, as an absolute path.
    pub(crate) fn path(&self) -> Result<PathBuf, Error> {
        let path = self.runtime.clone().unwrap_or_else(runtime::directory);
        std::path::absolute(&path)
            .map_err(|source| Error::io("find runtime directory", path.display(), source))
    }
}

/// A file system that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileSystem {
    /// ext4
    Ext4,
    /// xfs
    Xfs,
}

impl FileSystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// A way to show an export to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// The kernel's own NBD client
    Nbd,
    /// FUSE and a loop device
    Fuse,
}

impl By {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nbd => "nbd",
            Self::Fuse => "fuse",
        }
    }
}

/// What `firn attach` starts for each device. It is not for typing, so help, manual and completions don't have it.
#[derive(Debug, Parser)]
#[command(name = "firn attach-helper")]
pub(crate) struct Helper {
    /// The directory of what is being attached
    #[arg(long)]
    pub(crate) entry: PathBuf,
    /// The export
    #[arg(long)]
    pub(crate) uri: String,
    /// How the kernel is shown it
    #[arg(long)]
    pub(crate) by: Option<By>,
    /// How many connections
    #[arg(long)]
    pub(crate) connections: usize,
    /// How long requests wait for the server
    #[arg(long)]
    pub(crate) reconnect_timeout_ms: Option<u64>,
}

impl Helper {
    /// The word that it begins with.
    pub(crate) const WORD: &str = "attach-helper";

    /// What it was started with, if this is one.
    pub(crate) fn started() -> Option<Self> {
        let mut arguments = std::env::args_os().skip(1);
        (arguments.next()? == Self::WORD).then(|| Self::parse_from(std::env::args_os().skip(1)))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    parsed.ok_or_else(|| format!("{text:?} is no length of time: write it as 30s, 5m or 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h", 3600), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "-5s", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
