//! Sinks: where a point is restored to.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use firn_engine::sys::open_again_direct;
use firn_engine::volume::Volume;

use super::aligned::{self, Aligned};
use crate::error::{Error, Result};

/// Bytes of zeros that are written at once.
const ZEROS_BYTES: usize = 1 << 20;
/// Bytes of a piece that is worth a request of its own to a disk: smaller ones are gathered in the page cache.
const DIRECT_BYTES_MIN: usize = 64 << 10;

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

/// A file or block device. Large pieces pass by the page cache where the file system can do that: a restore is larger than
/// what others on the machine need there, and copying into it costs more than decompressing does.
pub struct FileSink {
    file: File,
    direct: Option<File>,
    is_new: bool,
}

impl FileSink {
    /// Over `file`, which is at least as large as the point, and open for writing; with `is_new` it is a file without
    /// content, that holes may be left in.
    pub fn new(file: File, is_new: bool) -> Self {
        Self { direct: open_again_direct(&file), file, is_new }
    }

    /// Writes past the page cache, and says whether it did.
    fn write_direct(&self, offset: u64, data: &[u8]) -> Result<bool> {
        let Some(direct) = &self.direct else { return Ok(false) };
        if data.len() < DIRECT_BYTES_MIN || !aligned::is_aligned(data) {
            return Ok(false);
        }
        match direct.write_all_at(data, offset) {
            // A file system may want more than multiples of 4096.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(false),
            written => written.map(|()| true).map_err(failed),
        }
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::io("write restored data", "the file", source)
}

impl Sink for FileSink {
    fn is_zeroed(&self) -> bool {
        self.is_new
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        match self.write_direct(offset, data)? {
            true => Ok(()),
            false => self.file.write_all_at(data, offset).map_err(failed),
        }
    }

    fn zero(&self, offset: u64, length: u64) -> Result<()> {
        let zeros = Aligned::zeroed(ZEROS_BYTES);
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let part = usize::try_from(end - at).map_or(ZEROS_BYTES, |left| left.min(ZEROS_BYTES));
            self.write_at(at, &zeros.bytes()[..part])?;
            at += part as u64;
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        self.file.sync_all().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 256;

    /// Where a piece of a test lies, in blocks, and what it is made of.
    fn pieces(seed: u64) -> impl Iterator<Item = (std::ops::Range<usize>, u8)> {
        let mut random = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        (0..40).map(move |_| {
            let mut bytes = [0; 3];
            random.fill(&mut bytes);
            let first = usize::from(bytes[0]);
            (first..BLOCKS.min(first + 1 + usize::from(bytes[1] % 48)), bytes[2])
        })
    }

    fn check(sink: &FileSink, seed: u64) {
        let mut memory = Aligned::zeroed(BLOCKS * 4096 + 1);
        let mut expected = vec![0; BLOCKS * 4096];
        for (blocks, byte) in pieces(seed) {
            let (at, length) = (blocks.start * 4096, blocks.len() * 4096);
            if byte % 4 == 0 {
                sink.zero(at as u64, length as u64).unwrap();
                expected[at..at + length].fill(0);
                continue;
            }
            // Memory that direct writes don't take, now and then.
            let shift = usize::from(byte % 4 == 1);
            let data = &mut memory.bytes_mut()[shift..shift + length];
            data.fill(byte);
            sink.write_at(at as u64, data).unwrap();
            expected[at..at + length].fill(byte);
        }
        sink.finish().unwrap();
        let mut found = vec![1; expected.len()];
        sink.file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected, "seed {seed}");
    }

    /// Past the cache and through it, over each other and beside each other.
    #[test]
    fn pieces_of_all_sizes_come_to_lie_where_they_belong() {
        for seed in 0..30 {
            let file = || {
                let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
                file.set_len(BLOCKS as u64 * 4096).unwrap();
                file
            };
            let sink = FileSink::new(file(), true);
            assert!(sink.direct.is_some(), "build directories have direct I/O");
            check(&sink, seed);
            check(&FileSink { direct: None, ..FileSink::new(file(), false) }, seed);
        }
    }
}
