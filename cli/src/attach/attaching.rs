//! `firn attach`: a volume or snapshot becomes a block device, and maybe a mounted file system.

use std::path::{Path, PathBuf};

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::export::nbd::client::{Address, Uri};
use serde::Serialize;

use super::entry::{Entry, Record};
use super::starting::Start;
use super::{detaching, mounting};
use crate::args::attach::Attach;
use crate::output::Answer;

#[derive(Serialize)]
struct Attached<'a> {
    name: &'a str,
    device: &'a Path,
    mount: Option<&'a Path>,
    bytes: u64,
    is_read_only: bool,
    transport: &'a str,
    uri: &'a str,
}

/// Attaches what was named, and answers with the device. `daemon` is the socket of the daemon's API, when it was said.
pub(crate) fn attach(attach: &Attach, daemon: Option<&Path>, name: &str) -> Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let error = Error::new(Kind::Invalid, "attach", "only root can make a block device");
        return Err(error.hint("run it with sudo").into());
    }
    let uri = uri(attach, daemon, name)?;
    let entry = Entry::of(&attach.runtime.path()?, &uri);
    let start = Start {
        entry: &entry,
        uri: &uri,
        by: attach.by,
        connections: attach.connections.get().into(),
        reconnect_timeout: attach.reconnect_timeout,
    };
    let record = start.run()?;
    if let Err(error) = dress(attach, &record) {
        // What was asked for is not there, so nothing is; its own error would hide the first.
        let _ = detaching::take_away(&entry, &record);
        return Err(error.into());
    }
    let attached = Attached {
        name: &record.name,
        device: &record.device,
        mount: attach.mount.as_deref(),
        bytes: record.bytes,
        is_read_only: record.is_read_only,
        transport: &record.transport,
        uri: &record.uri,
    };
    Answer::new(&attached, record.device.display().to_string())
}

/// Makes and mounts the file system.
fn dress(attach: &Attach, record: &Record) -> Result<(), Error> {
    match &attach.mount {
        Some(target) => mounting::mount(record, target, attach.mkfs),
        None => attach.mkfs.map_or(Ok(()), |new| mounting::make(record, new)),
    }
}

/// Where the export is. The helper runs elsewhere, so its paths are absolute.
fn uri(attach: &Attach, daemon: Option<&Path>, name: &str) -> Result<Uri, Error> {
    let mut uri = match &attach.nbd {
        Some(place) if place.contains("://") => place.parse::<Uri>()?,
        Some(place) => Uri::unix(PathBuf::from(place), ""),
        None => {
            let socket = match daemon {
                Some(socket) => socket.to_owned(),
                None => attach.runtime.path()?.join("firn.sock"),
            };
            Uri::unix(socket.with_file_name("nbd.sock"), "")
        }
    };
    if !uri.export.is_empty() && uri.export != name {
        let detail = format!("the URI names {}, the command {name}", uri.export);
        return Err(Error::new(Kind::Invalid, "attach", detail).hint("leave the name out of the URI"));
    }
    uri.export = name.to_owned();
    if let Address::Unix(path) = &mut uri.address {
        *path = std::path::absolute(&*path).map_err(|source| Error::io("attach", path.display(), source))?;
    }
    Ok(uri)
}
