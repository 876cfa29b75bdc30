//! Writing a run: pieces of a map in, joined to extents, in frames; the packs they point into at its end.

use super::numbers::PackNumbers;
use crate::error::Result;
use crate::format::container::{Content, Header};
use crate::format::extent::{EXTENTS_MAX, Extent, Place};
use crate::format::frame::Sealer;
use crate::format::pack_list::{PACKS_MAX, PackRef};
use crate::format::{extent, pack_list};
use crate::store::Store;
use crate::vault::container::{ContainerWriter, Sealed};
use crate::vault::layer::{Piece, What};

/// A run that is being written.
pub(crate) struct RunWriter<'a> {
    container: ContainerWriter<'a>,
    sealer: Sealer,
    /// The extent that the next piece may continue.
    open: Option<Extent>,
    frame: Vec<u8>,
    frame_first: u64,
    numbers: PackNumbers,
    extents: u64,
    content_bytes: u64,
    keeps_holes: bool,
}

/// A whole run without a name yet.
pub(crate) struct WrittenRun<'a> {
    pub(crate) sealed: Sealed<'a>,
    pub(crate) extents: u64,
    /// Bytes of its frames before they were compressed.
    pub(crate) content_bytes: u64,
}

impl<'a> RunWriter<'a> {
    /// A run that says of `numbers`' layers what counts. Holes are left out when nothing lies below it.
    pub(crate) fn new(
        store: &'a dyn Store,
        header: &Header,
        sealer: Sealer,
        numbers: PackNumbers,
        keeps_holes: bool,
    ) -> Result<Self> {
        let container = ContainerWriter::new(store, header)?;
        Ok(Self {
            container,
            sealer,
            open: None,
            frame: Vec::new(),
            frame_first: 0,
            numbers,
            extents: 0,
            content_bytes: 0,
            keeps_holes,
        })
    }

    /// Adds what `layer` says, which lies after everything added before.
    pub(crate) fn add(&mut self, layer: usize, piece: Piece) -> Result<()> {
        let mut first = piece.first;
        while first < piece.end {
            let blocks = u32::try_from(piece.end - first).unwrap_or(u32::MAX);
            let part = piece.part(first, first + u64::from(blocks));
            let place = match part.what {
                What::Stored { pack, position } => {
                    Some(Place { pack: self.numbers.number(layer, pack, blocks), position })
                }
                _ if !self.keeps_holes => return Ok(()),
                _ => None,
            };
            self.push(Extent { first, blocks, place })?;
            first = part.end;
        }
        Ok(())
    }

    fn push(&mut self, extent: Extent) -> Result<()> {
        let Some(open) = self.open else {
            self.open = Some(extent);
            return Ok(());
        };
        if let Some(joined) = open.joined(&extent) {
            self.open = Some(joined);
            return Ok(());
        }
        self.open = Some(extent);
        self.write(&open)
    }

    fn write(&mut self, extent: &Extent) -> Result<()> {
        if self.frame.is_empty() {
            self.frame_first = extent.first;
        }
        extent::encode(extent, &mut self.frame);
        self.extents += 1;
        match self.frame.len() == EXTENTS_MAX * extent::EXTENT_BYTES {
            true => self.end_frame(Content::Extents, self.frame_first),
            false => Ok(()),
        }
    }

    fn end_frame(&mut self, content: Content, first: u64) -> Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let mut stored = Vec::new();
        let row = self.sealer.seal(content, first, &self.frame, &mut stored)?;
        self.content_bytes += self.frame.len() as u64;
        self.frame.clear();
        self.container.add(&row, &stored)
    }

    /// Ends it; `sent` are the packs of layer 0 by their indexes. Nothing when it would say nothing.
    pub(crate) fn finish(mut self, sent: &[PackRef]) -> Result<Option<WrittenRun<'a>>> {
        if let Some(open) = self.open.take() {
            self.write(&open)?;
        }
        self.end_frame(Content::Extents, self.frame_first)?;
        let packs = std::mem::take(&mut self.numbers).packs(sent);
        for (index, packs) in packs.chunks(PACKS_MAX).enumerate() {
            packs.iter().for_each(|pack| pack_list::encode(pack, &mut self.frame));
            self.end_frame(Content::Packs, (index * PACKS_MAX) as u64)?;
        }
        if self.extents == 0 {
            return Ok(None);
        }
        let Self { container, extents, content_bytes, .. } = self;
        Ok(Some(WrittenRun { sealed: container.finish()?, extents, content_bytes }))
    }
}
