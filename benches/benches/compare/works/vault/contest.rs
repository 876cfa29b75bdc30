//! A baseline, a restore and increments: firn, restic, borg and qemu-img in turn.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::data::Data;
use super::firn::Firn;
use super::pages::{Content, PAGE_BYTES};
use super::peers::{self, Peer};
use super::timed;
use crate::figure::{self, float, median};
use crate::place::Place;
use crate::settings::Settings;
use crate::table::Row;

/// The first is firn; these after it are what it is compared with; what comes then is only noted.
const COMPARED: std::ops::Range<usize> = 1..3;
/// Pages that change between two increments: one in so many.
const CHANGED: u64 = 100;

/// What each contestant took, a figure for each round.
struct Figures {
    names: Vec<&'static str>,
    figures: Vec<Vec<f64>>,
}

impl Figures {
    fn new(contestants: &[Box<dyn Peer>]) -> Self {
        let names: Vec<_> = contestants.iter().map(|contestant| contestant.name()).collect();
        Self { figures: vec![Vec::new(); names.len()], names }
    }

    /// The better of the peers against firn, round by round.
    fn ratios(&self) -> Vec<f64> {
        let firn = self.figures[0].iter().enumerate();
        firn.map(|(round, firn)| {
            let peers = self.figures[COMPARED].iter().map(|peer| peer[round]);
            peers.fold(f64::INFINITY, f64::min) / firn
        })
        .collect()
    }

    fn row(&self, work: &str, target: f64, show: fn(f64) -> String) -> Row {
        let ratios = self.ratios();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let shown = |(name, figures): (&&str, &Vec<f64>)| format!("{name} {}", show(median(figures)));
        let peers = self.names.iter().zip(&self.figures).skip(1).filter(|(_, figures)| !figures.is_empty());
        Row {
            work: work.to_owned(),
            base: peers.map(shown).collect::<Vec<_>>().join(", "),
            firn: show(median(&self.figures[0])),
            measure: format!("{:.2} ({least:.2} to {most:.2})", median(&ratios)),
            target: format!("at least {target:.2}"),
            met: Some(median(&ratios) >= target),
        }
    }
}

/// Measures volumes of `content`, which the table calls `called`.
pub(super) fn run(settings: &Settings, content: Content, called: &str) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let pool = Arc::new(place.pool(settings.file_bytes / 2 * 3)?);
    let image = place.path("image");
    let mut data = Data::sparse(pool, "volume", settings.file_bytes, content)?.with_image(&image)?;
    data.fill()?;
    data.pool.checkpoint()?;
    let mut contestants: Vec<Box<dyn Peer>> =
        vec![Box::new(Firn::new(Arc::clone(&data.pool), data.volume.clone(), &place.path(""))?)];
    contestants.extend(peers::all(&place.path(""), &image)?);
    let gib = settings.file_bytes >> 30;
    let mut rows = whole(settings, &contestants, &image, &format!("{gib} GiB of {called}"))?;
    let work = format!("increment, 1 % of {gib} GiB of {called}");
    rows.extend(increments(settings, &contestants[..COMPARED.end], &image, &mut data, &work)?);
    Ok(rows)
}

/// The order of a round: each is first once in so many rounds.
fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |index| (round + index) % count)
}

/// Baselines into new stores, and restores of them; the last stores stay.
fn whole(settings: &Settings, contestants: &[Box<dyn Peer>], image: &Path, called: &str) -> Result<Vec<Row>> {
    let [mut kept, mut restored, mut stored] = [(); 3].map(|()| Figures::new(contestants));
    for round in 0..settings.rounds {
        for index in order(round, contestants.len()) {
            let contestant = &contestants[index];
            if round > 0 {
                std::fs::remove_dir_all(contestant.store())?;
            }
            contestant.create()?;
            sync()?;
            let (keeping, ()) = timed(|| contestant.keep(0))?;
            let bytes = bytes_under(contestant.store())?;
            sync()?;
            let (restoring, path) = timed(|| {
                let path = contestant.restore()?;
                File::open(&path)?.sync_all()?;
                Ok(path)
            })?;
            if index == 0 {
                ensure_same(&path, image)?;
            }
            std::fs::remove_file(&path)?;
            println!(
                "    {:>8}: baseline {keeping:.2} s, restore {restoring:.2} s, {} stored",
                contestant.name(),
                figure::mebibytes(float(bytes))
            );
            kept.figures[index].push(keeping);
            restored.figures[index].push(restoring);
            stored.figures[index].push(float(bytes));
        }
    }
    Ok(vec![
        kept.row(&format!("baseline, {called}"), 2.0, figure::time),
        restored.row(&format!("restore, {called}"), 2.0, figure::time),
        stored.row(&format!("stored, {called}"), 1.0, figure::mebibytes),
    ])
}

/// Increments into the stores that are there.
fn increments(
    settings: &Settings,
    contestants: &[Box<dyn Peer>],
    image: &Path,
    data: &mut Data,
    work: &str,
) -> Result<Vec<Row>> {
    let [mut kept, mut stored] = [(); 2].map(|()| Figures::new(contestants));
    for round in 0..settings.rounds {
        data.change(data.bytes() / PAGE_BYTES / CHANGED)?;
        for index in order(round, contestants.len()) {
            let contestant = &contestants[index];
            let before = bytes_under(contestant.store())?;
            sync()?;
            let (keeping, ()) = timed(|| contestant.keep(round + 1))?;
            let bytes = float(bytes_under(contestant.store())?.saturating_sub(before));
            println!("    {:>8}: increment {keeping:.2} s, {:.1} MB stored", contestant.name(), bytes / 1e6);
            kept.figures[index].push(keeping);
            stored.figures[index].push(bytes);
        }
    }
    let path = contestants[0].restore()?;
    ensure_same(&path, image)?;
    Ok(vec![
        kept.row(work, 10.0, figure::time),
        stored.row(&format!("stored for {work}"), 1.0, figure::mebibytes),
    ])
}

/// Waits until all that was written is on the disk.
fn sync() -> Result<()> {
    ensure!(Command::new("sync").status().context("sync")?.success(), "sync failed");
    Ok(())
}

/// Bytes that files under `path` have.
fn bytes_under(path: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        bytes +=
            if entry.file_type()?.is_dir() { bytes_under(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

fn ensure_same(restored: &Path, image: &Path) -> Result<()> {
    let (mut one, mut other) = (File::open(restored)?, File::open(image)?);
    let bytes = other.metadata()?.len();
    ensure!(one.metadata()?.len() == bytes, "what was restored has another length");
    let (mut found, mut expected) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for at in (0..bytes).step_by(1 << 20) {
        one.read_exact(&mut found)?;
        other.read_exact(&mut expected)?;
        ensure!(found == expected, "what was restored differs in the MiB from byte {at}");
    }
    Ok(())
}
