//! `points/ID`: a recovery point, one volume at one moment. Everything it needs is below the hashes it lists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::VERSION;
use super::codec::{malformed, too_new};
use super::container::Shape;
use super::digest::{Digest, KeyId, PoolId, VaultId};
use super::name;
use crate::error::Result;
use crate::store::Key;

/// Runs of a point at most.
pub const RUNS_MAX: usize = 8;

/// A recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Always `point`.
    pub firn: String,
    /// The version of its format.
    pub format: u16,
    /// The vault it belongs to.
    pub vault: VaultId,
    /// Where it comes from.
    pub source: Source,
    /// The volume's size, in bytes; a multiple of 4096.
    pub bytes: u64,
    /// When it was written, by the store's clock, in ms since 1970.
    pub time_ms: u64,
    /// The point whose changes since were sent; nothing after a baseline. It is not needed to restore this one.
    pub parent: Option<Digest>,
    /// The data key of its runs and packs; all zeros when they are not encrypted.
    pub key: KeyId,
    /// The runs of its map, newest first: for each block the first run that has it counts, a block in none is a hole.
    pub runs: Vec<RunRef>,
    /// Until when it must be kept, by the store's clock, in ms since 1970.
    pub retain_until_ms: Option<u64>,
    /// Where an application stood: log positions and the like.
    pub application: BTreeMap<String, String>,
    /// What the user noted on the snapshot.
    pub tags: BTreeMap<String, String>,
    /// What it cost.
    pub sent: Sent,
}

/// Where a point comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The pool.
    pub pool: PoolId,
    /// The volume's identity in its pool.
    pub volume: u64,
    /// The volume's name.
    pub name: String,
    /// The snapshot's name.
    pub snapshot: String,
    /// The snapshot's identity in its pool: layer and epoch.
    pub layer: u32,
    /// See `layer`.
    pub epoch: u32,
    /// When the snapshot was taken, by the source's clock, in ms since 1970.
    pub created_ms: u64,
}

/// A run of a point.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunRef {
    /// The hash of its bytes.
    pub id: Digest,
    /// How often runs of these bytes were deleted before.
    pub generation: u32,
    /// Its shape, by which parts of it are read.
    #[serde(flatten)]
    pub shape: Shape,
    /// Extents in it.
    pub extents: u64,
}

impl RunRef {
    /// Its name in the store.
    pub fn key(&self) -> Key {
        name::run(self.id, self.generation)
    }
}

/// What a point cost to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Bytes that changed since the parent, or exist in the baseline, without holes.
    pub changed_bytes: u64,
    /// Bytes of content put into packs and runs, before compression.
    pub content_bytes: u64,
    /// Bytes of packs and runs as stored, those that were there already included.
    pub stored_bytes: u64,
}

impl Point {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        super::json(self)
    }

    /// Reads it; `bytes` must have the hash in its name.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) when they have another hash or can't be a point, `Invalid` for a newer version.
    pub fn decode(id: Digest, bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "read point";
        if Digest::of(bytes) != id {
            return Err(malformed(WHAT, "it does not have the hash in its name"));
        }
        let format = super::version_of(WHAT, bytes)?;
        if format != VERSION {
            return Err(too_new(WHAT, format));
        }
        let point: Self = super::from_json(WHAT, bytes)?;
        let is_sound = point.firn == "point"
            && point.bytes.is_multiple_of(4096)
            && point.runs.len() <= RUNS_MAX
            && point.runs.iter().all(|run| run.shape.table().is_some());
        match is_sound {
            true => Ok(point),
            false => Err(malformed(WHAT, "it contradicts itself")),
        }
    }
}
