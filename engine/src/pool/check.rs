//! The check of a pool: all of it while nobody has it open, its metadata while it is in use.

use std::path::Path;
use std::sync::Arc;

use super::{Pool, PoolOptions};
use crate::check::{CheckOptions, CheckReport, check};
use crate::error::{Error, Result};
use crate::map::store::MapStore;
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
        let catalog = recovery::load_catalog(&view, &state)?;
        let area = PhysicalBlock(superblock.data_start)..PhysicalBlock(superblock.pool_blocks);
        let mut reader = Reader::new(file);
        let mut read = |first: PhysicalBlock, blocks: u64, into: &mut [u8]| reader.read(first, blocks, into);
        let options = CheckOptions {
            discrepancies_max: DISCREPANCIES_MAX,
            read: if verify_data { Some(&mut read) } else { None },
        };
        check(&view, &catalog, area, options)
    }

    /// Checks the metadata of this open pool as of a checkpoint that it makes: whether its map, its snapshots'
    /// history, its indexes and its bitmap agree. Work goes on meanwhile. The data is not read: a
    /// [`scrub`](Self::scrub) does that.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) after the pool was closed, what the metadata store said.
    /// What does not agree is in the report and is no error.
    pub fn check_metadata(&self) -> Result<CheckReport> {
        self.checkpoint()?;
        self.handle().walk(|view| {
            let catalog = recovery::load_catalog(view, &view.state()?)?;
            // After the view: a pool only ever grows, so everything that the view may name lies inside.
            let area = self.with_running(|running| {
                PhysicalBlock(running.superblock.data_start)..PhysicalBlock(running.superblock.pool_blocks)
            })?;
            check(view, &catalog, area, CheckOptions { discrepancies_max: DISCREPANCIES_MAX, read: None })
        })
    }
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
