//! Read-ahead: who reads in order finds what comes next in memory.
//!
//! 1. A stream is a row of reads of one target, each from where the last one ended. It is read ahead by no more than it
//!    has read (in pieces of 64 KiB at least), so what is read for nothing when it breaks off is bounded by what was
//!    asked for. All streams together have `read_ahead_bytes`, and a piece each that was read.
//! 2. A piece that was read ahead is a read whose ticket is kept: none of its blocks is used again meanwhile (core
//!    invariant 4). It answers a read only if the map, looked up for that read, says of each block what it said then.
//! 3. A piece goes when it was read, when its stream has stood still for a second, and when freed blocks wait for it.
//! 4. A piece that can't be read is nobody's error: who waits for it reads for himself, and is told by that. It ends its
//!    stream, or it would be read again and again.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::read::Reader;
use super::{Core, Target};
use crate::map::Entry;
use crate::sys::{Memory, MemorySlice};
use crate::units::{BLOCK_BYTES, BLOCK_LEN};

/// Reads in order that make a stream.
const READS_MIN: u32 = 4;
/// The longest read that is looked at: a longer one uses the device well by itself.
const READ_BYTES_MAX: u64 = 256 << 10;
/// Sizes of a piece.
const PIECE_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 20;
/// Bytes that are read ahead at once. More would be in the way of other reads.
const IN_FLIGHT_BYTES: u64 = 2 << 20;
/// Streams that are read ahead.
const STREAMS_MAX: usize = 8;
/// Streams that the memory is shared among, if there are fewer.
const SHARES_MIN: u64 = 4;
/// Rows of reads that may become one.
const ROWS_MAX: usize = 16;
/// How long a stream may stand still, in ms.
const IDLE_MS_MAX: u64 = 1000;

/// Reads in order.
#[derive(Clone, Copy)]
struct Row {
    target: Target,
    /// Where the next one would begin.
    next: u64,
    reads: u32,
    bytes: u64,
}

struct Stream {
    row: Row,
    /// In order, without a gap.
    pieces: VecDeque<Piece>,
    used_ms: u64,
}

/// Blocks from `first` to before `end`.
struct Piece {
    number: u64,
    first: u64,
    end: u64,
    /// Nothing while it is being read.
    content: Option<Content>,
}

/// What a piece holds, and how the map was.
pub(super) struct Content {
    pub(super) entries: Vec<Entry>,
    pub(super) buffer: Arc<Memory>,
    pub(super) ticket: u64,
}

/// What is there of a range.
pub(super) enum Known {
    /// Not all of it.
    Nothing,
    /// It is, or will be when this piece was read.
    Coming(u64),
    /// It is, in so many parts.
    Here(Vec<MemorySlice>),
}

/// The streams.
#[derive(Default)]
pub(super) struct Ahead {
    streams: Vec<Stream>,
    /// Rows that are no stream yet, the latest one last.
    rows: VecDeque<Row>,
    next_number: u64,
    in_flight_bytes: u64,
    /// There may be something to read.
    is_due: bool,
    /// Reads that wait for a piece.
    waiting: FxHashMap<u64, Vec<usize>>,
}

impl Row {
    fn go_on(&mut self, end: u64) {
        self.bytes += end.saturating_sub(self.next);
        self.next = self.next.max(end);
        self.reads = self.reads.saturating_add(1);
    }
}

impl Stream {
    /// Whether a read from `offset` goes on with it. One that another overtook does too.
    fn goes_on(&self, target: Target, offset: u64) -> bool {
        let first = self.pieces.front().map_or(self.row.next, |piece| piece.first * BLOCK_BYTES);
        self.row.target == target && (first.min(self.row.next)..=self.end()).contains(&offset)
    }

    /// Up to where it is read, or was read ahead.
    fn end(&self) -> u64 {
        self.pieces.back().map_or(0, |piece| piece.end * BLOCK_BYTES).max(self.row.next)
    }
}

