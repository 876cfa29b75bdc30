//! A snapshot in a pool of this machine as a source.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};

use firn_engine::core::{Request, Response, Target};
use firn_engine::delta::{DeltaExtent, ExtentKind};
use firn_engine::pool::Pool;
use firn_engine::reactor::Handle;
use firn_engine::snapshot::{Pin, Snapshot};
use firn_engine::units::BlockIndex;
use firn_engine::volume::Volume;

use super::{Change, Reading, SnapshotId, Source};
use crate::error::{Error, Kind, Result};
use crate::format::digest::PoolId;
use crate::format::point;

const BLOCK_LEN: usize = 4096;

/// A snapshot that can't be deleted while this lives.
pub struct SnapshotSource {
    handle: Handle,
    volume: Volume,
    snapshot: Snapshot,
    origin: point::Source,
    bytes: u64,
    tags: BTreeMap<String, String>,
    _pin: Pin,
}

impl SnapshotSource {
    /// The snapshot `name` of `volume`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the volume has no such snapshot.
    pub fn open(pool: &Pool, volume: &Volume, name: &str) -> Result<Self> {
        let snapshot = volume.snapshot_named(name)?;
        let pin = snapshot.pin()?;
        let handle = pool.handle().clone();
        let (key, id) = (snapshot.key(), volume.id());
        let (seen, volume_name) = handle.try_look(move |core| {
            let catalog = core.catalog();
            Ok((catalog.snapshot(key)?.clone(), catalog.volume(id)?.name.clone()))
        })?;
        let origin = point::Source {
            pool: PoolId::parse(&pool.status()?.pool_id)?,
            volume: id.0,
            name: volume_name,
            snapshot: seen.name,
            layer: key.layer.0,
            epoch: key.epoch.0,
            created_ms: seen.created_ms,
        };
        let (bytes, tags) = (seen.bytes, seen.tags);
        Ok(Self { handle, volume: volume.clone(), snapshot, origin, bytes, tags, _pin: pin })
    }

    fn find(&self, id: SnapshotId) -> Result<Option<Snapshot>> {
        let is_at = |snapshot: &Snapshot| {
            let key = snapshot.key();
            key.layer.0 == id.layer && key.epoch.0 == id.epoch
        };
        let Some(found) = self.volume.snapshots()?.into_iter().find(is_at) else { return Ok(None) };
        let key = found.key();
        // Deleted in between, it is as good as never found.
        let created_ms =
            self.handle.look(move |core| core.catalog().snapshot(key).ok().map(|seen| seen.created_ms))?;
        Ok((created_ms == Some(id.created_ms)).then_some(found))
    }
}

impl Source for SnapshotSource {
    fn origin(&self) -> &point::Source {
        &self.origin
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn tags(&self) -> BTreeMap<String, String> {
        self.tags.clone()
    }

    fn has(&self, snapshot: SnapshotId) -> Result<bool> {
        Ok(self.find(snapshot)?.is_some())
    }

    fn changes(&self, since: Option<SnapshotId>, visit: &mut dyn FnMut(Change) -> Result<()>) -> Result<()> {
        let range = BlockIndex(0)..BlockIndex(self.bytes / BLOCK_LEN as u64);
        let visit = |extent: DeltaExtent| {
            let is_data = extent.kind == ExtentKind::Data;
            visit(Change { first: extent.first.0, blocks: extent.blocks, is_data }).map(|()| true)
        };
        match since {
            None => self.snapshot.allocation(range, visit),
            Some(since) => {
                let gone = || Error::new(Kind::NotFound, "find snapshot", "the common snapshot was deleted");
                self.snapshot.changes_since(&self.find(since)?.ok_or_else(gone)?, range, visit)
            }
        }
    }

    /// All ranges are asked for at once, so that the device sees a queue and nobody waits for each.
    fn read<'s>(&'s self, ranges: Vec<Range<u64>>) -> Reading<'s> {
        let (sender, answers) = channel();
        let mut lengths = Vec::with_capacity(ranges.len());
        for (index, range) in ranges.into_iter().enumerate() {
            let (offset, length) =
                (range.start * BLOCK_LEN as u64, (range.end - range.start) * BLOCK_LEN as u64);
            let sender = sender.clone();
            let target = Target::Snapshot(self.snapshot.key());
            // Nobody listens any more when what reads was dropped.
            self.handle.submit(Request::Read { target, offset, length }, move |answer| {
                _ = sender.send((index, answer));
            });
            lengths.push(length);
        }
        drop(sender);
        Box::new(move |into| fill(&lengths, &answers, into))
    }

    fn hold(&self, reason: &str) -> Result<()> {
        self.snapshot.hold(reason)
    }

    fn release_others(&self, reason: &str) -> Result<()> {
        let (id, own, held) = (self.volume.id(), self.snapshot.key(), reason.to_owned());
        let keys = self.handle.try_look(move |core| {
            let snapshots = core.catalog().snapshots_of(id).into_iter();
            let others = snapshots.filter(|other| other.key != own && other.holds.contains(&held));
            Ok(others.map(|other| other.key).collect::<Vec<_>>())
        })?;
        let snapshots = if keys.is_empty() { Vec::new() } else { self.volume.snapshots()? };
        for snapshot in snapshots.iter().filter(|snapshot| keys.contains(&snapshot.key())) {
            match snapshot.release(reason) {
                // Somebody else let it go in between.
                Err(error) if error.kind() == Kind::NotFound => {}
                released => released?,
            }
        }
        Ok(())
    }
}

/// Copies answers, each with the index of its range, to where they belong in `into`.
fn fill(lengths: &[u64], answers: &Receiver<(usize, Result<Response>)>, into: &mut [u8]) -> Result<()> {
    let too_long = |_| Error::new(Kind::Invalid, "read snapshot", "more than fits into memory");
    let mut places = Vec::with_capacity(lengths.len());
    let mut at = 0;
    for length in lengths {
        let end = at + usize::try_from(*length).map_err(too_long)?;
        places.push(at..end);
        at = end;
    }
    let mut result = Ok(());
    for (index, answer) in answers {
        match answer {
            Ok(Response::Data(data)) => data.copy_out(0, &mut into[places[index].clone()]),
            Ok(other) => result = Err(Error::new(Kind::Bug, "read snapshot", format!("{other:?}"))),
            Err(error) => result = Err(error),
        }
    }
    result
}
