//! `firn vault prune`, `reclaim`, `hold`, `release`, `retain`

use std::collections::BTreeSet;

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_replicator::policy::Keep;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::vault::Vault;
use firn_replicator::vault::catalog::LivePoint;
use firn_replicator::vault::compact::CompactReport;
use firn_replicator::vault::prune::Decision;
use firn_replicator::vault::reclaim::ReclaimReport;
use serde::Serialize;

use super::open;
use super::points::PointView;
use crate::args::vault::{VaultHold, VaultPrune, VaultReclaim, VaultRetain};
use crate::command::count;
use crate::operation::vault;
use crate::output::Answer;
use crate::size::Size;
use crate::table::Column::{Left, Right};
use crate::table::table;
use crate::time;
use crate::vaults::Vaults;
use crate::vaults::opening::Purpose;

#[derive(Serialize)]
struct Pruned {
    dry_run: bool,
    /// What became of each point, and why.
    points: Vec<Decision>,
}

pub(super) fn prune(vaults: &Vaults, prune: VaultPrune) -> Result<Answer> {
    let VaultPrune { vault, keep, point, volume, dry_run } = prune;
    let purpose = if dry_run { Purpose::Read } else { Purpose::Write };
    let vault = open(vaults, vault, purpose)?;
    let points = match keep {
        Some(policy) => {
            let keep: Keep = policy.parse()?;
            let is_meant =
                |live: &LivePoint| volume.as_ref().is_none_or(|volume| *volume == live.committed.name);
            match dry_run {
                true => vault.plan_prune(&keep, &is_meant)?,
                false => vault.prune(&keep, &is_meant)?,
            }
        }
        None => {
            let found = point
                .iter()
                .map(|point| vault.catalog().choose(point).cloned())
                .collect::<Result<Vec<_>, _>>()?;
            let ids: Vec<_> = found.iter().map(|live| live.committed.id).collect();
            if let Some(refusal) = refusal(&vault, &found.iter().collect::<Vec<_>>(), "prune")? {
                return Err(refusal.into());
            }
            if !dry_run {
                vault.remove_points(&ids, "named by the user")?;
            }
            found.iter().map(named).collect()
        }
    };
    let text = text(&points, dry_run);
    Answer::new(&Pruned { dry_run, points }, text)
}

/// Why one of these points can't be taken, so that a dry run says it too.
pub(super) fn refusal(
    vault: &Vault,
    points: &[&LivePoint],
    what: &'static str,
) -> Result<Option<Error>, Error> {
    let now_ms = vault.store().clock_ms()?;
    let protected = points.iter().find_map(|live| live.protection(now_ms).map(|why| (live, why)));
    Ok(protected.map(|(live, why)| {
        let name = PointView::of(live).full_name();
        Error::new(Kind::Conflict, what, format!("{name} must stay: {why}"))
            .hint("a hold ends with `firn vault release`, a date by passing")
    }))
}

fn named(live: &LivePoint) -> Decision {
    Decision {
        point: live.committed.id,
        volume: live.committed.name.clone(),
        snapshot: live.committed.snapshot.clone(),
        time_ms: live.time_ms,
        kept: false,
        reasons: "named by the user".to_owned(),
    }
}

fn text(points: &[Decision], dry_run: bool) -> String {
    if points.is_empty() {
        return "no recovery points".to_owned();
    }
    let gone = if dry_run { "would go" } else { "gone" };
    let rows = points.iter().map(|decision| {
        vec![
            decision.point.short(),
            format!("{}@{}", decision.volume, decision.snapshot),
            time::local(decision.time_ms),
            if decision.kept { "stays" } else { gone }.to_owned(),
            decision.reasons.clone(),
        ]
    });
    let mut text =
        table(&[Left("POINT"), Left("SNAPSHOT"), Left("COMMITTED"), Left(""), Left("BECAUSE")], rows);
    let went = points.iter().filter(|decision| !decision.kept).count();
    text += &format!("{went} of {} {gone}", points.len());
    if went > 0 && !dry_run {
        text += "; `firn vault reclaim` gives their room back";
    }
    text
}

pub(super) fn reclaim(vaults: &Vaults, reclaim: VaultReclaim) -> Result<Answer> {
    let purpose = if reclaim.dry_run { Purpose::Read } else { Purpose::Write };
    let vault = open(vaults, reclaim.vault, purpose)?;
    let limits = Limits::default();
    // What was copied forward leaves its packs to the reclaim that follows.
    let compaction = match (reclaim.compact, reclaim.dry_run) {
        (false, _) => None,
        (true, true) => Some(vault.plan_compact()?),
        (true, false) => Some(vault.compact()?),
    };
    let report = match reclaim.dry_run {
        true => vault.plan_reclaim(limits)?,
        false => vault.reclaim(limits)?,
    };
    let compacted = compaction.as_ref().map(|compaction| compact_text(compaction, reclaim.dry_run));
    let text = compacted.unwrap_or_default() + &reclaim_text(&report, reclaim.dry_run);
    Answer::new(&Reclaimed { compaction, report }, text)
}

