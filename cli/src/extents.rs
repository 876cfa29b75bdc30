//! What can be read of a volume or snapshot, and the byte ranges that the engine tells of it.

use std::ops::Range;

use firn_engine::delta::{DeltaExtent, ExtentKind};
use firn_engine::error::{Error, Kind};
use firn_engine::snapshot::Snapshot;
use firn_engine::units::{BLOCK_BYTES, BlockIndex};
use firn_engine::volume::Volume;

use crate::name::PointName;
use crate::operation::Served;

/// A volume as it is now, or a snapshot.
pub(crate) enum View {
    Volume(Volume),
    Snapshot(Snapshot),
}

/// A range of bytes that is all data or all hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) kind: ExtentKind,
}

impl From<DeltaExtent> for Extent {
    fn from(extent: DeltaExtent) -> Self {
        let (offset, length) = (extent.first.0 * BLOCK_BYTES, extent.blocks * BLOCK_BYTES);
        Self { offset, length, kind: extent.kind }
    }
}

impl View {
    /// What the name says.
    pub(crate) fn find(served: &Served, name: &PointName) -> Result<Self, Error> {
        match name {
            PointName::Volume(name) => served.volume(name).map(Self::Volume),
            PointName::Snapshot(name) => served.snapshot(name).map(Self::Snapshot),
        }
    }

    /// The volume, which can be written to.
    pub(crate) fn volume(&self) -> Result<&Volume, Error> {
        match self {
            Self::Volume(volume) => Ok(volume),
            Self::Snapshot(_) => Err(Error::new(Kind::Invalid, "write", "a snapshot can't be written to")),
        }
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> Result<u64, Error> {
        match self {
            Self::Volume(volume) => Ok(volume.info()?.bytes),
            Self::Snapshot(snapshot) => Ok(snapshot.info()?.bytes),
        }
    }

    /// Fills `into` from `offset`.
    pub(crate) fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Volume(volume) => volume.read_at(offset, into),
            Self::Snapshot(snapshot) => snapshot.read_at(offset, into),
        }
    }

    /// Shows `visit` what is mapped, in order.
    pub(crate) fn mapped(&self, mut visit: impl FnMut(Extent) -> Result<(), Error>) -> Result<(), Error> {
        let range = blocks(0..self.bytes()?);
        let visit = |extent: DeltaExtent| visit(extent.into()).map(|()| true);
        match self {
            Self::Volume(volume) => volume.allocation(range, visit),
            Self::Snapshot(snapshot) => snapshot.allocation(range, visit),
        }
    }

    /// Shows `visit` what changed since `older`, in order.
    pub(crate) fn changed_since(
        &self,
        older: &Snapshot,
        mut visit: impl FnMut(Extent) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let range = blocks(0..self.bytes()?);
        let visit = |extent: DeltaExtent| visit(extent.into()).map(|()| true);
        match self {
            Self::Volume(volume) => volume.changes_since(older, range, visit),
            Self::Snapshot(snapshot) => snapshot.changes_since(older, range, visit),
        }
    }
}

/// Bytes that a volume maps from `end` on.
pub(crate) fn mapped_beyond(volume: &Volume, end: u64) -> Result<u64, Error> {
    let bytes = volume.info()?.bytes;
    let mut mapped = 0;
    if end < bytes {
        volume.allocation(blocks(end..bytes), |extent| {
            mapped += extent.blocks * BLOCK_BYTES;
            Ok(true)
        })?;
    }
    Ok(mapped)
}

/// The blocks that a range of bytes touches.
fn blocks(bytes: Range<u64>) -> Range<BlockIndex> {
    BlockIndex(bytes.start / BLOCK_BYTES)..BlockIndex(bytes.end.div_ceil(BLOCK_BYTES))
}
