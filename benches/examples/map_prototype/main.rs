//! Weighs ways to keep the map and its past in RocksDB, with 10,000 epochs: head and undo history (format A) against
//! plain multi-version keys, by page (B) and by block (B2). The figures and the choice are in
//! `docs/adr/0001-map-format.md`.
//!
//! ```text
//! cargo run --release -p firn-benches --example map_prototype
//! cargo run --release -p firn-benches --example map_prototype -- writes=400 blocks=4 only=A
//! ```
//!
//! `epochs`, `writes` (per epoch), `blocks` (neighbouring blocks per write), `checkpoint` (epochs per checkpoint) and
//! `pages` set the size; `only` takes the formats whose name starts with it. Every answer that is timed is first
//! compared with an in-memory oracle; a difference ends the run.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a prototype over values that it drew itself, all far below the bounds"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures: the clock is its purpose"
)]

mod block_versions;
mod codec;
mod format;
mod measure;
mod model;
mod page_versions;
mod store;
mod undo_history;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use block_versions::BlockVersions;
use codec::Layout;
use format::MapFormat;
use measure::{Bench, Figure};
use model::{Oracle, Shape, Workload};
use page_versions::PageVersions;
use store::Filter;
use undo_history::{Indexes, Keyframes, UndoHistory, UndoOptions};

/// Format A as DESIGN.md has it.
const INTENDED: UndoOptions = UndoOptions {
    is_head_compressed: true,
    is_past_compressed: true,
    head_block_bytes: 4096,
    head_filter: Filter::WholeKey,
    head_level0_files: 4,
    history_filter: Filter::None,
    keyframes: Keyframes::EveryRecords(16),
    layout: Layout::Row,
    indexes: Indexes::PerPage,
};

enum Candidate {
    Undo(UndoOptions),
    Pages,
    Blocks,
}

impl Candidate {
    fn create(&self, path: &Path, shape: Shape) -> Result<Box<dyn MapFormat>> {
        Ok(match self {
            Self::Undo(options) => Box::new(UndoHistory::create(path, *options)?),
            Self::Pages => Box::new(PageVersions::create(path, shape.pages)?),
            Self::Blocks => Box::new(BlockVersions::create(path)?),
        })
    }
}

/// Format A as the figures have it.
const TUNED: UndoOptions = UndoOptions {
    keyframes: Keyframes::EveryEntries(128),
    layout: Layout::Column,
    indexes: Indexes::Chunked,
    ..INTENDED
};

/// The compared formats, and behind them what differs from the tuned one in a detail: those run only if asked for.
fn candidates() -> Vec<(&'static str, Candidate)> {
    let undo = Candidate::Undo;
    vec![
        ("A intended", undo(INTENDED)),
        (
            "A intended, no lz4",
            undo(UndoOptions { is_head_compressed: false, is_past_compressed: false, ..INTENDED }),
        ),
        ("A intended, no keyframe", undo(UndoOptions { keyframes: Keyframes::Never, ..INTENDED })),
        ("A tuned", undo(TUNED)),
        ("B pages", Candidate::Pages),
        ("B2 blocks", Candidate::Blocks),
        (
            "detail no lz4",
            undo(UndoOptions { is_head_compressed: false, is_past_compressed: false, ..TUNED }),
        ),
        ("detail head no lz4", undo(UndoOptions { is_head_compressed: false, ..TUNED })),
        ("detail row", undo(UndoOptions { layout: Layout::Row, ..TUNED })),
        ("detail keyframe never", undo(UndoOptions { keyframes: Keyframes::Never, ..TUNED })),
        ("detail keyframe 16 records", undo(UndoOptions { keyframes: Keyframes::EveryRecords(16), ..TUNED })),
        ("detail keyframe 64", undo(UndoOptions { keyframes: Keyframes::EveryEntries(64), ..TUNED })),
        ("detail keyframe 255", undo(UndoOptions { keyframes: Keyframes::EveryEntries(255), ..TUNED })),
        ("detail history prefix filter", undo(UndoOptions { history_filter: Filter::Prefix, ..TUNED })),
        ("detail head no filter", undo(UndoOptions { head_filter: Filter::None, ..TUNED })),
        ("detail head block 16K", undo(UndoOptions { head_block_bytes: 16 << 10, ..TUNED })),
        ("detail head level0 10", undo(UndoOptions { head_level0_files: 10, ..TUNED })),
    ]
}

struct Arguments {
    shape: Shape,
    only: String,
}

fn arguments() -> Result<Arguments> {
    let mut shape = Shape {
        pages: 65_536,
        epochs: 10_000,
        writes_per_epoch: 100,
        blocks_per_write: 1,
        epochs_per_checkpoint: 50,
    };
    let mut only = String::new();
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').context("arguments are name=value")?;
        match name {
            "pages" => shape.pages = value.parse()?,
            "epochs" => shape.epochs = value.parse()?,
            "writes" => shape.writes_per_epoch = value.parse()?,
            "blocks" => shape.blocks_per_write = value.parse()?,
            "checkpoint" => shape.epochs_per_checkpoint = value.parse()?,
            "only" => only = value.to_owned(),
            _ => bail!("unknown argument {name}"),
        }
    }
    Ok(Arguments { shape, only })
}

fn chosen(only: &str) -> impl Iterator<Item = (&'static str, Candidate)> {
    let is_chosen =
        move |name: &str| if only.is_empty() { !name.starts_with("detail") } else { name.starts_with(only) };
    candidates().into_iter().filter(move |(name, _)| is_chosen(name))
}

fn main() -> Result<()> {
    let Arguments { shape, only } = arguments()?;
    let start = Instant::now();
    let workload = Workload::generate(shape, 1);
    let oracle = Oracle::new(&workload);
    println!("{shape:?}, {} displaced", workload.displaced());
    let bench = Bench { workload: &workload, oracle: &oracle };
    let mut columns = Vec::new();
    for (name, candidate) in chosen(&only) {
        let directory = tempfile::tempdir()?;
        let mut format = candidate.create(directory.path(), shape)?;
        let figures = bench.run(format.as_mut()).with_context(|| name.to_owned())?;
        eprintln!("{name}: done at {:.0} s", start.elapsed().as_secs_f64());
        columns.push((name, figures));
    }
    print_table(&columns);
    Ok(())
}

/// A Markdown table: a row per figure, a column per format.
fn print_table(columns: &[(&str, Vec<Figure>)]) {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    println!("| | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()));
    let Some((_, longest)) = columns.iter().max_by_key(|(_, figures)| figures.len()) else { return };
    for (label, _) in longest {
        let cell = |figures: &[Figure]| {
            figures.iter().find(|(name, _)| name == label).map(|(_, figure)| figure.clone())
        };
        let cells: Vec<String> =
            columns.iter().map(|(_, figures)| cell(figures).unwrap_or_default()).collect();
        println!("| {label} | {} |", cells.join(" | "));
    }
}
