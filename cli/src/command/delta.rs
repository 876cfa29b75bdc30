//! `firn delta`

use std::io::{self, Write};

use anyhow::Result;
use firn_engine::error::Error;

use crate::args::transfer as args;
use crate::operation::delta::{Changed, ChangedExtent, Content, Delta};
use crate::output::Answer;
use crate::service::Service;
use crate::size::Size;

pub(super) fn run(service: &Service, delta: args::Delta, json: bool) -> Result<Answer> {
    let args::Delta { older, newer, extents } = delta;
    let request = Delta { older, newer, extents };
    if !extents {
        let changed = service.long(request, |_| Ok(()))?;
        return Answer::new(&changed, text(&changed));
    }
    let mut lines = Lines { to: io::BufWriter::new(io::stdout().lock()), json, started: false };
    let changed = service.long(request, |extent| {
        lines.line(extent).map_err(|source| Error::io("list extents", "stdout", source))
    })?;
    lines.to.flush()?;
    // In JSON the sums are the last line, in text they would disturb whoever reads the list.
    match json {
        true => Ok(Answer::verbatim(serde_json::to_string(&changed)?)),
        false => Ok(Answer::verbatim(text(&changed)).on_stderr()),
    }
}

fn text(changed: &Changed) -> String {
    let [total, data, holes] = [changed.changed_bytes, changed.data_bytes, changed.hole_bytes].map(Size);
    format!("{total} changed from {} to {}: {data} of data, {holes} of holes", changed.older, changed.newer)
}

/// The list of extents, written as it is found: it may be longer than memory. In JSON an object on each line.
struct Lines<W> {
    to: W,
    json: bool,
    started: bool,
}

impl<W: Write> Lines<W> {
    fn line(&mut self, extent: ChangedExtent) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut self.to, &extent)?;
            return self.to.write_all(b"\n");
        }
        if !std::mem::replace(&mut self.started, true) {
            writeln!(self.to, "{:>16} {:>16} KIND", "OFFSET", "LENGTH")?;
        }
        let kind = match extent.kind {
            Content::Data => "data",
            Content::Hole => "hole",
        };
        writeln!(self.to, "{:>16} {:>16} {kind}", extent.offset, extent.length)
    }
}
