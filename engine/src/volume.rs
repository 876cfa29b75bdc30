//! Volumes: what is read and written, and what is done to a volume as a whole.
//!
//! A handle names its volume by id, so a rename does not disturb it; after a delete every call says
//! [`Kind::NotFound`]. Changes of the catalog are durable on return; data is durable after a flush.

mod info;

use std::ops::Range;

pub use info::{VolumeInfo, VolumeOrigin};

use crate::catalog::{Catalog, Operation, SnapshotKey, Subject, Tags};
use crate::checkpoint;
use crate::core::{Request, Response, Target};
use crate::delta::{DeltaExtent, Point};
use crate::error::{Error, Kind, Result};
use crate::reactor::Handle;
use crate::snapshot::{Comparison, Snapshot};
use crate::sys::MemorySlice;
use crate::units::{BLOCK_BYTES, BlockIndex, VolumeId};

/// A volume of an open pool. Cheap to clone, usable from several threads. Offsets and lengths are in bytes and
/// multiples of 512.
#[derive(Clone, Debug)]
pub struct Volume {
    handle: Handle,
    id: VolumeId,
}

/// One request to a volume, for [`Volume::submit`].
#[derive(Debug)]
pub enum VolumeRequest {
    /// Reads at most 32 MiB; answered by [`Response::Data`].
    Read {
        /// From where.
        offset: u64,
        /// How much.
        length: u64,
    },
    /// Writes; aligned to 4096 and up to 64 KiB it is untorn.
    Write {
        /// Where.
        offset: u64,
        /// What, see [`Volume::buffer`].
        data: MemorySlice,
        /// Answered only when it is durable.
        fua: bool,
    },
    /// Makes a range read as zeros and gives its room back.
    Unmap {
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
        /// Answered only when it is durable.
        fua: bool,
    },
    /// Makes durable everything that was acknowledged before.
    Flush,
}

impl Volume {
    pub(crate) fn new(handle: Handle, id: VolumeId) -> Self {
        Self { handle, id }
    }

    /// Its identity, for requests of a local client.
    pub fn id(&self) -> VolumeId {
        self.id
    }

    /// Its name.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted.
    pub fn name(&self) -> Result<String> {
        let id = self.id;
        self.handle.try_look(move |core| Ok(core.catalog().volume(id)?.name.clone()))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Fills `into` from `offset`. A range that was never written reads as zeros.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the range is not aligned to 512 bytes or reaches beyond the end; [`Kind::Damaged`] when
    /// a block is not what was written: then nothing in `into` is to be believed.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.handle.read(Target::Volume(self.id), offset, into)
    }

