//! A volume of pages, and the image of it for the peers.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use firn_engine::catalog::Tags;
use firn_engine::pool::Pool;
use firn_engine::volume::Volume;

use super::pages::{Content, PAGE_BYTES, PAGE_LEN};
use crate::random::Random;

/// Threads that write.
const WRITERS: usize = 4;
/// Pages that are written at once when all are: 1 MiB.
const STRETCH_PAGES: u64 = 128;

/// The volume.
pub(super) struct Data {
    pub(super) pool: Arc<Pool>,
    pub(super) volume: Volume,
    pages: u64,
    content: Content,
    image: Option<File>,
    version: u64,
    random: Random,
}

impl Data {
    /// A volume of `bytes` bytes without data.
    pub(super) fn sparse(pool: Arc<Pool>, name: &str, bytes: u64, content: Content) -> Result<Self> {
        let volume = pool.create_volume(name, bytes, Tags::new())?;
        let (pages, random) = (bytes / PAGE_BYTES, Random::new(bytes));
        Ok(Self { pool, volume, pages, content, image: None, version: 0, random })
    }

    /// From now on `image`, a file that is made here, is written as the volume is.
    pub(super) fn with_image(mut self, image: &Path) -> Result<Self> {
        let file = File::create_new(image).with_context(|| image.display().to_string())?;
        file.set_len(self.pages * PAGE_BYTES)?;
        self.image = Some(file);
        Ok(self)
    }

    /// Bytes of the volume.
    pub(super) fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES
    }

    /// Writes every page.
    pub(super) fn fill(&mut self) -> Result<()> {
        let starts = (0..self.pages).step_by(usize::try_from(STRETCH_PAGES)?);
        let pages = self.pages;
        self.write(&starts.map(|first| first..pages.min(first + STRETCH_PAGES)).collect::<Vec<_>>())
    }

    /// Writes `count` pages at random, each another, and says how many bytes that are.
    pub(super) fn change(&mut self, count: u64) -> Result<u64> {
        let mut places = BTreeSet::new();
        while (places.len() as u64) < count {
            places.insert(self.random.below(self.pages));
        }
        self.write(&places.into_iter().map(|page| page..page + 1).collect::<Vec<_>>())?;
        Ok(count * PAGE_BYTES)
    }

    fn write(&mut self, stretches: &[Range<u64>]) -> Result<()> {
        self.version += 1;
        let data = &*self;
        thread::scope(|scope| {
            let part = stretches.len().div_ceil(WRITERS).max(1);
            let writers: Vec<_> =
                stretches.chunks(part).map(|part| scope.spawn(move || data.write_each(part))).collect();
            writers.into_iter().try_for_each(|writer| {
                writer.join().unwrap_or_else(|_| Err(anyhow!("a thread that writes ended")))
            })
        })?;
        self.volume.flush()?;
        self.image.as_ref().map_or(Ok(()), |image| Ok(image.sync_data()?))
    }

    fn write_each(&self, stretches: &[Range<u64>]) -> Result<()> {
        let mut bytes = Vec::new();
        for stretch in stretches {
            bytes.resize(usize::try_from(stretch.end - stretch.start)? * PAGE_LEN, 0);
            for (page, into) in stretch.clone().zip(bytes.chunks_exact_mut(PAGE_LEN)) {
                self.content.fill(page, self.version, into);
            }
            self.volume.write_at(stretch.start * PAGE_BYTES, &bytes)?;
            if let Some(image) = &self.image {
                image.write_all_at(&bytes, stretch.start * PAGE_BYTES)?;
            }
        }
        Ok(())
    }
}