impl Ahead {
    /// Takes note of a read; gives the stream that it goes on with.
    fn note(&mut self, target: Target, offset: u64, end: u64, now_ms: u64) -> Option<usize> {
        if let Some(index) = self.streams.iter().position(|stream| stream.goes_on(target, offset)) {
            self.streams[index].row.go_on(end);
            self.streams[index].used_ms = now_ms;
            return Some(index);
        }
        let known = self.rows.iter().position(|row| row.target == target && row.next == offset);
        let mut row = known.and_then(|index| self.rows.remove(index)).unwrap_or(Row {
            target,
            next: offset,
            reads: 0,
            bytes: 0,
        });
        row.go_on(end);
        if row.reads >= READS_MIN {
            self.streams.push(Stream { row, pieces: VecDeque::new(), used_ms: now_ms });
            return Some(self.streams.len() - 1);
        }
        self.rows.push_back(row);
        if self.rows.len() > ROWS_MAX {
            self.rows.pop_front();
        }
        None
    }

    /// Begins the next piece of a stream of a target of `bytes` bytes, if it is read ahead less far than it may be.
    fn next_piece(&mut self, index: usize, bytes: u64, budget: u64) -> Option<(u64, Range<u64>)> {
        let shares = (self.streams.len() as u64).max(SHARES_MIN);
        let stream = self.streams.get_mut(index)?;
        let window = stream.row.bytes.min(budget / shares);
        let at = stream.end().next_multiple_of(BLOCK_BYTES);
        let volume_end = bytes / BLOCK_BYTES * BLOCK_BYTES;
        if at >= volume_end.min(stream.row.next.saturating_add(window)) {
            return None;
        }
        // Half of the window at most, so that one piece is read while the one before is asked for.
        let length = 1_u64 << (window / 2).clamp(*PIECE_BYTES.start(), *PIECE_BYTES.end()).ilog2();
        let end = ((at / length + 1) * length).min(volume_end);
        let (number, blocks) = (self.next_number, at / BLOCK_BYTES..end / BLOCK_BYTES);
        self.next_number += 1;
        stream.pieces.push_back(Piece { number, first: blocks.start, end: blocks.end, content: None });
        Some((number, blocks))
    }

    /// What is there of blocks of which the map says `entries`, from `first` on.
    pub(super) fn find(&self, target: Target, first: u64, entries: &[Entry]) -> Known {
        let end = first + entries.len() as u64;
        let (mut at, mut parts) = (first, Vec::new());
        while at < end {
            let streams = self.streams.iter().filter(|stream| stream.row.target == target);
            let mut pieces = streams.flat_map(|stream| &stream.pieces);
            let Some(piece) = pieces.find(|piece| (piece.first..piece.end).contains(&at)) else {
                return Known::Nothing;
            };
            let Some(content) = &piece.content else { return Known::Coming(piece.number) };
            let upto = end.min(piece.end);
            let within = index(at - piece.first)..index(upto - piece.first);
            if content.entries[within.clone()] != entries[index(at - first)..index(upto - first)] {
                return Known::Nothing;
            }
            let buffer = content.buffer.clone();
            parts.push(MemorySlice::new(buffer, within.start * BLOCK_LEN, within.len() * BLOCK_LEN));
            at = upto;
        }
        Known::Here(parts)
    }

    pub(super) fn wait(&mut self, number: u64, read: usize) {
        self.waiting.entry(number).or_default().push(read);
    }

    /// A piece was read (`None`: it could not be). Gives who waited for it, and what nobody will ask for.
    fn end_piece(&mut self, number: u64, content: Option<Content>) -> (Vec<usize>, Vec<Content>) {
        let waiting = self.waiting.remove(&number).unwrap_or_default();
        let holds = |stream: &Stream| stream.pieces.iter().position(|piece| piece.number == number);
        let place =
            self.streams.iter().enumerate().find_map(|(index, stream)| holds(stream).map(|at| (index, at)));
        let unwanted = match (place, content) {
            (Some((index, at)), Some(content)) => {
                let stream = &mut self.streams[index];
                stream.pieces[at].content = Some(content);
                Vec::new()
            }
            (Some((index, _)), None) => {
                contents(self.streams.swap_remove(index).pieces.into_iter()).collect()
            }
            (None, content) => content.into_iter().collect(),
        };
        (waiting, unwanted)
    }
}

fn contents(pieces: impl Iterator<Item = Piece>) -> impl Iterator<Item = Content> {
    pieces.filter_map(|piece| piece.content)
}

