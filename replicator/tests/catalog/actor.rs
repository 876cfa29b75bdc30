//! Who works on a vault in a schedule: sends, prunes, protects and reclaims, one thing after the other, dies at a request
//! and is started again.
//!
//! 1. Who keeps the rules and does not die meets no error, but that what it was about has left the vault, or must stay.

use std::collections::BTreeSet;

use firn_engine::sim::random::Random;
use firn_replicator::error::{Error, Kind, Result};
use firn_replicator::format::digest::Digest;
use firn_replicator::policy::Keep;
use firn_replicator::vault::Vault;
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::source::Source;

use crate::careless;
use crate::cells::Cells;
use crate::schedule::{Leaves, Scene};
use crate::thief;
use crate::world::DAY_MS;

/// The names of holds.
const HOLDS: [&str; 2] = ["audit", "court"];
const KEEPS: [&str; 3] = ["last=1", "last=2", "daily=1"];

/// One of those who work on the vault.
pub(crate) struct Actor<'s> {
    pub(crate) number: usize,
    pub(crate) scene: &'s Scene<'s>,
    pub(crate) vault: Vault,
    pub(crate) random: Random,
    /// Prunes and reclaims; the others send and protect.
    pub(crate) keeps_house: bool,
    /// Has stolen a signing key.
    pub(crate) is_thief: bool,
    /// What its host's clock shows; off by years.
    pub(crate) host_ms: u64,
}

impl Actor<'_> {
    /// Does one to three things.
    pub(crate) fn act(&mut self) {
        for _ in 0..1 + self.random.below(3) {
            let done = match self.keeps_house {
                _ if self.is_thief => self.steal(),
                true => self.keep_house(),
                false if self.random.below(3) > 0 => self.send(),
                false => self.protect(),
            };
            let has_died = self.scene.turns.is_dead(self.number);
            if let Err(error) = done
                && !has_died
                && self.scene.leaves == Leaves::Nothing
            {
                self.scene.complain(format!("actor {} met an error: {error}", self.number));
            }
            if has_died {
                self.start_again();
            }
        }
    }

    fn steal(&mut self) -> Result<()> {
        self.scene.tally.thefts.add(1);
        // Somebody else was faster: a thief has no more luck than others.
        drop(thief::act(&self.vault, &mut self.random));
        Ok(())
    }

    fn start_again(&mut self) {
        self.scene.tally.deaths.add(1);
        self.scene.turns.revive(self.number);
        self.vault = self.scene.open(self.number).unwrap();
    }

    fn is_once_in(&mut self, times: u64) -> bool {
        self.random.below(times) == 0
    }

    fn one_of<T: Copy>(&mut self, things: &[T]) -> Option<T> {
        let count = u64::try_from(things.len()).unwrap();
        (count > 0).then(|| things[usize::try_from(self.random.below(count)).unwrap()])
    }

    fn send(&mut self) -> Result<()> {
        if self.scene.leaves == Leaves::RuleC {
            return careless::send(&self.vault, &mut self.random);
        }
        let volume = usize::try_from(self.random.below(2)).unwrap();
        let volumes = if self.is_once_in(4) { vec![0, 1] } else { vec![volume] };
        let snapshots: Vec<Cells> = volumes.iter().map(|volume| self.snapshot(*volume)).collect();
        let sources: Vec<&dyn Source> = snapshots.iter().map(|snapshot| snapshot as &dyn Source).collect();
        let has_date = self.is_once_in(3);
        let options = SendOptions {
            retain_until_ms: has_date.then(|| self.date_ms()),
            group: (sources.len() > 1).then(|| "both".to_owned()),
            baseline: self.is_once_in(8),
            level: 1,
            threads: 1,
            ..SendOptions::default()
        };
        let report = self.vault.send(&sources, &options, &())?;
        self.scene.tally.sends.add(u64::from(!report.was_there));
        Ok(())
    }

    /// A snapshot of a volume, seldom one that may be in the vault already. Its source may have forgotten older ones.
    fn snapshot(&mut self, volume: usize) -> Cells {
        let volume = &self.scene.volumes[volume];
        let last = volume.last();
        let epoch = 1 + u32::try_from(self.random.below(u64::from(last))).unwrap();
        let oldest = if self.is_once_in(4) { epoch } else { 1 };
        Cells::new(volume, epoch, oldest)
    }

    fn date_ms(&mut self) -> u64 {
        self.host_ms + self.random.below(60) * DAY_MS
    }

    /// Keeps a point until a date, holds it, or releases it.
    fn protect(&mut self) -> Result<()> {
        let catalog = self.vault.refresh()?;
        let points: Vec<Digest> = catalog.points().keys().copied().collect();
        let Some(point) = self.one_of(&points) else { return Ok(()) };
        let (reason, until_ms) = (self.one_of(&HOLDS).unwrap_or("audit"), self.date_ms());
        let done = match self.random.below(4) {
            0 | 1 if self.scene.leaves == Leaves::Locks => careless::retain(&self.vault, point, until_ms),
            0 | 1 => self.vault.retain(&BTreeSet::from([point]), until_ms),
            2 => self.vault.hold(point, reason),
            _ => self.vault.release(point, reason),
        };
        match done {
            Ok(()) => {
                self.scene.tally.protected.add(1);
                Ok(())
            }
            // A later date is there, or no such hold.
            Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => Ok(()),
            Err(error) => self.pass_if_gone(point, error),
        }
    }

    fn pass_if_gone(&self, point: Digest, error: Error) -> Result<()> {
        match self.vault.refresh()?.points().contains_key(&point) {
            true => Err(error),
            false => Ok(()),
        }
    }

    fn keep_house(&mut self) -> Result<()> {
        if self.is_once_in(2) {
            self.prune()?;
        }
        if self.is_once_in(2) {
            let report = self.vault.compact()?;
            if let Some(unknown) = report.unknown {
                self.scene.complain(format!("compaction does not know what points see: {unknown}"));
            }
            self.scene.tally.forwarded.add(report.points);
        }
        let limits = self.scene.limits;
        let deleted = match self.scene.leaves {
            Leaves::RuleD => careless::reclaim(&self.vault, limits)?,
            Leaves::Former => careless::reclaim_live(&self.vault, limits)?,
            _ => {
                let report = self.vault.reclaim(limits)?;
                if let Some(unknown) = report.unknown {
                    self.scene.complain(format!("reclaim does not know what points reach: {unknown}"));
                }
                self.scene.tally.refused.add(u64::try_from(report.refused.len()).unwrap());
                report.deleted_objects
            }
        };
        self.scene.tally.deleted.add(deleted);
        Ok(())
    }

    fn prune(&mut self) -> Result<()> {
        let points: Vec<Digest> = self.vault.refresh()?.points().keys().copied().collect();
        if self.is_once_in(3) {
            let keep: Keep = self.one_of(&KEEPS).unwrap_or("last=1").parse()?;
            let volume = 1 + self.random.below(2);
            let decided = self.vault.prune(&keep, &|live| live.committed.volume == volume)?;
            let pruned = decided.iter().filter(|decision| !decision.kept).count();
            self.scene.tally.prunes.add(u64::try_from(pruned).unwrap());
            return Ok(());
        }
        let Some(point) = self.one_of(&points) else { return Ok(()) };
        match self.vault.remove_points(&[point], "old") {
            Ok(()) => {
                self.scene.tally.prunes.add(1);
                Ok(())
            }
            // Another one was faster, or it must stay.
            Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
