//! Packs in the making: frames of blocks in the order of the volume, closed at 64 MiB and published beside the work.
//!
//! 1. The same blocks in the same order give the same packs: a pack ends by what it holds, never by what time it is.
//! 2. Every frame of a pack but the last has 16 blocks: a frame with fewer ends its pack.

use std::sync::mpsc::{Receiver, SyncSender};

use super::container::{ContainerWriter, Sealed};
use crate::error::{Error, Kind, Result};
use crate::format::container::{Content, Header, Row};
use crate::format::name::{Class, PackName};
use crate::format::pack_list::PackRef;
use crate::store::{Key, Store};

/// Stored bytes at which a pack is closed.
pub(crate) const PACK_BYTES: u64 = 64 << 20;
/// Frames at which it is closed, so that its table stays below 4 MiB.
const PACK_FRAMES_MAX: u32 = 1 << 16;
const BLOCK_BYTES: u32 = 4096;
/// Blocks of a frame.
pub(crate) const FRAME_BLOCKS: u32 = 16;

/// A whole pack on its way into the store.
pub(crate) struct Packed<'a> {
    sealed: Sealed<'a>,
    blocks: u32,
}

/// Where a frame's blocks lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The pack, counted from 0.
    pub(crate) pack: u32,
    /// The position of its first block there.
    pub(crate) position: u32,
    pub(crate) blocks: u32,
}

/// Where packs are filled.
pub(crate) struct PackWriter<'a> {
    store: &'a dyn Store,
    header: Header,
    open: Option<ContainerWriter<'a>>,
    /// Blocks in the open pack.
    blocks: u32,
    /// The number of the open pack, counted from 0.
    index: u32,
    packed: SyncSender<Packed<'a>>,
}

impl<'a> PackWriter<'a> {
    /// Whole packs go to `packed`.
    pub(crate) fn new(store: &'a dyn Store, header: Header, packed: SyncSender<Packed<'a>>) -> Self {
        Self { store, header, open: None, blocks: 0, index: 0, packed }
    }

    /// Adds frames of blocks, whose bytes follow each other in `stored`, and says where each came to lie.
    pub(crate) fn add(&mut self, rows: &[Row], mut stored: &[u8]) -> Result<Vec<Place>> {
        let mut places = Vec::with_capacity(rows.len());
        // Bytes of the frames that were noted, at the start of `stored`: they are passed on together.
        let mut noted = 0;
        for row in rows {
            let open = match &mut self.open {
                Some(open) => open,
                none => none.insert(ContainerWriter::new(self.store, &self.header)?),
            };
            let blocks = row.content_bytes / BLOCK_BYTES;
            places.push(Place { pack: self.index, position: self.blocks, blocks });
            open.note(&Row { first: u64::from(self.blocks), ..*row });
            noted += row.stored_bytes as usize;
            self.blocks += blocks;
            let is_full = open.stored_bytes() >= PACK_BYTES || open.frames() >= PACK_FRAMES_MAX;
            if is_full || blocks < FRAME_BLOCKS {
                let (last, rest) = stored.split_at(noted);
                open.append(last)?;
                (stored, noted) = (rest, 0);
                self.close()?;
            }
        }
        match &mut self.open {
            Some(open) => open.append(&stored[..noted])?,
            None => debug_assert_eq!(noted, 0, "noted frames have an open pack"),
        }
        Ok(places)
    }

    /// Closes the open pack, if there is one.
    pub(crate) fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let packed = Packed { sealed: open.finish()?, blocks: std::mem::take(&mut self.blocks) };
        self.index += 1;
        // Who publishes has failed, and says why.
        self.packed.send(packed).map_err(|_| Error::new(Kind::Bug, "publish pack", "the publisher is gone"))
    }
}

/// Publishes packs as they come, until no more can come; they are returned in that order.
pub(crate) fn publish(
    store: &dyn Store,
    class: &Class,
    period: u32,
    is_used_up: &dyn Fn(&Key) -> bool,
    packs: &Receiver<Packed<'_>>,
) -> Result<Vec<PackRef>> {
    let mut published = Vec::new();
    for packed in packs {
        published.push(publish_one(store, class, period, is_used_up, packed)?);
    }
    Ok(published)
}

