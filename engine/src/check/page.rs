//! The pass over head and history, one page at a time in the order of their keys.

use super::layer::LayerFacts;
use super::report::DiscrepancyKind;
use super::scan::Place;
use super::{Layers, Run};
use crate::catalog::Head;
use crate::error::{Kind, Result};
use crate::format::dead::PhysicalRun;
use crate::format::head::bits;
use crate::format::undo::{Changed, Undo, decode_changed};
use crate::format::{Malformed, head, keys, undo};
use crate::map::store::{Family, Scan};
use crate::map::{Entry, Page};
use crate::units::{Epoch, LayerId, PageIndex};

/// What the store says of one page of one layer.
pub(super) struct Stored {
    pub(super) page: PageIndex,
    pub(super) head: Option<Page>,
    /// Undo records, oldest interval first.
    pub(super) undo: Vec<(Epoch, Undo)>,
    /// What the origin maps on the page; holes without one.
    pub(super) inherited: Page,
    /// Everything could be read.
    pub(super) is_whole: bool,
}

type ReadPlace = fn(&[u8]) -> std::result::Result<(LayerId, PageIndex), Malformed>;

fn history_place(key: &[u8]) -> std::result::Result<(LayerId, PageIndex), Malformed> {
    keys::read_history(key).map(|(layer, page, _)| (layer, page))
}

impl Run<'_, '_> {
    pub(super) fn pages(&mut self, layers: &mut Layers) -> Result<()> {
        let view = self.view;
        let mut head = view.scan(Family::Head, None);
        let mut history = view.scan(Family::History, None);
        head.seek(&[]);
        history.seek(&[]);
        loop {
            let in_head = self.peek(Family::Head, &mut head, keys::read_head)?;
            let in_history = self.peek(Family::History, &mut history, history_place)?;
            let Some((layer, page)) = [in_head, in_history].into_iter().flatten().min() else {
                return Ok(());
            };
            let Some(facts) = layers.get_mut(&layer) else {
                for (family, scan, place) in
                    [(Family::Head, &mut head, in_head), (Family::History, &mut history, in_history)]
                {
                    if place.is_some_and(|(found, _)| found == layer) {
                        self.pass_over(family, layer, scan);
                    }
                }
                continue;
            };
            let stored = self.read_page(facts, page, &mut head, &mut history)?;
            self.page(facts, &stored)?;
        }
    }

    /// The page of the key here, past keys that can't be read.
    fn peek(
        &mut self,
        family: Family,
        scan: &mut Scan<'_>,
        read: ReadPlace,
    ) -> Result<Option<(LayerId, PageIndex)>> {
        while let Some((key, _)) = scan.item()? {
            match read(key) {
                Ok(place) => return Ok(Some(place)),
                Err(source) => self.unreadable(family, key, &source),
            }
            scan.advance();
        }
        Ok(None)
    }

    /// Takes what both scans say of a page, and leaves them after it.
    fn read_page(
        &mut self,
        facts: &LayerFacts,
        page: PageIndex,
        head_scan: &mut Scan<'_>,
        history_scan: &mut Scan<'_>,
    ) -> Result<Stored> {
        let mut stored =
            Stored { page, head: None, undo: Vec::new(), inherited: Page::default(), is_whole: true };
        let here = Some((facts.id, page));
        if self.peek(Family::Head, head_scan, keys::read_head)? == here
            && let Some((key, value)) = head_scan.item()?
        {
            self.report.counts.head_pages += 1;
            match head::decode(value) {
                Ok(head) => stored.head = Some(head.page),
                Err(source) => {
                    stored.is_whole = false;
                    self.unreadable(Family::Head, key, &source);
                }
            }
            head_scan.advance();
        }
        while self.peek(Family::History, history_scan, history_place)? == here
            && let Some((key, value)) = history_scan.item()?
        {
            self.report.counts.undo_records += 1;
            match (keys::read_history(key), undo::decode(value)) {
                (Ok((_, _, interval)), Ok(record)) => stored.undo.push((interval, record)),
                (Err(source), _) | (_, Err(source)) => {
                    stored.is_whole = false;
                    self.unreadable(Family::History, key, &source);
                }
            }
            history_scan.advance();
        }
        if !facts.origins.is_empty() {
            match self.view.resolve(&facts.origins, page) {
                Ok(found) => stored.inherited = found.page,
                // Reported where the origin's own keys are read.
                Err(error) if error.kind() == Kind::Damaged => stored.is_whole = false,
                Err(error) => return Err(error),
            }
        }
        Ok(stored)
    }

