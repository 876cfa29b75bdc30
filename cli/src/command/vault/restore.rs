//! `firn vault restore`

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::sys::{Clock, SystemClock};
use firn_replicator::vault::restore::PointReader;
use firn_replicator::vault::sink::FileSink;
use tempfile::NamedTempFile;

use super::wanted;
use crate::args::Globals;
use crate::args::vault as args;
use crate::operation::vault::restore::{Restored, VaultRestore};
use crate::output::Answer;
use crate::progress::{self, Bar};
use crate::service::with_service;
use crate::size::Size;
use crate::vaults::opening::Purpose;
use crate::vaults::{Vaults, is_address};

/// Bytes of a range that are read at once.
const CHUNK_LEN: u64 = 4 << 20;

pub(super) fn run(globals: &Globals, vaults: &Vaults, restore: args::VaultRestore) -> Result<Answer> {
    if restore.to == "-" || is_address(&restore.to) {
        return away(vaults, restore);
    }
    if restore.range.is_some() || restore.overwrite {
        return Err(Error::new(
            Kind::Invalid,
            "restore",
            "--range and --overwrite are for a file or stdout, not for a volume",
        )
        .hint("a file's name has a slash in it, such as ./pg.img")
        .into());
    }
    let vault = wanted(restore.vault, restore.unlock)?;
    let request = VaultRestore { vault, point: restore.point, volume: restore.to };
    with_service(globals, |service| {
        let bar = progress::bar("restoring", 0);
        let restored = service.long(request, |now| {
            bar.set_length(now.expected_bytes);
            bar.set_position(now.done_bytes);
            Ok(())
        });
        bar.finish_and_clear();
        let restored = restored?;
        answer(restored, "volume ")
    })
}

/// To a file or stdout: no pool is needed.
fn away(vaults: &Vaults, restore: args::VaultRestore) -> Result<Answer> {
    let began = SystemClock.monotonic();
    let vault = wanted(restore.vault, restore.unlock)?.open(vaults, Purpose::Read)?;
    let chosen = vault.catalog().choose(&restore.point)?.clone();
    let snapshot = format!("{}@{}", chosen.committed.name, chosen.committed.snapshot);
    let reader = vault.open_point(chosen.committed.id)?;
    let range = restore.range.as_deref().map(|text| range(text, reader.point().bytes)).transpose()?;
    let bar = Bar(progress::bar("restoring", 0));
    if restore.to == "-" {
        let mut stdout = io::stdout();
        let report = match range {
            None => Some(reader.restore_to_stream(&mut stdout, &bar)?),
            Some((offset, length)) => {
                copy(&reader, offset, length, &mut stdout)?;
                None
            }
        };
        bar.0.finish_and_clear();
        let restored = match report {
            Some(report) => Restored::of(report, snapshot, restore.to, seconds(began)),
            None => part(chosen.committed.id.to_string(), snapshot, restore.to, range, seconds(began)),
        };
        return Ok(answer(restored, "")?.on_stderr());
    }
    let target = Target::open(Path::new(&restore.to), restore.overwrite)?;
    let restored = match range {
        Some((offset, length)) => {
            copy(&reader, offset, length, &mut target.emptied()?)?;
            target.keep()?;
            part(chosen.committed.id.to_string(), snapshot, restore.to, range, seconds(began))
        }
        None => {
            let bytes = reader.point().bytes;
            let sink = FileSink::new(target.sized(bytes)?, target.is_new());
            let report = reader.restore(&sink, &bar)?;
            bar.0.finish_and_clear();
            target.keep()?;
            Restored::of(report, snapshot, restore.to, seconds(began))
        }
    };
    answer(restored, "")
}

fn seconds(began: std::time::Duration) -> f64 {
    SystemClock.monotonic().saturating_sub(began).as_secs_f64()
}

fn part(point: String, snapshot: String, to: String, range: Option<(u64, u64)>, seconds: f64) -> Restored {
    let bytes = range.map_or(0, |(_, length)| length);
    Restored {
        point,
        snapshot,
        to,
        bytes,
        data_bytes: bytes,
        lost_bytes: 0,
        lost: Vec::new(),
        damaged: Vec::new(),
        seconds,
    }
}

fn answer(restored: Restored, what: &str) -> Result<Answer> {
    let [bytes, data, lost] = [restored.bytes, restored.data_bytes, restored.lost_bytes].map(Size);
    let Restored { snapshot, to, seconds, .. } = &restored;
    if restored.damaged.is_empty() {
        let text =
            format!("{snapshot} restored to {what}{to} in {seconds:.1} s: {bytes}, of which {data} is data");
        return Answer::new(&restored, text);
    }
    let mut text = format!(
        "{snapshot} restored to {what}{to} WITHOUT {lost} that could not be had; damaged or missing:\n"
    );
    for damage in &restored.damaged {
        text += &format!("  {damage}\n");
    }
    text += "the lost ranges are left as they were (zeros in what is new); --json lists them";
    if !what.is_empty() {
        text += "\nthe volume keeps its tag firn:restore; the same command begins anew with it";
    }
    Ok(Answer::new(&restored, text)?.of_damage())
}

