//! From a source to frames: walked in block order and read ahead by one thread, sealed by several, taken in order again.
//!
//! 1. What comes out, and in which order, depends on the snapshot alone, not on threads.
//! 2. At most [`BATCHES_MAX`] batches are under way, each of at most [`BATCH_BLOCKS`] blocks and [`PIECES_MAX`] pieces.
//! 3. Every batch but the last ends with a whole frame, unless it has too many pieces: then its last frame is short.
//! 4. Of those, [`READS_MAX`] are read before a thread has time for them: while all threads compress, the pool's device
//!    is at work. Together they have [`ASKED_MAX`] pieces of data at most, unless it is one alone.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Scope;

use super::pack::FRAME_BLOCKS;
use super::source::{Change, Reading, SnapshotId, Source};
use crate::error::{Error, Kind, Result};
use crate::format::container::{Content, Row};
use crate::format::frame::{FrameKeys, Sealer};

/// Blocks of a batch: 8 frames, 512 KiB.
const BATCH_BLOCKS: u64 = 8 * FRAME_BLOCKS as u64;
/// Pieces of a batch.
const PIECES_MAX: usize = 8192;
/// Batches under way.
const BATCHES_MAX: usize = 16;
/// Batches that are read ahead: what a disk needs to be busy while packs are written to it.
const READS_MAX: usize = 8;
/// Pieces that are asked for ahead: a scattered one is a request of its own, and others read from the device as well.
const ASKED_MAX: usize = 256;
const BLOCK_LEN: usize = 4096;

/// Changes in block order, and what their blocks were sealed to.
pub(crate) struct Batch {
    pub(crate) changes: Vec<Change>,
    /// Frames of 16 blocks each; only the last may have fewer.
    pub(crate) rows: Vec<Row>,
    /// Their stored bytes, one after the other.
    pub(crate) stored: Vec<u8>,
}

/// How a source is sealed.
#[derive(Clone, Debug)]
pub(crate) struct Sealing {
    pub(crate) since: Option<SnapshotId>,
    pub(crate) keys: FrameKeys,
    pub(crate) level: i32,
    pub(crate) threads: usize,
}

struct Job<'s> {
    changes: Vec<Change>,
    /// Blocks that change, and what waits for them.
    blocks: usize,
    reading: Reading<'s>,
    /// Dropped by the thread that takes the job, which then waits for what was asked for.
    asked: Asked,
    sealed: SyncSender<Result<Batch>>,
}

/// Bounds the pieces that are asked for ahead of the threads (invariant 4).
#[derive(Clone, Default)]
struct Asking(Arc<(Mutex<usize>, Condvar)>);

impl Asking {
    /// Waits until `pieces` more may be asked for. Of more than [`ASKED_MAX`], none but they are.
    fn begin(&self, pieces: usize) -> Asked {
        let (asked, fewer) = &*self.0;
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        while *asked > 0 && *asked + pieces > ASKED_MAX {
            asked = fewer.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
        *asked += pieces;
        Asked { asking: self.clone(), pieces }
    }
}

/// Pieces that are asked for ahead, until it is dropped: also with a job that nobody took.
struct Asked {
    asking: Asking,
    pieces: usize,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let (asked, fewer) = &*self.asking.0;
        *asked.lock().unwrap_or_else(PoisonError::into_inner) -= self.pieces;
        fewer.notify_one();
    }
}

/// Memory of batches that were taken, which the next ones are stored in: new memory would be cleared by the kernel, and
/// moved each time that it grows. There is no more of it than batches were ever under way.
#[derive(Clone, Default)]
struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn put(&self, mut memory: Vec<u8>) {
        memory.clear();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

/// Batches in block order.
pub(crate) struct Batches {
    ordered: Receiver<Receiver<Result<Batch>>>,
    spare: Spare,
}

impl Batches {
    /// The next one; nothing at the end.
    ///
    /// # Errors
    /// What the source said.
    pub(crate) fn next(&self) -> Result<Option<Batch>> {
        let Ok(next) = self.ordered.recv() else { return Ok(None) };
        let lost = || Error::new(Kind::Bug, "seal blocks", "a thread ended before its work");
        next.recv().unwrap_or_else(|_| Err(lost())).map(Some)
    }

    /// Takes a batch back that nobody needs any more: its memory serves again.
    pub(crate) fn give_back(&self, batch: Batch) {
        self.spare.put(batch.stored);
    }
}

/// Starts the threads that seal `source`. They end when all is sealed, or when what is returned is dropped.
pub(crate) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    source: &'scope dyn Source,
    sealing: &Sealing,
) -> Batches {
    let (ordered, batches) = sync_channel(BATCHES_MAX);
    let (jobs, queue) = sync_channel(READS_MAX);
    let (queue, spare) = (Arc::new(Mutex::new(queue)), Spare::default());
    for _ in 0..sealing.threads {
        let (queue, sealing, spare) = (queue.clone(), sealing.clone(), spare.clone());
        scope.spawn(move || work(&sealing, &queue, &spare));
    }
    let since = sealing.since;
    scope.spawn(move || walk(source, since, &jobs, &ordered));
    Batches { ordered: batches, spare }
}

