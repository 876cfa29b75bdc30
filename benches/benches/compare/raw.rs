//! The yardstick: fio with io_uring and O_DIRECT on a raw file, written once from end to end.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::place::Place;
use crate::settings::Settings;

/// What fio does.
pub(crate) struct RawWork<'a> {
    /// fio's `rw`.
    pub(crate) kind: &'a str,
    pub(crate) block_bytes: u64,
    pub(crate) depth: u64,
    pub(crate) jobs: u64,
    /// `fdatasync` after each write.
    pub(crate) sync: bool,
}

impl RawWork<'_> {
    fn arguments(&self, seconds: u64) -> Vec<String> {
        vec![
            format!("--rw={}", self.kind),
            format!("--bs={}", self.block_bytes),
            format!("--iodepth={}", self.depth),
            format!("--numjobs={}", self.jobs),
            format!("--runtime={seconds}"),
            "--time_based".to_owned(),
            "--group_reporting".to_owned(),
            "--thread".to_owned(),
            // The same distribution as the engine's load: a place may come twice before another came once.
            "--norandommap=1".to_owned(),
            "--randrepeat=0".to_owned(),
        ]
    }

    /// What a report says of it, in operations a second.
    fn rate(&self, report: &serde_json::Value) -> Result<f64> {
        let side = if self.kind.ends_with("read") { "read" } else { "write" };
        let rate = report["jobs"][0][side]["iops"].as_f64();
        rate.filter(|rate| *rate > 0.0).with_context(|| format!("fio reported no {side} rate"))
    }
}

/// A raw file.
pub(crate) struct Raw {
    path: PathBuf,
    bytes: u64,
    seconds: u64,
}

impl Raw {
    /// A file that is written once, so that no later write costs the file system an allocation.
    pub(crate) fn create(place: &Place, settings: &Settings) -> Result<Self> {
        let raw = Self { path: place.path("raw"), bytes: settings.file_bytes, seconds: settings.seconds };
        println!("  writing {}", raw.path.display());
        let fill = ["--rw=write", "--bs=1m", "--iodepth=4", "--end_fsync=1"];
        raw.fio(&fill.map(str::to_owned))?;
        Ok(raw)
    }

    /// Operations a second.
    pub(crate) fn run(&self, work: &RawWork<'_>) -> Result<f64> {
        let mut arguments = work.arguments(self.seconds);
        arguments.push(format!("--fdatasync={}", u8::from(work.sync)));
        work.rate(&self.fio(&arguments)?)
    }

    fn fio(&self, arguments: &[String]) -> Result<serde_json::Value> {
        let mut engine = vec!["--ioengine=io_uring".to_owned(), "--direct=1".to_owned()];
        engine.push(format!("--filename={}", self.path.display()));
        engine.push(format!("--size={}", self.bytes));
        fio(&[&engine, arguments].concat())
    }
}

/// Operations a second of a work on what an NBD server exports. Its engine knows `fsync` only.
pub(crate) fn run_nbd(uri: &str, work: &RawWork<'_>, settings: &Settings) -> Result<f64> {
    let mut arguments = work.arguments(settings.seconds);
    arguments.extend(["--ioengine=nbd".to_owned(), format!("--uri={uri}")]);
    arguments.push(format!("--fsync={}", u8::from(work.sync)));
    work.rate(&fio(&arguments)?)
}

fn fio(arguments: &[String]) -> Result<serde_json::Value> {
    let output = Command::new("fio")
        .args(["--name=work", "--output-format=json"])
        .args(arguments)
        .output()
        .context("fio could not be run: `make packages-bench` installs it")?;
    if !output.status.success() {
        bail!("fio failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    // Warnings may stand before the report.
    let text = String::from_utf8_lossy(&output.stdout);
    let start = text.find('{').context("fio printed no report")?;
    serde_json::from_str(&text[start..]).context("fio's report is no JSON")
}
