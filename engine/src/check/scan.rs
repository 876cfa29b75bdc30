//! Naming keys, and the pass over the changed index.

use std::fmt;

use super::report::DiscrepancyKind;
use super::{Layers, Run};
use crate::error::Result;
use crate::format::undo::decode_changed;
use crate::format::{Malformed, keys};
use crate::map::store::{Family, Scan};
use crate::units::{Epoch, LayerId, PageIndex};

/// A key of the map, in words.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) family: &'static str,
    pub(super) layer: LayerId,
    pub(super) page: PageIndex,
    pub(super) interval: Option<Epoch>,
    pub(super) birth: Option<Epoch>,
}

impl Place {
    pub(super) fn head(layer: LayerId, page: PageIndex) -> Self {
        Self { family: "head", layer, page, interval: None, birth: None }
    }

    pub(super) fn history(layer: LayerId, page: PageIndex, interval: Epoch) -> Self {
        Self { family: "history", interval: Some(interval), ..Self::head(layer, page) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of layer {}, page {}", self.family, self.layer, self.page)?;
        self.interval.map_or(Ok(()), |interval| write!(f, ", interval {interval}"))?;
        self.birth.map_or(Ok(()), |birth| write!(f, ", birth {birth}"))
    }
}

impl Run<'_, '_> {
    pub(super) fn unreadable(&mut self, family: Family, key: &[u8], source: &Malformed) {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        self.report.add(DiscrepancyKind::Unreadable, format_args!("{family:?} key {key}"), source);
    }

    /// Reports keys of a layer that the catalog does not know, and steps over all of them.
    pub(super) fn pass_over(&mut self, family: Family, layer: LayerId, scan: &mut Scan<'_>) {
        let subject = format!("{family:?} keys of layer {layer}");
        self.report.add(DiscrepancyKind::Unknown, subject, "the catalog has no such layer");
        match layer.0.checked_add(1) {
            Some(next) => scan.seek(&next.to_be_bytes()),
            None => scan.seek(&[0xff; 32]),
        }
    }

    /// An interval can only begin at a snapshot that was taken.
    pub(super) fn check_interval(&mut self, interval: Epoch, place: &Place) {
        if interval.0 == 0 || interval >= self.epoch {
            let detail = format!("interval {interval} is no past epoch, the pool is at {}", self.epoch);
            self.report.add(DiscrepancyKind::Epoch, place, detail);
        }
    }

    /// Reads the whole changed index, and learns which intervals it names.
    pub(super) fn changed(&mut self, layers: &mut Layers) -> Result<()> {
        let mut scan = self.view.scan(Family::Changed, None);
        scan.seek(&[]);
        while let Some((key, value)) = scan.item()? {
            let (layer, interval, page) = match keys::read_changed(key) {
                Ok(read) => read,
                Err(source) => {
                    self.unreadable(Family::Changed, key, &source);
                    scan.advance();
                    continue;
                }
            };
            let Some(facts) = layers.get_mut(&layer) else {
                self.pass_over(Family::Changed, layer, &mut scan);
                continue;
            };
            self.report.counts.changed_records += 1;
            if let Err(source) = decode_changed(value) {
                self.unreadable(Family::Changed, key, &source);
            }
            if facts.intervals.last() != Some(&interval) {
                let place = Place { family: "changed", ..Place::history(layer, page, interval) };
                self.check_interval(interval, &place);
                facts.intervals.push(interval);
            }
            scan.advance();
        }
        Ok(())
    }
}
