//! Extents of a run: 20 bytes each, in block order, none overlapping another.
//!
//! A run says for some blocks of a volume where their content lies or that they are holes; about the other blocks it
//! says nothing, and an older run is asked. An extent that ends a frame is never continued by the next frame's first.

use super::codec::{Put, Take, malformed};
use super::container::FRAME_BYTES_MAX;
use crate::error::Result;

/// Bytes of an extent.
pub const EXTENT_BYTES: usize = 20;
/// Extents in a frame at most.
pub const EXTENTS_MAX: usize = FRAME_BYTES_MAX / EXTENT_BYTES;
/// The pack index of a hole.
const HOLE: u32 = u32::MAX;

/// Where blocks of a pack lie: the block with position `p` is block `p % 16` of frame `p / 16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pack, by its index in the run's list of packs.
    pub pack: u32,
    /// The first block's position in the pack.
    pub position: u32,
}

/// Consecutive blocks of a volume that lie one after the other in one pack, or are holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first block.
    pub first: u64,
    /// How many, at least 1.
    pub blocks: u32,
    /// Where they lie; nothing for holes.
    pub place: Option<Place>,
}

impl Extent {
    /// The block after the last one.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.blocks)
    }

    /// The part from `skip` blocks on, `blocks` long.
    #[must_use]
    pub fn part(&self, skip: u32, blocks: u32) -> Self {
        let place = self.place.map(|place| Place { position: place.position + skip, ..place });
        Self { first: self.first + u64::from(skip), blocks, place }
    }

    /// Both as one, when `next` goes on where this one ends.
    pub fn joined(&self, next: &Extent) -> Option<Self> {
        let blocks = self.blocks.checked_add(next.blocks)?;
        let follows = match (self.place, next.place) {
            (None, None) => true,
            (Some(a), Some(b)) => a.pack == b.pack && a.position.checked_add(self.blocks) == Some(b.position),
            _ => false,
        };
        (self.end() == next.first && follows).then_some(Self { blocks, ..*self })
    }
}

/// Adds `extent` to a frame's content.
pub fn encode(extent: &Extent, into: &mut Vec<u8>) {
    let mut bytes = [0; EXTENT_BYTES];
    let place = extent.place.unwrap_or(Place { pack: HOLE, position: 0 });
    Put::new(&mut bytes).u64(extent.first).u32(extent.blocks).u32(place.pack).u32(place.position);
    into.extend_from_slice(&bytes);
}

/// The extents of a frame. `after` is the block that the frame before ended at, `limit` the volume's size in blocks.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) when they are out of order or reach beyond the volume or a pack's positions.
pub fn decode(content: &[u8], after: u64, limit: u64) -> Result<Vec<Extent>> {
    const WHAT: &str = "read extents";
    if !content.len().is_multiple_of(EXTENT_BYTES) {
        return Err(malformed(WHAT, format!("{} bytes are no whole number of extents", content.len())));
    }
    let mut extents = Vec::with_capacity(content.len() / EXTENT_BYTES);
    let mut after = after;
    for bytes in content.chunks_exact(EXTENT_BYTES) {
        let mut take = Take::new(bytes);
        let (first, blocks, pack, position) = (take.u64(), take.u32(), take.u32(), take.u32());
        let place = (pack != HOLE).then_some(Place { pack, position });
        let fits = first.checked_add(u64::from(blocks)).is_some_and(|end| end <= limit);
        let lies = if place.is_some() { position.checked_add(blocks).is_some() } else { position == 0 };
        if first < after || blocks == 0 || !fits || !lies {
            return Err(malformed(
                WHAT,
                format!("{blocks} blocks from {first} at {pack}+{position} after {after} of {limit}"),
            ));
        }
        let extent = Extent { first, blocks, place };
        after = extent.end();
        extents.push(extent);
    }
    Ok(extents)
}
