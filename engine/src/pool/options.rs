//! How a pool is created and opened.

use std::path::{Path, PathBuf};

use crate::core::CoreOptions;
use crate::error::{Error, Kind, Result};
use crate::journal::tail::TailShape;
use crate::map::store::{FAMILIES, StoreOptions};
use crate::recovery::{JOURNAL_BLOCKS_MIN, PoolShape};
use crate::sys::DeviceKind;
use crate::units::{BLOCK_BYTES, PoolId};

/// The part of a small pool that its journal and a region take at most.
const SMALL_POOL_PART: u64 = 16;

/// How a pool is opened.
#[derive(Clone)]
pub struct PoolOptions {
    /// What drives the device.
    pub device: DeviceKind,
    /// The directory of the metadata store; `None` is the pool file's path with `.meta` after it. It must be given
    /// for a block device.
    pub meta: Option<PathBuf>,
    /// A directory on tmpfs for what is acknowledged and not on the device yet; `None` is `/dev/shm`.
    pub tail_directory: Option<PathBuf>,
    /// How much of that there can be.
    pub tail: TailShape,
    /// Bounds and intervals of the core.
    pub core: CoreOptions,
    /// How the metadata store is opened.
    pub store: StoreOptions,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            device: DeviceKind::Auto,
            meta: None,
            tail_directory: None,
            tail: TailShape { data_slots: 16_384, journal_slots: 1024 },
            core: CoreOptions::default(),
            store: StoreOptions::default(),
        }
    }
}

/// Bytes of memory for data on its way in and out that an open pool keeps when they lie idle.
pub(super) const IDLE_BUFFER_BYTES: usize = 64 << 20;

impl PoolOptions {
    /// The most memory in bytes that an open pool of `pool_bytes` keeps under these options, its shared-memory file
    /// included: page cache, changes not yet checkpointed (those that are written, those that a checkpoint is writing),
    /// allocation bitmap, idle buffers, and the metadata store's cache and write buffers. What is in flight for
    /// requests comes on top.
    pub fn memory_bytes_max(&self, pool_bytes: u64) -> u64 {
        // Writers wait at twice the bound; a checkpoint may be writing as much.
        let overlays = 4 * self.core.overlay_bytes as u64;
        let write_buffers = FAMILIES.len() as u64 * self.store.write_buffer_bytes as u64;
        let store = self.store.cache_bytes as u64 + write_buffers;
        let bitmap = pool_bytes / BLOCK_BYTES / 8;
        let fixed = (self.core.cache_bytes + self.tail.bytes() + IDLE_BUFFER_BYTES) as u64;
        fixed + overlays + store + bitmap
    }

    /// The metadata directory of the pool at `path`.
    pub(super) fn meta_directory(&self, path: &Path, is_block_device: bool) -> Result<PathBuf> {
        match &self.meta {
            Some(meta) => Ok(meta.clone()),
            None if is_block_device => {
                let detail =
                    format!("{} is a block device, and no metadata directory was given", path.display());
                Err(Error::new(Kind::Invalid, "open pool", detail)
                    .hint("give a directory for the metadata, on a file system that outlives a reboot"))
            }
            None => {
                let mut meta = path.as_os_str().to_owned();
                meta.push(".meta");
                Ok(meta.into())
            }
        }
    }

    /// The shared-memory file of a pool.
    pub(super) fn tail_path(&self, pool_id: PoolId) -> PathBuf {
        let directory = self.tail_directory.as_deref().unwrap_or(Path::new("/dev/shm"));
        directory.join(format!("firn-{pool_id}"))
    }
}

/// How a pool is created.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The size of the file, a multiple of 4096; needed unless the pool lies on a block device, which is used whole.
    pub bytes: Option<u64>,
    /// Blocks in the journal's ring; `None` is 256 MiB, or 1/16 of a pool smaller than 4 GiB.
    pub journal_blocks: Option<u64>,
    /// Write zeros through the whole file now, so that no later write costs the file system an allocation.
    pub preallocate: bool,
    /// Take a file, device or metadata directory that is in use, and lose what is in it.
    pub overwrite: bool,
}

impl CreateOptions {
    pub(super) fn shape(&self, device_bytes: u64) -> PoolShape {
        let usual = PoolShape::default();
        let part = device_bytes / BLOCK_BYTES / SMALL_POOL_PART;
        let journal_blocks = self
            .journal_blocks
            .unwrap_or(part.clamp(JOURNAL_BLOCKS_MIN, usual.journal_blocks.max(JOURNAL_BLOCKS_MIN)));
        let region = (part - part % 64).clamp(64, u64::from(usual.region_blocks));
        PoolShape { journal_blocks, region_blocks: u32::try_from(region).unwrap_or(usual.region_blocks) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_pool_has_a_small_journal() {
        let options = CreateOptions::default();
        assert_eq!(options.shape(1 << 40), PoolShape::default());
        assert_eq!(options.shape(64 << 20), PoolShape { journal_blocks: 1024, region_blocks: 1024 });
        assert_eq!(
            options.shape(1 << 20),
            PoolShape { journal_blocks: JOURNAL_BLOCKS_MIN, region_blocks: 64 }
        );
    }

    #[test]
    fn a_block_device_needs_to_be_told_where_its_metadata_is() {
        let options = PoolOptions::default();
        let beside = options.meta_directory(Path::new("/a/pool"), false).expect("a file");
        assert_eq!(beside, Path::new("/a/pool.meta"));
        let error = options.meta_directory(Path::new("/dev/sdz"), true).expect_err("a device");
        assert_eq!(error.kind(), Kind::Invalid);
    }
}
