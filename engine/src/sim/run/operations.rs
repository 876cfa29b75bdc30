//! What a seeded run does: random operations, each noted with what the model says of it at that moment.

use super::{Issued, PAGE_SECTORS, PAGED, Run};
use crate::catalog::{Operation, SnapshotKey};
use crate::core::{Landing, Owner, Request, Target};
use crate::sim::machine::Running;
use crate::sim::model::{BLOCK_SECTORS, Stamp, fill_sector};
use crate::sys::{Memory, MemorySlice};
use crate::units::{BlockIndex, VolumeId};

impl Run {
    pub(super) fn tag(&mut self, issued: Issued) -> Owner {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.issued.insert(tag, issued);
        Owner { client: 1, tag }
    }

    fn some_volume(&mut self) -> Option<VolumeId> {
        let ids: Vec<_> = self.live.volumes.keys().copied().collect();
        (!ids.is_empty()).then(|| self.random.pick(&ids))
    }

    fn some_snapshot(&mut self) -> Option<SnapshotKey> {
        let keys: Vec<_> = self.live.snapshots.keys().copied().collect();
        (!keys.is_empty()).then(|| self.random.pick(&keys))
    }

    /// One random operation.
    pub(super) fn operate(&mut self, running: &mut Running) {
        if self.issued.len() > 24 {
            return;
        }
        match self.random.below(100) {
            0..55 => self.write(running),
            55..63 => self.unmap(running),
            63..73 => self.read(running),
            73..80 => self.flush(running),
            _ => self.change(running),
        }
    }

    fn range(&mut self, volume: VolumeId) -> Option<(u64, u64)> {
        let sectors = self.live.volumes.get(&volume)?.sectors.len() as u64;
        if Some(volume) == self.paged {
            let pages = sectors / PAGE_SECTORS as u64;
            return Some((self.random.below(pages) * PAGE_SECTORS as u64, PAGE_SECTORS as u64));
        }
        let unit = if self.random.percent(70) { BLOCK_SECTORS } else { 1 };
        let most = if self.random.percent(10) { 400 } else { 40 };
        let first = self.random.below(sectors / unit) * unit;
        let length = (self.random.range(1..most) * unit).min(sectors - first);
        Some((first, length))
    }

    fn write(&mut self, running: &mut Running) {
        let Some(volume) = self.some_volume() else { return self.change(running) };
        let Some((sector, length)) = self.range(volume) else { return };
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        let zero = Some(volume) != self.paged && self.random.percent(5);
        let stamps = vec![if zero { 0 } else { stamp }; usize::try_from(length).expect("small")];
        let data = self.memory(running, stamps.len() * 512);
        fill(&data, stamps.iter().copied());
        let fua = self.random.percent(10);
        let owner = self.tag(Issued { volume: Some(volume), sector, stamps, flush: fua, read: None });
        running.submit(owner, Request::Write { volume, offset: sector * 512, data, fua });
    }

    /// Memory for a write of so many bytes: some is received where it will be staged.
    fn memory(&mut self, running: &Running, bytes: usize) -> MemorySlice {
        if self.random.percent(10) {
            // A client that has begun a write and does not go on.
            let half = 4096 * usize::try_from(self.random.range(1..50)).expect("small");
            self.half_received = match running.core.landing(half) {
                Landing::Lent(memory) => Some(memory),
                Landing::Taken | Landing::Unfit => None,
            };
            if let Some(half) = &self.half_received {
                fill(half, std::iter::repeat_n(Stamp::MAX, half.len() / 512 - 1));
            }
        }
        match if self.random.percent(70) { running.core.landing(bytes) } else { Landing::Unfit } {
            Landing::Lent(memory) => memory,
            _ => MemorySlice::new(Memory::heap(bytes.next_multiple_of(4096)), 0, bytes),
        }
    }

    fn unmap(&mut self, running: &mut Running) {
        let Some(volume) = self.some_volume() else { return };
        if Some(volume) == self.paged {
            return;
        }
        if self.random.percent(30) {
            let blocks = self.live.volumes[&volume].sectors.len() as u64 / BLOCK_SECTORS;
            let block = BlockIndex(self.random.below(blocks));
            let owner = self.tag(Issued {
                volume: Some(volume),
                sector: 0,
                stamps: vec![],
                flush: false,
                read: None,
            });
            return running.submit(owner, Request::Rewrite { volume, block });
        }
        let Some((sector, length)) = self.range(volume) else { return };
        let length = if self.random.percent(10) {
            self.live.volumes[&volume].sectors.len() as u64 - sector
        } else {
            length
        };
        let stamps = vec![0; usize::try_from(length).expect("small")];
        let fua = self.random.percent(10);
        let owner = self.tag(Issued { volume: Some(volume), sector, stamps, flush: fua, read: None });
        running.submit(owner, Request::Unmap { volume, offset: sector * 512, length: length * 512, fua });
    }

    fn some_target(&mut self) -> Option<Target> {
        match (self.random.coin(), self.some_volume(), self.some_snapshot()) {
            (true, _, Some(key)) => Some(Target::Snapshot(key)),
            (_, volume, _) => volume.map(Target::Volume),
        }
    }

    fn sectors(&self, target: Target) -> Option<&[Stamp]> {
        match target {
            Target::Volume(id) => self.live.volumes.get(&id).map(|volume| &volume.sectors[..]),
            Target::Snapshot(key) => self.live.snapshots.get(&key).map(|snapshot| &snapshot.sectors[..]),
        }
    }

