//! What lives of packs goes into new ones, in the order of its numbers.
//!
//! 1. Nothing is copied that was not opened and held against its hash.
//! 2. A frame that lives whole is copied as it is stored, where a frame begins in the new pack as well. A frame's key
//!    comes from its content, so no key meets a second plaintext. Others are sealed anew from what lives of them.
//! 3. Every frame has 16 blocks but the very last: a block's number is its place.
//! 4. Memory is that of a few frames and of an open pack, however much there is.

use std::sync::mpsc::{Receiver, sync_channel};

use super::leaving::{Leaving, Pack};
use super::{Moved, Place};
use crate::error::Result;
use crate::format::container::{Content, Header, Role, Row, Table};
use crate::format::frame::{LEVEL_DEFAULT, Opener, Sealer};
use crate::format::pack_list::PackRef;
use crate::store::{Key, Store};
use crate::vault::container::{named, read_frames, read_table, split_frames};
use crate::vault::hidden::uncovering;
use crate::vault::pack::{FRAME_BLOCKS, PackWriter, Packed, check_row, publish_one};
use crate::vault::run::RunKeys;

const BLOCK_LEN: usize = 4096;
const FRAME_LEN: usize = FRAME_BLOCKS as usize * BLOCK_LEN;
/// Frames that are read with one request.
const AHEAD_FRAMES: u32 = 16;

/// Packs that are being filled.
pub(super) struct Copier<'a> {
    store: &'a dyn Store,
    place: &'a Place<'a>,
    keys: &'a RunKeys,
    opener: Opener,
    sealer: Sealer,
    writer: PackWriter<'a>,
    packed: Receiver<Packed<'a>>,
    packs: Vec<PackRef>,
    /// Blocks of the next frame.
    gathered: Vec<u8>,
}

/// A frame as it was read.
struct Frame {
    row: Row,
    stored: Vec<u8>,
    content: Vec<u8>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(store: &'a dyn Store, place: &'a Place<'a>, keys: &'a RunKeys) -> Result<Self> {
        let header = Header { role: Role::Pack, vault: keys.vault, key: keys.key };
        // At most one pack is closed by what is added, and it is taken at once.
        let (sender, packed) = sync_channel(1);
        Ok(Self {
            store,
            place,
            keys,
            opener: Opener::new(keys.frames.clone())?,
            sealer: Sealer::new(keys.frames.clone(), LEVEL_DEFAULT)?,
            writer: PackWriter::new(store, header, sender),
            packed,
            packs: Vec::new(),
            gathered: Vec::new(),
        })
    }

    /// Copies all that lives.
    pub(super) fn copy(mut self, leaving: &Leaving) -> Result<Moved> {
        leaving.packs().try_for_each(|pack| self.copy_pack(pack))?;
        if !self.gathered.is_empty() {
            self.end_frame()?;
        }
        self.writer.close()?;
        self.publish()?;
        Ok(Moved::new(self.packs))
    }

    fn copy_pack(&mut self, pack: &Pack) -> Result<()> {
        let key = pack.pack.name.key();
        let table = read_table(self.store, &key, &pack.pack.shape, self.keys.expected(Role::Pack))?;
        let is_live = |frame: u32| blocks_of(pack, frame).any(|block| pack.is_live(block));
        let mut frame = 0;
        while frame < pack.pack.shape.frames {
            let ahead = (frame..pack.pack.shape.frames).take(AHEAD_FRAMES as usize);
            let count = u32::try_from(ahead.take_while(|frame| is_live(*frame)).count()).unwrap_or(0);
            if count > 0 {
                for (index, read) in (frame..).zip(self.read(pack, &key, &table, frame, frame + count)?) {
                    self.add(pack, index, read)?;
                }
            }
            frame += count.max(1);
        }
        Ok(())
    }

    fn read(&mut self, pack: &Pack, key: &Key, table: &Table, first: u32, end: u32) -> Result<Vec<Frame>> {
        let (store, opener) = (self.store, &mut self.opener);
        uncovering(store, key, || {
            let stored = read_frames(store, key, table, first as usize, end as usize)?;
            let rows = &table.rows()[first as usize..end as usize];
            let frames = (first..).zip(split_frames(rows, &stored)).map(|(index, (row, stored))| {
                check_row(row, &pack.pack, index).map_err(|error| named(key, error))?;
                let content = opener.open(row, stored).map_err(|error| named(key, error))?;
                Ok(Frame { row: *row, stored: stored.to_vec(), content })
            });
            frames.collect()
        })
    }

    fn add(&mut self, pack: &Pack, index: u32, frame: Frame) -> Result<()> {
        let is_whole = blocks_of(pack, index).len() == FRAME_BLOCKS as usize
            && blocks_of(pack, index).all(|block| pack.is_live(block));
        if is_whole && self.gathered.is_empty() {
            self.writer.add(&[frame.row], &frame.stored)?;
            return self.publish();
        }
        for (block, content) in blocks_of(pack, index).zip(frame.content.chunks_exact(BLOCK_LEN)) {
            if pack.is_live(block) {
                self.gathered.extend_from_slice(content);
                if self.gathered.len() == FRAME_LEN {
                    self.end_frame()?;
                }
            }
        }
        Ok(())
    }

    fn end_frame(&mut self) -> Result<()> {
        let mut stored = Vec::new();
        let row = self.sealer.seal(Content::Blocks, 0, &self.gathered, &mut stored)?;
        self.gathered.clear();
        self.writer.add(&[row], &stored)?;
        self.publish()
    }

    /// Publishes the pack that was closed, if one was.
    fn publish(&mut self) -> Result<()> {
        while let Ok(packed) = self.packed.try_recv() {
            let Place { class, period, catalog } = self.place;
            let is_used_up = |key: &Key| catalog.is_deleted(key);
            self.packs.push(publish_one(self.store, class, *period, &is_used_up, packed)?);
        }
        Ok(())
    }
}

/// The positions of a frame's blocks.
fn blocks_of(pack: &Pack, frame: u32) -> std::ops::Range<u32> {
    let first = frame * FRAME_BLOCKS;
    first..pack.pack.blocks.min(first + FRAME_BLOCKS)
}
