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
use crate::units::{BlockIndex, Epoch, LayerId, PAGE_BLOCKS, PhysicalBlock};

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
    let mut puts = Puts::default();
    for block in &chain.blocks {
        if block.header.epoch != loaded.catalog.epoch() && block.kept() > 0 {
            let detail = format!(
                "journal block {} was written in epoch {}, the catalog is in {}",
                block.header.sequence,
                block.header.epoch,
                loaded.catalog.epoch()
            );
            return Err(Error::new(Kind::Damaged, "replay journal", detail));
        }
        for record in block.records()? {
            loaded.apply(&record, &mut puts)?;
            report.records += 1;
        }
    }
    puts.lay_over(&mut loaded.overlay, loaded.catalog.epoch());
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
    /// Lets a record take effect again, at the latest when what is put off is laid over.
    fn apply(&mut self, record: &Record, puts: &mut Puts) -> Result<()> {
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
                    puts.add(*layer, BlockIndex(block.0 + at), PhysicalBlock(physical.0 + at), sum);
                }
            }
            Record::Unmap { layer, block, blocks, .. } => {
                self.check_layer(*layer)?;
                if *blocks < PAGE_BLOCKS {
                    let holes = block.0..block.0 + blocks;
                    holes.for_each(|block| puts.add(*layer, BlockIndex(block), PhysicalBlock(0), 0));
                } else {
                    puts.lay_over(&mut self.overlay, epoch);
                    self.overlay.unmap(*layer, *block, *blocks, epoch);
                }
            }
            Record::Catalog(json) => {
                puts.lay_over(&mut self.overlay, epoch);
                self.apply_operation(json)?;
            }
        }
        if puts.0.len() >= PUTS_MAX {
            puts.lay_over(&mut self.overlay, epoch);
        }
        Ok(())
    }

    fn apply_operation(&mut self, json: &[u8]) -> Result<()> {
        let operation = Operation::decode(json)?;
        self.catalog.check(&operation).map_err(|source| {
            damaged("a catalog record contradicts the catalog".to_owned()).source(source)
        })?;
        if let Some((layer, first, blocks)) = cut_off(&self.catalog, &operation) {
            self.overlay.unmap(layer, first, blocks, self.catalog.epoch());
        }
        self.catalog.apply(&operation);
        Ok(())
    }

    fn check_layer(&self, layer: LayerId) -> Result<()> {
        match self.catalog.layers.contains_key(&layer) {
            true => Ok(()),
            false => Err(damaged(format!("a record writes to layer {layer}, which there is not"))),
        }
    }
}

fn damaged(detail: String) -> Error {
    Error::new(Kind::Damaged, "replay journal", detail)
}

/// Blocks put off before they are laid over the overlay.
const PUTS_MAX: usize = 1 << 21;

struct Put {
    layer: LayerId,
    block: BlockIndex,
    physical: PhysicalBlock,
    checksum: u32,
}

/// Blocks of one epoch that are not in the overlay yet. A full journal names millions at random; laid over it page by
/// page they cost a fifth of what they cost one by one, each missing every cache of the processor.
#[derive(Default)]
struct Puts(Vec<Put>);

impl Puts {
    fn add(&mut self, layer: LayerId, block: BlockIndex, physical: PhysicalBlock, checksum: u32) {
        self.0.push(Put { layer, block, physical, checksum });
    }

    /// The order of those of one page stays what it was: the last one counts.
    fn lay_over(&mut self, overlay: &mut Overlay, epoch: Epoch) {
        self.0.sort_by_key(|put| (put.layer, put.block.page()));
        for put in self.0.drain(..) {
            overlay.put(put.layer, put.block, epoch, put.physical, put.checksum);
        }
    }
}