    fn read(&mut self, running: &mut Running) {
        if self.random.coin() {
            return self.scan(running);
        }
        let Some(target) = self.some_target() else { return };
        let sectors = self.sectors(target).map_or(0, |sectors| sectors.len() as u64);
        let first = self.random.below(sectors);
        let length = self.random.range(1..64).min(sectors - first);
        self.read_range(running, target, first, length);
    }

    /// Some reads, each from where the one before ended, also over what comes in between: what is read ahead is asked
    /// for.
    fn scan(&mut self, running: &mut Running) {
        let goes_on = self.scanned.take().filter(|(target, _)| self.sectors(*target).is_some());
        let Some((target, mut next)) = goes_on.or_else(|| self.some_target().map(|target| (target, 0)))
        else {
            return;
        };
        let end = self.sectors(target).map_or(0, |sectors| sectors.len() as u64);
        for _ in 0..self.random.range(2..8) {
            if next >= end {
                return;
            }
            let length = self.random.range(1..32).min(end - next);
            self.read_range(running, target, next, length);
            next += length;
        }
        self.scanned = Some((target, next));
    }

    fn read_range(&mut self, running: &mut Running, target: Target, first: u64, length: u64) {
        let at = |sector: u64| usize::try_from(sector).expect("small");
        let Some(sectors) = self.sectors(target) else { return };
        let expected = sectors[at(first)..at(first + length)].to_vec();
        let read = Some((target, first, expected, self.report.events));
        let owner = self.tag(Issued { volume: None, sector: first, stamps: vec![], flush: false, read });
        running.submit(owner, Request::Read { target, offset: first * 512, length: length * 512 });
    }

    fn flush(&mut self, running: &mut Running) {
        let checkpoint = self.random.percent(20);
        let owner = self.tag(Issued { volume: None, sector: 0, stamps: vec![], flush: true, read: None });
        running.submit(owner, if checkpoint { Request::Checkpoint } else { Request::Flush });
    }

    fn change(&mut self, running: &mut Running) {
        self.next_name += 1;
        let name = format!("n{}", self.next_name);
        let Some(operation) = self.some_change(name) else { return };
        let owner = self.tag(Issued { volume: None, sector: 0, stamps: vec![], flush: true, read: None });
        running.submit(
            owner,
            Request::Change(Box::new(move |catalog, now| Ok(operation.with_ids(catalog, now)))),
        );
    }

    fn some_change(&mut self, name: String) -> Option<Planned> {
        let blocks = self.random.range(8..200);
        if self.live.volumes.len() < 2 {
            let name = if self.paged.is_none() { PAGED.to_owned() } else { name };
            return Some(Planned::Create { name, bytes: blocks.next_multiple_of(4) * 4096 });
        }
        let volume = self.some_volume()?;
        let movable = Some(volume) != self.paged;
        Some(match self.random.below(100) {
            0..8 if self.live.volumes.len() < 5 => Planned::Create { name, bytes: blocks * 4096 },
            8..38 => Planned::Snapshot { name, volumes: vec![volume] },
            38..48 => Planned::Snapshot { name, volumes: self.live.volumes.keys().copied().collect() },
            48..70 => Planned::Delete { key: self.some_snapshot()? },
            70..80 if self.live.volumes.len() < 6 => Planned::Clone { name, key: self.some_snapshot()? },
            80..88 => {
                let key = self.some_snapshot()?;
                Planned::Rollback { name, volume: self.live.snapshots[&key].volume, key }
            }
            88..93 if movable => Planned::Resize { volume, bytes: blocks * 4096 },
            93..97 if movable => Planned::Remove { volume },
            _ => Planned::Rename { volume, name },
        })
    }
}

/// A change, before it has ids.
#[derive(Clone)]
enum Planned {
    Create { name: String, bytes: u64 },
    Snapshot { name: String, volumes: Vec<VolumeId> },
    Delete { key: SnapshotKey },
    Clone { name: String, key: SnapshotKey },
    Rollback { name: String, volume: VolumeId, key: SnapshotKey },
    Resize { volume: VolumeId, bytes: u64 },
    Remove { volume: VolumeId },
    Rename { volume: VolumeId, name: String },
}

impl Planned {
    fn with_ids(self, catalog: &crate::catalog::Catalog, created_ms: u64) -> Operation {
        let tags = crate::catalog::Tags::new();
        let (id, layer, epoch) = (VolumeId(catalog.next_id), catalog.next_layer, catalog.epoch());
        match self {
            Planned::Create { name, bytes } => {
                Operation::VolumeCreate { id, layer, name, bytes, created_ms, tags }
            }
            Planned::Snapshot { name, volumes } => {
                Operation::Snapshot { epoch, name, created_ms, volumes, group: None, tags }
            }
            Planned::Delete { key } => Operation::SnapshotDelete { key },
            Planned::Clone { name, key } => {
                Operation::Clone { id, layer, name, origin: key, created_ms, tags }
            }
            Planned::Rollback { name, volume, key } => {
                Operation::Rollback { id: volume, layer, to: key, epoch, displaced_name: name, created_ms }
            }
            Planned::Resize { volume, bytes } => Operation::VolumeResize { id: volume, bytes },
            Planned::Remove { volume } => Operation::VolumeDelete { id: volume },
            Planned::Rename { volume, name } => Operation::VolumeRename { id: volume, name },
        }
    }
}

fn fill(data: &MemorySlice, stamps: impl Iterator<Item = Stamp>) {
    for (at, stamp) in stamps.enumerate() {
        let mut bytes = [0; 512];
        fill_sector(stamp, &mut bytes);
        data.copy_in(at * 512, &bytes);
    }
}
