//! Bytes sent for each byte changed, and the time of an increment, in a full volume of 16 GiB and a sparse one of
//! 256 GiB.
//!
//! Both lie in one pool. The full one is written once, with pages that take little room in a vault; what is counted
//! is before compression. Of the sparse one 1 GiB is written, at random. Each series is of increments in a row into
//! the same vault, so that the merging of runs counts, as often as it comes.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_replicator::format::point::Sent;
use firn_replicator::store::DirectoryStore;
use firn_replicator::vault::Vault;

use super::data::Data;
use super::firn::{init, send};
use super::pages::{Content, PAGE_BYTES};
use super::timed;
use crate::figure::{self, float};
use crate::pairs::Pairs;
use crate::place::Place;
use crate::settings::Settings;
use crate::table::Row;

const FULL_BYTES: u64 = 16 << 30;
const SPARSE_BYTES: u64 = 256 << 30;
/// Bytes of the sparse volume that are written.
const SPARSE_DATA_BYTES: u64 = 1 << 30;
/// Room for both volumes, and for what three snapshots in a row hold.
const POOL_BYTES: u64 = 22 << 30;
/// Pages changed of ten thousand, and increments: as many as show several merges.
const SERIES: [(u64, u64); 2] = [(10, 16), (500, 4)];
/// Increments of 1 %, which both volumes get in turn.
const PAIRS: u64 = 9;
const BYTES_MAX: f64 = 1.10;

/// A volume, and the vault that it is sent to.
struct Sending {
    data: Data,
    vault: Vault,
    sent: u64,
}

impl Sending {
    fn new(data: Data, folder: &Path) -> Result<Self> {
        let vault = init(Arc::new(DirectoryStore::open(&folder.join("store"))?), &folder.join("signing"))?;
        Ok(Self { data, vault, sent: 0 })
    }

    /// Sends the volume as it is, and deletes the snapshot before. Gives the seconds of the snapshot and its sending.
    fn send(&mut self) -> Result<(f64, Sent)> {
        self.sent += 1;
        let Data { pool, volume, .. } = &self.data;
        let (seconds, point) = timed(|| send(&self.vault, pool, volume, &self.sent.to_string()))?;
        if self.sent > 1 {
            volume.snapshot_named(&(self.sent - 1).to_string())?.delete()?;
        }
        Ok((seconds, point.sent))
    }

    /// Changes `pages` pages and sends that. Gives also the bytes that were sent for each byte changed.
    fn increment(&mut self, pages: u64) -> Result<(f64, f64)> {
        let changed = self.data.change(pages)?;
        self.data.pool.checkpoint()?;
        let (seconds, sent) = self.send()?;
        ensure!(
            sent.changed_bytes == changed,
            "{} bytes were sent as changed, not {changed}",
            sent.changed_bytes
        );
        Ok((seconds, float(sent.content_bytes) / float(changed)))
    }
}

pub(in super::super) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let create = CreateOptions { bytes: Some(POOL_BYTES), ..CreateOptions::default() };
    let pool = Arc::new(Pool::create(&place.path("pool"), &create, &PoolOptions::default())?);
    let mut full = Data::sparse(Arc::clone(&pool), "full", FULL_BYTES, Content::Thin)?;
    println!("  writing 16 GiB, and 1 GiB at random into 256 GiB");
    full.fill()?;
    let mut sparse = Data::sparse(pool, "sparse", SPARSE_BYTES, Content::Thin)?;
    sparse.change(SPARSE_DATA_BYTES / PAGE_BYTES)?;
    let folder = |name: &str| -> Result<_> {
        std::fs::create_dir(place.path(name))?;
        Ok(place.path(name))
    };
    let mut full = Sending::new(full, &folder("full-vault")?)?;
    let mut sparse = Sending::new(sparse, &folder("sparse-vault")?)?;
    println!("  sending both: {:.1} s, {:.1} s", full.send()?.0, sparse.send()?.0);
    let pages = |share: u64| FULL_BYTES / PAGE_BYTES * share / 10_000;
    let mut pairs = Pairs::new();
    let mut one_percent = Vec::new();
    for pair in 0..PAIRS {
        // The one that comes first finds the caches as the other left them.
        let (base, figure) = if pair % 2 == 0 {
            let base = full.increment(pages(100))?;
            (base, sparse.increment(pages(100))?)
        } else {
            let figure = sparse.increment(pages(100))?;
            (full.increment(pages(100))?, figure)
        };
        pairs.add(base.0 * 1e3, figure.0 * 1e3);
        one_percent.push(base.1);
    }
    let mut rows = vec![bytes_row("1 %", &one_percent)];
    for (share, count) in SERIES {
        let ratios = (0..count).map(|_| Ok(full.increment(pages(share))?.1)).collect::<Result<Vec<_>>>()?;
        rows.push(bytes_row(&format!("{} %", float(share) / 100.0), &ratios));
    }
    rows.push(Row {
        measure: format!("{:.2}", pairs.ratio()),
        target: "at most 1.20".to_owned(),
        met: Some(pairs.ratio() <= 1.2),
        ..pairs.row_if("increment, as much changed in 256 GiB sparse as in 16 GiB", None, milliseconds)
    });
    Ok(rows)
}

fn milliseconds(milliseconds: f64) -> String {
    figure::time(milliseconds / 1e3)
}

/// The mean over the series, and its least and most.
fn bytes_row(share: &str, ratios: &[f64]) -> Row {
    let count = ratios.len();
    let mean = ratios.iter().sum::<f64>() / float(count as u64);
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    Row {
        measure: format!("{mean:.3} ({least:.3} to {most:.3})"),
        ..Row::at_most(
            &format!("sent for each byte changed, {share} of 16 GiB, {count} in a row"),
            mean,
            BYTES_MAX,
            |ratio| format!("{ratio:.3}"),
        )
    }
}
