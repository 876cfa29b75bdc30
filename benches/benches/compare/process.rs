//! What the kernel counts of this process.

use anyhow::{Context, Result};

/// Bytes that this process had written to disks: its device, and the files of the metadata store with everything that
/// compaction wrote again. Memory file systems don't count.
pub(crate) fn written_bytes() -> Result<u64> {
    field("/proc/self/io", "write_bytes:")
}

/// Bytes of memory that this process holds, without pages of files: those of the shared-memory file are counted by
/// the pool's status.
pub(crate) fn anonymous_bytes() -> Result<u64> {
    Ok(field("/proc/self/status", "RssAnon:")? << 10)
}

fn field(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok());
    number.with_context(|| format!("{file} has no {name}"))
}
