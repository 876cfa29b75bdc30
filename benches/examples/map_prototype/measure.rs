//! Puts one format through the workload, checks every answer against the oracle, and times what is asked of it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::format::MapFormat;
use crate::model::{Block, Deletion, FILL_EPOCH, Oracle, Random, Span, Workload};

const FILL_PAGES: usize = 8192;
const PAGE_READS: usize = 20_000;
const BLOCK_READS: usize = 10_000;
const DELTAS_SHORT: usize = 200;
const DELTAS_LONG: usize = 20;
const LONG: u32 = 100;

/// A row of the table: what, and the figure.
pub(crate) type Figure = (String, String);

/// The workload and what is known about it, the same for every format.
pub(crate) struct Bench<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) oracle: &'a Oracle<'a>,
}

impl Bench<'_> {
    /// All figures of one format, in the order of the table.
    pub(crate) fn run(&self, format: &mut dyn MapFormat) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        let filled_bytes = self.fill(format, &mut figures)?;
        self.ingest(format, &mut figures)?;
        self.live_reads(format, &mut figures)?;
        self.snapshot_reads(format, &mut figures)?;
        self.deltas(format, &mut figures)?;
        self.deletions(format, &mut figures)?;
        self.sizes(format, filled_bytes, &mut figures)?;
        Ok(figures)
    }

    fn sizes(&self, format: &dyn MapFormat, filled_bytes: u64, figures: &mut Vec<Figure>) -> Result<()> {
        let store = format.store();
        store.compact_fully()?;
        let displaced = self.workload.displaced();
        let per_block = |bytes: u64| format!("{:.1}", bytes as f64 / displaced as f64);
        let bytes = store.bytes()?;
        let mut families = Vec::new();
        for family in store.families() {
            families.push(format!("{} {}", family.name, megabytes(store.family_bytes(family.name)?)));
        }
        figures.push(row("size compacted, MB", megabytes(bytes)));
        figures.push(row("of which, MB", families.join(", ")));
        figures.push(row("grown since the fill, B per displaced block", per_block(bytes - filled_bytes)));
        if let Ok(head) = store.family_bytes("head") {
            figures.push(row("of which all but head, B", per_block(bytes - head)));
        }
        let held_bytes = (u64::from(self.workload.shape.blocks()) + displaced) * 4096;
        figures
            .push(row("whole, % of live and displaced data", format!("{:.3}", percent(bytes, held_bytes))));
        Ok(())
    }

    fn fill(&self, format: &mut dyn MapFormat, figures: &mut Vec<Figure>) -> Result<u64> {
        let shape = self.workload.shape;
        let data_bytes = u64::from(shape.blocks()) / 2 * 4096;
        let mut before = 0;
        for (name, pages) in [("sequential", shape.sequential_pages()), ("random", shape.random_pages())] {
            for first in pages.clone().step_by(FILL_PAGES) {
                format.fill(self.workload, first..pages.end.min(first + FILL_PAGES as u32))?;
            }
            format.store().compact_fully()?;
            let bytes = format.store().bytes()? - before;
            before += bytes;
            figures
                .push(row(&format!("{name} fill, % of data"), format!("{:.3}", percent(bytes, data_bytes))));
        }
        Ok(before)
    }

    fn ingest(&self, format: &mut dyn MapFormat, figures: &mut Vec<Figure>) -> Result<()> {
        let before = format.store().written();
        let start = Instant::now();
        for epochs in self.workload.epochs.chunks(self.workload.shape.epochs_per_checkpoint) {
            format.checkpoint(epochs)?;
        }
        let ingested = start.elapsed();
        format.store().settle()?;
        let settled = start.elapsed();
        let store = format.store();
        let after = store.written();
        let displaced = self.workload.displaced();
        let per_block = |bytes: u64| format!("{:.1}", bytes as f64 / displaced as f64);
        figures.push(row(
            "ingest, s (and settled)",
            format!("{:.1} ({:.1})", seconds(ingested), seconds(settled)),
        ));
        figures
            .push(row("flushed, B per displaced block", per_block(after.flush_bytes - before.flush_bytes)));
        let compacted = after.compaction_bytes - before.compaction_bytes;
        figures.push(row("compacted, B per displaced block", per_block(compacted)));
        figures.push(row("size settled, MB", megabytes(store.bytes()?)));
        let mut written = Vec::new();
        for family in store.families() {
            written.push(format!("{} {:.2}", family.name, store.family_written_gb(family.name)?));
        }
        figures.push(row("written over the run, GB", written.join(", ")));
        Ok(())
    }

    fn live_reads(&self, format: &dyn MapFormat, figures: &mut Vec<Figure>) -> Result<()> {
        let mut random = Random(2);
        let newest = self.workload.shape.newest();
        let pages: Vec<u32> = (0..PAGE_READS).map(|_| random.below(self.workload.shape.pages)).collect();
        let of_page =
            timed(&pages, |&page| format.live_page(page), |&page| self.oracle.page_at(page, newest))?;
        figures.push(row(
            "live page, us p50 (rate/s)",
            format!("{:.1} ({:.0})", of_page.p50_us(), of_page.rate()),
        ));
        let blocks: Vec<Block> = (0..BLOCK_READS).map(|_| self.any_block(&mut random)).collect();
        let of_block = timed(&blocks, |&b| format.live_block(b), |&b| self.oracle.block_at(b, newest))?;
        figures.push(row("live block, us p50", format!("{:.1}", of_block.p50_us())));
        Ok(())
    }

    fn snapshot_reads(&self, format: &dyn MapFormat, figures: &mut Vec<Figure>) -> Result<()> {
        let mut random = Random(3);
        for (which, is_hot) in [("any", false), ("hot", true)] {
            for (when, is_oldest) in [("oldest", true), ("random", false)] {
                let mut sample = || {
                    let block =
                        if is_hot { self.hot_block(&mut random) } else { self.any_block(&mut random) };
                    (block, if is_oldest { FILL_EPOCH } else { self.any_snapshot(&mut random, 0) })
                };
                let reads: Vec<(Block, u32)> = (0..BLOCK_READS).map(|_| sample()).collect();
                let of_block = timed(
                    &reads,
                    |&(block, snapshot)| format.block_at(block, snapshot),
                    |&(block, snapshot)| self.oracle.block_at(block, snapshot),
                )?;
                let of_page = timed(
                    &reads[..BLOCK_READS / 2],
                    |&(block, snapshot)| format.page_at(block.page(), snapshot),
                    |&(block, snapshot)| self.oracle.page_at(block.page(), snapshot),
                )?;
                figures.push(row(&format!("{which} block, {when} snapshot, us p50/p99"), of_block.p50_p99()));
                figures.push(row(&format!("{which} page, {when} snapshot, us p50/p99"), of_page.p50_p99()));
            }
        }
        Ok(())
    }

    fn deltas(&self, format: &dyn MapFormat, figures: &mut Vec<Figure>) -> Result<()> {
        let mut random = Random(4);
        for (length, count) in [(1, DELTAS_SHORT), (LONG, DELTAS_LONG)] {
            let mut sample = || {
                let older = self.any_snapshot(&mut random, length);
                Span { older, newer: older + length }
            };
            let spans: Vec<Span> = (0..count).map(|_| sample()).collect();
            let timed = timed(&spans, |&span| format.delta(span), |&span| self.oracle.delta(span))?;
            figures
                .push(row(&format!("delta over {length}, ms p50"), format!("{:.2}", timed.p50_us() / 1e3)));
        }
        Ok(())
    }

    fn deletions(&self, format: &dyn MapFormat, figures: &mut Vec<Figure>) -> Result<()> {
        let mut random = Random(5);
        for (gap, count) in [(1, DELTAS_SHORT), (LONG, DELTAS_LONG)] {
            let mut sample = || {
                let previous = self.any_snapshot(&mut random, 2 * gap);
                Deletion { previous, snapshot: previous + gap, next: previous + 2 * gap }
            };
            let middle: Vec<Deletion> = (0..count).map(|_| sample()).collect();
            let oldest = [Deletion { previous: 0, snapshot: FILL_EPOCH, next: FILL_EPOCH + gap }; 20];
            for (which, deletions) in [("middle", middle.as_slice()), ("oldest", oldest.as_slice())] {
                let timed = timed(deletions, |&d| format.freed(d), |&d| self.oracle.freed(d))?;
                let freed: usize = deletions.iter().map(|&d| self.oracle.freed(d).len()).sum();
                let label = format!("delete {which}, neighbours {gap} away, ms p50 (frees)");
                let figure =
                    format!("{:.2} ({:.1})", timed.p50_us() / 1e3, freed as f64 / deletions.len() as f64);
                figures.push(row(&label, figure));
            }
        }
        Ok(())
    }

    fn any_block(&self, random: &mut Random) -> Block {
        Block(random.below(self.workload.shape.blocks()))
    }

    /// A block of a page that some overwrite hit, so hot four times in five.
    fn hot_block(&self, random: &mut Random) -> Block {
        let epochs = &self.workload.epochs;
        let writes = &epochs[random.below(epochs.len() as u32) as usize].overwrites;
        Block(writes[random.below(writes.len() as u32) as usize].block.page() * 64 + random.below(64))
    }

    /// A snapshot with `after` snapshots behind it.
    fn any_snapshot(&self, random: &mut Random, after: u32) -> u32 {
        FILL_EPOCH + random.below(self.workload.shape.epochs + 1 - after)
    }
}

/// The times of single calls, rising.
struct Timed(Vec<Duration>);

impl Timed {
    fn at(&self, percent: usize) -> f64 {
        seconds(self.0[(self.0.len() - 1) * percent / 100]) * 1e6
    }

    fn p50_us(&self) -> f64 {
        self.at(50)
    }

    fn p50_p99(&self) -> String {
        format!("{:.1} / {:.1}", self.at(50), self.at(99))
    }

    fn rate(&self) -> f64 {
        self.0.len() as f64 / seconds(self.0.iter().sum())
    }
}

/// Asks twice, checks the first answers (which also warms the cache), times the second.
fn timed<S, T: PartialEq>(
    samples: &[S],
    ask: impl Fn(&S) -> Result<T>,
    expect: impl Fn(&S) -> T,
) -> Result<Timed> {
    for (index, sample) in samples.iter().enumerate() {
        ensure!(ask(sample)? == expect(sample), "sample {index}: wrong answer");
    }
    let mut times = Vec::with_capacity(samples.len());
    for sample in samples {
        let start = Instant::now();
        std::hint::black_box(ask(sample)?);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(Timed(times))
}

fn row(label: &str, figure: String) -> Figure {
    (label.to_owned(), figure)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}
