//! Snapshots: immutable views of a volume.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::catalog::{self, Catalog, Head, Operation, SnapshotKey, SnapshotState, Subject, Tags};
use crate::checkpoint;
use crate::core::{Request, Target};
use crate::delta::{self, DeltaExtent, Point};
use crate::error::{Error, Kind, Result};
use crate::format::{dead, head, keys};
use crate::map::store::{Family, StoreView, malformed};
use crate::reactor::Handle;
use crate::units::{BLOCK_BYTES, BlockIndex, Epoch, LayerId, PageIndex};

/// A snapshot of an open pool. Cheap to clone, usable from several threads. After it was deleted every call says
/// [`Kind::NotFound`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    handle: Handle,
    key: SnapshotKey,
}

/// What is known of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its place, which is also its identity.
    pub key: SnapshotKey,
    /// Its name.
    pub name: String,
    /// Its volume.
    pub volume: String,
    /// The volume's size then, in bytes.
    pub bytes: u64,
    /// When it was taken, in ms since 1970.
    pub created_ms: u64,
    /// The consistency group it was taken with, while that exists.
    pub group: Option<String>,
    /// Bytes that it maps, shared ones included.
    pub referenced_bytes: u64,
    /// Bytes that nothing else maps, as of the last checkpoint: what deleting it gives back. 0 while a clone stands
    /// on it.
    pub exclusive_bytes: u64,
    /// How many clones and rollbacks stand on it.
    pub clones: u64,
    /// Reasons why it can't be deleted.
    pub holds: BTreeSet<String>,
    /// What the user noted on it.
    pub tags: Tags,
}

/// Keeps a snapshot from being deleted for as long as it lives, but not across a restart: see [`Snapshot::hold`].
#[derive(Debug)]
pub struct Pin(Snapshot);

impl Drop for Pin {
    fn drop(&mut self) {
        // Nobody waits for it, and a closed pool has no pins.
        self.0.handle.submit(Request::Pin { key: self.0.key, pinned: false }, drop);
    }
}

impl Snapshot {
    pub(crate) fn new(handle: Handle, key: SnapshotKey) -> Self {
        Self { handle, key }
    }

    /// Its place, for requests of a local client.
    pub fn key(&self) -> SnapshotKey {
        self.key
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Its name.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted.
    pub fn name(&self) -> Result<String> {
        let key = self.key;
        self.handle.try_look(move |core| Ok(visible(core.catalog(), key)?.name.clone()))
    }

    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the range is not aligned to 512 bytes or reaches beyond the end; [`Kind::Damaged`] when
    /// a block is not what was written: then nothing in `into` is to be believed.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.handle.read(Target::Snapshot(self.key), offset, into)
    }

    /// Shows `visit` every extent of `range` that it maps, in block order, until it says stop (`false`). Makes a
    /// checkpoint when it was taken after the last one.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted, what the metadata store or `visit` said.
    pub fn allocation(
        &self,
        range: Range<BlockIndex>,
        visit: impl FnMut(DeltaExtent) -> Result<bool>,
    ) -> Result<()> {
        let _pin = self.pin()?;
        Comparison::new(&self.handle, None, self.key.into())?.run(range, visit)
    }

    /// Shows `visit` every extent of `range` that changed from the snapshot `older` to this one, exact to the block,
    /// in block order, until it says stop (`false`). The two may be given in either order of time, and be of volumes
    /// that share an origin. Makes a checkpoint when one was taken after the last one.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after one of them was deleted, [`Kind::Invalid`] when they share no origin, what the
    /// metadata store or `visit` said.
    pub fn changes_since(
        &self,
        older: &Snapshot,
        range: Range<BlockIndex>,
        visit: impl FnMut(DeltaExtent) -> Result<bool>,
    ) -> Result<()> {
        let _pins = (self.pin()?, older.pin()?);
        Comparison::new(&self.handle, Some(older.key.into()), self.key.into())?.run(range, visit)
    }

    /// Deletes it. Its room comes back in the background; blocks that clones need stay until they let go.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it is held or pinned.
    pub fn delete(&self) -> Result<()> {
        self.operate(Operation::SnapshotDelete { key: self.key })
    }

    /// Keeps it from being deleted until the reason is released again, across restarts. Holding it twice for the same
    /// reason is the same as once.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a reason that is no name (1 to 128 letters, digits or `._:-+`).
    pub fn hold(&self, reason: &str) -> Result<()> {
        self.operate(Operation::SnapshotHold { key: self.key, reason: reason.to_owned() })
    }

