//! The counts of mapped blocks, and catalog keys that belong to nothing.

use std::collections::BTreeMap;

use super::report::DiscrepancyKind;
use super::{Layers, Run};
use crate::catalog::{Head, ObjectKey, SnapshotKey};
use crate::checkpoint::{layer_usage, snapshot_usage};
use crate::error::{Kind, Result};
use crate::map::store::Family;
use crate::units::LayerId;

impl Run<'_, '_> {
    pub(super) fn counters(&mut self, layers: &Layers) -> Result<()> {
        self.catalog_keys()?;
        if !self.report.counts.is_complete {
            return Ok(());
        }
        // Origins come first: their ids are smaller.
        let mut found = BTreeMap::<SnapshotKey, Option<i64>>::new();
        for facts in layers.values().filter(|facts| !facts.is_dropped()) {
            let origin =
                facts.origins.first().and_then(|&(layer, at)| Some(SnapshotKey { layer, epoch: at? }));
            let base = match origin {
                None => Some(0),
                Some(origin) => found.get(&origin).copied().flatten(),
            };
            // Pages that could not be read were reported; what counts on them would only be reported again.
            let base = base.filter(|_| facts.is_counted);
            let mut sum = base;
            for (&epoch, difference) in facts.live.iter().zip(&facts.live_blocks) {
                let key = SnapshotKey { layer: facts.id, epoch };
                sum = sum.map(|sum| sum + difference);
                found.insert(key, sum);
                let stored = snapshot_usage(self.view, key);
                self.compare(stored, sum, &format!("count of snapshot {epoch} of layer {}", facts.id))?;
            }
            // Nobody asks how much a head without a volume maps.
            if facts.head == Head::Live {
                let stored = layer_usage(self.view, facts.id);
                let mapped = base.map(|base| base + facts.head_blocks);
                self.compare(stored, mapped, &format!("count of layer {}", facts.id))?;
            }
        }
        Ok(())
    }

    fn compare(&mut self, stored: Result<Option<u64>>, found: Option<i64>, subject: &str) -> Result<()> {
        match stored {
            Ok(stored) => {
                let stored = stored.map_or(-1, |stored| i64::try_from(stored).unwrap_or(i64::MAX));
                if let Some(found) = found.filter(|&found| found != stored) {
                    let stored = if stored < 0 { "none".to_owned() } else { stored.to_string() };
                    let detail = format!("the map has {found} blocks, the count is {stored}");
                    self.report.add(DiscrepancyKind::Usage, subject, detail);
                }
                Ok(())
            }
            Err(error) if error.kind() == Kind::Damaged => {
                self.report.add(DiscrepancyKind::Unreadable, subject, error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Every key in `catalog` is of something that the catalog has.
    fn catalog_keys(&mut self) -> Result<()> {
        let mut scan = self.view.scan(Family::Catalog, None);
        scan.seek(&[]);
        while let Some((key, _)) = scan.item()? {
            // The checkpoint's own place is the one key that names no object.
            if !key.starts_with(b"!") {
                match counted(key).map_or_else(|| ObjectKey::decode(key), Ok) {
                    Ok(object) if self.has(object) => {}
                    Ok(object) => {
                        let subject = format!("catalog key {}", key.escape_ascii());
                        self.report.add(DiscrepancyKind::Unknown, subject, format!("there is no {object:?}"));
                    }
                    Err(source) => self.unreadable(Family::Catalog, key, &source),
                }
            }
            scan.advance();
        }
        Ok(())
    }

    fn has(&self, object: ObjectKey) -> bool {
        match object {
            ObjectKey::Volume(id) => self.catalog.volumes.contains_key(&id),
            ObjectKey::Layer(id) => self.catalog.layers.contains_key(&id),
            ObjectKey::Snapshot(key) => self.catalog.snapshots.contains_key(&key),
            ObjectKey::Group(id) => self.catalog.groups.contains_key(&id),
        }
    }
}

/// The object whose count a key holds, when it is the key of a count.
fn counted(key: &[u8]) -> Option<ObjectKey> {
    let (kind, id) = key.split_first()?;
    match kind {
        b'u' => Some(ObjectKey::Layer(LayerId(u32::from_be_bytes(id.try_into().ok()?)))),
        // A snapshot's key and the key of its count differ in the letter.
        b'r' => ObjectKey::decode(&[b"s", id].concat()).ok(),
        _ => None,
    }
}
