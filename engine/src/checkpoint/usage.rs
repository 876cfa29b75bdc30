//! Counts of the blocks that each head and each snapshot maps, kept beside the map so that nobody has to count.
//!
//! Keys in `catalog`: `u` layer (4, big-endian) and `r` layer (4) epoch (4); the value is a count of blocks (8, LE).

use std::collections::BTreeMap;

use super::Work;
use super::edits::Edits;
use crate::catalog::SnapshotKey;
use crate::error::Result;
use crate::format::Malformed;
use crate::map::store::{Family, StoreView, malformed};
use crate::units::{Epoch, LayerId};

/// The change of mapped blocks by layer and epoch.
#[derive(Default)]
pub(super) struct Usage(BTreeMap<LayerId, BTreeMap<Epoch, i64>>);

pub(super) fn layer_key(layer: LayerId) -> Vec<u8> {
    [b"u".as_slice(), &layer.0.to_be_bytes()].concat()
}

pub(super) fn snapshot_key(key: SnapshotKey) -> Vec<u8> {
    [b"r".as_slice(), &key.layer.0.to_be_bytes(), &key.epoch.0.to_be_bytes()].concat()
}

fn read(view: &StoreView<'_>, key: &[u8]) -> Result<Option<u64>> {
    let Some(value) = view.get(Family::Catalog, key)? else { return Ok(None) };
    let bytes = value
        .as_ref()
        .try_into()
        .map_err(|_| malformed(Family::Catalog, key, Malformed("count is not 8 bytes")))?;
    Ok(Some(u64::from_le_bytes(bytes)))
}

/// Blocks that a layer's head mapped at the last checkpoint, inherited ones included; `None` before its first.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) or what RocksDB said.
pub fn layer_usage(view: &StoreView<'_>, layer: LayerId) -> Result<Option<u64>> {
    read(view, &layer_key(layer))
}

/// Blocks that a snapshot maps; `None` when it was taken after the last checkpoint.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) or what RocksDB said.
pub fn snapshot_usage(view: &StoreView<'_>, key: SnapshotKey) -> Result<Option<u64>> {
    read(view, &snapshot_key(key))
}

impl Usage {
    pub(super) fn add(&mut self, layer: LayerId, birth: Epoch, blocks: i64) {
        *self.0.entry(layer).or_default().entry(birth).or_default() += blocks;
    }

    /// Writes the counts of every layer that changed and of every fresh snapshot. Layers come in the order of their
    /// ids, so an origin's count is there before its clone's begins with it.
    pub(super) fn write(&self, work: &Work, edits: &mut Edits<'_>) -> Result<()> {
        let mut fresh: BTreeMap<SnapshotKey, u64> = BTreeMap::new();
        for (&layer, frozen) in &work.layers {
            let origin =
                frozen.origins.first().and_then(|&(layer, at)| Some(SnapshotKey { layer, epoch: at? }));
            let base = match (read(edits.view, &layer_key(layer))?, origin) {
                (Some(blocks), _) => blocks,
                (None, None) => 0,
                (None, Some(origin)) => match fresh.get(&origin) {
                    Some(&blocks) => blocks,
                    None => read(edits.view, &snapshot_key(origin))?.unwrap_or(0),
                },
            };
            let none = BTreeMap::new();
            let changes = self.0.get(&layer).unwrap_or(&none);
            let until = |epoch: Epoch| {
                base.saturating_add_signed(changes.range(..=epoch).map(|(_, blocks)| blocks).sum())
            };
            for &key in work.fresh.iter().filter(|key| key.layer == layer) {
                fresh.insert(key, until(key.epoch));
                edits.batch.put(Family::Catalog, &snapshot_key(key), &until(key.epoch).to_le_bytes());
            }
            edits.batch.put(Family::Catalog, &layer_key(layer), &until(Epoch(u32::MAX)).to_le_bytes());
        }
        Ok(())
    }
}
