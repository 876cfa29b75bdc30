//! `firn export`

mod sink;

use std::path::Path;

use anyhow::Result;
use firn_engine::error::Error;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::transfer::Export;
use crate::content::Content;
use crate::output::Answer;
use crate::progress;
use crate::service::Service;
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

pub(super) fn run(service: &Service, export: &Export) -> Result<Answer> {
    let content = Content::open(service, &export.point)?;
    let bytes = content.bytes()?;
    let sink = match export.file == Path::new("-") {
        true => Sink::stdout()?,
        false => Sink::open(&export.file, bytes, export.overwrite)?,
    };
    let to_stdout = sink.is_stdout();
    let bar = progress::bar("exporting", bytes);
    let data_bytes = copy(&content, bytes, sink, &bar)?;
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
fn copy(from: &Content, bytes: u64, mut sink: Sink, bar: &ProgressBar) -> Result<u64, Error> {
    let (mut done, mut data_bytes) = (0, 0);
    let mut content = vec![0; CHUNK_LEN];
    from.each_data(|start, end| {
        sink.hole(start - done)?;
        done = start;
        data_bytes += end - start;
        while done < end {
            let length = usize::try_from(end - done).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
            let content = &mut content[..length];
            from.read_at(done, content)?;
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
