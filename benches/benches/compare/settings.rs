//! How long and how often is measured, and where: from the environment, so that `make bench` needs no arguments.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// What the environment says.
pub(crate) struct Settings {
    /// Interleaved pairs of each work (`FIRN_BENCH_ROUNDS`).
    pub(crate) rounds: usize,
    /// Length of each half of a pair, in seconds (`FIRN_BENCH_SECONDS`).
    pub(crate) seconds: u64,
    /// Size of the raw file and of a volume, in bytes (`FIRN_BENCH_GIB`, in GiB).
    pub(crate) file_bytes: u64,
    /// Where the files go (`FIRN_BENCH_DIR`): on the file system that is to be measured, with 30 GB free.
    pub(crate) directory: PathBuf,
    /// Length of the run whose memory is watched, in seconds (`FIRN_BENCH_MEMORY_SECONDS`).
    pub(crate) memory_seconds: u64,
}

impl Settings {
    pub(crate) fn read() -> Result<Self> {
        Ok(Self {
            rounds: usize::try_from(number("FIRN_BENCH_ROUNDS", 5)?.max(1))?,
            seconds: number("FIRN_BENCH_SECONDS", 3)?.max(1),
            file_bytes: number("FIRN_BENCH_GIB", 4)?.max(1) << 30,
            directory: std::env::var_os("FIRN_BENCH_DIR")
                .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from),
            memory_seconds: number("FIRN_BENCH_MEMORY_SECONDS", 600)?.max(1),
        })
    }
}

fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.trim().parse().with_context(|| format!("{name} is {text:?}, which is no number")),
        Err(_) => Ok(default),
    }
}