    /// Takes back a hold.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is not held for this reason.
    pub fn release(&self, reason: &str) -> Result<()> {
        self.operate(Operation::SnapshotRelease { key: self.key, reason: reason.to_owned() })
    }

    /// Keeps it from being deleted while the pin lives: for a transfer or an export that reads it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted.
    pub fn pin(&self) -> Result<Pin> {
        self.handle.call(Request::Pin { key: self.key, pinned: true })?;
        Ok(Pin(self.clone()))
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the volume has a snapshot of this name, [`Kind::Invalid`] for one that can't be.
    pub fn rename(&self, name: &str) -> Result<()> {
        self.operate(Operation::SnapshotRename { key: self.key, name: name.to_owned() })
    }

    /// Sets a tag.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key or value that can't be, or too many tags.
    pub fn tag(&self, key: &str, value: &str) -> Result<()> {
        let subject = Subject::Snapshot(self.key);
        self.operate(Operation::Tag { subject, key: key.to_owned(), value: Some(value.to_owned()) })
    }

    /// Takes a tag away; it is no error if there is none.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key that can't be.
    pub fn untag(&self, key: &str) -> Result<()> {
        self.operate(Operation::Tag {
            subject: Subject::Snapshot(self.key),
            key: key.to_owned(),
            value: None,
        })
    }

    /// What is known of it. Makes a checkpoint when it was taken after the last one.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted, what the metadata store said.
    pub fn info(&self) -> Result<SnapshotInfo> {
        let key = self.key;
        let look = || self.handle.walk(|view| checkpoint::snapshot_usage(view, key));
        let mut referenced = look()?;
        if referenced.is_none() {
            self.handle.checkpoint()?;
            referenced = look()?;
        }
        let (info, neighbours) = self.handle.try_look(move |core| {
            Ok((describe(core.catalog(), key)?, Neighbours::of(core.catalog(), key)))
        })?;
        let exclusive = match info.clones {
            0 => self.handle.walk(|view| neighbours.exclusive_blocks(view, key))?,
            _ => 0,
        };
        Ok(SnapshotInfo {
            referenced_bytes: referenced.unwrap_or(0) * BLOCK_BYTES,
            exclusive_bytes: exclusive * BLOCK_BYTES,
            ..info
        })
    }

    fn operate(&self, operation: Operation) -> Result<()> {
        self.handle.change(move |_, _| Ok((operation, ()))).map(drop)
    }
}

/// Two points to compare, or one to look at, as of a checkpoint that holds both. Snapshots are pinned by the caller.
pub(crate) struct Comparison {
    handle: Handle,
    /// What the catalog says of the two points; the rest of it may be large.
    excerpt: Catalog,
    older: Option<Point>,
    newer: Point,
}

impl Comparison {
    pub(crate) fn new(handle: &Handle, older: Option<Point>, newer: Point) -> Result<Self> {
        // The catalog before the checkpoint: what it names is then in the store.
        let excerpt =
            handle.try_look(move |core| excerpt(core.catalog(), older.into_iter().chain([newer])))?;
        let is_held = |point: Point| -> Result<bool> {
            // A head goes on changing.
            let Some(epoch) = point.at else { return Ok(false) };
            let key = SnapshotKey { layer: point.layer, epoch };
            Ok(handle.walk(|view| checkpoint::snapshot_usage(view, key))?.is_some())
        };
        if !(is_held(newer)? && older.map_or(Ok(true), is_held)?) {
            handle.checkpoint()?;
        }
        Ok(Self { handle: handle.clone(), excerpt, older, newer })
    }

    /// As the store has the points, with what the catalog said of them once nothing of it was missing there. A head is
    /// what it was at the last checkpoint, or at a later one.
    pub(crate) fn stored(handle: &Handle, excerpt: Catalog, older: Option<Point>, newer: Point) -> Self {
        Self { handle: handle.clone(), excerpt, older, newer }
    }

