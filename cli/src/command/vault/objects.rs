//! `firn vault ls`, `verify`, `check`

use std::collections::BTreeMap;

use anyhow::Result;
use firn_engine::error::Error;
use firn_replicator::store::{Key, Retention, each_object};
use firn_replicator::vault::Vault;
use firn_replicator::vault::check::CheckReport;
use firn_replicator::vault::verify::{Depth, VerifyReport};
use serde::Serialize;

use super::open;
use crate::args::vault::{self as args, OneVault, VaultLs, VaultVerify};
use crate::command::{count, or_dash};
use crate::operation::vault;
use crate::output::Answer;
use crate::progress::{self, Bar};
use crate::size::Size;
use crate::table::Column::{Left, Right};
use crate::table::table;
use crate::time;
use crate::vaults::Vaults;
use crate::vaults::opening::Purpose;

/// An object of a vault.
#[derive(Serialize)]
struct ObjectView {
    key: Key,
    bytes: u64,
    /// By the store's clock, in ms since 1970.
    modified_ms: u64,
    /// How many points reach it, former ones that are kept included; none for what is no part of points.
    points: Option<u64>,
    lock: Option<Retention>,
}

#[derive(Serialize)]
struct Objects {
    objects: Vec<ObjectView>,
    bytes: u64,
    /// Bytes that no point reaches.
    dead_bytes: u64,
}

pub(super) fn list(vaults: &Vaults, ls: VaultLs) -> Result<Answer> {
    let vault = open(vaults, ls.vault, Purpose::Read)?;
    let reached = reached(&vault, ls.point.as_deref())?;
    let has_locks = vault.store().capabilities().retention;
    let mut objects = Objects { objects: Vec::new(), bytes: 0, dead_bytes: 0 };
    each_object(vault.store().as_ref(), "", |info| {
        let points = reached.get(&info.key).copied();
        if ls.point.is_some() && points.is_none() {
            return Ok(());
        }
        let is_part =
            ["packs/", "runs/", "points/"].iter().any(|prefix| info.key.as_str().starts_with(prefix));
        let lock = if has_locks { vault.store().retention(&info.key)? } else { None };
        objects.bytes += info.bytes;
        if is_part && points.is_none() {
            objects.dead_bytes += info.bytes;
        }
        objects.objects.push(ObjectView {
            points: is_part.then(|| points.unwrap_or(0)),
            key: info.key,
            bytes: info.bytes,
            modified_ms: info.modified_ms,
            lock,
        });
        Ok(())
    })?;
    let rows = objects.objects.iter().map(|object| {
        let lock = object
            .lock
            .map(|lock| format!("{:?} until {}", lock.mode, time::local(lock.until_ms)).to_lowercase());
        vec![
            object.key.to_string(),
            Size(object.bytes).to_string(),
            time::local(object.modified_ms),
            object.points.map_or("-".to_owned(), |points| points.to_string()),
            or_dash(lock.unwrap_or_default()),
        ]
    });
    let mut text =
        table(&[Left("OBJECT"), Right("SIZE"), Left("WRITTEN"), Right("POINTS"), Left("LOCK")], rows);
    let (total, dead) = (Size(objects.bytes), Size(objects.dead_bytes));
    text +=
        &format!("{}, {total}; {dead} that no point reaches", count(objects.objects.len() as u64, "object"));
    Answer::new(&objects, text)
}

/// How many of the points reach each object: of one point, or of all that live or are former and kept.
fn reached(vault: &Vault, point: Option<&str>) -> Result<BTreeMap<Key, u64>, Error> {
    let catalog = vault.catalog();
    let needed = match point.map(|text| (text, text.strip_prefix("former/"))) {
        Some((_, Some(digits))) => vault.needed_by_former(catalog.choose_former(digits)?)?,
        Some((text, None)) => vault.needed_by(catalog.choose(text)?.committed.id)?,
        None => return vault.sharing(),
    };
    Ok(needed.into_iter().map(|key| (key, 1)).collect())
}

pub(super) fn verify(vaults: &Vaults, verify: VaultVerify) -> Result<Answer> {
    let vault = open(vaults, verify.vault, Purpose::Read)?;
    let depth = match verify.depth {
        args::Depth::Catalog => Depth::Catalog,
        args::Depth::Objects => Depth::Objects,
        args::Depth::Content => Depth::Content,
    };
    let bar = Bar(progress::bar("verifying", 0));
    let report = vault.verify(depth, &bar);
    bar.0.finish_and_clear();
    let report = report?;
    let text = verify_text(&report);
    let answer = Answer::new(&report, text)?;
    Ok(if report.damaged.is_empty() { answer } else { answer.of_damage() })
}

fn verify_text(report: &VerifyReport) -> String {
    let (points, objects) = (count(report.points, "recovery point"), count(report.objects, "object"));
    let depth = match report.depth {
        Depth::Catalog => "the log and its points",
        Depth::Objects => "every object is there, as long and as long locked as it must be",
        Depth::Content => "every byte is what was written",
    };
    let mut text = match report.damaged.is_empty() {
        true => format!("{points} sound: {depth}; {objects} looked at"),
        false => format!("{} of {objects} DAMAGED or missing, of {points}:\n", report.damaged.len()),
    };
    for damage in &report.damaged {
        text += &format!("  {}\n", vault::damage(damage));
    }
    if report.bytes > 0 && report.damaged.is_empty() {
        text += &format!(", {} read", Size(report.bytes));
    }
    if report.locked_points > 0 {
        text += &format!(
            "\n{} encrypted and no key was given: their stored bytes were held against their hashes, not decrypted",
            count(report.locked_points, "point is").replace("point iss", "points are")
        );
    }
    text
}

pub(super) fn check(vaults: &Vaults, one: OneVault) -> Result<Answer> {
    let vault = open(vaults, one, Purpose::Read)?;
    let report = vault.check()?;
    let text = check_text(&report);
    let answer = Answer::new(&report, text)?;
    Ok(if report.findings.is_empty() { answer } else { answer.of_damage() })
}

fn check_text(report: &CheckReport) -> String {
    let (entries, points) = (report.entries, count(report.points, "recovery point"));
    let mut text = match report.findings.is_empty() {
        true => format!(
            "the log is unbroken: {entries} entries, each signed and naming the one before; {points}, all {} there",
            count(report.objects, "object")
        ),
        false => format!(
            "{} WRONG in {entries} log entries and {points}:\n",
            count(report.findings.len() as u64, "thing")
        ),
    };
    for finding in &report.findings {
        let points: Vec<String> = finding.points.iter().map(|id| id.short()).collect();
        let concerned =
            if points.is_empty() { String::new() } else { format!(" (points {})", points.join(", ")) };
        text += &format!("  {}: {}{concerned}\n", finding.object, finding.detail);
    }
    for note in &report.notes {
        text += &format!("\nnote: {note}");
    }
    if !report.with_packs {
        text += "\nnote: without the keys it is not known which packs the points need";
    }
    text
}
