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
        let arguments = [
            format!("--rw={}", work.kind),
            format!("--bs={}", work.block_bytes),
            format!("--iodepth={}", work.depth),
            format!("--numjobs={}", work.jobs),
            format!("--fdatasync={}", u8::from(work.sync)),
            format!("--runtime={}", self.seconds),
            "--time_based".to_owned(),
            "--group_reporting".to_owned(),
            "--thread".to_owned(),
            // The same distribution as the engine's load: a place may come twice before another came once.
            "--norandommap=1".to_owned(),
            "--randrepeat=0".to_owned(),
        ];
        let report = self.fio(&arguments)?;
        let side = if work.kind.ends_with("read") { "read" } else { "write" };
        let rate = report["jobs"][0][side]["iops"].as_f64();
        rate.filter(|rate| *rate > 0.0).with_context(|| format!("fio reported no {side} rate"))
    }

    fn fio(&self, arguments: &[String]) -> Result<serde_json::Value> {
        let output = Command::new("fio")
            .args(["--name=raw", "--ioengine=io_uring", "--direct=1", "--output-format=json"])
            .arg(format!("--filename={}", self.path.display()))
            .arg(format!("--size={}", self.bytes))
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
}
