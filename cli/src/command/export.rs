//! `firn export`

mod sink;

use std::path::Path;

use anyhow::Result;
use firn_engine::error::Error;
use firn_engine::pool::Pool;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::transfer::Export;
use crate::extents::View;
use crate::output::Answer;
use crate::progress;
use crate::size::Size;
use sink::Sink;

/// Bytes that are read and written at once.
const CHUNK_LEN: usize = 4 << 20;

#[derive(Serialize)]
struct Exported {
    source: String,
    file: String,
    /// The size of what was exported.
    bytes: u64,
    /// What of it is no hole.
    data_bytes: u64,
}

pub(super) fn run(pool: &Pool, export: &Export) -> Result<Answer> {
    let view = View::find(pool, &export.point)?;
    let bytes = view.bytes()?;
    let sink = match export.file == Path::new("-") {
        true => Sink::stdout()?,
        false => Sink::open(&export.file, bytes, export.overwrite)?,
    };
    let to_stdout = sink.is_stdout();
    let bar = progress::bar("exporting", bytes);
    let data_bytes = copy(&view, bytes, sink, &bar)?;
    bar.finish_and_clear();
    let exported = Exported {
        source: export.point.to_string(),
        file: export.file.display().to_string(),
        bytes,
        data_bytes,
    };
    let [size, data] = [bytes, data_bytes].map(Size);
    let text = format!("{} exported to {}: {size}, of which {data} is data", exported.source, exported.file);
    let answer = Answer::new(&exported, text)?;
    Ok(if to_stdout { answer.on_stderr() } else { answer })
}

/// Writes all of it and says how much of it is data.
fn copy(view: &View, bytes: u64, mut sink: Sink, bar: &ProgressBar) -> Result<u64, Error> {
    let (mut done, mut data_bytes) = (0, 0);
    let mut content = vec![0; CHUNK_LEN];
    view.mapped(|extent| {
        sink.hole(extent.offset - done)?;
        done = extent.offset;
        data_bytes += extent.length;
        let end = extent.offset + extent.length;
        while done < end {
            let length = usize::try_from(end - done).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
            let content = &mut content[..length];
            view.read_at(done, content)?;
            sink.data(content)?;
            done += length as u64;
            bar.set_position(done);
        }
        Ok(())
    })?;
    sink.hole(bytes - done)?;
    sink.finish()?;
    Ok(data_bytes)
}
