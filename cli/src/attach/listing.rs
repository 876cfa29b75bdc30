//! `firn attach --list`: what is attached, where it is mounted and how it is.

use std::path::{Path, PathBuf};

use anyhow::Result;
use firn_engine::error::Error;
use serde::Serialize;

use super::entry::{Entry, State};
use super::{starting, transport};
use crate::output::Answer;
use crate::size::Size;
use crate::table::{Column, table};
use crate::time;

#[derive(Serialize)]
struct View {
    name: String,
    device: PathBuf,
    mounts: Vec<PathBuf>,
    bytes: u64,
    is_read_only: bool,
    state: State,
    since: Option<String>,
    reason: Option<String>,
    reconnects: u64,
    uri: String,
    transport: String,
    pid: u32,
    attached: Option<String>,
    log: PathBuf,
}

/// Lists what is attached. What a dead helper left is put away on the way, where nobody uses it.
pub(crate) fn list(runtime: &Path) -> Result<Answer> {
    let mut views = Vec::new();
    for entry in Entry::all(runtime)? {
        views.extend(look(&entry)?);
    }
    let columns = [
        Column::Left("NAME"),
        Column::Left("DEVICE"),
        Column::Left("MOUNT"),
        Column::Right("SIZE"),
        Column::Left("STATE"),
        Column::Left("SERVER"),
    ];
    let rows = views.iter().map(|view| {
        let mounts: Vec<String> = view.mounts.iter().map(|mount| mount.display().to_string()).collect();
        vec![
            view.name.clone(),
            view.device.display().to_string(),
            if mounts.is_empty() { "-".to_owned() } else { mounts.join(" ") },
            Size(view.bytes).to_string(),
            view.state.text().to_owned(),
            view.uri.clone(),
        ]
    });
    let text = table(&columns, rows);
    Answer::new(&views, text)
}

fn look(entry: &Entry) -> Result<Option<View>, Error> {
    let lock = entry.lock()?;
    if lock.is_some() && starting::clean(entry).is_ok() {
        return Ok(None);
    }
    // One that is just being attached has no record yet.
    let Some(record) = entry.record()? else { return Ok(None) };
    let health = entry.health()?;
    let (mut state, mut since_ms, mut reason, mut reconnects) = (State::Dead, None, None, 0);
    if let Some(health) = health {
        (since_ms, reason, reconnects) = (Some(health.since_ms), health.reason, health.reconnects);
        state = health.state;
    }
    if lock.is_some() {
        (state, since_ms, reason) = (State::Dead, None, Some("the helper died".to_owned()));
    }
    Ok(Some(View {
        mounts: transport::mounts(entry, &record.device)?,
        state,
        since: since_ms.and_then(time::utc),
        reason,
        reconnects,
        attached: time::utc(record.attached_ms),
        log: entry.log_path(),
        name: record.name,
        device: record.device,
        bytes: record.bytes,
        is_read_only: record.is_read_only,
        uri: record.uri,
        transport: record.transport,
        pid: record.pid,
    }))
}
