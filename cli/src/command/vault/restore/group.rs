//! `firn vault restore` of a consistency group: to volumes, or to a file for each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use firn_engine::error::Error;
use firn_engine::sys::{Clock, SystemClock};
use firn_replicator::vault::Vault;
use firn_replicator::vault::catalog::LivePoint;
use firn_replicator::vault::groups::GroupPoint;
use firn_replicator::vault::sink::FileSink;

use super::files::Files;
use super::{invalid, wanted};
use crate::args::Globals;
use crate::args::vault as args;
use crate::operation::vault::restore_group::{RestoredGroup, VaultRestoreGroup, check_whole, restore_all};
use crate::output::Answer;
use crate::progress::{self, Bar};
use crate::service::with_service;
use crate::size::Size;

/// What volumes are called from now on, by the names that they had.
pub(super) type Names = BTreeMap<String, String>;

/// The names in `--to VOLUME=NEW`, given any number of times.
pub(super) fn names(to: &[String]) -> Result<Names, Error> {
    let mut names = Names::new();
    for text in to {
        let (own, new) = text.split_once('=').ok_or_else(|| {
            invalid(format!("{text:?} does not say which volume it is for"))
                .hint("of a consistency group, write --to VOLUME=NEW for each volume that gets another name")
        })?;
        if new.contains('/') {
            return Err(invalid(format!("{new:?} can't be a volume's name"))
                .hint("--to ./DIR/ alone restores a consistency group to a file for each volume"));
        }
        if names.insert(own.to_owned(), new.to_owned()).is_some() {
            return Err(invalid(format!("volume {own:?} was given two names")));
        }
    }
    Ok(names)
}

pub(super) fn to_volumes(globals: &Globals, restore: args::VaultRestore, volumes: Names) -> Result<Answer> {
    let vault = wanted(restore.vault, restore.unlock)?;
    let request = VaultRestoreGroup { vault, point: restore.point, volumes, group: restore.group };
    with_service(globals, |service| {
        let bar = progress::bar("restoring", 0);
        let restored = service.long(request, |now| {
            bar.set_length(now.expected_bytes);
            bar.set_position(now.done_bytes);
            Ok(())
        });
        bar.finish_and_clear();
        let restored = restored?;
        let after = match (&restored.group, restored.lost_bytes) {
            (Some(group), _) => format!("they are the consistency group {group}"),
            (None, 0) => "they belong to no consistency group: one of that name exists; --group NAME makes another"
                .to_owned(),
            (None, _) => {
                "all volumes keep their tag firn:restore, in no consistency group; the same command begins anew with them"
                    .to_owned()
            }
        };
        answer(&restored, "volume ", &after)
    })
}

/// To a file for each volume: no pool is needed.
pub(super) fn to_files(vault: &Vault, group: &GroupPoint<'_>, to: &str) -> Result<Answer> {
    let began = SystemClock.monotonic();
    check_whole(group)?;
    let open = |point: &&LivePoint| vault.open_point(point.committed.id);
    let readers = group.points.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let files = Files::open(group, Path::new(to))?;
    let sinks = readers
        .iter()
        .zip(files.targets())
        .map(|(reader, target)| Ok(FileSink::new(target.sized(reader.point().bytes)?, target.is_new())));
    let sinks: Vec<FileSink> = sinks.collect::<Result<_, Error>>()?;
    let bar = Bar(progress::bar("restoring", 0));
    let reports = restore_all(readers, &sinks, &bar)?;
    bar.0.finish_and_clear();
    let paths = files.keep()?.into_iter().map(|path| path.display().to_string());
    let took = SystemClock.monotonic().saturating_sub(began);
    let restored = RestoredGroup::of(group, None, reports.into_iter().zip(paths), took);
    answer(&restored, "", "")
}

fn answer(restored: &RestoredGroup, what: &str, after: &str) -> Result<Answer> {
    let RestoredGroup { snapshot, volumes, seconds, .. } = restored;
    let [bytes, data, lost] = [restored.bytes, restored.data_bytes, restored.lost_bytes].map(Size);
    // Volumes may share an object.
    let damaged: BTreeSet<&String> = volumes.iter().flat_map(|volume| &volume.damaged).collect();
    let count = super::super::super::count(volumes.len() as u64, "volume");
    let mut text = match damaged.is_empty() {
        true => format!("{snapshot} restored in {seconds:.1} s: {count}, {bytes}, of which {data} is data\n"),
        false => format!("{snapshot} restored WITHOUT {lost} that could not be had; damaged or missing:\n"),
    };
    damaged.iter().for_each(|damage| text += &format!("  {damage}\n"));
    for volume in volumes {
        let without = match volume.lost_bytes {
            0 => String::new(),
            lost => format!(", without {}", Size(lost)),
        };
        text += &format!("{} is {what}{}{without}\n", volume.snapshot, volume.to);
    }
    if restored.lost_bytes > 0 {
        text += "the lost ranges are left as they were (zeros in what is new); --json lists them\n";
    }
    text += after;
    let answer = Answer::new(restored, text.trim_end())?;
    Ok(if damaged.is_empty() { answer } else { answer.of_damage() })
}
