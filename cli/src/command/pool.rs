//! `firn pool create`, `status`, `grow`, `check` and `scrub`.

mod check;
mod scrub;

use std::path::Path;

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::pool::{CreateOptions, Pool};
use firn_engine::units::BLOCK_BYTES;
use serde::Serialize;

use super::count;
use crate::args::Globals;
use crate::args::pool::{self as args, PoolVerb};
use crate::operation::pool::{PoolGrow, PoolShow, PoolView, RecoveryView};
use crate::output::Answer;
use crate::service::{Service, metadata, options, own, pool_path, used, with_service};
use crate::size::Size;
use crate::table::properties;
use crate::time;

pub(super) fn run(globals: &Globals, verb: PoolVerb) -> Result<Answer> {
    match verb {
        PoolVerb::Create(create) => self::create(globals, &create),
        PoolVerb::Status => with_service(globals, |service| {
            let view = service.call(PoolShow {})?;
            Answer::new(&view, text(&view))
        }),
        PoolVerb::Grow(grow) => with_service(globals, |service| self::grow(service, &grow)),
        PoolVerb::Check { data } => check::run(globals, data),
        PoolVerb::Scrub(scrub) => with_service(globals, |service| scrub::run(service, &scrub)),
    }
}

fn text(pool: &PoolView) -> String {
    let size = |bytes| Size(bytes).to_string();
    properties([
        ("pool", format!("{} ({})", pool.path.display(), pool.pool_id)),
        ("metadata", format!("{} ({})", pool.metadata.display(), size(pool.metadata_disk_bytes))),
        ("created", time::local(pool.created_ms)),
        ("state", pool.read_only.as_ref().map_or("healthy".to_owned(), |why| format!("read-only: {why}"))),
        ("last close", recovery_text(&pool.recovery)),
        ("size", format!("{}, journal {}", size(pool.pool_bytes), size(pool.journal_bytes))),
        ("used", format!("{} of {}", size(pool.used_bytes), size(pool.data_bytes))),
        ("free", format!("{}, of which {} is reserved", size(pool.free_bytes), size(pool.reserve_bytes))),
        ("coming back", size(pool.waiting_bytes)),
        ("holds", holds(pool)),
        ("memory", size(pool.memory_bytes + pool.metadata_memory_bytes)),
        ("device", pool.device.clone()),
    ])
}

fn holds(pool: &PoolView) -> String {
    let parts = [(pool.volumes, "volume"), (pool.snapshots, "snapshot"), (pool.groups, "group")];
    parts.map(|(number, noun)| count(number, noun)).join(", ")
}

/// What opening the pool found.
fn recovery_text(recovery: &RecoveryView) -> String {
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

/// Creates a pool, which no daemon can have yet.
fn create(globals: &Globals, create: &args::PoolCreate) -> Result<Answer> {
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
        return plan(globals, path, create);
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
    used(Service::Pool(Box::new(own(pool, path, globals))), |service| {
        let view = service.call(PoolShow {})?;
        let size = Size(view.pool_bytes);
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
fn plan(globals: &Globals, path: &Path, create: &args::PoolCreate) -> Result<Answer> {
    let metadata = metadata(path, globals.meta.as_deref());
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

fn grow(service: &Service, grow: &args::PoolGrow) -> Result<Answer> {
    let grown = service.call(PoolGrow { bytes: grow.size.0, preallocate: grow.preallocate })?;
    let (before, now) = (Size(grown.pool_bytes_before), Size(grown.pool.pool_bytes));
    let text = format!("pool {} grown from {before} to {now}", grown.pool.path.display());
    Answer::new(&grown, text)
}
