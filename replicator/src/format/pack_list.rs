//! The packs of a run: 112 bytes each, in the order of the indexes that its extents use.

use super::codec::{Put, Take, malformed};
use super::container::{FRAME_BYTES_MAX, Shape};
use super::digest::Digest;
use super::name::{Class, PackName};
use crate::error::Result;

/// Bytes of a pack in the list.
pub const PACK_BYTES: usize = 112;
/// Packs in a frame at most.
pub const PACKS_MAX: usize = FRAME_BYTES_MAX / PACK_BYTES;

/// What a run knows of a pack it points into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRef {
    /// Its name.
    pub name: PackName,
    /// Its shape, by which parts of it are read.
    pub shape: Shape,
    /// Blocks in it.
    pub blocks: u32,
    /// Blocks of it that this run's extents point at.
    pub live_blocks: u32,
}

/// Adds `pack` to a frame's content.
pub fn encode(pack: &PackRef, into: &mut Vec<u8>) {
    let mut bytes = [0; PACK_BYTES];
    let (name, shape) = (&pack.name, &pack.shape);
    let mut put = Put::new(&mut bytes);
    put.bytes(&name.id.0).bytes(&shape.table_hash.0).u64(shape.stored_bytes).u32(shape.frames);
    put.u32(pack.blocks).u32(pack.live_blocks).u32(name.period).u32(name.generation).bytes(&[0; 4]);
    put.bytes(&name.class.padded());
    into.extend_from_slice(&bytes);
}

/// The packs of a frame.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) when they can't be packs.
pub fn decode(content: &[u8]) -> Result<Vec<PackRef>> {
    if !content.len().is_multiple_of(PACK_BYTES) {
        return Err(malformed(
            "read pack list",
            format!("{} bytes are no whole number of packs", content.len()),
        ));
    }
    content.chunks_exact(PACK_BYTES).map(decode_one).collect()
}

fn decode_one(bytes: &[u8]) -> Result<PackRef> {
    let mut take = Take::new(bytes);
    let (id, table_hash) = (Digest(take.array()), Digest(take.array()));
    let shape = Shape { stored_bytes: take.u64(), frames: take.u32(), table_hash };
    let (blocks, live_blocks, period, generation) = (take.u32(), take.u32(), take.u32(), take.u32());
    let is_zero = take.zeros(4);
    let class = Class::from_padded(take.array())?;
    // Every frame but the last holds 16 blocks.
    if !is_zero || shape.table().is_none() || blocks.div_ceil(16) != shape.frames || live_blocks > blocks {
        return Err(malformed(
            "read pack list",
            format!("{blocks} blocks, {live_blocks} live, in {} frames", shape.frames),
        ));
    }
    Ok(PackRef { name: PackName { class, period, id, generation }, shape, blocks, live_blocks })
}
