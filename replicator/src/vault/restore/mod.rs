//! Restoring: a point's blocks into a sink, whole or a range of it.
//!
//! 1. Nothing is written that was not verified against the hash in its pack's table, which the run vouches for, which
//!    the point vouches for, which the log vouches for.
//! 2. Damage is noted with the blocks that it costs; everything else is restored.
//! 3. Work goes in the order of packs within windows of the map, so that each frame is read once in a window and
//!    neighbours with one request. Memory is that of a window and of the fetches under way, whatever the volume's size.

mod fetch;
mod ordered;
mod window;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

use self::fetch::{Fetch, Fetcher};
use self::window::Window;
use super::Vault;
use super::damage::{Damage, Judge, Notes};
use super::layer::What;
use super::map::Map;
use super::pack::FRAME_BLOCKS;
use super::progress::Progress;
use super::run::RunKeys;
use super::sink::Sink;
use super::tables::Tables;
use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;
use crate::format::point::Point;
use crate::store::Store;

/// Bytes of pack tables that are kept.
const TABLES_BYTES: usize = 16 << 20;
/// Threads that read, decompress and write, at most.
const THREADS: usize = 4;
const BLOCK_BYTES: u64 = 4096;

/// What a restore did. With anything in `lost` it is not what was sent. What is in `damaged` and cost nothing is covered by
/// newer data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct RestoreReport {
    /// The point.
    pub point: Digest,
    /// Bytes that were asked for.
    pub bytes: u64,
    /// Bytes of data that were written; the rest is holes.
    pub data_bytes: u64,
    /// Bytes that could not be had, and were not written.
    pub lost_bytes: u64,
    /// Where they lie, in bytes; at most the first thousand ranges.
    pub lost: Vec<Range<u64>>,
    /// The objects that are missing or not what was written.
    pub damaged: Vec<Damage>,
}

impl RestoreReport {
    /// The report of a restore that must be whole.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when anything was lost, naming the first object and the points that it affects.
    pub fn whole(self) -> Result<Self> {
        let Some(damage) = self.damaged.first().filter(|_| self.lost_bytes > 0) else { return Ok(self) };
        let affected: Vec<String> = damage.points.iter().map(Digest::short).collect();
        let detail = format!(
            "{} bytes could not be had, damaged or missing objects: {}; the first one: {}, which affects points {}",
            self.lost_bytes,
            self.damaged.len(),
            damage.detail,
            affected.join(", "),
        );
        Err(Error::new(Kind::Damaged, "restore point", detail))
    }
}

/// A point that is open for reading; by several threads at once.
pub struct PointReader<'v> {
    vault: &'v Vault,
    id: Digest,
    point: Point,
    keys: RunKeys,
    map: Map,
    tables: Tables,
    notes: Notes,
}

impl Vault {
    /// Opens a live point for reading.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is not in the vault; [`Kind::Damaged`] when its object is missing or not what was
    /// written; what [`frame_keys`](Self::frame_keys) says.
    pub fn open_point(&self, id: Digest) -> Result<PointReader<'_>> {
        self.open_itself(self.catalog().point(id)?.committed.id)
    }

    /// Opens a former point for reading: what it was before another took its place, or it was pruned.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when none was called so; [`Kind::Damaged`] also when what it needed was given back; as
    /// [`open_point`](Self::open_point).
    pub fn open_former(&self, id: Digest) -> Result<PointReader<'_>> {
        let is_known = self.catalog().former().iter().any(|former| former.id == id);
        let absent = || Error::new(Kind::NotFound, "find point", format!("no former point is called {id}"));
        if is_known { self.open_itself(id) } else { Err(absent()) }
    }

    fn open_itself(&self, id: Digest) -> Result<PointReader<'_>> {
        let point = self.read_point(id)?;
        let keys = RunKeys::of(&point, self.frame_keys(point.key)?);
        let notes = Notes::default();
        let map = Map::open(self.store().as_ref(), &point.runs, &keys, Judge::Note(&notes))?;
        let tables = Tables::new(TABLES_BYTES);
        Ok(PointReader { vault: self, id, point, keys, map, tables, notes })
    }
}

