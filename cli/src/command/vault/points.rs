//! `firn vault points`

use anyhow::Result;
use firn_replicator::format::digest::Digest;
use firn_replicator::vault::catalog::LivePoint;
use serde::Serialize;

use super::{former, open};
use crate::args::vault::VaultPoints;
use crate::output::Answer;
use crate::size::Size;
use crate::table::Column::{Left, Right};
use crate::table::table;
use crate::time;
use crate::vaults::Vaults;
use crate::vaults::opening::Purpose;

/// A recovery point, as the vault's log knows it.
#[derive(Serialize)]
pub(super) struct PointView {
    pub(super) id: Digest,
    pub(super) volume: String,
    pub(super) snapshot: String,
    /// The consistency group that it was sent with.
    group: Option<String>,
    /// The number of the log's entry that committed it, and with it all of its group.
    entry: u64,
    /// When the snapshot was taken, by the source's clock, in ms since 1970.
    taken_ms: u64,
    /// When it was committed, by the store's clock, in ms since 1970.
    committed_ms: u64,
    /// The volume's size.
    bytes: u64,
    changed_bytes: u64,
    stored_bytes: u64,
    /// The point whose changes since were sent; none for a baseline.
    parent: Option<Digest>,
    retain_until_ms: Option<u64>,
    /// Whether the store itself keeps it until then.
    is_locked: bool,
    pub(super) holds: Vec<String>,
}

impl PointView {
    pub(super) fn of(point: &LivePoint) -> Self {
        let committed = &point.committed;
        Self {
            id: committed.id,
            volume: committed.name.clone(),
            snapshot: committed.snapshot.clone(),
            group: point.group.clone(),
            entry: point.number,
            taken_ms: committed.created_ms,
            committed_ms: point.time_ms,
            bytes: committed.bytes,
            changed_bytes: committed.changed_bytes,
            stored_bytes: committed.stored_bytes,
            parent: committed.parent,
            retain_until_ms: point.retain_until_ms,
            is_locked: point.locked.is_some(),
            holds: point.holds.keys().cloned().collect(),
        }
    }

    /// Its name as people write it.
    pub(super) fn full_name(&self) -> String {
        format!("{}@{}", self.volume, self.snapshot)
    }

    fn row(&self, has_groups: bool) -> Vec<String> {
        let mut kept: Vec<String> = self.holds.iter().map(|hold| format!("held:{hold}")).collect();
        if let Some(until) = self.retain_until_ms {
            let how = if self.is_locked { "locked until" } else { "until" };
            kept.push(format!("{how} {}", time::local(until)));
        }
        let mut row = vec![self.id.short(), self.full_name()];
        if has_groups {
            row.push(super::super::or_dash(self.group.clone().unwrap_or_default()));
        }
        row.extend([
            time::local(self.taken_ms),
            if self.parent.is_none() { "baseline" } else { "increment" }.to_owned(),
            Size(self.bytes).to_string(),
            Size(self.changed_bytes).to_string(),
            Size(self.stored_bytes).to_string(),
            super::super::or_dash(kept.join(" ")),
        ]);
        row
    }
}

#[derive(Serialize)]
struct Points {
    points: Vec<PointView>,
}

pub(super) fn list(vaults: &Vaults, points: VaultPoints) -> Result<Answer> {
    let VaultPoints { vault, volume: wanted, former } = points;
    let vault = open(vaults, vault, Purpose::Read)?;
    if former {
        return former::list(&vault, wanted.as_deref());
    }
    let catalog = vault.catalog();
    let mut found: Vec<&LivePoint> = catalog
        .points()
        .values()
        .filter(|point| wanted.as_ref().is_none_or(|volume| *volume == point.committed.name))
        .collect();
    found.sort_by_key(|point| (point.number, point.committed.name.clone()));
    let points = Points { points: found.into_iter().map(PointView::of).collect() };
    if points.points.is_empty() {
        let of = wanted.map(|volume| format!(" of {volume}")).unwrap_or_default();
        let text = format!("no recovery points{of}: `firn vault send VOLUME VAULT` makes one");
        return Answer::new(&points, format!("{text}\n{}", former::note(&vault)?).trim_end().to_owned());
    }
    let has_groups = points.points.iter().any(|point| point.group.is_some());
    let mut columns = vec![Left("POINT"), Left("SNAPSHOT")];
    if has_groups {
        columns.push(Left("GROUP"));
    }
    columns.extend([
        Left("TAKEN"),
        Left("KIND"),
        Right("SIZE"),
        Right("CHANGED"),
        Right("STORED"),
        Left("KEPT"),
    ]);
    let text = table(&columns, points.points.iter().map(|point| point.row(has_groups)));
    Answer::new(&points, text + &former::note(&vault)?)
}
