//! A volume in memory with snapshots, as slow and obvious as can be; and random numbers that a seed repeats.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use firn_replicator::error::{Error, Kind, Result};
use firn_replicator::format::digest::PoolId;
use firn_replicator::format::point;
use firn_replicator::vault::sink::Sink;
use firn_replicator::vault::source::{Change, Reading, SnapshotId, Source};

pub(crate) const BLOCK: usize = 4096;

/// Numbers by a seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A block that compresses well, badly, or not at all.
    pub(crate) fn block(&mut self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let noise = match self.below(3) {
            0 => 8,
            1 => BLOCK / 2,
            _ => BLOCK,
        };
        for bytes in block[..noise].chunks_exact_mut(8) {
            bytes.copy_from_slice(&self.next().to_le_bytes());
        }
        block[0] |= 1;
        block
    }
}

type Blocks = BTreeMap<u64, Arc<Vec<u8>>>;

#[derive(Clone, Default)]
struct Image {
    blocks: Blocks,
    size: u64,
}

#[derive(Default)]
struct Shared {
    snapshots: BTreeMap<SnapshotId, Image>,
    holds: BTreeMap<SnapshotId, BTreeSet<String>>,
}

/// A volume with snapshots.
pub(crate) struct Volume {
    pub(crate) id: u64,
    image: Image,
    next: u32,
    shared: Arc<Mutex<Shared>>,
}

impl Volume {
    pub(crate) fn new(id: u64, size: u64) -> Self {
        Self { id, image: Image { blocks: Blocks::new(), size }, next: 1, shared: Arc::default() }
    }

    /// Its size in blocks.
    pub(crate) fn size(&self) -> u64 {
        self.image.size
    }

    pub(crate) fn write(&mut self, block: u64, content: Vec<u8>) {
        assert!(block < self.image.size);
        self.image.blocks.insert(block, Arc::new(content));
    }

    pub(crate) fn discard(&mut self, blocks: Range<u64>) {
        self.image.blocks.retain(|block, _| !blocks.contains(block));
    }

    pub(crate) fn resize(&mut self, size: u64) {
        self.image.size = size;
        self.discard(size..u64::MAX);
    }

    /// Takes a snapshot.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let created_ms = 1_700_000_000_000 + u64::from(self.next);
        let id = SnapshotId { layer: 7, epoch: self.next, created_ms };
        self.next += 1;
        self.shared.lock().unwrap().snapshots.insert(id, self.image.clone());
        Snapshot::new(self.id, id, self.image.clone(), self.shared.clone())
    }

    pub(crate) fn delete_snapshot(&self, id: SnapshotId) {
        self.shared.lock().unwrap().snapshots.remove(&id);
    }

    /// The snapshots that are held for `reason`.
    pub(crate) fn held(&self, reason: &str) -> Vec<SnapshotId> {
        let shared = self.shared.lock().unwrap();
        shared.holds.iter().filter(|(_, held)| held.contains(reason)).map(|(id, _)| *id).collect()
    }
}

/// A snapshot, as a source.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) id: SnapshotId,
    origin: point::Source,
    image: Image,
    shared: Arc<Mutex<Shared>>,
}

impl Snapshot {
    fn new(volume: u64, id: SnapshotId, image: Image, shared: Arc<Mutex<Shared>>) -> Self {
        let origin = point::Source {
            pool: PoolId([3; 16]),
            volume,
            name: format!("volume{volume}"),
            snapshot: format!("s{}", id.epoch),
            layer: id.layer,
            epoch: id.epoch,
            created_ms: id.created_ms,
        };
        Self { id, origin, image, shared }
    }

    /// All its bytes.
    pub(crate) fn content(&self) -> Vec<u8> {
        let mut content = vec![0; usize::try_from(self.image.size).unwrap() * BLOCK];
        for (block, bytes) in &self.image.blocks {
            let at = usize::try_from(*block).unwrap() * BLOCK;
            content[at..at + BLOCK].copy_from_slice(bytes);
        }
        content
    }

    /// Bytes that are not holes.
    pub(crate) fn data_bytes(&self) -> u64 {
        (self.image.blocks.len() * BLOCK) as u64
    }
}

impl Source for Snapshot {
    fn origin(&self) -> &point::Source {
        &self.origin
    }

    fn bytes(&self) -> u64 {
        self.image.size * BLOCK as u64
    }

    fn tags(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("env".to_owned(), "test".to_owned())])
    }

    fn has(&self, snapshot: SnapshotId) -> Result<bool> {
        Ok(self.shared.lock().unwrap().snapshots.contains_key(&snapshot))
    }

    fn changes(&self, since: Option<SnapshotId>, visit: &mut dyn FnMut(Change) -> Result<()>) -> Result<()> {
        let older = match since {
            None => Image::default(),
            Some(since) => self
                .shared
                .lock()
                .unwrap()
                .snapshots
                .get(&since)
                .cloned()
                .ok_or_else(|| Error::new(Kind::NotFound, "find snapshot", "it is gone"))?,
        };
        let mut open: Option<Change> = None;
        for block in 0..self.image.size {
            let (before, now) = (older.blocks.get(&block), self.image.blocks.get(&block));
            if before.is_none() && now.is_none() || before.zip(now).is_some_and(|(a, b)| Arc::ptr_eq(a, b)) {
                continue;
            }
            let is_data = now.is_some();
            match &mut open {
                Some(open) if open.first + open.blocks == block && open.is_data == is_data => {
                    open.blocks += 1
                }
                _ => {
                    open.replace(Change { first: block, blocks: 1, is_data }).map_or(Ok(()), &mut *visit)?;
                }
            }
        }
        open.map_or(Ok(()), visit)
    }

    fn read<'s>(&'s self, ranges: Vec<Range<u64>>) -> Reading<'s> {
        Box::new(move |into| {
            for (block, into) in ranges.into_iter().flatten().zip(into.chunks_exact_mut(BLOCK)) {
                into.copy_from_slice(&self.image.blocks[&block]);
            }
            Ok(())
        })
    }

    fn hold(&self, reason: &str) -> Result<()> {
        self.shared.lock().unwrap().holds.entry(self.id).or_default().insert(reason.to_owned());
        Ok(())
    }

    fn release_others(&self, reason: &str) -> Result<()> {
        let mut shared = self.shared.lock().unwrap();
        for (_, holds) in shared.holds.iter_mut().filter(|(id, _)| **id != self.id) {
            holds.remove(reason);
        }
        Ok(())
    }
}

/// A sink that had other content before, so that holes must be written.
pub(crate) struct Target(Mutex<Vec<u8>>);

impl Target {
    pub(crate) fn new(bytes: u64) -> Self {
        Self(Mutex::new(vec![0xaa; usize::try_from(bytes).unwrap()]))
    }

    pub(crate) fn content(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

impl Sink for Target {
    fn is_zeroed(&self) -> bool {
        false
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> Result<()> {
        let (at, length) = (usize::try_from(offset).unwrap(), usize::try_from(length).unwrap());
        self.0.lock().unwrap()[at..at + length].fill(0);
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}
