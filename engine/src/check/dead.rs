//! The pass over dead entries: what only snapshots see.

use super::layer::LayerFacts;
use super::report::DiscrepancyKind;
use super::scan::Place;
use super::{Layers, Run};
use crate::error::{Kind, Result};
use crate::format::dead::{PhysicalRun, decode};
use crate::format::head::bits;
use crate::format::keys;
use crate::map::store::Family;
use crate::units::{Epoch, PhysicalBlock};

impl Run<'_, '_> {
    pub(super) fn dead(&mut self, layers: &Layers) -> Result<()> {
        let mut scan = self.view.scan(Family::Dead, None);
        scan.seek(&[]);
        while let Some((key, value)) = scan.item()? {
            let (layer, interval, birth, page) = match keys::read_dead(key) {
                Ok(read) => read,
                Err(source) => {
                    self.unreadable(Family::Dead, key, &source);
                    scan.advance();
                    continue;
                }
            };
            let Some(facts) = layers.get(&layer) else {
                self.pass_over(Family::Dead, layer, &mut scan);
                continue;
            };
            self.report.counts.dead_records += 1;
            let place = Place { family: "dead", birth: Some(birth), ..Place::history(layer, page, interval) };
            match decode(value) {
                Ok(runs) => self.dead_runs(facts, (interval, birth), &runs, &place)?,
                Err(source) => self.unreadable(Family::Dead, key, &source),
            }
            scan.advance();
        }
        Ok(())
    }

    fn dead_runs(
        &mut self,
        facts: &LayerFacts,
        (interval, birth): (Epoch, Epoch),
        runs: &[PhysicalRun],
        place: &Place,
    ) -> Result<()> {
        self.check_interval(interval, place);
        if birth <= facts.origin_epoch() || birth > interval {
            let detail =
                format!("birth is not after the origin ({}), up to the interval", facts.origin_epoch());
            self.report.add(DiscrepancyKind::Epoch, place, detail);
        }
        if !facts.is_seen(birth, interval) && !facts.was_seen(birth, interval) && !facts.is_dropped() {
            self.report.add(DiscrepancyKind::Unneeded, place, "no snapshot sees the blocks");
        }
        let displaced = self.displaced(facts, interval, birth, place)?;
        for &run in runs {
            let blocks = self.blocks.own(run, place, &mut self.report);
            self.report.counts.dead_blocks += blocks;
            let Some(displaced) = &displaced else { continue };
            // A run outside the data area was reported whole, however long it says it is.
            for block in (run.start.0..run.start.0 + blocks).map(PhysicalBlock) {
                if !displaced.contains(&block) {
                    let detail = format!("block {block} is not in the undo record");
                    self.report.add(DiscrepancyKind::DeadWithoutUndo, place, detail);
                }
            }
        }
        Ok(())
    }

    /// The blocks of this birth that the undo record of the place displaced; `None` when it can't be read, which was
    /// reported.
    fn displaced(
        &self,
        facts: &LayerFacts,
        interval: Epoch,
        birth: Epoch,
        place: &Place,
    ) -> Result<Option<Vec<PhysicalBlock>>> {
        let record = match self.view.undo(facts.id, place.page, interval) {
            Ok(record) => record.unwrap_or_default(),
            Err(error) if error.kind() == Kind::Damaged => return Ok(None),
            Err(error) => return Err(error),
        };
        let entries = bits(record.displaced).map(|slot| record.page.0[slot]);
        Ok(Some(entries.filter(|entry| entry.birth == birth).map(|entry| entry.physical).collect()))
    }
}
