//! `firn delta`

use std::io::{self, Write};

use anyhow::Result;
use firn_engine::delta::ExtentKind;
use firn_engine::error::Error;
use firn_engine::pool::Pool;
use serde::Serialize;

use crate::args::transfer::Delta;
use crate::extents::{Extent, View};
use crate::output::Answer;
use crate::session::snapshot;
use crate::size::Size;

#[derive(Default, Serialize)]
struct Changed {
    older: String,
    newer: String,
    /// Data and holes together.
    changed_bytes: u64,
    /// What holds data at the newer point.
    data_bytes: u64,
    /// What became a hole.
    hole_bytes: u64,
    extents_total: u64,
}

impl Changed {
    fn add(&mut self, extent: Extent) {
        self.extents_total += 1;
        self.changed_bytes += extent.length;
        match extent.kind {
            ExtentKind::Data => self.data_bytes += extent.length,
            ExtentKind::Hole => self.hole_bytes += extent.length,
        }
    }

    fn text(&self) -> String {
        let [changed, data, holes] = [self.changed_bytes, self.data_bytes, self.hole_bytes].map(Size);
        format!("{changed} changed from {} to {}: {data} of data, {holes} of holes", self.older, self.newer)
    }
}

pub(super) fn run(pool: &Pool, delta: &Delta, json: bool) -> Result<Answer> {
    let older = snapshot(pool, &delta.older)?;
    let newer = View::find(pool, &delta.newer)?;
    let (older_name, newer_name) = (delta.older.to_string(), delta.newer.to_string());
    let mut changed = Changed { older: older_name, newer: newer_name, ..Changed::default() };
    if delta.extents {
        let mut lines = Lines { to: io::stdout().lock(), json, started: false };
        newer.changed_since(&older, |extent| {
            changed.add(extent);
            lines.line(extent).map_err(|source| Error::io("list extents", "stdout", source))
        })?;
        lines.to.flush()?;
        // In JSON the sums are the last line, in text they would disturb whoever reads the list.
        return match json {
            true => Ok(Answer::verbatim(serde_json::to_string(&changed)?)),
            false => Ok(Answer::verbatim(changed.text()).on_stderr()),
        };
    }
    newer.changed_since(&older, |extent| {
        changed.add(extent);
        Ok(())
    })?;
    let text = changed.text();
    Answer::new(&changed, text)
}

#[derive(Serialize)]
struct Line {
    offset: u64,
    length: u64,
    kind: &'static str,
}

/// The list of extents, written as it is found: it may be longer than memory. In JSON an object on each line.
struct Lines<W> {
    to: W,
    json: bool,
    started: bool,
}

impl<W: Write> Lines<W> {
    fn line(&mut self, extent: Extent) -> io::Result<()> {
        let kind = match extent.kind {
            ExtentKind::Data => "data",
            ExtentKind::Hole => "hole",
        };
        let line = Line { offset: extent.offset, length: extent.length, kind };
        if self.json {
            serde_json::to_writer(&mut self.to, &line)?;
            return self.to.write_all(b"\n");
        }
        if !std::mem::replace(&mut self.started, true) {
            writeln!(self.to, "{:>16} {:>16} KIND", "OFFSET", "LENGTH")?;
        }
        writeln!(self.to, "{:>16} {:>16} {kind}", line.offset, line.length)
    }
}
