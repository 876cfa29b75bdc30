//! Sinks: where a point is restored to.

use std::fs::File;
use std::os::unix::fs::FileExt;

use firn_engine::volume::Volume;

use crate::error::{Error, Result};

/// Bytes of zeros that are written at once.
const ZEROS_BYTES: usize = 1 << 20;

/// A place for a volume's content, written in any order by several threads. Offsets and lengths are multiples of 4096.
pub trait Sink: Sync {
    /// Whether what is not written reads as zeros.
    fn is_zeroed(&self) -> bool;

    /// Writes `data` to `offset`.
    ///
    /// # Errors
    /// What the sink said.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()>;

    /// Makes `length` bytes from `offset` zeros.
    ///
    /// # Errors
    /// What the sink said.
    fn zero(&self, offset: u64, length: u64) -> Result<()>;

    /// Makes everything durable.
    ///
    /// # Errors
    /// What the sink said.
    fn finish(&self) -> Result<()>;
}

/// A volume in a pool.
pub struct VolumeSink {
    /// The volume, which is at least as large as the point.
    pub volume: Volume,
    /// Whether nothing was ever written to it.
    pub is_new: bool,
}

impl Sink for VolumeSink {
    fn is_zeroed(&self) -> bool {
        self.is_new
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.volume.write_at(offset, data)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<()> {
        self.volume.unmap(offset, length)
    }

    fn finish(&self) -> Result<()> {
        self.volume.flush()
    }
}

/// A file or block device.
pub struct FileSink {
    /// The file, which is at least as large as the point.
    pub file: File,
    /// Whether it is a file without content, that holes may be left in.
    pub is_new: bool,
}

fn failed(source: std::io::Error) -> Error {
    Error::io("write restored data", "the file", source)
}

impl Sink for FileSink {
    fn is_zeroed(&self) -> bool {
        self.is_new
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file.write_all_at(data, offset).map_err(failed)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let part = usize::try_from(end - at).map_or(ZEROS_BYTES, |left| left.min(ZEROS_BYTES));
            self.write_at(at, &zeros[..part])?;
            at += part as u64;
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        self.file.sync_all().map_err(failed)
    }
}