    /// Writes `data` to `offset`. On return it survives the death of this process, and after a [`flush`](Self::flush)
    /// that of the machine. Aligned to 4096 and up to 64 KiB it is untorn; more than 1 MiB takes effect in parts.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for the range, [`Kind::OutOfSpace`] when the pool is full, [`Kind::Unavailable`] when it is
    /// read-only after a failure or closed.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.handle.write(self.id, offset, data, false)
    }

    /// As [`write_at`](Self::write_at), durable on return.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn write_at_fua(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.handle.write(self.id, offset, data, true)
    }

    /// Makes `length` bytes from `offset` read as zeros and gives their room back. Costs the same for any length.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn unmap(&self, offset: u64, length: u64) -> Result<()> {
        self.handle.call(Request::Unmap { volume: self.id, offset, length, fua: false }).map(drop)
    }

    /// Makes durable everything acknowledged before, whoever wrote it.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the device failed or the pool is closed.
    pub fn flush(&self) -> Result<()> {
        self.handle.flush()
    }

    /// Submits a request without waiting. `callback` is called exactly once, on the reactor's thread, and must not
    /// wait for anything. The caller bounds how many requests it has under way.
    pub fn submit(&self, request: VolumeRequest, callback: impl FnOnce(Result<Response>) + Send + 'static) {
        let volume = self.id;
        let request = match request {
            VolumeRequest::Read { offset, length } => {
                Request::Read { target: Target::Volume(volume), offset, length }
            }
            VolumeRequest::Write { offset, data, fua } => Request::Write { volume, offset, data, fua },
            VolumeRequest::Unmap { offset, length, fua } => Request::Unmap { volume, offset, length, fua },
            VolumeRequest::Flush => Request::Flush,
        };
        self.handle.submit(request, callback);
    }

    /// Memory of exactly `bytes` bytes for a write, with arbitrary content.
    pub fn buffer(&self, bytes: usize) -> MemorySlice {
        self.handle.buffer(bytes)
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the name is taken, [`Kind::Invalid`] for one that can't be.
    pub fn rename(&self, name: &str) -> Result<()> {
        self.operate(Operation::VolumeRename { id: self.id, name: name.to_owned() })
    }

    /// Gives it another size in bytes, a multiple of 4096. What is cut off is gone, except from snapshots.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when something is mapped beyond the new end and `force` was not said; a write that arrives
    /// there after that was looked at is cut off too.
    pub fn resize(&self, bytes: u64, force: bool) -> Result<()> {
        if !force && self.cuts_data(bytes)? {
            let detail = format!("something is written beyond {bytes} bytes");
            return Err(Error::new(Kind::Conflict, "shrink volume", detail)
                .hint("shrink what lies on the volume first, or force it and lose what is cut off"));
        }
        self.operate(Operation::VolumeResize { id: self.id, bytes })
    }

    fn cuts_data(&self, bytes: u64) -> Result<bool> {
        let before = self.bytes()?;
        let cut = BlockIndex(bytes.div_ceil(BLOCK_BYTES))..BlockIndex(before.div_ceil(BLOCK_BYTES));
        let mut found = false;
        if !cut.is_empty() {
            self.allocation(cut, |_| {
                found = true;
                Ok(false)
            })?;
        }
        Ok(found)
    }

    fn bytes(&self) -> Result<u64> {
        let id = self.id;
        self.handle.try_look(move |core| Ok(core.catalog().volume(id)?.bytes))
    }

    /// Shows `visit` every extent of `range` that is mapped, in block order, until it says stop (`false`). What was
    /// acknowledged before this call is counted, and some of what came later.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted, what the metadata store or `visit` said.
    pub fn allocation(
        &self,
        range: Range<BlockIndex>,
        visit: impl FnMut(DeltaExtent) -> Result<bool>,
    ) -> Result<()> {
        Comparison::new(&self.handle, None, self.head()?)?.run(range, visit)
    }

    /// Shows `visit` every extent of `range` that changed since the snapshot `older`, in block order, until it says
    /// stop (`false`). What was acknowledged before this call is counted, and some of what came later. The snapshot
    /// may be of another volume with which this one shares an origin.
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
        let _pin = older.pin()?;
        Comparison::new(&self.handle, Some(older.key().into()), self.head()?)?.run(range, visit)
    }

    fn head(&self) -> Result<Point> {
        let id = self.id;
        self.handle.try_look(move |core| Ok(Point::head(core.catalog().volume(id)?.layer)))
    }

    /// Deletes it. Its room comes back in the background, also after a restart; blocks that clones need stay.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it has snapshots and `with_snapshots` was not said, or one of them is held or being
    /// read by a transfer.
    pub fn delete(&self, with_snapshots: bool) -> Result<()> {
        let id = self.id;
        self.change(move |catalog, _| {
            let snapshots = catalog.snapshots_of(id).len();
            if snapshots > 0 && !with_snapshots {
                let detail = format!("volume {:?} has {snapshots} snapshots", catalog.volume(id)?.name);
                return Err(Error::new(Kind::Conflict, "delete volume", detail)
                    .hint("delete the snapshots first, or say that they go with it"));
            }
            Ok((Operation::VolumeDelete { id }, ()))
        })
    }

    /// Sets a tag.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key or value that can't be, or too many tags.
    pub fn tag(&self, key: &str, value: &str) -> Result<()> {
        let subject = Subject::Volume(self.id);
        self.operate(Operation::Tag { subject, key: key.to_owned(), value: Some(value.to_owned()) })
    }

    /// Takes a tag away; it is no error if there is none.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key that can't be.
    pub fn untag(&self, key: &str) -> Result<()> {
        self.operate(Operation::Tag { subject: Subject::Volume(self.id), key: key.to_owned(), value: None })
    }

    /// Takes a snapshot: it sees every write acknowledged before this call and none submitted after it returned.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the volume has a snapshot of this name, [`Kind::Invalid`] for a name or tag that can't
    /// be.
    pub fn snapshot(&self, name: &str, tags: Tags) -> Result<Snapshot> {
        let (id, name) = (self.id, name.to_owned());
        let key = self.change(move |catalog, created_ms| {
            let (layer, epoch) = (catalog.volume(id)?.layer, catalog.epoch());
            let operation =
                Operation::Snapshot { epoch, name, created_ms, volumes: vec![id], group: None, tags };
            Ok((operation, SnapshotKey { layer, epoch }))
        })?;
        Ok(Snapshot::new(self.handle.clone(), key))
    }

    /// Its snapshots, oldest first.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let id = self.id;
        let keys = self.handle.try_look(move |core| {
            core.catalog().volume(id)?;
            Ok(core.catalog().snapshots_of(id).iter().map(|snapshot| snapshot.key).collect::<Vec<_>>())
        })?;
        Ok(keys.into_iter().map(|key| Snapshot::new(self.handle.clone(), key)).collect())
    }

    /// Its snapshot of this name.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn snapshot_named(&self, name: &str) -> Result<Snapshot> {
        let (id, name) = (self.id, name.to_owned());
        let key = self.handle.try_look(move |core| {
            let catalog = core.catalog();
            Ok(catalog.snapshot_named(catalog.volume(id)?, &name)?.key)
        })?;
        Ok(Snapshot::new(self.handle.clone(), key))
    }

    /// Makes it what its snapshot `snapshot` is, size included. What it was until now stays as a snapshot, so that
    /// the rollback can be undone; the name of that is returned. `displaced_name` names it, else it is called
    /// `before-rollback-N`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such snapshot, [`Kind::Conflict`] when `displaced_name` is taken.
    pub fn rollback(&self, snapshot: &str, displaced_name: Option<&str>) -> Result<String> {
        let (id, snapshot) = (self.id, snapshot.to_owned());
        let displaced_name = displaced_name.map(ToOwned::to_owned);
        self.change(move |catalog, created_ms| {
            let to = catalog.snapshot_named(catalog.volume(id)?, &snapshot)?.key;
            let displaced_name = displaced_name.map_or_else(|| free_name(catalog, id), Ok)?;
            let name = displaced_name.clone();
            let (layer, epoch) = (catalog.next_layer, catalog.epoch());
            Ok((Operation::Rollback { id, layer, to, epoch, displaced_name, created_ms }, name))
        })
    }

    /// What is known of it. Makes a checkpoint when it was created after the last one.
    ///
    /// # Errors
    /// [`Kind::NotFound`] after it was deleted, what the metadata store said.
    pub fn info(&self) -> Result<VolumeInfo> {
        let id = self.id;
        let (layer, info) = self.handle.try_look(move |core| {
            let catalog = core.catalog();
            Ok((catalog.volume(id)?.layer, info::describe(catalog, id)?))
        })?;
        let look = || self.handle.walk(|view| checkpoint::layer_usage(view, layer));
        let mut mapped = look()?;
        if mapped.is_none() {
            self.handle.checkpoint()?;
            mapped = look()?;
        }
        Ok(VolumeInfo { mapped_bytes: mapped.unwrap_or(0) * BLOCK_BYTES, ..info })
    }

    fn operate(&self, operation: Operation) -> Result<()> {
        self.change(move |_, _| Ok((operation, ())))
    }

    fn change<T: Send + 'static>(
        &self,
        plan: impl FnOnce(&Catalog, u64) -> Result<(Operation, T)> + Send + 'static,
    ) -> Result<T> {
        self.handle.change(plan).map(|(_, extra)| extra)
    }
}

fn free_name(catalog: &Catalog, id: VolumeId) -> Result<String> {
    let volume = catalog.volume(id)?;
    // One more number than there are snapshots: one of them is free.
    (1..=catalog.snapshots_of(id).len() + 1)
        .map(|number| format!("before-rollback-{number}"))
        .find(|name| catalog.snapshot_named(volume, name).is_err())
        .ok_or_else(|| Error::new(Kind::Bug, "roll back", "no free name for what is displaced"))
}
