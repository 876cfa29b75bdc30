//! How a page is found: the head, or for a snapshot the first undo records at or after it, then the head; and where
//! a layer has no page, in its origin.

use super::store::{Family, StoreView, malformed};
use super::{Entry, Page};
use crate::error::Result;
use crate::format::head::{HeadPage, bits};
use crate::format::undo::Undo;
use crate::format::{head, keys, undo};
use crate::units::{Epoch, LayerId, PageIndex};

/// A page as RocksDB has it, and how deep in the chain of origins it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The page; holes where nothing is mapped.
    pub page: Page,
    /// Index in the chain of the layer that had it; the chain's length when none did.
    pub depth: usize,
}

impl StoreView<'_> {
    /// The head page of a layer.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) or what RocksDB said.
    pub fn head_page(&self, layer: LayerId, page: PageIndex) -> Result<Option<HeadPage>> {
        let key = keys::head(layer, page);
        let Some(value) = self.get(Family::Head, &key)? else { return Ok(None) };
        head::decode(&value).map(Some).map_err(|source| malformed(Family::Head, &key, source))
    }

    /// The undo record of a page for exactly this interval.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) or what RocksDB said.
    pub fn undo(&self, layer: LayerId, page: PageIndex, end: Epoch) -> Result<Option<Undo>> {
        let key = keys::history(layer, page, end);
        let Some(value) = self.get(Family::History, &key)? else { return Ok(None) };
        undo::decode(&value).map(Some).map_err(|source| malformed(Family::History, &key, source))
    }

    /// What a layer itself knows of a page as `at` saw it (`None`: its head): the page, and the blocks it speaks of.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) or what RocksDB said.
    fn page_in_layer(&self, layer: LayerId, at: Option<Epoch>, page: PageIndex) -> Result<(Page, u64)> {
        let mut found = Page::default();
        let mut missing = u64::MAX;
        if let Some(at) = at {
            let end = keys::history(layer, PageIndex(page.0 + 1), Epoch(0)).to_vec();
            let mut scan = self.scan(Family::History, Some(end));
            scan.seek(&keys::history(layer, page, at));
            while missing != 0 {
                let Some((key, value)) = scan.item()? else { break };
                let record = undo::decode(value).map_err(|source| malformed(Family::History, key, source))?;
                take(&mut found, &mut missing, record.known(), |slot| record.page.0[slot]);
                scan.advance();
            }
        }
        if missing != 0
            && let Some(head) = self.head_page(layer, page)?
        {
            take(&mut found, &mut missing, u64::MAX, |slot| head.page.0[slot]);
        }
        Ok((found, !missing))
    }

    /// A page as the first layer of `chain` sees it through its origins.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) or what RocksDB said.
    pub fn resolve(&self, chain: &[(LayerId, Option<Epoch>)], page: PageIndex) -> Result<Found> {
        let mut found = Page::default();
        let mut missing = u64::MAX;
        for (depth, &(layer, at)) in chain.iter().enumerate() {
            let (here, known) = self.page_in_layer(layer, at, page)?;
            take(&mut found, &mut missing, known, |slot| here.0[slot]);
            if missing == 0 {
                return Ok(Found { page: found, depth });
            }
        }
        Ok(Found { page: found, depth: chain.len() })
    }
}

fn take(page: &mut Page, missing: &mut u64, known: u64, entry: impl Fn(usize) -> Entry) {
    for slot in bits(*missing & known) {
        page.0[slot] = entry(slot);
    }
    *missing &= !known;
}