    fn page(&mut self, facts: &mut LayerFacts, stored: &Stored) -> Result<()> {
        facts.is_counted &= stored.is_whole;
        let place = Place::head(facts.id, stored.page);
        if let Some(head) = &stored.head {
            self.head_entries(facts, stored, head, &place);
            self.head_changes(facts, head, &place)?;
        }
        if facts.is_dropped() {
            return Ok(());
        }
        if stored.head.is_none() && stored.is_whole && !facts.origins.is_empty() {
            self.report.add(
                DiscrepancyKind::UndoWithoutHead,
                place,
                "a clone keeps every page that it touched",
            );
        }
        self.undo_records(facts, stored)
    }

    /// Owners, births, and what is inherited.
    fn head_entries(&mut self, facts: &LayerFacts, stored: &Stored, head: &Page, place: &Place) {
        let mut owned = 0;
        for slot in bits(head.mapped()) {
            let entry = head.0[slot];
            self.check_birth(&entry, self.epoch, slot, place);
            if entry.birth > facts.origin_epoch() {
                owned |= 1 << slot;
                let run = PhysicalRun { start: entry.physical, blocks: 1 };
                self.report.counts.head_blocks += self.blocks.own(run, place, &mut self.report);
                let seen = facts.live.last().is_some_and(|&newest| newest >= entry.birth);
                if facts.head == Head::Trimmed && !seen && !facts.is_dropped() {
                    let detail = format!("slot {slot}: nobody sees {}", words(&entry));
                    self.report.add(DiscrepancyKind::Unneeded, place, detail);
                }
            } else {
                self.check_inherited(stored, &entry, slot, place);
            }
        }
        self.verify(&head.0, owned, place);
    }

    /// A birth lies from 1 to `newest`.
    pub(super) fn check_birth(&mut self, entry: &Entry, newest: Epoch, slot: usize, place: &Place) {
        if entry.birth.0 == 0 || entry.birth > newest {
            let detail = format!("slot {slot}: {} was not born from epoch 1 to {newest}", words(entry));
            self.report.add(DiscrepancyKind::Epoch, place, detail);
        }
    }

    pub(super) fn check_inherited(&mut self, stored: &Stored, entry: &Entry, slot: usize, place: &Place) {
        let inherited = stored.inherited.0[slot];
        if stored.is_whole && inherited != *entry {
            let detail = format!("slot {slot}: {}, but the origin has {}", words(entry), words(&inherited));
            self.report.add(DiscrepancyKind::Inherited, place, detail);
        }
    }

    /// The changed index knows of every entry that is newer than a snapshot or the origin.
    fn head_changes(&mut self, facts: &LayerFacts, head: &Page, place: &Place) -> Result<()> {
        let mut wanted = std::collections::BTreeMap::<Epoch, u64>::new();
        for slot in bits(head.mapped()) {
            let birth = head.0[slot].birth;
            let Some(told_from) = facts.told_from(birth).filter(|_| birth > facts.origin_epoch()) else {
                continue;
            };
            if told_from >= facts.trimmed_from() {
                continue;
            }
            match facts.interval(birth).filter(|&interval| interval >= told_from) {
                Some(interval) => *wanted.entry(interval).or_default() |= 1 << slot,
                None => {
                    let detail =
                        format!("slot {slot}: no change is known after epoch {told_from}, before {birth}");
                    self.report.add(DiscrepancyKind::ChangeMissing, place, detail);
                }
            }
        }
        for (interval, slots) in wanted {
            let Some(known) = self.changed_masks(facts.id, (place.page, interval))? else {
                continue;
            };
            if slots & !known.after != 0 {
                let detail = format!("slots {:#x} were written in interval {interval}", slots & !known.after);
                self.report.add(DiscrepancyKind::ChangeMissing, place, detail);
            }
        }
        Ok(())
    }

    /// What the changed index says of a page and interval; `None` when it can't be read, which was reported.
    pub(super) fn changed_masks(
        &self,
        layer: LayerId,
        (page, interval): (PageIndex, Epoch),
    ) -> Result<Option<Changed>> {
        let stored = self.view.get(Family::Changed, &keys::changed(layer, interval, page))?;
        Ok(stored.map_or(Some(Changed::default()), |value| decode_changed(&value).ok()))
    }
}

/// An entry in words.
pub(super) fn words(entry: &Entry) -> String {
    if entry.is_hole() {
        return "a hole".to_owned();
    }
    format!("block {}, birth {}, checksum {:#010x}", entry.physical, entry.birth, entry.checksum)
}
