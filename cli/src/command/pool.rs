//! `firn pool create`, `status`, `grow` and `check`.

mod check;

use std::path::{Path, PathBuf};

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::pool::{CreateOptions, Pool, PoolStatus};
use firn_engine::recovery::RecoveryReport;
use firn_engine::units::BLOCK_BYTES;
use serde::Serialize;

use super::count;
use crate::args::Globals;
use crate::args::pool::{PoolCreate, PoolGrow, PoolVerb};
use crate::output::Answer;
use crate::session::{meta_beside, options, pool_path, used, with_pool};
use crate::size::Size;
use crate::table::properties;
use crate::time;

pub(super) fn run(globals: &Globals, verb: PoolVerb) -> Result<Answer> {
    match verb {
        PoolVerb::Create(create) => self::create(globals, create),
        PoolVerb::Status => with_pool(globals, |pool| {
            let path = pool_path(globals)?;
            let view = PoolView::of(pool, path, globals)?;
            Answer::new(&view, view.text())
        }),
        PoolVerb::Check { data } => check::run(globals, data),
        PoolVerb::Grow(grow) => with_pool(globals, |pool| self::grow(pool, globals, &grow)),
    }
}

/// A pool with the places that it is at.
#[derive(Serialize)]
struct PoolView<'a> {
    path: &'a Path,
    metadata: PathBuf,
    created: Option<String>,
    #[serde(flatten)]
    status: PoolStatus,
}

impl<'a> PoolView<'a> {
    fn of(pool: &Pool, path: &'a Path, globals: &Globals) -> Result<Self> {
        let status = pool.status()?;
        let metadata = globals.meta.clone().unwrap_or_else(|| meta_beside(path));
        Ok(Self { path, metadata, created: time::utc(status.created_ms), status })
    }

    fn text(&self) -> String {
        let status = &self.status;
        let size = |bytes| Size(bytes).to_string();
        properties([
            ("pool", format!("{} ({})", self.path.display(), status.pool_id)),
            ("metadata", format!("{} ({})", self.metadata.display(), size(status.metadata_disk_bytes))),
            ("created", time::local(status.created_ms)),
            (
                "state",
                status.read_only.as_ref().map_or("healthy".to_owned(), |why| format!("read-only: {why}")),
            ),
            ("last close", recovery_text(&status.recovery)),
            ("size", format!("{}, journal {}", size(status.pool_bytes), size(status.journal_bytes))),
            ("used", format!("{} of {}", size(status.used_bytes), size(status.data_bytes))),
            (
                "free",
                format!("{}, of which {} is reserved", size(status.free_bytes), size(status.reserve_bytes)),
            ),
            ("coming back", size(status.waiting_bytes)),
            ("holds", holds(status)),
            ("memory", size(status.memory_bytes + status.metadata_memory_bytes)),
            ("device", status.device.clone()),
        ])
    }
}

fn holds(status: &PoolStatus) -> String {
    let parts = [(status.volumes, "volume"), (status.snapshots, "snapshot"), (status.groups, "group")];
    parts.map(|(number, noun)| count(number, noun)).join(", ")
}

/// What opening the pool found.
fn recovery_text(recovery: &RecoveryReport) -> String {
    if recovery.clean {
        return "clean".to_owned();
    }
    let mut text = format!(
        "not clean: {} replayed, {} finished, {} cut",
        count(recovery.records, "record"),
        count(recovery.tail_blocks, "block"),
        count(recovery.cut_records, "record"),
    );
    if recovery.repaired_superblock {
        text.push_str(", a superblock repaired");
    }
    for note in &recovery.notes {
        text.push_str("; ");
        text.push_str(note);
    }
    text
}

#[derive(Serialize)]
struct Plan<'a> {
    dry_run: bool,
    path: &'a Path,
    metadata: &'a Path,
    bytes: Option<u64>,
    lost: Vec<&'a Path>,
}

fn create(globals: &Globals, create: PoolCreate) -> Result<Answer> {
    let path = match &create.path {
        Some(path) => path,
        None => pool_path(globals)?,
    };
    let bytes = create.size.map(|size| size.0);
    if bytes.is_none() && !path.exists() {
        return Err(Error::new(Kind::Invalid, "create pool", "a pool on a file needs a size")
            .hint(format!("`firn pool create {} --size 100G`", path.display()))
            .into());
    }
    if create.dry_run {
        return plan(globals, path, &create);
    }
    let create = CreateOptions {
        bytes,
        journal_blocks: create.journal.map(journal_blocks).transpose()?,
        preallocate: create.preallocate,
        overwrite: create.overwrite,
    };
    let pool = Pool::create(path, &create, &options(globals)).map_err(|error| match error.kind() {
        Kind::Conflict if error.next_step().is_none() => {
            error.hint("--overwrite takes it and loses what is in it")
        }
        _ => error,
    })?;
    used(&pool, |pool| {
        let view = PoolView::of(pool, path, globals)?;
        let size = Size(view.status.pool_bytes);
        let text =
            format!("pool {} created: {size}, metadata in {}", path.display(), view.metadata.display());
        Answer::new(&view, text)
    })
}

fn journal_blocks(size: Size) -> Result<u64, Error> {
    match size.0.is_multiple_of(BLOCK_BYTES) {
        true => Ok(size.0 / BLOCK_BYTES),
        false => Err(Error::new(Kind::Invalid, "create pool", format!("a journal of {} bytes", size.0))
            .hint("give a multiple of 4096, such as 256M")),
    }
}

/// What creating would do, and what would be lost by it.
fn plan(globals: &Globals, path: &Path, create: &PoolCreate) -> Result<Answer> {
    let metadata = globals.meta.clone().unwrap_or_else(|| meta_beside(path));
    let lost: Vec<&Path> = [path, &metadata].into_iter().filter(|place| place.exists()).collect();
    let mut text =
        format!("would create a pool on {} with its metadata in {}\n", path.display(), metadata.display());
    for place in &lost {
        let fate = if create.overwrite { "would be lost" } else { "is there: refused unless it is empty" };
        text.push_str(&format!("{} {fate}\n", place.display()));
    }
    let bytes = create.size.map(|size| size.0);
    Answer::new(&Plan { dry_run: true, path, metadata: &metadata, bytes, lost: lost.clone() }, text)
}

fn grow(pool: &Pool, globals: &Globals, grow: &PoolGrow) -> Result<Answer> {
    let before = Size(pool.status()?.pool_bytes);
    pool.grow(grow.size.0, grow.preallocate)?;
    let path = pool_path(globals)?;
    let view = PoolView::of(pool, path, globals)?;
    let text = format!("pool {} grown from {before} to {}", path.display(), Size(view.status.pool_bytes));
    Answer::new(&view, text)
}