/// Cuts the source's changes into jobs, and begins to read for each.
fn walk<'s>(
    source: &'s dyn Source,
    since: Option<SnapshotId>,
    jobs: &SyncSender<Job<'s>>,
    ordered: &SyncSender<Receiver<Result<Batch>>>,
) {
    let (mut cutter, asking) = (Cutter::default(), Asking::default());
    let mut hand_out = |changes: Vec<Change>| {
        let stopped = || Error::new(Kind::Unavailable, "seal blocks", "stopped");
        let (sealed, batch) = sync_channel(1);
        ordered.send(batch).map_err(|_| stopped())?;
        let data = changes.iter().filter(|change| change.is_data);
        let ranges: Vec<Range<u64>> = data.map(|change| change.first..change.first + change.blocks).collect();
        let blocks: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let blocks = usize::try_from(blocks).expect("a batch has few blocks");
        let asked = asking.begin(ranges.len());
        let reading = source.read(ranges);
        jobs.send(Job { changes, blocks, reading, asked, sealed }).map_err(|_| stopped())
    };
    let walked = source.changes(since, &mut |change| cutter.add(change, &mut hand_out));
    let ended = walked.and_then(|()| cutter.end(&mut hand_out));
    if let Err(error) = ended {
        let (sealed, batch) = sync_channel(1);
        // Nobody listens any more when it was stopped from there.
        let _ = sealed.send(Err(error));
        let _ = ordered.send(batch);
    }
}

/// Gathers changes to batches.
#[derive(Default)]
struct Cutter {
    changes: Vec<Change>,
    blocks: u64,
}

impl Cutter {
    fn add(&mut self, change: Change, hand_out: &mut dyn FnMut(Vec<Change>) -> Result<()>) -> Result<()> {
        let mut rest = change;
        while rest.blocks > 0 {
            let room = if rest.is_data { BATCH_BLOCKS - self.blocks } else { rest.blocks };
            let part = Change { blocks: rest.blocks.min(room), ..rest };
            rest = Change { first: rest.first + part.blocks, blocks: rest.blocks - part.blocks, ..rest };
            self.blocks += if part.is_data { part.blocks } else { 0 };
            self.changes.push(part);
            if self.blocks == BATCH_BLOCKS || self.changes.len() == PIECES_MAX {
                self.end(hand_out)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, hand_out: &mut dyn FnMut(Vec<Change>) -> Result<()>) -> Result<()> {
        self.blocks = 0;
        match self.changes.is_empty() {
            true => Ok(()),
            false => hand_out(std::mem::take(&mut self.changes)),
        }
    }
}

/// Seals jobs until there are no more.
fn work(sealing: &Sealing, queue: &Mutex<Receiver<Job<'_>>>, spare: &Spare) {
    let mut sealer = Sealer::new(sealing.keys.clone(), sealing.level);
    let mut content = Vec::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { changes, blocks, reading, asked, sealed }) = job else { return };
        drop(asked);
        content.resize(blocks * BLOCK_LEN, 0);
        let batch = match &mut sealer {
            Ok(sealer) => reading(&mut content).and_then(|()| seal(sealer, changes, &content, spare.take())),
            Err(error) => Err(error.clone()),
        };
        // Nobody listens any more when the send failed elsewhere.
        let _ = sealed.send(batch);
    }
}

fn seal(sealer: &mut Sealer, changes: Vec<Change>, content: &[u8], mut stored: Vec<u8>) -> Result<Batch> {
    let frames = content.chunks(FRAME_BLOCKS as usize * BLOCK_LEN);
    let rows = frames.map(|content| sealer.seal(Content::Blocks, 0, content, &mut stored));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    Ok(Batch { changes, rows, stored })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(changes: &[Change]) -> Vec<Vec<Change>> {
        let mut batches = Vec::new();
        let mut hand_out = |changes| {
            batches.push(changes);
            Ok(())
        };
        let mut cutter = Cutter::default();
        for change in changes {
            cutter.add(*change, &mut hand_out).unwrap();
        }
        cutter.end(&mut hand_out).unwrap();
        batches
    }

    #[test]
    fn pieces_are_asked_for_up_to_a_bound_and_many_alone() {
        let asking = Asking::default();
        let few = asking.begin(ASKED_MAX - 1);
        let last = asking.begin(1);
        let (began, begun) = sync_channel(2);
        std::thread::scope(|scope| {
            let asking = asking.clone();
            scope.spawn(move || {
                let many = asking.begin(ASKED_MAX * 2);
                began.send(ASKED_MAX * 2).unwrap();
                drop(many);
                let _one = asking.begin(1);
                began.send(1).unwrap();
            });
            drop(few);
            let too_early = begun.recv_timeout(std::time::Duration::from_millis(20));
            assert!(too_early.is_err(), "one piece is still asked for");
            drop(last);
            assert_eq!(begun.iter().collect::<Vec<_>>(), [ASKED_MAX * 2, 1]);
        });
        assert_eq!(*asking.0.0.lock().unwrap(), 0);
    }

    #[test]
    fn batches_end_with_whole_frames() {
        let changes = [
            Change { first: 0, blocks: 100, is_data: true },
            Change { first: 100, blocks: 1 << 40, is_data: false },
            Change { first: 1 << 41, blocks: 300, is_data: true },
        ];
        let data = |batch: &Vec<Change>| batch.iter().filter(|c| c.is_data).map(|c| c.blocks).sum::<u64>();
        assert_eq!(cut(&changes).iter().map(data).collect::<Vec<_>>(), [128, 128, 128, 16]);
        let all: Vec<Change> = cut(&changes).concat();
        assert_eq!(all.iter().map(|change| change.blocks).sum::<u64>(), 400 + (1 << 40));
        assert!(all.windows(2).all(|two| two[0].first + two[0].blocks <= two[1].first));
    }

    #[test]
    fn many_holes_are_no_large_batch() {
        let changes: Vec<Change> =
            (0..20_000).map(|index| Change { first: index * 2, blocks: 1, is_data: index == 5 }).collect();
        let batches = cut(&changes);
        assert!(batches.iter().all(|batch| batch.len() <= PIECES_MAX));
        assert_eq!(batches.concat(), changes);
    }
}
