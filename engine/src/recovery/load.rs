//! The catalog, bitmap and overlay as the store and the journal have them together.

use super::{Loaded, RecoveryReport};
use crate::catalog::{Catalog, ObjectKey, Operation};
use crate::core::cut_off;
use crate::error::{Error, Kind, Result};
use crate::format::Malformed;
use crate::format::dead::{CHUNK_BLOCKS, PhysicalRun};
use crate::format::journal::Record;
use crate::format::keys;
use crate::format::superblock::Superblock;
use crate::journal::replay::Chain;
use crate::map::overlay::Overlay;
use crate::map::store::{CheckpointState, Family, MapStore, StoreView, malformed};
use crate::space::Space;
use crate::units::{BlockIndex, PhysicalBlock};

pub(super) fn load(
    store: &MapStore,
    superblock: &Superblock,
    state: &CheckpointState,
    chain: &Chain,
    report: &mut RecoveryReport,
) -> Result<Loaded> {
    let view = store.view();
    let mut loaded = Loaded {
        catalog: load_catalog(&view, state)?,
        space: load_space(&view, superblock)?,
        overlay: Overlay::default(),
    };
    for block in &chain.blocks {
        if block.header.epoch != loaded.catalog.epoch() && !block.records.is_empty() {
            let detail = format!(
                "journal block {} was written in epoch {}, the catalog is in {}",
                block.header.sequence,
                block.header.epoch,
                loaded.catalog.epoch()
            );
            return Err(Error::new(Kind::Damaged, "replay journal", detail));
        }
        for record in &block.records {
            loaded.apply(record)?;
            report.records += 1;
        }
    }
    Ok(loaded)
}

/// The catalog as of the last checkpoint.
///
/// # Errors
/// [`Kind::Damaged`] when it is not readable or its parts don't fit; what RocksDB said.
pub fn load_catalog(view: &StoreView<'_>, state: &CheckpointState) -> Result<Catalog> {
    let mut catalog = Catalog::new(state.epoch, state.next_id, state.next_layer);
    for kind in [b"g", b"l", b"s", b"v"] {
        view.each(Family::Catalog, kind, &[kind[0] + 1], |key, json| {
            let object = ObjectKey::decode(key).map_err(|source| malformed(Family::Catalog, key, source))?;
            catalog.load(object, json)?;
            Ok(true)
        })?;
    }
    catalog.loaded()?;
    Ok(catalog)
}

fn load_space(view: &StoreView<'_>, superblock: &Superblock) -> Result<Space> {
    let mut space =
        Space::new(superblock.data_start, superblock.pool_blocks, u64::from(superblock.region_blocks));
    let end = keys::space(superblock.pool_blocks / CHUNK_BLOCKS + 1);
    view.each(Family::Space, &keys::space(0), &end, |key, value| {
        let wrong = |source| malformed(Family::Space, key, source);
        let chunk = keys::read_space(key).map_err(wrong)?;
        let bytes = value.try_into().map_err(|_| wrong(Malformed("bitmap chunk is not 512 bytes")))?;
        space.load(chunk, bytes);
        Ok(true)
    })?;
    Ok(space)
}

impl Loaded {
    /// Lets a record take effect again.
    fn apply(&mut self, record: &Record) -> Result<()> {
        let epoch = self.catalog.epoch();
        match record {
            Record::Write { layer, block, physical, checksums, .. } => {
                self.check_layer(*layer)?;
                let run = PhysicalRun { start: *physical, blocks: checksums.len() as u64 };
                if !self.space.contains(run) || self.space.mark(run) > 0 {
                    return Err(damaged(format!(
                        "physical block {physical} of a record is out of range or in use"
                    )));
                }
                for (at, &sum) in (0..).zip(checksums) {
                    let (block, physical) = (BlockIndex(block.0 + at), PhysicalBlock(physical.0 + at));
                    self.overlay.put(*layer, block, epoch, physical, sum);
                }
            }
            Record::Unmap { layer, block, blocks, .. } => {
                self.check_layer(*layer)?;
                self.overlay.unmap(*layer, *block, *blocks, epoch);
            }
            Record::Catalog(json) => {
                let operation = Operation::decode(json)?;
                self.catalog.check(&operation).map_err(|source| {
                    damaged("a catalog record contradicts the catalog".to_owned()).source(source)
                })?;
                if let Some((layer, first, blocks)) = cut_off(&self.catalog, &operation) {
                    self.overlay.unmap(layer, first, blocks, epoch);
                }
                self.catalog.apply(&operation);
            }
        }
        Ok(())
    }

    fn check_layer(&self, layer: crate::units::LayerId) -> Result<()> {
        match self.catalog.layers.contains_key(&layer) {
            true => Ok(()),
            false => Err(damaged(format!("a record writes to layer {layer}, which there is not"))),
        }
    }
}

fn damaged(detail: String) -> Error {
    Error::new(Kind::Damaged, "replay journal", detail)
}
