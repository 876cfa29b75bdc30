//! The changes of many intervals brought into page order, as many pages at a time as memory allows.
//!
//! 1. A window is as wide as its changes allow: when they don't fit, it is cut at the middle one of their pages, and
//!    what was cut off is read again later. The next windows keep the width, and grow again where little changed.
//! 2. Records of one page and path are folded in the order of their intervals; folding is associative, so it may
//!    happen early, and a page changed in every interval takes no more room than any other.
//! 3. Between windows, no interval's `next` is above the first of its keys that was not shown.

use std::ops::Range;

use super::path::{Path, Segment};
use crate::error::Result;
use crate::format::keys;
use crate::format::undo::{Changed, decode_changed};
use crate::map::store::{Family, Scan, StoreView, malformed};
use crate::units::{Epoch, PageIndex};

/// Records held at once, of 32 bytes.
pub(super) const RECORDS_MAX: usize = 1 << 19;

const NOWHERE: PageIndex = PageIndex(u64::MAX);

/// What happened to one page on one path.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Page, then path: what records are sorted by.
    place: u64,
    masks: Changed,
}

impl Record {
    fn new(page: PageIndex, path: Path, masks: Changed) -> Self {
        Self { place: page.0 << 1 | u64::from(path == Path::ToNewer), masks }
    }

    fn page(&self) -> PageIndex {
        PageIndex(self.place >> 1)
    }

    fn path(&self) -> Path {
        if self.place & 1 == 0 { Path::ToOlder } else { Path::ToNewer }
    }
}

/// One change after the other, as one.
fn then(first: Changed, later: Changed) -> Changed {
    Changed {
        changed: first.changed | later.changed,
        before: first.before | later.before & !first.changed,
        after: later.after | first.after & !later.changed,
    }
}

/// What happened to a page on both paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageMasks {
    older: Changed,
    newer: Changed,
}

impl PageMasks {
    fn changed(&self) -> u64 {
        self.older.changed | self.newer.changed
    }

    /// Changed blocks that hold data at the newer point: what the newer path made of them, else what the older path
    /// found.
    pub(super) fn data(&self) -> u64 {
        self.newer.after | self.older.before & !self.newer.changed
    }

    /// Changed blocks that are holes at the newer point and were none at the older.
    pub(super) fn holes(&self) -> u64 {
        let at_older = self.older.after | self.newer.before & !self.older.changed;
        self.changed() & at_older & !self.data()
    }
}

/// An interval with changes in the range.
struct Interval {
    segment: usize,
    end: Epoch,
    /// Its changes from here on were not shown.
    next: PageIndex,
    /// It was read from in the present window.
    read: bool,
}

/// The windows of a delta, in page order.
pub(super) struct Windows<'a> {
    segments: Vec<(Segment, Scan<'a>)>,
    intervals: Vec<Interval>,
    records: Vec<Record>,
    records_max: usize,
    end: PageIndex,
    width: u64,
}

impl<'a> Windows<'a> {
    /// Finds the intervals of the segments that have changes in `pages`.
    pub(super) fn new(
        view: &'a StoreView<'_>,
        segments: Vec<Segment>,
        pages: Range<PageIndex>,
    ) -> Result<Self> {
        Self::with_records(view, segments, pages, RECORDS_MAX)
    }

    /// As `new`, holding at most `records_max` records, at least 8.
    pub(super) fn with_records(
        view: &'a StoreView<'_>,
        segments: Vec<Segment>,
        pages: Range<PageIndex>,
        records_max: usize,
    ) -> Result<Self> {
        let mut intervals = Vec::new();
        let mut scans = Vec::new();
        for segment in segments {
            let end = keys::changed(segment.layer, segment.to, PageIndex(0));
            let mut scan = view.scan(Family::Changed, Some(end.to_vec()));
            find_intervals(&mut scan, &segment, scans.len(), &pages, &mut intervals)?;
            scans.push((segment, scan));
        }
        let width = pages.end.0.saturating_sub(pages.start.0).max(1);
        Ok(Self { segments: scans, intervals, records: Vec::new(), records_max, end: pages.end, width })
    }

