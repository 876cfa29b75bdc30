//! Clones: writable volumes that begin as a snapshot, and how one comes to stand on its own.
//!
//! Detaching writes every block that the clone shares with its origin again, as it is, and then lets go of the
//! origin. A checkpoint comes in between: what a checkpoint displaces in a layer without an origin is freed, so no
//! block of the origin may be left in the clone's map when its origin is forgotten.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::catalog::{Operation, Tags};
use crate::checkpoint;
use crate::core::{Request, Response};
use crate::error::{Error, Kind, Result};
use crate::map::Page;
use crate::map::store::StoreView;
use crate::map::walk::pages_between;
use crate::reactor::Handle;
use crate::snapshot::Snapshot;
use crate::units::{BLOCK_BYTES, BlockIndex, Epoch, LayerId, PAGE_BLOCKS, PageIndex, VolumeId};
use crate::volume::Volume;

/// Blocks that are written again at once.
const REWRITES_MAX: usize = 256;
/// Times that the map is looked through. The second time nothing is left, unless the clone's blocks were displaced
/// by something that does not exist yet.
const PASSES_MAX: usize = 4;
/// Map pages whose existence is asked for at once when a clone's map is walked.
const WALK_PAGES: u64 = 1 << 16;

/// How far a detach came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetachProgress {
    /// Blocks that were written again.
    pub copied_blocks: u64,
    /// Blocks that the clone maps, its own included: at most so many are to be written.
    pub mapped_blocks: u64,
}

impl Snapshot {
    /// Makes a volume of the snapshot's content, which takes room only for what is then written to it. The snapshot
    /// may be deleted afterwards: it disappears from view, and its blocks stay as long as the clone needs them.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the name is taken, [`Kind::Invalid`] for a name or tag that can't be.
    pub fn clone_to(&self, name: &str, tags: Tags) -> Result<Volume> {
        let (origin, name) = (self.key(), name.to_owned());
        let (_, id) = self.handle().change(move |catalog, created_ms| {
            let (id, layer) = (VolumeId(catalog.next_id), catalog.next_layer);
            Ok((Operation::Clone { id, layer, name, origin, created_ms, tags }, id))
        })?;
        Ok(Volume::new(self.handle().clone(), id))
    }
}

/// What a detach works on.
struct Shared {
    layer: LayerId,
    /// Entries born in this epoch or before are the origin's.
    origin: Epoch,
    blocks: u64,
}

impl Volume {
    /// Makes a clone share no block with its origin any more, so that this can be deleted for good. The volume can be
    /// used meanwhile, but not snapshotted. `progress` is called now and then. When it fails, what was copied stays
    /// so, and another call goes on from there.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it is no clone or has snapshots, [`Kind::OutOfSpace`] when the copy does not fit.
    pub fn detach(&self, mut progress: impl FnMut(DetachProgress)) -> Result<()> {
        let mut copied_blocks = 0;
        for _ in 0..PASSES_MAX {
            let shared = self.shared()?;
            let before = copied_blocks;
            self.copy_shared(&shared, |blocks, mapped_blocks| {
                copied_blocks += blocks;
                progress(DetachProgress { copied_blocks, mapped_blocks });
            })?;
            if copied_blocks == before {
                // The pass began with a checkpoint, so this is what RocksDB holds.
                let layer = shared.layer;
                let detach = move |_: &crate::catalog::Catalog, _| Ok((Operation::CloneDetach { layer }, ()));
                return self.handle().change(detach).map(drop);
            }
        }
        Err(Error::new(Kind::Bug, "detach clone", "blocks of the origin came back after they were copied"))
    }

    /// What it shares with its origin, or why it can't be detached.
    fn shared(&self) -> Result<Shared> {
        let id = self.id();
        self.handle().try_look(move |core| {
            let catalog = core.catalog();
            let volume = catalog.volume(id)?;
            catalog.check(&Operation::CloneDetach { layer: volume.layer })?;
            let origin = catalog.layers.get(&volume.layer).and_then(|layer| layer.origin);
            let origin = origin.map_or(Epoch(0), |origin| origin.epoch);
            Ok(Shared { layer: volume.layer, origin, blocks: volume.bytes.div_ceil(BLOCK_BYTES) })
        })
    }

