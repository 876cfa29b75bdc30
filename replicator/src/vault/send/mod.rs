//! Sending snapshots: what changed since a point that is there goes into packs, a run and a point; an entry of the log
//! makes them count, all volumes of a consistency group at once.
//!
//! 1. Order: packs, runs, points, locks, entry. Before the entry nothing of it counts, and no other point is touched.
//! 2. The entry is written only where the parent is still in the vault and none of the new objects was deleted: what
//!    a live point reaches is never deleted, so everything the new point reaches is there. Otherwise, or when something
//!    is missing because others wrote to the log meanwhile, all is done again under what the log says then.
//! 3. A send that was cut is made again from the start of the snapshot, and finds its packs by their names.
//! 4. The snapshot is held on the source before its entry is written; the one before is let go after that.

mod commit;
mod parent;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::upload::Upload;
use super::Vault;
use super::catalog::Catalog;
use super::progress::Progress;
use super::source::{SnapshotId, Source};
use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;
use crate::format::frame::LEVEL_DEFAULT;
use crate::format::point::{Point, Sent};

/// How often a send is made anew because its parent or an object of it left the vault meanwhile.
const TRIES: usize = 8;

/// How snapshots are sent.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// Until when the points must be kept, by the store's clock, in ms since 1970; locked until then in a vault that
    /// locks.
    pub retain_until_ms: Option<u64>,
    /// The name of the consistency group that the snapshots were taken with.
    pub group: Option<String>,
    /// Where an application stood: log positions and the like.
    pub application: BTreeMap<String, String>,
    /// Send everything, whatever is in the vault.
    pub baseline: bool,
    /// zstd's level.
    pub level: i32,
    /// Threads that read and compress.
    pub threads: usize,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            retain_until_ms: None,
            group: None,
            application: BTreeMap::new(),
            baseline: false,
            level: LEVEL_DEFAULT,
            threads: 4,
        }
    }
}

/// What a send did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReport {
    /// The points, in the order of the sources.
    pub points: Vec<SentPoint>,
    /// The number of the log's entry that they count by.
    pub entry: u64,
    /// Whether they were in the vault before.
    pub was_there: bool,
}

/// A point that is in the vault now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentPoint {
    /// The point.
    pub id: Digest,
    /// The volume's name.
    pub volume: String,
    /// The snapshot's name.
    pub snapshot: String,
    /// The point whose changes since were sent; nothing for a baseline.
    pub parent: Option<Digest>,
    /// What it cost.
    pub sent: Sent,
}

impl SentPoint {
    fn of(id: Digest, point: &Point) -> Self {
        Self {
            id,
            volume: point.source.name.clone(),
            snapshot: point.source.snapshot.clone(),
            parent: point.parent,
            sent: point.sent,
        }
    }
}

impl Vault {
    /// Sends the snapshots `sources`, each of another volume, and commits them with one entry. Snapshots that the vault
    /// has already, all by one entry, are not sent again; a later date is given to them. Durable on return.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the parent's map can't be read, which a baseline does not need; [`Kind::Retry`] when the
    /// store did not answer or others came first too often; what the source said. After an error the same call goes on
    /// where it was cut.
    pub fn send(
        &self,
        sources: &[&dyn Source],
        options: &SendOptions,
        progress: &dyn Progress,
    ) -> Result<SendReport> {
        check(sources, options)?;
        let mut met = None;
        for _ in 0..TRIES {
            let catalog = self.refresh()?;
            match self.try_send(&catalog, sources, options, progress) {
                Ok(Some(report)) => return Ok(report),
                Ok(None) => {}
                Err(error) if self.has_moved(&catalog, &error)? => met = Some(error),
                Err(error) => return Err(error),
            }
        }
        let detail = "what it rests on left the vault each time";
        Err(met.unwrap_or_else(|| Error::new(Kind::Retry, "send snapshot", detail)))
    }

    /// Sends under what the log says in `catalog`. Nothing when something that it rests on left the vault meanwhile.
    fn try_send(
        &self,
        catalog: &Arc<Catalog>,
        sources: &[&dyn Source],
        options: &SendOptions,
        progress: &dyn Progress,
    ) -> Result<Option<SendReport>> {
        if !options.baseline
            && let Some(report) = self.sent_before(catalog, sources)?
        {
            if let Some(until_ms) = options.retain_until_ms {
                self.retain_sent(catalog, &report, until_ms)?;
            }
            return Ok(Some(report));
        }
        let upload = Upload::new(self, catalog, options, progress)?;
        let mut uploaded = sources.iter().map(|source| upload.volume(*source)).collect::<Result<Vec<_>>>()?;
        self.commit_sent(sources, catalog, &mut uploaded, options)
    }

    /// Whether `error` may have come of what others wrote to the log meanwhile: an object that somebody was about to
    /// read, lock or reach was deleted, or a point has a later date now.
    pub(super) fn has_moved(&self, catalog: &Catalog, error: &Error) -> Result<bool> {
        let may_come_of_it = matches!(error.kind(), Kind::Damaged | Kind::NotFound | Kind::Conflict);
        Ok(may_come_of_it && self.refresh()?.head().number > catalog.head().number)
    }

    /// The newest point of the source's volume in this vault whose snapshot the source still has, and that snapshot:
    /// what the next send rests on, and what it holds on the source.
    ///
    /// # Errors
    /// What the store or the source said.
    pub fn common_snapshot(&self, source: &dyn Source) -> Result<Option<(Digest, SnapshotId)>> {
        let catalog = self.refresh()?;
        let parent = self.parent_of(&catalog, source, None)?;
        Ok(parent.map(|parent| (parent.id, SnapshotId::of(&parent.point.source))))
    }

    /// The reason for which this vault holds snapshots on their source.
    pub fn hold_reason(&self) -> String {
        format!("vault:{}", self.settings().vault)
    }
}

fn check(sources: &[&dyn Source], options: &SendOptions) -> Result<()> {
    const WHAT: &str = "send snapshot";
    let mut seen = std::collections::BTreeSet::new();
    for source in sources {
        let origin = source.origin();
        if !seen.insert((origin.pool, origin.volume)) {
            let detail = format!("volume {} is named twice", origin.name);
            return Err(Error::new(Kind::Invalid, WHAT, detail));
        }
        if !source.bytes().is_multiple_of(4096) {
            let detail = format!("volume {} has {} bytes, no multiple of 4096", origin.name, source.bytes());
            return Err(Error::new(Kind::Invalid, WHAT, detail));
        }
    }
    if sources.is_empty() || options.threads == 0 {
        return Err(Error::new(Kind::Invalid, WHAT, "there must be a snapshot, and a thread to send it"));
    }
    Ok(())
}
