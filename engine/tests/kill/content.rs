//! Everything a pool holds, as a model and as it was read.

use std::collections::{BTreeMap, BTreeSet};

use firn_engine::pool::Pool;

use crate::sequence::{Operation, SECTORS};

/// The volumes that are written to.
pub(crate) const VOLUMES: [&str; 2] = ["a", "b"];

/// What a sector holds: who wrote it, 0 for nobody.
pub(crate) type Stamp = u64;

pub(crate) fn stamp(round: u64, number: u64) -> Stamp {
    (round + 1) << 32 | number
}

pub(crate) fn sector(stamp: Stamp, volume: usize, sector: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    let place = (volume as u64) << 48 | sector;
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        let value = if index == 0 {
            stamp
        } else {
            (stamp ^ place.rotate_left(24)).wrapping_mul(index as u64 * 2 + 1)
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Everything a pool holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content {
    live: [Vec<Stamp>; 2],
    snapshots: BTreeMap<(usize, String), Vec<Stamp>>,
}

impl Content {
    pub(crate) fn new() -> Self {
        let empty = vec![0; usize::try_from(SECTORS).expect("small")];
        Self { live: [empty.clone(), empty], snapshots: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, operation: &Operation, (first, end): (u64, u64), stamp: Stamp) {
        let range = usize::try_from(first).expect("small")..usize::try_from(end).expect("small");
        match operation {
            Operation::Write { volume, .. } => self.live[*volume][range].fill(stamp),
            Operation::Unmap { volume, .. } => self.live[*volume][range].fill(0),
            Operation::Flush | Operation::Checkpoint => {}
            Operation::Snapshot { volumes, name } => {
                for &volume in volumes {
                    self.snapshots.insert((volume, name.clone()), self.live[volume].clone());
                }
            }
            Operation::Delete { volume, name } => _ = self.snapshots.remove(&(*volume, name.clone())),
            Operation::Rollback { volume, to, displaced } => {
                let content = self.snapshots[&(*volume, to.clone())].clone();
                let before = std::mem::replace(&mut self.live[*volume], content);
                self.snapshots.insert((*volume, displaced.clone()), before);
            }
        }
    }

    pub(crate) fn names(&self) -> [BTreeSet<String>; 2] {
        [0, 1].map(|wanted| {
            let names = self.snapshots.keys().filter(|(volume, _)| *volume == wanted);
            names.map(|(_, name)| name.clone()).collect()
        })
    }

    /// Reads all of a pool; every sector must be whole.
    pub(crate) fn read(pool: &Pool) -> Self {
        let mut content = Self::new();
        let length = usize::try_from(SECTORS * 512).expect("small");
        for (index, name) in VOLUMES.into_iter().enumerate() {
            let volume = pool.volume(name).expect("the volume is there");
            let mut bytes = vec![0xee; length];
            volume.read_at(0, &mut bytes).expect("read");
            content.live[index] = stamps(&bytes, index, name);
            for snapshot in volume.snapshots().expect("listed") {
                let name = snapshot.name().expect("a name");
                bytes.fill(0xee);
                snapshot.read_at(0, &mut bytes).expect("read");
                let stamps = stamps(&bytes, index, &name);
                content.snapshots.insert((index, name), stamps);
            }
        }
        content
    }

    /// The first difference, for people.
    pub(crate) fn difference(&self, found: &Self) -> String {
        for (volume, (expected, found)) in VOLUMES.iter().zip(self.live.iter().zip(&found.live)) {
            if let Some(what) = differ(expected, found) {
                return format!("volume {volume}: {what}");
            }
        }
        let (expected, names): (Vec<_>, Vec<_>) =
            (self.snapshots.keys().collect(), found.snapshots.keys().collect());
        if expected != names {
            return format!("snapshots {names:?}, not {expected:?}");
        }
        let different = self.snapshots.iter().find_map(|(key, stamps)| {
            let what = differ(stamps, &found.snapshots[key])?;
            Some(format!("snapshot {key:?}: {what}"))
        });
        different.unwrap_or_else(|| "none".to_owned())
    }
}

fn differ(expected: &[Stamp], found: &[Stamp]) -> Option<String> {
    let at = expected.iter().zip(found).position(|(expected, found)| expected != found)?;
    let count = expected.iter().zip(found).filter(|(expected, found)| expected != found).count();
    Some(format!("sector {at} has {:x}, not {:x}; {count} sectors differ", found[at], expected[at]))
}

pub(crate) fn stamps(bytes: &[u8], volume: usize, what: &str) -> Vec<Stamp> {
    let sectors = bytes.chunks_exact(512).zip(0..);
    sectors
        .map(|(found, at)| {
            let stamp = u64::from_le_bytes(*found.first_chunk().expect("8 bytes"));
            let expected = if stamp == 0 { [0; 512] } else { sector(stamp, volume, at) };
            assert!(
                found == expected,
                "sector {at} of {what} with stamp {stamp:x} is not what anybody wrote"
            );
            stamp
        })
        .collect()
}
