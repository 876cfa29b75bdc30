//! `firn vault restore`

mod file;
mod files;
mod group;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::sys::{Clock, SystemClock};
use firn_replicator::vault::groups::Named;
use firn_replicator::vault::restore::PointReader;
use firn_replicator::vault::sink::FileSink;

use self::file::Target;
use super::wanted;
use crate::args::Globals;
use crate::args::vault as args;
use crate::operation::vault::restore::{Restored, VaultRestore, choose, snapshot_name};
use crate::output::Answer;
use crate::progress::{self, Bar};
use crate::service::with_service;
use crate::size::Size;
use crate::vaults::opening::Purpose;
use crate::vaults::{Vaults, is_address};

/// Bytes of a range that are read at once.
const CHUNK_LEN: u64 = 4 << 20;

pub(super) fn run(globals: &Globals, vaults: &Vaults, restore: args::VaultRestore) -> Result<Answer> {
    let to = Destination::of(&restore.to)?;
    if !matches!(to, Destination::Away(_)) && (restore.range.is_some() || restore.overwrite) {
        return Err(invalid("--range and --overwrite are for a file or stdout, not for a volume")
            .hint("a file's name has a slash in it, such as ./pg.img")
            .into());
    }
    if !matches!(to, Destination::Group(_)) && restore.group.is_some() {
        return Err(invalid("--group is for a consistency group that is restored to volumes").into());
    }
    match to {
        Destination::Away(to) => away(vaults, restore, to),
        Destination::Volume(to) => to_volume(globals, restore, to),
        Destination::Group(names) => group::to_volumes(globals, restore, names),
    }
}

/// Where what was restored goes, by how it was written.
enum Destination {
    /// A file, a directory or stdout: no pool is needed.
    Away(String),
    /// A volume.
    Volume(String),
    /// The volumes of a consistency group, with the new names of some.
    Group(group::Names),
}

impl Destination {
    fn of(to: &[String]) -> Result<Self, Error> {
        match to {
            [one] if one == "-" || is_path(one) => Ok(Self::Away(one.clone())),
            [one] if !one.contains('=') => Ok(Self::Volume(one.clone())),
            mapped => group::names(mapped).map(Self::Group),
        }
    }
}

/// Whether a destination is a path. What maps a volume's name is none, whatever it maps it to; a file whose name has a =
/// in it is written with ./ before it.
fn is_path(to: &str) -> bool {
    match to.split_once('=') {
        Some((own, _)) => is_address(own),
        None => is_address(to),
    }
}

fn to_volume(globals: &Globals, restore: args::VaultRestore, to: String) -> Result<Answer> {
    let vault = wanted(restore.vault, restore.unlock)?;
    let request = VaultRestore { vault, point: restore.point, volume: to };
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

/// To a file, a file for each volume of a group, or stdout: no pool is needed.
fn away(vaults: &Vaults, restore: args::VaultRestore, to: String) -> Result<Answer> {
    let vault = wanted(restore.vault, restore.unlock)?.open(vaults, Purpose::Read)?;
    let catalog = vault.catalog();
    let takes_files = to != "-" && restore.range.is_none() && !restore.overwrite;
    if takes_files && let Named::Group(group) = catalog.find(&restore.point)? {
        return group::to_files(&vault, &group, &to);
    }
    let began = SystemClock.monotonic();
    let reader = choose(&catalog, &restore.point)?.open(&vault)?;
    let range = restore.range.as_deref().map(|text| range(text, reader.point().bytes)).transpose()?;
    match to.as_str() {
        "-" => to_stdout(&reader, began, range),
        _ => to_file(&reader, began, range, to, restore.overwrite),
    }
}

/// Offset and length of a part.
type Part = Option<(u64, u64)>;

fn to_stdout(reader: &PointReader<'_>, began: Duration, range: Part) -> Result<Answer> {
    let bar = Bar(progress::bar("restoring", 0));
    let mut stdout = io::stdout();
    let to = "-".to_owned();
    let restored = match range {
        None => {
            let report = reader.restore_to_stream(&mut stdout, &bar)?;
            Restored::of(report, snapshot_name(reader), to, seconds(began))
        }
        Some((offset, length)) => {
            copy(reader, offset, length, &mut stdout)?;
            part(reader, to, length, seconds(began))
        }
    };
    bar.0.finish_and_clear();
    Ok(answer(restored, "")?.on_stderr())
}

fn to_file(
    reader: &PointReader<'_>,
    began: Duration,
    range: Part,
    to: String,
    overwrite: bool,
) -> Result<Answer> {
    let target = Target::open(Path::new(&to), overwrite)?;
    let restored = match range {
        Some((offset, length)) => {
            copy(reader, offset, length, &mut target.emptied()?)?;
            target.keep()?;
            part(reader, to, length, seconds(began))
        }
        None => {
            let bar = Bar(progress::bar("restoring", 0));
            let sink = FileSink::new(target.sized(reader.point().bytes)?, target.is_new());
            let report = reader.restore(&sink, &bar)?;
            bar.0.finish_and_clear();
            target.keep()?;
            Restored::of(report, snapshot_name(reader), to, seconds(began))
        }
    };
    answer(restored, "")
}

fn seconds(began: Duration) -> f64 {
    SystemClock.monotonic().saturating_sub(began).as_secs_f64()
}

fn part(reader: &PointReader<'_>, to: String, bytes: u64, seconds: f64) -> Restored {
    Restored {
        point: reader.id().to_string(),
        snapshot: snapshot_name(reader),
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

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, "restore", detail)
}