    /// Reads the next window with changes; `false` at the end.
    pub(super) fn next(&mut self) -> Result<bool> {
        let start = self.intervals.iter().map(|interval| interval.next).min().unwrap_or(NOWHERE);
        if start >= self.end {
            return Ok(false);
        }
        self.records.clear();
        let mut stop = PageIndex(self.end.0.min(start.0.saturating_add(self.width)));
        self.intervals.iter_mut().for_each(|interval| interval.read = false);
        for at in 0..self.intervals.len() {
            if self.intervals[at].next < stop {
                self.intervals[at].read = true;
                stop = self.read(at, stop)?;
            }
        }
        fold(&mut self.records);
        let few = self.records.len() < self.records_max / 4;
        self.width = if few { self.width.saturating_mul(2) } else { stop.0 - start.0 };
        Ok(true)
    }

    /// Reads an interval's changes up to `stop`, which may come nearer; returns it.
    fn read(&mut self, at: usize, mut stop: PageIndex) -> Result<PageIndex> {
        let Interval { segment, end, next, .. } = self.intervals[at];
        let (segment, scan) = &mut self.segments[segment];
        let (path, layer) = (segment.path, segment.layer);
        scan.seek(&keys::changed(layer, end, next));
        loop {
            let Some((key, value)) = self.segments[self.intervals[at].segment].1.item()? else { break };
            let damaged = |source| malformed(Family::Changed, key, source);
            let (_, interval, page) = keys::read_changed(key).map_err(damaged)?;
            if interval != end {
                break;
            }
            if page >= stop {
                self.intervals[at].next = page;
                return Ok(stop);
            }
            self.records.push(Record::new(page, path, decode_changed(value).map_err(damaged)?));
            if self.records.len() >= self.records_max {
                stop = self.make_room(stop);
                if page >= stop {
                    return Ok(stop);
                }
            }
            self.segments[self.intervals[at].segment].1.advance();
        }
        self.intervals[at].next = NOWHERE;
        Ok(stop)
    }

    /// Folds what was read, and when that is not enough cuts the window in two.
    fn make_room(&mut self, stop: PageIndex) -> PageIndex {
        fold(&mut self.records);
        if self.records.len() <= self.records_max / 2 {
            return stop;
        }
        let middle = self.records[self.records.len() / 2].page();
        self.records.retain(|record| record.page() < middle);
        for interval in self.intervals.iter_mut().filter(|interval| interval.read) {
            interval.next = interval.next.max(middle).min(middle);
        }
        middle
    }

    /// The changed pages of the window, in order.
    pub(super) fn pages(&self) -> impl Iterator<Item = (PageIndex, PageMasks)> {
        self.records.chunk_by(|one, other| one.page() == other.page()).map(|records| {
            let mut masks = PageMasks::default();
            for record in records {
                match record.path() {
                    Path::ToOlder => masks.older = record.masks,
                    Path::ToNewer => masks.newer = record.masks,
                }
            }
            (records[0].page(), masks)
        })
    }
}

/// Steps from interval to interval, not over what lies in them.
fn find_intervals(
    scan: &mut Scan<'_>,
    segment: &Segment,
    index: usize,
    pages: &Range<PageIndex>,
    found: &mut Vec<Interval>,
) -> Result<()> {
    let mut from = segment.from;
    loop {
        scan.seek(&keys::changed(segment.layer, from, pages.start));
        let Some((key, _)) = scan.item()? else { return Ok(()) };
        let (_, end, page) =
            keys::read_changed(key).map_err(|source| malformed(Family::Changed, key, source))?;
        // An interval that begins before the range is looked at again, from the range's start.
        if page < pages.start {
            from = end;
            continue;
        }
        if page < pages.end {
            found.push(Interval { segment: index, end, next: page, read: false });
        }
        // The scan ends before the segment's `to`, so there is an epoch after this one.
        from = end.next();
    }
}

/// Sorts records and makes one of those of one page and path. The sort is stable, so they stay in the order of their
/// intervals.
fn fold(records: &mut Vec<Record>) {
    records.sort_by_key(|record| record.place);
    records.dedup_by(|later, first| {
        let same = later.place == first.place;
        if same {
            first.masks = then(first.masks, later.masks);
        }
        same
    });
}
