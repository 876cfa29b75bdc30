//! `firn vault points --former`

use anyhow::Result;
use firn_engine::error::Error;
use firn_replicator::format::digest::Digest;
use firn_replicator::vault::Vault;
use firn_replicator::vault::former::FormerPoint;
use serde::Serialize;

use crate::command::or_dash;
use crate::output::Answer;
use crate::table::Column::Left;
use crate::table::table;
use crate::time;

/// A point that left the vault and is kept.
#[derive(Serialize)]
struct FormerView {
    id: Digest,
    /// Its volume and snapshot; nothing when it can't be read.
    volume: Option<String>,
    snapshot: Option<String>,
    /// When the snapshot was taken, by the source's clock, in ms since 1970.
    taken_ms: Option<u64>,
    /// The entry of the log by which it left.
    left: u64,
    /// The point that took its place; none when it was pruned.
    successor: Option<Digest>,
    retain_until_ms: Option<u64>,
    holds: Vec<String>,
    /// Why it is kept.
    kept: String,
}

#[derive(Serialize)]
struct Former {
    former: Vec<FormerView>,
}

impl FormerView {
    fn of(vault: &Vault, former: &FormerPoint, now_ms: u64) -> Self {
        // What was given back, or is damaged, is listed all the same.
        let source = vault.read_point(former.id).ok().map(|point| point.source);
        Self {
            id: former.id,
            taken_ms: source.as_ref().map(|source| source.created_ms),
            volume: source.as_ref().map(|source| source.name.clone()),
            snapshot: source.map(|source| source.snapshot),
            left: former.left,
            successor: former.successor,
            retain_until_ms: former.retain_until_ms,
            holds: former.holds.keys().cloned().collect(),
            kept: former.protection(now_ms).unwrap_or_default(),
        }
    }

    fn row(&self) -> Vec<String> {
        let name = self.volume.as_ref().zip(self.snapshot.as_ref());
        vec![
            format!("former/{}", self.id.short()),
            or_dash(name.map(|(volume, snapshot)| format!("{volume}@{snapshot}")).unwrap_or_default()),
            or_dash(self.taken_ms.map(time::local).unwrap_or_default()),
            self.successor
                .map_or_else(|| "pruned".to_owned(), |successor| format!("now {}", successor.short())),
            self.left.to_string(),
            self.kept.clone(),
        ]
    }
}

pub(super) fn list(vault: &Vault, volume: Option<&str>) -> Result<Answer> {
    let now_ms = vault.store().clock_ms()?;
    let catalog = vault.catalog();
    let standing = catalog.standing_former(now_ms).map(|former| FormerView::of(vault, former, now_ms));
    let is_wanted = |view: &FormerView| volume.is_none_or(|volume| view.volume.as_deref() == Some(volume));
    let mut former: Vec<FormerView> = standing.filter(is_wanted).collect();
    former.sort_by_key(|view| (view.left, view.id));
    if former.is_empty() {
        return Answer::new(&Former { former }, "no point left the vault before its time".to_owned());
    }
    let columns = [
        Left("POINT"),
        Left("SNAPSHOT"),
        Left("TAKEN"),
        Left("LEFT"),
        Left("BY ENTRY"),
        Left("KEPT BECAUSE"),
    ];
    let text = table(&columns, former.iter().map(FormerView::row));
    Answer::new(&Former { former }, text)
}

/// What is said below the points that are in the vault.
pub(super) fn note(vault: &Vault) -> Result<String, Error> {
    let catalog = vault.catalog();
    if catalog.former().is_empty() {
        return Ok(String::new());
    }
    let now_ms = vault.store().clock_ms()?;
    Ok(match catalog.standing_former(now_ms).count() {
        0 => String::new(),
        former => format!("points that left before their time and are kept: {former}; --former lists them"),
    })
}