    pub(crate) fn run(
        &self,
        range: Range<BlockIndex>,
        mut visit: impl FnMut(DeltaExtent) -> Result<bool>,
    ) -> Result<()> {
        let mut start = range.start;
        self.handle.walk(|view| {
            let left = start..range.end;
            let seen = |extent: DeltaExtent| {
                let go_on = visit(extent)?;
                start = BlockIndex(extent.first.0 + extent.blocks);
                Ok(go_on)
            };
            match self.older {
                Some(older) => delta::delta(view, &self.excerpt, older, self.newer, left, seen),
                None => delta::allocation(view, &self.excerpt, self.newer, left, seen),
            }
        })
    }
}

/// The snapshots and layers that the points and everything they stand on consist of.
pub(crate) fn excerpt(catalog: &Catalog, points: impl Iterator<Item = Point>) -> Result<Catalog> {
    let mut excerpt = Catalog::new(catalog.epoch(), catalog.next_id, catalog.next_layer);
    for point in points {
        if let Some(epoch) = point.at {
            let key = SnapshotKey { layer: point.layer, epoch };
            excerpt.snapshots.insert(key, catalog.snapshot(key)?.clone());
        }
        for (layer, _) in catalog.chain(point.layer, point.at) {
            excerpt.layers.extend(catalog.layers.get(&layer).map(|found| (layer, found.clone())));
        }
    }
    Ok(excerpt)
}

fn visible(catalog: &Catalog, key: SnapshotKey) -> Result<&catalog::Snapshot> {
    let snapshot = catalog.snapshot(key)?;
    match snapshot.state {
        SnapshotState::Visible => Ok(snapshot),
        _ => Err(Error::new(Kind::NotFound, "find snapshot", "the snapshot was deleted")),
    }
}

fn describe(catalog: &Catalog, key: SnapshotKey) -> Result<SnapshotInfo> {
    let snapshot = visible(catalog, key)?;
    let group =
        catalog.groups().find(|group| Some(group.id) == snapshot.group).map(|group| group.name.clone());
    Ok(SnapshotInfo {
        key,
        name: snapshot.name.clone(),
        volume: catalog.volume(snapshot.volume)?.name.clone(),
        bytes: snapshot.bytes,
        created_ms: snapshot.created_ms,
        group,
        referenced_bytes: 0,
        exclusive_bytes: 0,
        clones: u64::from(catalog.children(key)),
        holds: snapshot.holds.clone(),
        tags: snapshot.tags.clone(),
    })
}

/// What a snapshot's blocks may be shared with: the live snapshots around it, and the head.
struct Neighbours {
    /// The newest live snapshot before it, else the layer's origin, else 0.
    older: Epoch,
    /// The oldest live snapshot after it.
    newer: Option<Epoch>,
    /// Whether a volume writes to the layer, so that what the head maps is the volume's too.
    head_is_live: bool,
}

impl Neighbours {
    fn of(catalog: &Catalog, key: SnapshotKey) -> Self {
        let live = catalog.live_epochs(key.layer);
        let layer = catalog.layers.get(&key.layer);
        let origin = layer.and_then(|layer| layer.origin).map_or(Epoch(0), |origin| origin.epoch);
        Self {
            older: live.iter().rev().find(|&&epoch| epoch < key.epoch).copied().unwrap_or(origin),
            newer: live.iter().find(|&&epoch| epoch > key.epoch).copied(),
            head_is_live: layer.is_some_and(|layer| layer.head == Head::Live),
        }
    }

    /// Blocks born after the older neighbour and displaced before the newer one: no other snapshot sees them.
    fn exclusive_blocks(&self, view: &StoreView<'_>, key: SnapshotKey) -> Result<u64> {
        let (layer, first_birth) = (key.layer, self.older.next());
        let end = self.newer.unwrap_or(Epoch(u32::MAX));
        let mut blocks = 0;
        let mut scan = view.scan(Family::Dead, Some(keys::dead(layer, end, Epoch(0), PageIndex(0)).to_vec()));
        scan.seek(&keys::dead(layer, key.epoch, first_birth, PageIndex(0)));
        while let Some((at, value)) = scan.item()? {
            let (_, interval, birth, _) =
                keys::read_dead(at).map_err(|source| malformed(Family::Dead, at, source))?;
            if birth < first_birth {
                scan.seek(&keys::dead(layer, interval, first_birth, PageIndex(0)));
                continue;
            }
            let runs = dead::decode(value).map_err(|source| malformed(Family::Dead, at, source))?;
            blocks += runs.iter().map(|run| run.blocks).sum::<u64>();
            scan.advance();
        }
        if self.newer.is_none() && !self.head_is_live {
            blocks += born_in_head(view, layer, first_birth)?;
        }
        Ok(blocks)
    }
}

/// Blocks of a layer's head that were born in `first` or later.
fn born_in_head(view: &StoreView<'_>, layer: LayerId, first: Epoch) -> Result<u64> {
    let [start, end] = [layer, LayerId(layer.0 + 1)].map(|layer| keys::head(layer, PageIndex(0)));
    let mut blocks = 0;
    view.each(Family::Head, &start, &end, |key, value| {
        let head = head::decode(value).map_err(|source| malformed(Family::Head, key, source))?;
        let young = head.page.0.iter().filter(|entry| !entry.is_hole() && entry.birth >= first);
        blocks += young.count() as u64;
        Ok(true)
    })?;
    Ok(blocks)
}