/// `OFFSET:LENGTH` of a point that has so many bytes.
fn range(text: &str, bytes: u64) -> Result<(u64, u64), Error> {
    let wrong = || {
        Error::new(Kind::Invalid, "restore", format!("{text:?} is no range"))
            .hint("write it as OFFSET:LENGTH, such as 1G:64K")
    };
    let (offset, length) = text.split_once(':').ok_or_else(wrong)?;
    let size = |text: &str| text.parse::<Size>().map(|size| size.0).map_err(|_| wrong());
    let (offset, length) = (size(offset)?, size(length)?);
    if offset.checked_add(length).is_none_or(|end| end > bytes) {
        let detail = format!("the range {text} is not all in the point, which has {}", Size(bytes));
        return Err(Error::new(Kind::Invalid, "restore", detail));
    }
    Ok((offset, length))
}

fn copy(reader: &PointReader<'_>, offset: u64, length: u64, to: &mut dyn Write) -> Result<(), Error> {
    let failed = |source| Error::io("write restored data", "the range", source);
    let mut done = 0;
    while done < length {
        let part = usize::try_from((length - done).min(CHUNK_LEN)).unwrap_or(0);
        let mut content = vec![0; part];
        reader.read_at(offset + done, &mut content)?;
        to.write_all(&content).map_err(failed)?;
        done += part as u64;
    }
    to.flush().map_err(failed)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that appears under its name when it is whole, or one that is written over.
enum Target {
    New { file: NamedTempFile, path: std::path::PathBuf },
    Over(File, bool),
}

impl Target {
    fn open(path: &Path, overwrite: bool) -> Result<Self, Error> {
        let failed = |source| Error::io("open file to restore to", path.display(), source);
        let Ok(found) = std::fs::metadata(path) else {
            let directory = directory_of(path);
            if !directory.is_dir() {
                let detail = format!("there is no directory {}", directory.display());
                return Err(
                    Error::new(Kind::NotFound, "restore", detail).hint("make it, or name another file")
                );
            }
            // What the umask leaves, as for any new file.
            let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            let mut named = tempfile::Builder::new();
            named.prefix(".firn-restore-").permissions(open_to_all);
            let file = named.tempfile_in(directory).map_err(failed)?;
            return Ok(Self::New { file, path: path.to_owned() });
        };
        if found.is_dir() {
            let detail = format!("{} is a directory", path.display());
            return Err(Error::new(Kind::Invalid, "restore", detail).hint("name a file in it"));
        }
        if !overwrite {
            return Err(Error::new(Kind::Conflict, "restore", format!("{} exists", path.display()))
                .hint("name another file, or lose what is in it: --overwrite"));
        }
        let is_device = found.file_type().is_block_device();
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        Ok(Self::Over(file, is_device))
    }

    fn is_new(&self) -> bool {
        // A file that is written over was cut to nothing first.
        !matches!(self, Self::Over(_, true))
    }

    fn file(&self) -> Result<File, Error> {
        let file = match self {
            Self::New { file, .. } => file.as_file(),
            Self::Over(file, _) => file,
        };
        file.try_clone().map_err(|source| Error::io("open file to restore to", "again", source))
    }

    /// The file with nothing in it; a device as it is.
    fn emptied(&self) -> Result<File, Error> {
        let file = self.file()?;
        if self.is_new() {
            file.set_len(0).map_err(|source| Error::io("empty file to restore to", "again", source))?;
        }
        Ok(file)
    }

    /// The file with room for `bytes`, all zeros if it is no device.
    fn sized(&self, bytes: u64) -> Result<File, Error> {
        let file = self.file()?;
        let failed = |source| Error::io("make room for restored data", Size(bytes), source);
        if let Self::Over(_, true) = self {
            let room = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(failed)?;
            if room < bytes {
                let detail = format!("the device has {}, the point {}", Size(room), Size(bytes));
                return Err(Error::new(Kind::Invalid, "restore", detail));
            }
            return Ok(file);
        }
        file.set_len(0).and_then(|()| file.set_len(bytes)).map_err(failed)?;
        Ok(file)
    }

    /// The file is durable, under its name.
    fn keep(self) -> Result<(), Error> {
        let (file, path) = match self {
            Self::New { file, path } => (file, path),
            Self::Over(file, _) => {
                let failed = |source| Error::io("write restored data", "the file", source);
                return file.sync_all().map_err(failed);
            }
        };
        let failed = |source| Error::io("name restored file", path.display(), source);
        file.as_file().sync_all().map_err(failed)?;
        file.persist_noclobber(&path).map_err(|error| failed(error.error))?;
        File::open(directory_of(&path)).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}