#[derive(Serialize)]
struct Reclaimed {
    #[serde(skip_serializing_if = "Option::is_none")]
    compaction: Option<CompactReport>,
    #[serde(flatten)]
    report: ReclaimReport,
}

fn compact_text(report: &CompactReport, dry_run: bool) -> String {
    let mut text = String::new();
    if !report.packs.is_empty() {
        let rows = report.packs.iter().map(|pack| {
            vec![
                pack.object.to_string(),
                Size(pack.bytes).to_string(),
                format!("{} of {}", pack.live_blocks, pack.blocks),
            ]
        });
        text += &table(&[Left("PACK TO LEAVE"), Right("SIZE"), Right("BLOCKS NEEDED")], rows);
    }
    let [before, after] = [report.before_bytes, report.after_bytes].map(Size);
    let (packs, points) = (count(report.packs.len() as u64, "pack"), count(report.points, "recovery point"));
    text += &match dry_run {
        true => format!("{packs} ({before}) would be copied to about {after} for {points}\n"),
        false => format!("{packs} ({before}) copied to {after} for {points}\n"),
    };
    if let Some(unknown) = &report.unknown {
        text += &format!("nothing more can be copied: {unknown}\n");
    }
    text
}

fn reclaim_text(report: &ReclaimReport, dry_run: bool) -> String {
    let mut text = String::new();
    if !report.rulings.is_empty() {
        let rows = report.rulings.iter().map(|ruling| {
            vec![ruling.object.to_string(), Size(ruling.bytes).to_string(), ruling.ruling.clone()]
        });
        text += &table(&[Left("OBJECT"), Right("SIZE"), Left("WHAT AND WHY")], rows);
    }
    let [live, dead, deleted] = [report.live_bytes, report.dead_bytes, report.deleted_bytes].map(Size);
    let live_objects = count(report.live_objects, "object");
    text += &format!("{live_objects} ({live}) needed, {} ({dead}) reached by no point", report.dead_objects);
    match dry_run {
        true => text += "; nothing was done",
        false => text += &format!("; {} ({deleted}) deleted", report.deleted_objects),
    }
    if let Some(unknown) = &report.unknown {
        text += &format!("\nnothing can be given back, for it is not known what points reach: {unknown}");
    }
    for found in &report.contradictions {
        text += &format!("\nCONTRADICTION, kept: {}", vault::damage(found));
    }
    for key in &report.refused {
        text += &format!("\nthe store did not let go of {key}");
    }
    text
}

pub(super) fn hold(vaults: &Vaults, hold: VaultHold) -> Result<Answer> {
    let vault = open(vaults, hold.vault, Purpose::Write)?;
    let point = vault.catalog().choose(&hold.point)?.clone();
    vault.hold(point.committed.id, &hold.reason)?;
    let view = PointView::of(vault.catalog().point(point.committed.id)?);
    let text = format!("{} is held: {}", view.full_name(), hold.reason);
    Answer::new(&view, text)
}

pub(super) fn release(vaults: &Vaults, hold: VaultHold) -> Result<Answer> {
    let vault = open(vaults, hold.vault, Purpose::Write)?;
    let point = vault.catalog().choose(&hold.point)?.clone();
    vault.release(point.committed.id, &hold.reason)?;
    let view = PointView::of(vault.catalog().point(point.committed.id)?);
    let text = match view.holds.is_empty() {
        true => format!("{} is not held any more", view.full_name()),
        false => format!("{} is still held: {}", view.full_name(), view.holds.join(" ")),
    };
    Answer::new(&view, text)
}

pub(super) fn retain(vaults: &Vaults, retain: VaultRetain) -> Result<Answer> {
    let vault = open(vaults, retain.vault, Purpose::Write)?;
    let point = vault.catalog().choose(&retain.point)?.clone();
    let until = retain.until.after(vault.store().clock_ms()?).ok_or_else(|| {
        Error::new(Kind::Invalid, "retain", format!("{} is later than can be counted", retain.until))
    })?;
    vault.retain(&BTreeSet::from([point.committed.id]), until)?;
    let view = PointView::of(vault.catalog().point(point.committed.id)?);
    let text = format!("{} is kept at least until {}", view.full_name(), time::local(until));
    Answer::new(&view, text)
}
