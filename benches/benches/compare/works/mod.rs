//! The works of the table, each with a name that it can be asked for by.

mod after_snapshot;
mod delta;
mod memory;
mod metadata;
mod nbd;
mod random_read;
mod random_write;
mod reopen;
mod sequential;
mod snapshots;
mod vault;
mod write_flush;

use anyhow::Result;

use crate::settings::Settings;
use crate::table::Row;
pub(crate) use vault::{COMPACT, compact};

/// Measures, and gives the rows for the table.
pub(crate) type Run = fn(&Settings) -> Result<Vec<Row>>;

/// Every work, in the order of the table.
pub(crate) const WORKS: [(&str, Run); 19] = [
    ("random-write", random_write::run),
    ("after-snapshot", after_snapshot::first),
    ("thousand-snapshots", after_snapshot::thousandth),
    ("random-read", random_read::run),
    ("write-flush", write_flush::run),
    ("sequential", sequential::run),
    ("snapshots", snapshots::run),
    ("delta", delta::run),
    ("reopen", reopen::run),
    ("metadata", metadata::run),
    ("memory", memory::run),
    ("nbd-write", nbd::writes),
    ("nbd-read", nbd::reads),
    ("nbd-flush", nbd::flushes),
    ("nbd-sequential", nbd::sequential),
    ("vault-database", vault::database),
    ("vault-incompressible", vault::incompressible),
    ("vault-bytes", vault::bytes),
    ("vault-memory", vault::memory),
];
