//! Memory and requests of a send, a restore, a reclaim and a compaction. Pages are incompressible: nothing is smaller in
//! memory, and no pack holds more than its bytes.
//!
//! The compaction has a process of its own: this one's engine has kept half a volume's changes by then, and what it
//! gave back is not given back to the kernel.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail, ensure};
use firn_replicator::format::digest::Digest;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::DirectoryStore;
use firn_replicator::vault::identity::signing_key;
use firn_replicator::vault::{OpenOptions, Vault};

use super::counting::CountingStore;
use super::data::Data;
use super::firn::{init, restore, send};
use super::pages::{Content, PAGE_BYTES};
use super::timed;
use super::watch::peak_bytes;
use crate::figure::{self, float};
use crate::load::{Load, Pattern, Stop};
use crate::place::Place;
use crate::process::anonymous_bytes;
use crate::settings::Settings;
use crate::table::Row;

/// Memory that is allowed whatever the volume's size, and for each TiB of it.
const MEMORY_BYTES: u64 = 64 << 20;
const MEMORY_BYTES_PER_TIB: u64 = 50 << 20;
const PUTS_PER_GIB_MAX: f64 = 20.0;
const PUTS_OF_SMALL_MAX: f64 = 5.0;
/// The argument that makes a process of this program one that compacts, see [`compact`].
pub(crate) const COMPACT: &str = "--compact";
/// Where in the place the vault lies, and the key that signs.
const VAULT: &str = "vault";
const SIGNING: &str = "signing";
/// Pages of a small commit.
const SMALL_PAGES: u64 = 16;

pub(in super::super) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let pool = Arc::new(place.pool(settings.file_bytes * 5 / 2)?);
    let mut data = Data::sparse(pool, "volume", settings.file_bytes, Content::Noise)?;
    data.fill()?;
    data.pool.checkpoint()?;
    // What the engine keeps for reads is the engine's, and is there before.
    let stop = Stop::Operations(data.bytes() >> 20);
    Load::large(data.volume.id(), data.bytes(), Pattern::SequentialRead, stop).run(&data.pool)?;
    let (store, puts) = CountingStore::new(DirectoryStore::open(&place.path(VAULT))?);
    let vault = init(Arc::new(store), &place.path(SIGNING))?;
    let mut watched = Watched { start: anonymous_bytes()?, bytes: data.bytes(), rows: Vec::new() };

    puts.store(0, Ordering::Relaxed);
    let send_as = |data: &Data, name: &str| Ok(send(&vault, &data.pool, &data.volume, name)?.id);
    let baseline = watched.run("sending a baseline", || send_as(&data, "baseline"))?;
    let bulk = float(puts.swap(0, Ordering::Relaxed)) / float(data.bytes() >> 30);
    data.change(data.bytes() / PAGE_BYTES / 100)?;
    let increment = watched.run("sending an increment", || send_as(&data, "increment"))?;
    let small = small_commits(&mut data, &puts, &send_as)?;
    watched.run("restoring", || restore(&vault, increment, &place.path("restored")))?;
    reclaim(&vault, baseline, &mut watched)?;
    data.change(data.bytes() / PAGE_BYTES / 2)?;
    let rewritten = send_as(&data, "rewritten")?;
    keep_only(&vault, rewritten)?;
    let compacted = watched.in_its_own_process("compacting", &place)?;

    let mut rows = watched.rows;
    println!(
        "    {} written anew at {}/s",
        figure::mebibytes(compacted.bytes),
        figure::mebibytes(compacted.bytes / compacted.seconds)
    );
    rows.push(Row::at_most("PUT requests per GiB of a baseline", bulk, PUTS_PER_GIB_MAX, figure::ratio));
    rows.push(Row::at_most("PUT requests of a small commit", small, PUTS_OF_SMALL_MAX, figure::ratio));
    Ok(rows)
}

/// Requests of the dearest of a row of small commits, so that one that merges is among them.
fn small_commits(
    data: &mut Data,
    puts: &AtomicU64,
    send_as: &dyn Fn(&Data, &str) -> Result<Digest>,
) -> Result<f64> {
    let mut most = 0;
    for number in 0..16 {
        data.change(SMALL_PAGES)?;
        puts.store(0, Ordering::Relaxed);
        send_as(data, &format!("small-{number}"))?;
        most = most.max(puts.load(Ordering::Relaxed));
    }
    Ok(float(most))
}

/// Takes the baseline's point out, condemns what only it reached, and deletes that.
fn reclaim(vault: &Vault, baseline: Digest, watched: &mut Watched) -> Result<()> {
    vault.remove_points(&[baseline], "bench")?;
    let limits = Limits { condemn_ms: 0, session_ms_max: 0 };
    let reclaimed = watched.run("reclaiming", || {
        let _ = vault.reclaim(limits)?;
        Ok(vault.reclaim(limits)?)
    })?;
    ensure!(reclaimed.unknown.is_none(), "it is not known what the points reach");
    Ok(())
}

/// Leaves one point, which sees about 60 % of the packs that the baseline filled.
fn keep_only(vault: &Vault, last: Digest) -> Result<()> {
    let points = vault.catalog();
    let others: Vec<Digest> = points.points().keys().copied().filter(|id| *id != last).collect();
    Ok(vault.remove_points(&others, "bench")?)
}

/// What a process that compacts says of itself.
struct Compacted {
    bytes: f64,
    seconds: f64,
}

/// The work of that process: compacts the vault in `folder`, and says memory, bytes and seconds in a line.
pub(crate) fn compact(folder: &Path) -> Result<()> {
    let options =
        OpenOptions { signing: Some(signing_key(&folder.join(SIGNING))?), ..OpenOptions::default() };
    let vault = Vault::open(Arc::new(DirectoryStore::open(&folder.join(VAULT))?), options)?;
    let start = anonymous_bytes()?;
    let (seconds, (peak, compacted)) = timed(|| peak_bytes(|| Ok(vault.compact()?)))?;
    ensure!(compacted.unknown.is_none() && compacted.points == 1, "nothing was compacted");
    println!("{} {} {seconds}", peak.saturating_sub(start), compacted.after_bytes);
    Ok(())
}

/// Memory above what was held before the vault was used.
struct Watched {
    start: u64,
    bytes: u64,
    rows: Vec<Row>,
}

impl Watched {
    fn run<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (peak, done) = peak_bytes(work)?;
        self.row(what, float(peak.saturating_sub(self.start)));
        Ok(done)
    }

    fn in_its_own_process(&mut self, what: &str, place: &Place) -> Result<Compacted> {
        let output = Command::new(std::env::current_exe()?).arg(COMPACT).arg(place.path("")).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout)?;
        let [memory, bytes, seconds] = said.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("it said {said}")
        };
        self.row(what, memory.parse()?);
        Ok(Compacted { bytes: bytes.parse()?, seconds: seconds.parse()? })
    }

    fn row(&mut self, what: &str, grown: f64) {
        let most = MEMORY_BYTES + (MEMORY_BYTES_PER_TIB >> 10) * (self.bytes >> 30);
        let work = format!("memory, {what}, {} GiB", self.bytes >> 30);
        println!("    {work}: {}", figure::mebibytes(grown));
        self.rows.push(Row::at_most(&work, grown, float(most), figure::mebibytes));
    }
}
