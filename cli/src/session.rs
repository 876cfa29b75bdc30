//! One command's time with the pool: opened, used, closed, whatever came of it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::journal::tail::TailShape;
use firn_engine::pool::{Pool, PoolOptions};
use firn_engine::snapshot::Snapshot;
use firn_engine::volume::Volume;

use crate::args::Globals;
use crate::name::SnapshotName;
use crate::output::Answer;

/// Opens the pool, lets `work` use it, and closes it. The pool is closed cleanly even if `work` failed, and then it
/// is the work's error that is told.
pub(crate) fn with_pool(globals: &Globals, work: impl FnOnce(&Pool) -> Result<Answer>) -> Result<Answer> {
    let path = pool_path(globals)?;
    let pool = Pool::open(path, &options(globals)).map_err(|error| explain_open(error, path))?;
    used(&pool, work)
}

/// As [`with_pool`], for a pool that is open already.
pub(crate) fn used(pool: &Pool, work: impl FnOnce(&Pool) -> Result<Answer>) -> Result<Answer> {
    let answer = work(pool);
    let closed = pool.close();
    let answer = answer?;
    closed?;
    Ok(answer)
}

/// What one command's writes need of shared memory, twice of which (that of a dead process and a new one) fits into
/// the 64 MiB that a container has by default.
const TAIL: TailShape = TailShape { data_slots: 4096, journal_slots: 1024 };

/// How the pool is opened.
pub(crate) fn options(globals: &Globals) -> PoolOptions {
    PoolOptions { meta: globals.meta.clone(), tail: TAIL, ..PoolOptions::default() }
}

/// The pool that was named.
pub(crate) fn pool_path(globals: &Globals) -> Result<&Path, Error> {
    globals.pool.as_deref().ok_or_else(|| {
        Error::new(Kind::Invalid, "open pool", "no pool was named")
            .hint("give --pool PATH, or set FIRN_POOL to the path")
    })
}

/// Where the metadata of the pool at `path` is unless it was said.
pub(crate) fn meta_beside(path: &Path) -> PathBuf {
    let mut meta = path.as_os_str().to_owned();
    meta.push(".meta");
    meta.into()
}

/// Says how a pool that is not there is made.
pub(crate) fn explain_open(error: Error, path: &Path) -> Error {
    match error.kind() {
        Kind::NotFound if !path.exists() => {
            error.hint(format!("`firn pool create {} --size 100G` makes a pool there", path.display()))
        }
        _ => error,
    }
}

/// The volume of this name.
pub(crate) fn volume(pool: &Pool, name: &str) -> Result<Volume, Error> {
    pool.volume(name).map_err(|error| match error.kind() {
        Kind::NotFound => error.hint("`firn volume list` shows the names"),
        _ => error,
    })
}

/// The snapshot of this name.
pub(crate) fn snapshot(pool: &Pool, name: &SnapshotName) -> Result<Snapshot, Error> {
    volume(pool, &name.of)?.snapshot_named(&name.snapshot).map_err(|error| match error.kind() {
        Kind::NotFound => error.hint(format!("`firn snapshot list {}` shows the names", name.of)),
        _ => error,
    })
}
