//! Restoring in order: a stream, and single ranges.

use std::io::Write;
use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{BLOCK_BYTES, PointReader, RestoreReport};
use crate::error::{Error, Kind, Result};
use crate::vault::progress::Progress;
use crate::vault::sink::Sink;

/// Blocks that are gathered before they are given out in order: 4 MiB.
const GATHER_BLOCKS: u64 = 1024;

impl PointReader<'_> {
    /// Writes all of it to `stream`, in order, holes as zeros. What can't be had can't be left out of a stream: damage
    /// ends it, right where it was met.
    ///
    /// # Errors
    /// [`Kind::Damaged`], naming the object and the points that it affects; what the store or the stream said.
    pub fn restore_to_stream(
        &self,
        stream: &mut (dyn Write + Send),
        progress: &dyn Progress,
    ) -> Result<RestoreReport> {
        progress.expect(self.point.bytes);
        let (chunks, queue) = sync_channel::<Vec<u8>>(1);
        let mut data_bytes = 0;
        thread::scope(|scope| {
            let failed = |source| Error::io("write restored data", "the stream", source);
            let writer = scope.spawn(move || {
                queue.into_iter().try_for_each(|chunk| stream.write_all(&chunk)).map_err(failed)?;
                stream.flush().map_err(failed)
            });
            let step = usize::try_from(GATHER_BLOCKS).unwrap_or(1);
            let read = (0..self.blocks()).step_by(step).try_for_each(|first| {
                let (chunk, data) = self.gather(first..self.blocks().min(first + GATHER_BLOCKS), progress)?;
                data_bytes += data;
                let gone = |_| Error::new(Kind::Unavailable, "restore point", "stopped");
                chunks.send(chunk).map_err(gone)
            });
            drop(chunks);
            let ended = || Error::new(Kind::Bug, "restore point", "the writer ended before its work");
            writer.join().unwrap_or_else(|_| Err(ended()))?;
            read
        })?;
        self.report(self.point.bytes, data_bytes).whole()
    }

    /// Fills `into` from `offset`; any offset and length within the volume.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a range beyond the end; [`Kind::Damaged`], naming the object and the points that it
    /// affects; what the store said. Nothing in `into` is to be believed then.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.point.bytes);
        let Some(end) = end else {
            let detail = format!("{} bytes from {offset} of {}", into.len(), self.point.bytes);
            return Err(Error::new(Kind::Invalid, "read point", detail));
        };
        let mut filled = 0;
        let mut at = offset;
        while at < end {
            let first = at / BLOCK_BYTES;
            let (chunk, _) = self.gather(first..end.div_ceil(BLOCK_BYTES).min(first + GATHER_BLOCKS), &())?;
            let skipped = usize::try_from(at - first * BLOCK_BYTES).unwrap_or(0);
            let part = (chunk.len() - skipped).min(into.len() - filled);
            into[filled..filled + part].copy_from_slice(&chunk[skipped..skipped + part]);
            filled += part;
            at += part as u64;
        }
        Ok(())
    }

    /// A range of blocks in memory, and how many bytes of it are data.
    fn gather(&self, blocks: Range<u64>, progress: &dyn Progress) -> Result<(Vec<u8>, u64)> {
        let length = usize::try_from((blocks.end - blocks.start) * BLOCK_BYTES).unwrap_or(0);
        let sink = MemorySink { start: blocks.start * BLOCK_BYTES, bytes: Mutex::new(vec![0; length]) };
        let lost_before = self.notes.lost().1;
        let data = self.write(blocks.clone(), &sink, progress)?;
        if self.notes.lost().1 > lost_before {
            let _ = self.report((blocks.end - blocks.start) * BLOCK_BYTES, data).whole()?;
        }
        Ok((sink.bytes.into_inner().unwrap_or_else(PoisonError::into_inner), data))
    }
}

/// A range of a volume in memory, zeros at first.
struct MemorySink {
    start: u64,
    bytes: Mutex<Vec<u8>>,
}

impl Sink for MemorySink {
    fn is_zeroed(&self) -> bool {
        true
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let at = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn zero(&self, _offset: u64, _length: u64) -> Result<()> {
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}
