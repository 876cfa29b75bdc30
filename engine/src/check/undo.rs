//! One page's undo records, from the newest to the oldest: what each live snapshot sees, and whether it is kept.

use std::collections::BTreeMap;

use super::Run;
use super::layer::LayerFacts;
use super::page::{Stored, words};
use super::report::DiscrepancyKind;
use super::scan::Place;
use crate::error::Result;
use crate::format::head::bits;
use crate::format::undo::Undo;
use crate::format::{dead, keys};
use crate::map::Page;
use crate::map::store::Family;
use crate::units::{Epoch, PhysicalBlock};

fn blocks(page: &Page) -> i64 {
    i64::from(page.mapped().count_ones())
}

impl Run<'_, '_> {
    pub(super) fn undo_records(&mut self, facts: &mut LayerFacts, stored: &Stored) -> Result<()> {
        let inherited = blocks(&stored.inherited);
        // What the snapshots that are not behind a record yet see.
        let mut seen = stored.head.as_ref().unwrap_or(&stored.inherited).clone();
        facts.head_blocks += blocks(&seen) - inherited;
        let mut until = facts.live.len();
        for (interval, record) in stored.undo.iter().rev() {
            let from = facts.live.partition_point(|live| live <= interval);
            facts.count(from, until, blocks(&seen) - inherited);
            until = from;
            let place = Place::history(facts.id, stored.page, *interval);
            self.record(facts, stored, (*interval, record), &place)?;
            self.keyframe(facts, (*interval, record), &seen, &place);
            for slot in bits(record.known()) {
                seen.0[slot] = record.page.0[slot];
            }
        }
        facts.count(0, until, blocks(&seen) - inherited);
        Ok(())
    }

    /// What one record displaced.
    fn record(
        &mut self,
        facts: &LayerFacts,
        stored: &Stored,
        (interval, record): (Epoch, &Undo),
        place: &Place,
    ) -> Result<()> {
        self.check_interval(interval, place);
        if !facts.is_seen(Epoch(0), interval) && !facts.was_seen(Epoch(0), interval) {
            self.report.add(DiscrepancyKind::Unneeded, place, "no snapshot reads the undo record");
        }
        let data = record.displaced & record.page.mapped();
        let mut kept = BTreeMap::<Epoch, Vec<(usize, PhysicalBlock)>>::new();
        let mut verified = 0;
        for slot in bits(data) {
            let entry = record.page.0[slot];
            self.check_birth(&entry, interval, slot, place);
            if entry.birth <= facts.origin_epoch() {
                self.check_inherited(stored, &entry, slot, place);
            } else if facts.is_seen(entry.birth, interval) {
                kept.entry(entry.birth).or_default().push((slot, entry.physical));
                verified |= 1 << slot;
            }
        }
        self.verify(&record.page.0, verified, place);
        for (birth, wanted) in kept {
            self.check_kept(facts, (interval, birth), &wanted, place)?;
        }
        if interval < facts.trimmed_from()
            && let Some(changed) = self.changed_masks(facts.id, (stored.page, interval))?
        {
            // Data that is seen was there when the interval began.
            let missing = record.displaced & !changed.changed | data & !changed.before;
            if missing != 0 {
                let detail = format!("slots {missing:#x} were displaced");
                self.report.add(DiscrepancyKind::ChangeMissing, place, detail);
            }
        }
        Ok(())
    }

    /// Displaced blocks of one birth that a live snapshot sees are dead entries.
    fn check_kept(
        &mut self,
        facts: &LayerFacts,
        (interval, birth): (Epoch, Epoch),
        wanted: &[(usize, PhysicalBlock)],
        place: &Place,
    ) -> Result<()> {
        let key = keys::dead(facts.id, interval, birth, place.page);
        let runs = match self.view.get(Family::Dead, &key)?.map(|value| dead::decode(&value)) {
            None => Vec::new(),
            Some(Ok(runs)) => runs,
            // Reported by the pass over dead entries.
            Some(Err(_)) => return Ok(()),
        };
        for (slot, physical) in wanted {
            if !runs.iter().any(|run| run.start <= *physical && physical.0 - run.start.0 < run.blocks) {
                let detail =
                    format!("slot {slot}: block {physical}, birth {birth}, is not kept for snapshots");
                self.report.add(DiscrepancyKind::UndoWithoutDead, place, detail);
            }
        }
        Ok(())
    }

    /// Where a keyframe speaks of blocks that were not displaced in its interval, a snapshot that reads it would
    /// without it read what comes after: `later`. Blocks that were written after the newest live snapshot in the
    /// interval or before are read by none.
    fn keyframe(
        &mut self,
        facts: &LayerFacts,
        (interval, record): (Epoch, &Undo),
        later: &Page,
        place: &Place,
    ) {
        let Some(newest) = facts.newest_live(interval).filter(|_| record.keyframe) else { return };
        for slot in bits(!record.displaced) {
            let (entry, after) = (record.page.0[slot], later.0[slot]);
            let is_read = [entry, after].iter().any(|entry| !entry.is_hole() && entry.birth <= newest);
            if is_read && entry != after {
                let detail = format!("slot {slot}: {}, but later {}", words(&entry), words(&after));
                self.report.add(DiscrepancyKind::Keyframe, place, detail);
            }
        }
    }
}
