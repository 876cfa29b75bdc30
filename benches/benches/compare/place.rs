//! A directory for the files of one work, which goes with it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use firn_engine::catalog::Tags;
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::volume::Volume;
use tempfile::TempDir;

use crate::load::{Load, Pattern, Stop};
use crate::settings::Settings;

/// The directory.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn create(settings: &Settings) -> Result<Self> {
        std::fs::create_dir_all(&settings.directory)?;
        let made = tempfile::Builder::new().prefix("compare-").tempdir_in(&settings.directory);
        Ok(Self(made.with_context(|| format!("no directory in {}", settings.directory.display()))?))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A pool in a file that is written once, as the raw file is.
    pub(crate) fn pool(&self, bytes: u64) -> Result<Pool> {
        let create = CreateOptions { bytes: Some(bytes), preallocate: true, ..CreateOptions::default() };
        println!("  writing {}, {} GiB", self.path("pool").display(), bytes >> 30);
        Ok(Pool::create(&self.path("pool"), &create, &PoolOptions::default())?)
    }
}

/// A volume, every block of it written once and checkpointed.
pub(crate) fn filled_volume(pool: &Pool, name: &str, bytes: u64) -> Result<Volume> {
    let volume = pool.create_volume(name, bytes, Tags::new())?;
    Load::large(volume.id(), bytes, Pattern::SequentialWrite, Stop::Operations(bytes >> 20)).run(pool)?;
    pool.checkpoint()?;
    Ok(volume)
}
