//! Windows of a map: what lies in them, in the order of packs, cut into fetches of neighbouring frames.

use std::ops::Range;

use super::fetch::{Fetch, Want};
use crate::error::{Error, Kind, Result};
use crate::vault::map::Packs;
use crate::vault::pack::FRAME_BLOCKS;

/// Wanted parts of a window.
const WANTS_MAX: usize = 1 << 17;
/// Frames of a fetch: 2 MiB of content.
pub(super) const FETCH_FRAMES: u32 = 32;
/// Frames that nobody wants and that are read all the same, rather than with another request.
const GAP_FRAMES: u32 = 2;

/// A window of the map that is being filled.
pub(super) struct Window<'p, F> {
    packs: &'p Packs<'p>,
    /// Each within one fetch's frames at most.
    wants: Vec<(u32, Want)>,
    hand_out: F,
}

impl<'p, F: FnMut(Fetch) -> Result<()>> Window<'p, F> {
    pub(super) fn new(packs: &'p Packs<'p>, hand_out: F) -> Self {
        Self { packs, wants: Vec::new(), hand_out }
    }

    /// Wants `blocks` of the volume, which lie in the pack that run `run` calls `pack`, from `position` on.
    pub(super) fn add(&mut self, run: usize, pack: u32, position: u32, blocks: Range<u64>) -> Result<()> {
        let unknown = || Error::new(Kind::Bug, "restore point", format!("run {run} has no pack {pack}"));
        let pack = self.packs.index(run, pack).ok_or_else(unknown)?;
        let (mut first, mut position) = (blocks.start, position);
        while first < blocks.end {
            // Cut where fetches may be cut, so that each want lies in one.
            let room = FETCH_BLOCKS - position % FETCH_BLOCKS;
            let blocks = u32::try_from(blocks.end - first).map_or(room, |left| left.min(room));
            self.wants.push((pack, Want { position, first, blocks }));
            (first, position) = (first + u64::from(blocks), position + blocks);
            if self.wants.len() == WANTS_MAX {
                self.hand_out()?;
            }
        }
        Ok(())
    }

    /// Hands out everything that is wanted.
    pub(super) fn hand_out(&mut self) -> Result<()> {
        self.wants.sort_unstable_by_key(|(pack, want)| (*pack, want.position, want.first));
        let mut fetch: Option<Fetch> = None;
        for (pack, want) in self.wants.drain(..) {
            let frames = want.position / FRAME_BLOCKS..(want.position + want.blocks).div_ceil(FRAME_BLOCKS);
            if let Some(open) = &mut fetch
                && open.pack == pack
                && frames.start / FETCH_FRAMES == open.frames.start / FETCH_FRAMES
                && frames.start <= open.frames.end + GAP_FRAMES
            {
                open.frames.end = open.frames.end.max(frames.end);
                open.wants.push(want);
                continue;
            }
            if let Some(whole) = fetch.replace(Fetch { pack, frames, wants: vec![want] }) {
                (self.hand_out)(whole)?;
            }
        }
        fetch.map_or(Ok(()), &mut self.hand_out)
    }
}

const FETCH_BLOCKS: u32 = FETCH_FRAMES * FRAME_BLOCKS;
