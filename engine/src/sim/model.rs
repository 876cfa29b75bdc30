//! The reference model: volumes and snapshots as plain vectors of sector stamps, changed in LSN order.

use std::collections::BTreeMap;

use crate::catalog::{Operation, SnapshotKey};
use crate::units::{LayerId, VolumeId};

/// Sectors in a block.
pub const BLOCK_SECTORS: u64 = 8;

/// A sector's content: all of its 512 bytes follow from its stamp; stamp 0 is zeros.
pub type Stamp = u32;

/// A volume as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelVolume {
    /// The layer written to.
    pub layer: LayerId,
    /// A stamp for each sector.
    pub sectors: Vec<Stamp>,
}

/// A snapshot as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSnapshot {
    /// Its volume.
    pub volume: VolumeId,
    /// A stamp for each sector.
    pub sectors: Vec<Stamp>,
}

/// Everything that users can see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// Volumes.
    pub volumes: BTreeMap<VolumeId, ModelVolume>,
    /// Visible snapshots.
    pub snapshots: BTreeMap<SnapshotKey, ModelSnapshot>,
}

/// What one event did.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Sectors of a volume got stamps, from the first on.
    Write {
        /// The volume.
        volume: VolumeId,
        /// The first sector.
        sector: u64,
        /// The stamps.
        stamps: Vec<Stamp>,
    },
    /// The catalog changed.
    Change(Operation),
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes / 512).expect("simulated volumes are small")
}

impl Model {
    /// Does what an event did.
    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Write { volume, sector, stamps } => {
                let Some(volume) = self.volumes.get_mut(volume) else { return };
                for (at, &stamp) in (*sector..).zip(stamps) {
                    if let Some(place) = usize::try_from(at).ok().and_then(|at| volume.sectors.get_mut(at)) {
                        *place = stamp;
                    }
                }
            }
            Effect::Change(operation) => self.change(operation),
        }
    }

    fn change(&mut self, operation: &Operation) {
        match operation {
            Operation::VolumeCreate { id, layer, bytes, .. } => {
                self.volumes.insert(*id, ModelVolume { layer: *layer, sectors: vec![0; length(*bytes)] });
            }
            Operation::VolumeResize { id, bytes } => {
                if let Some(volume) = self.volumes.get_mut(id) {
                    volume.sectors.resize(length(*bytes), 0);
                }
            }
            Operation::VolumeDelete { id } => {
                self.volumes.remove(id);
                self.snapshots.retain(|_, snapshot| snapshot.volume != *id);
            }
            Operation::Snapshot { epoch, volumes, .. } => {
                for id in volumes {
                    if let Some(volume) = self.volumes.get(id) {
                        let key = SnapshotKey { layer: volume.layer, epoch: *epoch };
                        let sectors = volume.sectors.clone();
                        self.snapshots.insert(key, ModelSnapshot { volume: *id, sectors });
                    }
                }
            }
            Operation::SnapshotDelete { key } => {
                self.snapshots.remove(key);
            }
            Operation::Clone { id, layer, origin, .. } => {
                if let Some(snapshot) = self.snapshots.get(origin) {
                    let sectors = snapshot.sectors.clone();
                    self.volumes.insert(*id, ModelVolume { layer: *layer, sectors });
                }
            }
            Operation::Rollback { id, layer, to, epoch, .. } => {
                let Some(target) = self.snapshots.get(to).map(|snapshot| snapshot.sectors.clone()) else {
                    return;
                };
                let Some(volume) = self.volumes.get_mut(id) else { return };
                let key = SnapshotKey { layer: volume.layer, epoch: *epoch };
                let sectors = std::mem::replace(&mut volume.sectors, target);
                volume.layer = *layer;
                self.snapshots.insert(key, ModelSnapshot { volume: *id, sectors });
            }
            _ => {}
        }
    }
}

/// The 512 bytes of a sector with this stamp.
pub fn fill_sector(stamp: Stamp, sector: &mut [u8]) {
    if stamp == 0 {
        return sector.fill(0);
    }
    let word = (u64::from(stamp) << 32 | u64::from(stamp)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    sector.chunks_exact_mut(8).for_each(|place| place.copy_from_slice(&word.to_le_bytes()));
    sector[..4].copy_from_slice(&stamp.to_le_bytes());
}

/// The stamp of a sector, when its bytes are those of one.
pub fn read_stamp(sector: &[u8]) -> Option<Stamp> {
    let stamp = Stamp::from_le_bytes(*sector.first_chunk()?);
    let mut expected = [0; 512];
    fill_sector(stamp, &mut expected);
    (sector == expected).then_some(stamp)
}