    /// Writes every shared block again and tells `copied` how many, and how many are mapped in all.
    fn copy_shared(&self, shared: &Shared, mut copied: impl FnMut(u64, u64)) -> Result<()> {
        let mut rewrites = Rewrites::new(self.handle().clone(), self.id());
        let mut mapped = None;
        let range = BlockIndex(0)..BlockIndex(shared.blocks);
        each_page(self.handle(), shared.layer, range, |view, page, content| {
            let blocks = inherited(page, content, shared);
            if blocks.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            let mapped = match mapped {
                Some(mapped) => mapped,
                None => *mapped.insert(checkpoint::layer_usage(view, shared.layer)?.unwrap_or(0)),
            };
            let count = blocks.len() as u64;
            rewrites.push(blocks)?;
            copied(count, mapped);
            Ok(ControlFlow::Continue(()))
        })?;
        rewrites.finish()
    }
}

/// The page's blocks that are the origin's, within the volume.
fn inherited(page: PageIndex, content: &Page, shared: &Shared) -> VecDeque<BlockIndex> {
    let entries = (page.first_block().0..).zip(&content.0[..]);
    let of_origin = entries
        .filter(|(block, entry)| *block < shared.blocks && !entry.is_hole() && entry.birth <= shared.origin);
    debug_assert!(content.0.len() as u64 == PAGE_BLOCKS);
    of_origin.map(|(block, _)| BlockIndex(block)).collect()
}

/// Rewrites under way.
struct Rewrites {
    handle: Handle,
    volume: VolumeId,
    under_way: usize,
    sender: Sender<Result<Response>>,
    answers: Receiver<Result<Response>>,
}

impl Rewrites {
    fn new(handle: Handle, volume: VolumeId) -> Self {
        let (sender, answers) = channel();
        Self { handle, volume, under_way: 0, sender, answers }
    }

    fn push(&mut self, blocks: VecDeque<BlockIndex>) -> Result<()> {
        for block in blocks {
            if self.under_way == REWRITES_MAX {
                self.one()?;
            }
            let sender = self.sender.clone();
            let request = Request::Rewrite { volume: self.volume, block };
            // After an error nobody listens any more.
            self.handle.submit(request, move |result| _ = sender.send(result));
            self.under_way += 1;
        }
        Ok(())
    }

    fn one(&mut self) -> Result<()> {
        self.under_way -= 1;
        let lost = |_| Error::new(Kind::Bug, "detach clone", "a request was never answered");
        self.answers.recv().map_err(lost)?.map(drop)
    }

    fn finish(mut self) -> Result<()> {
        while self.under_way > 0 {
            self.one()?;
        }
        Ok(())
    }
}

/// Calls `visit` with every map page of a live layer that may map one of `blocks`, as of a checkpoint that is made
/// first, until it says stop.
fn each_page(
    handle: &Handle,
    layer: LayerId,
    blocks: Range<BlockIndex>,
    mut visit: impl FnMut(&StoreView<'_>, PageIndex, &Page) -> Result<ControlFlow<()>>,
) -> Result<()> {
    handle.checkpoint()?;
    let chain: Vec<(LayerId, Option<Epoch>)> = handle.look(move |core| core.catalog().chain(layer, None))?;
    let end = blocks.end.0.div_ceil(PAGE_BLOCKS);
    let mut start = blocks.start.page().0;
    handle.walk(|view| {
        while start < end {
            let window = PageIndex(start)..PageIndex(end.min(start + WALK_PAGES));
            for page in pages_between(view, &[], &chain, window.start, window.end)? {
                if visit(view, page, &view.resolve(&chain, page)?.page)?.is_break() {
                    return Ok(());
                }
                start = page.0 + 1;
            }
            start = window.end.0;
        }
        Ok(())
    })
}
