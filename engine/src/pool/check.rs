//! The offline check of a pool.

use std::path::Path;
use std::sync::Arc;

use super::{Pool, PoolOptions};
use crate::catalog::{Catalog, ObjectKey};
use crate::check::{CheckOptions, CheckReport, check};
use crate::error::{Error, Result};
use crate::map::store::{CheckpointState, Family, MapStore, StoreView, malformed};
use crate::recovery;
use crate::sys::{DeviceFile, Memory, MemorySlice, OpenMode, open_device};
use crate::units::{BLOCK_LEN, PhysicalBlock};

/// Discrepancies that are listed; all are counted.
const DISCREPANCIES_MAX: usize = 1000;
/// Bytes of data that are read at once.
const READ_BYTES: usize = 1 << 20;

impl Pool {
    /// Checks a pool that nobody has open: whether its map, its snapshots' history, its indexes and its bitmap agree,
    /// as of the last checkpoint; and with `verify_data` whether every block on the device still has the checksum that
    /// the map says. Changes nothing on the device. What the journal says beyond the checkpoint is not looked at:
    /// opening the pool does that.
    ///
    /// # Errors
    /// As [`open`](Self::open). What does not agree is in the report and is no error.
    pub fn check(path: &Path, options: &PoolOptions, verify_data: bool) -> Result<CheckReport> {
        let file = DeviceFile::open(path, OpenMode::ReadOnly)?;
        let store =
            MapStore::open(&options.meta_directory(path, file.is_block_device())?, false, &options.store)?;
        let superblock = recovery::read_superblock(&mut *open_device(file.clone(), options.device)?)?;
        let state = store.state()?;
        let view = store.view();
        let catalog = catalog_of(&view, &state)?;
        let area = PhysicalBlock(superblock.data_start)..PhysicalBlock(superblock.pool_blocks);
        let mut reader = Reader::new(file);
        let mut read = |first: PhysicalBlock, blocks: u64, into: &mut [u8]| reader.read(first, blocks, into);
        let options = CheckOptions {
            discrepancies_max: DISCREPANCIES_MAX,
            read: if verify_data { Some(&mut read) } else { None },
        };
        check(&view, &catalog, area, options)
    }
}

/// The catalog as of the checkpoint.
fn catalog_of(view: &StoreView<'_>, state: &CheckpointState) -> Result<Catalog> {
    let mut catalog = Catalog::new(state.epoch, state.next_id, state.next_layer);
    for kind in [b'g', b'l', b's', b'v'] {
        view.each(Family::Catalog, &[kind], &[kind + 1], |key, json| {
            let object = ObjectKey::decode(key).map_err(|source| malformed(Family::Catalog, key, source))?;
            catalog.load(object, json)?;
            Ok(true)
        })?;
    }
    catalog.loaded()?;
    Ok(catalog)
}

/// Reads blocks by way of memory that is aligned for direct I/O.
struct Reader {
    file: Arc<DeviceFile>,
    memory: Arc<Memory>,
}

impl Reader {
    fn new(file: Arc<DeviceFile>) -> Self {
        Self { file, memory: Memory::heap(READ_BYTES) }
    }

    fn read(&mut self, first: PhysicalBlock, blocks: u64, into: &mut [u8]) -> Result<()> {
        debug_assert_eq!(into.len() as u64, blocks * BLOCK_LEN as u64);
        let mut offset = first.offset();
        for part in into.chunks_mut(READ_BYTES) {
            let slice = MemorySlice::new(self.memory.clone(), 0, part.len());
            let failed =
                |source| Error::io("read from the device", format!("{blocks} blocks from {first}"), source);
            self.file.read_at(offset, &slice).map_err(failed)?;
            slice.copy_out(0, part);
            offset += part.len() as u64;
        }
        Ok(())
    }
}
