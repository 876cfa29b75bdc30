//! The works of the table, each with a name that it can be asked for by.

mod nbd;
mod random_read;
mod random_write;
mod sequential;
mod write_flush;

use anyhow::Result;

use crate::settings::Settings;
use crate::table::Row;

/// Measures, and gives the rows for the table.
pub(crate) type Run = fn(&Settings) -> Result<Vec<Row>>;

/// Every work, in the order of the table.
pub(crate) const WORKS: [(&str, Run); 5] = [
    ("random-write", random_write::run),
    ("random-read", random_read::run),
    ("write-flush", write_flush::run),
    ("sequential", sequential::run),
    ("nbd", nbd::run),
];