/// Publishes a pack.
pub(crate) fn publish_one(
    store: &dyn Store,
    class: &Class,
    period: u32,
    is_used_up: &dyn Fn(&Key) -> bool,
    packed: Packed<'_>,
) -> Result<PackRef> {
    let Packed { sealed, blocks } = packed;
    let finished = sealed.finished;
    let name = |generation| PackName { class: class.clone(), period, id: finished.id, generation };
    let generation = sealed.publish(store, |generation| name(generation).key(), is_used_up)?;
    Ok(PackRef { name: name(generation), shape: finished.shape, blocks, live_blocks: 0 })
}

/// Checks that the row is of a frame that a pack of so many blocks has there.
pub(crate) fn check_row(row: &Row, pack: &PackRef, index: u32) -> Result<()> {
    let blocks = pack.blocks.saturating_sub(index * FRAME_BLOCKS).min(FRAME_BLOCKS);
    if row.content == Content::Blocks && row.content_bytes == blocks * BLOCK_BYTES {
        return Ok(());
    }
    let detail = format!("frame {index} has {} bytes of {:?}", row.content_bytes, row.content);
    Err(Error::new(Kind::Damaged, "read pack", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::container::{Codec, Role};
    use crate::format::digest::{Digest, KeyId, VaultId};
    use crate::policy::class;
    use crate::store::MemoryStore;
    use std::sync::mpsc::sync_channel;

    /// Frames that are stored in up to 1000 bytes if they are `small`, else in 48 KiB and more, and bytes for all of them.
    /// One is short and ends its pack.
    fn frames(small: bool) -> (Vec<Row>, Vec<u8>) {
        let mut random = blake3::Hasher::new().update(b"frames").finalize_xof();
        let mut stored = vec![0; 120 << 20];
        random.fill(&mut stored);
        let mut length = || {
            let mut bytes = [0; 2];
            random.fill(&mut bytes);
            let length = u32::from(u16::from_le_bytes(bytes));
            if small { length % 1000 + 1 } else { (48 << 10) + length / 4 }
        };
        let row = |index| Row {
            content: Content::Blocks,
            codec: Codec::Zstd,
            stored_bytes: length(),
            content_bytes: if index == 700 { 5 } else { FRAME_BLOCKS } * BLOCK_BYTES,
            first: 0,
            hash: Digest([7; 32]),
        };
        // Large ones are 110 MiB, of which more than a pack comes after the short one.
        ((0..2000).map(row).collect(), stored)
    }

    /// The packs that the frames come to lie in, added `together` at a time, and where.
    fn packed(rows: &[Row], mut stored: &[u8], together: usize) -> (Vec<PackRef>, Vec<[u32; 3]>) {
        let store = MemoryStore::new(1);
        let (sender, packs) = sync_channel(8);
        let header = Header { role: Role::Pack, vault: VaultId([1; 16]), key: KeyId([0; 16]) };
        let mut writer = PackWriter::new(&store, header, sender);
        let mut places = Vec::new();
        for rows in rows.chunks(together) {
            let length = rows.iter().map(|row| row.stored_bytes as usize).sum();
            let (these, rest) = stored.split_at(length);
            places.extend(writer.add(rows, these).unwrap());
            stored = rest;
        }
        writer.close().unwrap();
        drop(writer);
        let packs = publish(&store, &class::unlocked(), 0, &|_| false, &packs).unwrap();
        for pack in &packs {
            let body = store.get(&pack.name.key()).unwrap();
            assert_eq!(blake3::hash(&body).as_bytes(), &pack.name.id.0);
            assert_eq!(body.len() as u64, pack.shape.stored_bytes);
        }
        (packs, places.iter().map(|place| [place.pack, place.position, place.blocks]).collect())
    }

    /// Packs end within what is added at once, and it is longer or shorter than what is gathered.
    #[test]
    fn packs_are_the_same_however_many_frames_come_together() {
        for small in [false, true] {
            let (rows, stored) = frames(small);
            let (packs, places) = packed(&rows, &stored, 1);
            assert_eq!(packs.len(), if small { 2 } else { 3 });
            assert_eq!(places[700..702], [[0, 11_200, 5], [1, 0, 16]]);
            for together in [3, 8, 40, 5000] {
                let (again, places_again) = packed(&rows, &stored, together);
                assert!(again == packs && places_again == places, "{together} frames at once");
            }
        }
    }
}