impl Core {
    /// Takes note of a client's read that has begun.
    pub(super) fn note_read(&mut self, target: Target, offset: u64, length: u64) {
        if self.options.read_ahead_bytes == 0 || length == 0 || length > READ_BYTES_MAX {
            return;
        }
        let end = offset.saturating_add(length);
        if self.resolve_target(target).is_ok_and(|(_, bytes)| end <= bytes)
            && let Some(index) = self.ahead.note(target, offset, end, self.now_ms)
        {
            self.drop_read_pieces(index);
            self.keep_few_streams();
            self.ahead.is_due = true;
        }
    }

    /// Reads what will be asked for next.
    pub(super) fn read_ahead(&mut self) {
        if !std::mem::take(&mut self.ahead.is_due) {
            return;
        }
        for index in 0..self.ahead.streams.len() {
            let Some(target) = self.ahead.streams.get(index).map(|stream| stream.row.target) else { break };
            let Ok((_, bytes)) = self.resolve_target(target) else { continue };
            while self.ahead.in_flight_bytes < IN_FLIGHT_BYTES
                && let Some((number, blocks)) =
                    self.ahead.next_piece(index, bytes, self.options.read_ahead_bytes)
            {
                let length = (blocks.end - blocks.start) * BLOCK_BYTES;
                self.ahead.in_flight_bytes += length;
                self.statistics.read_ahead_bytes += length;
                let reader = Reader::Ahead { piece: number, bytes: length };
                self.begin_read(reader, target, blocks.start * BLOCK_BYTES, length);
            }
        }
    }

    /// A piece was read, or its read ended with this ticket and nothing.
    pub(super) fn piece_read(&mut self, number: u64, bytes: u64, read: Result<Content, u64>) {
        self.ahead.in_flight_bytes -= bytes;
        self.ahead.is_due = true;
        let content = match read {
            Ok(content) => Some(content),
            Err(ticket) => {
                self.reads.end(ticket);
                None
            }
        };
        let (waiting, unwanted) = self.ahead.end_piece(number, content);
        unwanted.into_iter().for_each(|content| self.reads.end(content.ticket));
        waiting.into_iter().for_each(|read| self.map_read(read));
    }

    /// Drops what lies behind a stream, but for the last piece: a read may have been overtaken.
    fn drop_read_pieces(&mut self, index: usize) {
        let stream = &mut self.ahead.streams[index];
        let is_read = |piece: &Piece| piece.end * BLOCK_BYTES <= stream.row.next;
        let behind = stream.pieces.iter().take_while(|piece| is_read(piece)).count();
        let dropped = stream.pieces.drain(..behind.saturating_sub(1)).collect();
        self.drop_pieces(dropped);
    }

    fn keep_few_streams(&mut self) {
        while self.ahead.streams.len() > STREAMS_MAX {
            let streams = self.ahead.streams.iter().enumerate();
            let Some((oldest, _)) = streams.min_by_key(|(_, stream)| stream.used_ms) else { return };
            let stream = self.ahead.streams.swap_remove(oldest);
            self.drop_pieces(stream.pieces);
        }
    }

    /// Drops the streams that stand still.
    pub(super) fn drop_idle_streams(&mut self) {
        let now_ms = self.now_ms;
        while let Some(idle) =
            self.ahead.streams.iter().position(|stream| now_ms.saturating_sub(stream.used_ms) > IDLE_MS_MAX)
        {
            let stream = self.ahead.streams.swap_remove(idle);
            self.drop_pieces(stream.pieces);
        }
    }

    /// Drops every piece that freed blocks wait for, which reads from `ticket` on do not need.
    pub(super) fn drop_pieces_before(&mut self, ticket: u64) {
        let is_old = |piece: &Piece| piece.content.as_ref().is_some_and(|content| content.ticket < ticket);
        let mut dropped = VecDeque::new();
        for stream in &mut self.ahead.streams {
            // With those before it, so that no gap is left.
            let old = stream.pieces.iter().rposition(is_old).map_or(0, |last| last + 1);
            dropped.extend(stream.pieces.drain(..old));
        }
        self.drop_pieces(dropped);
    }

    fn drop_pieces(&mut self, pieces: VecDeque<Piece>) {
        contents(pieces.into_iter()).for_each(|content| self.reads.end(content.ticket));
    }
}

fn index(blocks: u64) -> usize {
    usize::try_from(blocks).expect("a piece fits memory")
}
