//! File systems on an attached device: what is there, making one, mounting it.

use std::fs;
use std::path::Path;

use firn_engine::error::{Error, Kind};

use super::entry::Record;
use super::tool;
use crate::args::attach::FileSystem;

/// Mounts the device at `target`, a directory that is made where there is none, with a new file system if one was
/// asked for.
pub(super) fn mount(record: &Record, target: &Path, new: Option<FileSystem>) -> Result<(), Error> {
    fs::create_dir_all(target).map_err(|source| {
        let detail = format!("{} is no directory", target.display());
        Error::new(Kind::Invalid, "mount", detail).source(source)
    })?;
    let found = match new {
        Some(new) => {
            make(record, new)?;
            new.name().to_owned()
        }
        None => find(record)?.ok_or_else(|| none(record))?,
    };
    let options = options(&found, record.is_read_only);
    let arguments = ["-t", &found, "-o", &options].map(Path::new);
    tool::done("mount", &[&arguments[..], &[&record.device, target]].concat()).map(drop)
}

/// Makes a file system on a device that has none.
pub(super) fn make(record: &Record, new: FileSystem) -> Result<(), Error> {
    if record.is_read_only {
        let detail = format!("{} is read-only: no file system can be made on it", record.name);
        return Err(Error::new(Kind::Invalid, "make file system", detail));
    }
    if let Some(found) = find(record)? {
        let detail = format!("{} has {found} on it already", record.name);
        return Err(Error::new(Kind::Conflict, "make file system", detail)
            .hint(format!("attach it without --mkfs, or make it by hand: mkfs.{}", new.name())));
    }
    // A new volume is empty: there is nothing to discard. Blocks and sectors of 4 KiB are the engine's.
    let device = &record.device;
    match new {
        FileSystem::Ext4 => {
            let arguments = ["-q", "-b", "4096", "-E", "nodiscard"].map(Path::new);
            tool::done("mkfs.ext4", &[&arguments[..], &[device]].concat())
        }
        FileSystem::Xfs => {
            let arguments = ["-q", "-K", "-s", "size=4096"].map(Path::new);
            tool::done("mkfs.xfs", &[&arguments[..], &[device]].concat())
        }
    }
    .map(drop)
}

/// What is on the device: the type of a file system, or of something else that blkid knows.
fn find(record: &Record) -> Result<Option<String>, Error> {
    let arguments = ["--probe", "--match-tag", "TYPE", "--output", "value"].map(Path::new);
    let mut ran = tool::run("blkid", &[&arguments[..], &[&record.device]].concat())?;
    match ran.status {
        Some(0) if ran.stdout.is_empty() => Ok(Some("a partition table".to_owned())),
        Some(0) => Ok(Some(std::mem::take(&mut ran.stdout))),
        // Nothing was found.
        Some(2) => Ok(None),
        _ => Err(ran.error("blkid")),
    }
}

fn none(record: &Record) -> Error {
    let Record { name, .. } = record;
    let error = Error::new(Kind::NotFound, "mount", format!("{name} has no file system"));
    match record.is_read_only {
        true => error.hint("a snapshot is what its volume was: was there one then?"),
        false => error.hint(format!("make one on the way: `firn attach {name} --mkfs ext4 --mount DIR`")),
    }
}

/// A snapshot was taken of a mounted file system, whose journal can't be replayed on a device that is read-only. Two
/// devices may have the same xfs, since a clone and a snapshot have their volume's identity.
fn options(file_system: &str, is_read_only: bool) -> String {
    let mode = if is_read_only { "ro" } else { "rw" };
    match (file_system, is_read_only) {
        ("ext3" | "ext4", true) => "ro,noload".to_owned(),
        ("xfs", true) => "ro,norecovery,nouuid".to_owned(),
        ("xfs", false) => "rw,nouuid".to_owned(),
        _ => mode.to_owned(),
    }
}
