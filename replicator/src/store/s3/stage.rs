//! Staged bodies: up to a megabyte in memory, beyond that in a file without a name, which is gone with the process.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::{SpooledData, SpooledTempFile};

use super::S3Store;
use super::body::Body;
use crate::error::{Error, Result};
use crate::store::{Key, Put, Retention, Stage};

/// Bytes that a staged body may have in memory.
const MEMORY_BYTES_MAX: usize = 1 << 20;

pub(super) struct S3Stage<'a> {
    store: &'a S3Store,
    file: SpooledTempFile,
    bytes: u64,
}

impl<'a> S3Stage<'a> {
    pub(super) fn new(store: &'a S3Store) -> Self {
        Self { store, file: tempfile::spooled_tempfile_in(MEMORY_BYTES_MAX, directory()), bytes: 0 }
    }

    fn publish_with(self, key: &Key, retention: Option<Retention>) -> Result<Put> {
        let body = match self.file.into_inner() {
            SpooledData::InMemory(cursor) => Body::Memory(cursor.into_inner().into()),
            SpooledData::OnDisk(file) => Body::File { file: Arc::new(file), bytes: self.bytes },
        };
        self.store.block_on(self.store.create(key, &body, retention))
    }
}

impl Stage for S3Stage<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|source| Error::io("stage object", directory().display(), source))?;
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Put> {
        self.publish_with(key, None)
    }

    fn publish_locked(self: Box<Self>, key: &Key, retention: Retention) -> Result<Put> {
        self.publish_with(key, Some(retention))
    }
}

/// Where files are staged: `TMPDIR`, or the place for temporary files that may be large. `/tmp` is often memory.
fn directory() -> PathBuf {
    env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}