impl PointReader<'_> {
    /// What it is called.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// What it is.
    pub fn point(&self) -> &Point {
        &self.point
    }

    /// Writes all of it to `sink`, durable on return. Damage is in the report.
    ///
    /// # Errors
    /// What the store or the sink said.
    pub fn restore(&self, sink: &dyn Sink, progress: &dyn Progress) -> Result<RestoreReport> {
        progress.expect(self.point.bytes);
        let data_bytes = self.write(0..self.blocks(), sink, progress)?;
        sink.finish()?;
        Ok(self.report(self.point.bytes, data_bytes))
    }

    fn blocks(&self) -> u64 {
        self.point.bytes / BLOCK_BYTES
    }

    fn store(&self) -> &dyn Store {
        self.vault.store().as_ref()
    }

    /// What was done, and what is damaged so far, with the points that it affects.
    fn report(&self, bytes: u64, data_bytes: u64) -> RestoreReport {
        let (lost, lost_blocks) = self.notes.lost();
        RestoreReport {
            point: self.id,
            bytes,
            data_bytes,
            lost_bytes: lost_blocks * BLOCK_BYTES,
            lost: lost.into_iter().map(|lost| lost.start * BLOCK_BYTES..lost.end * BLOCK_BYTES).collect(),
            damaged: self.vault.affected(self.notes.objects()),
        }
    }

    /// Writes a range of blocks to `sink`, and says how many bytes of data it had.
    fn write(&self, blocks: Range<u64>, sink: &dyn Sink, progress: &dyn Progress) -> Result<u64> {
        let packs = self.map.packs();
        let (fetches, queue) = sync_channel(THREADS);
        let queue = Arc::new(Mutex::new(queue));
        let (written, is_stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        // A range of a block or two is read at once: a thread more would only be started for it.
        let frames = (blocks.end - blocks.start).div_ceil(u64::from(FRAME_BLOCKS));
        let threads = usize::try_from(frames).map_or(THREADS, |frames| frames.clamp(1, THREADS));
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    let (is_stopped, written) = (&is_stopped, &written);
                    let work = Work { queue: queue.clone(), is_stopped, written, is_done: false };
                    let packs = &packs;
                    scope.spawn(move || work.run(|| Fetcher::new(self, packs, sink, progress)))
                })
                .collect();
            // The threads alone have it now: when they are gone, whoever hands out fetches is told instead of waiting.
            drop(queue);
            let mut window = Window::new(&packs, |fetch| {
                let stopped = || Error::new(Kind::Unavailable, "restore point", "stopped");
                match is_stopped.load(Ordering::Relaxed) {
                    true => Err(stopped()),
                    false => fetches.send(fetch).map_err(|_| stopped()),
                }
            });
            let walked = self.walk(blocks, sink, progress, &mut window);
            drop(window);
            drop(fetches);
            let ended = || Error::new(Kind::Bug, "restore point", "a thread ended before its work");
            // What failed in a thread comes first: it is why the walk was stopped.
            let joined: Vec<Result<()>> =
                workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(ended()))).collect();
            joined.into_iter().collect::<Result<()>>()?;
            walked
        })?;
        Ok(written.into_inner())
    }

    /// Goes through the map: holes at once, data into windows.
    fn walk(
        &self,
        blocks: Range<u64>,
        sink: &dyn Sink,
        progress: &dyn Progress,
        window: &mut Window<'_, impl FnMut(Fetch) -> Result<()>>,
    ) -> Result<()> {
        let mut pieces = self.map.pieces(self.store(), blocks.start, Judge::Note(&self.notes))?;
        let mut at = blocks.start;
        let hole = |first: u64, end: u64| -> Result<()> {
            let (offset, length) = (first * BLOCK_BYTES, (end - first) * BLOCK_BYTES);
            progress.advance(length);
            if length > 0 && !sink.is_zeroed() { sink.zero(offset, length) } else { Ok(()) }
        };
        while let Some((run, piece)) = pieces.next()? {
            if piece.first >= blocks.end {
                break;
            }
            hole(at, piece.first)?;
            let piece = piece.part(piece.first, piece.end.min(blocks.end));
            at = piece.end;
            match piece.what {
                What::Hole => hole(piece.first, piece.end)?,
                What::Lost => self.notes.lose(piece.first..piece.end),
                What::Stored { pack, position } => window.add(run, pack, position, piece.first..piece.end)?,
            }
        }
        hole(at, blocks.end)?;
        window.hand_out()
    }
}

/// What one thread of a restore does: fetch after fetch, until there are no more or any thread failed.
struct Work<'w> {
    queue: Arc<Mutex<Receiver<Fetch>>>,
    is_stopped: &'w AtomicBool,
    written: &'w AtomicU64,
    /// Whether it came to its end without an error.
    is_done: bool,
}

impl Work<'_> {
    fn run<'f>(mut self, start: impl FnOnce() -> Result<Fetcher<'f>>) -> Result<()> {
        let mut fetcher = start()?;
        loop {
            let fetch = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let fetch = fetch.ok().filter(|_| !self.is_stopped.load(Ordering::Relaxed));
            let Some(fetch) = fetch else {
                self.is_done = true;
                return Ok(());
            };
            self.written.fetch_add(fetcher.run(&fetch)?, Ordering::Relaxed);
        }
    }
}

impl Drop for Work<'_> {
    /// A thread that ends early, by an error or a panic, stops the others.
    fn drop(&mut self) {
        if !self.is_done {
            self.is_stopped.store(true, Ordering::Relaxed);
        }
    }
}
