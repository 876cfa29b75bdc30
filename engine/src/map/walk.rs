//! Which pages a view can have something in, found without looking at every page of its address space.

use std::collections::BTreeSet;

use super::overlay::Overlay;
use super::store::{Family, StoreView, malformed};
use crate::error::Result;
use crate::format::keys;
use crate::units::{Epoch, LayerId, PageIndex};

/// The pages from `start` to before `end` that a layer of `chain` has a head page, an undo record or an overlay
/// entry for. Every mapped block of the view lies in one of them; some of them may be empty.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) or what RocksDB said.
pub fn pages_between(
    view: &StoreView<'_>,
    overlays: &[&Overlay],
    chain: &[(LayerId, Option<Epoch>)],
    start: PageIndex,
    end: PageIndex,
) -> Result<BTreeSet<PageIndex>> {
    let mut pages = BTreeSet::new();
    for &(layer, at) in chain {
        let (from, to) = (keys::head(layer, start), keys::head(layer, end));
        view.each(Family::Head, &from, &to, |key, _| {
            let (_, page) = keys::read_head(key).map_err(|source| malformed(Family::Head, key, source))?;
            pages.insert(page);
            Ok(true)
        })?;
        if at.is_some() {
            history_pages(view, layer, start, end, &mut pages)?;
        }
        for overlay in overlays {
            if let Some(layer) = overlay.layers.get(&layer) {
                pages.extend(layer.pages.range(start..end).map(|(&page, _)| page));
            }
        }
    }
    Ok(pages)
}

fn history_pages(
    view: &StoreView<'_>,
    layer: LayerId,
    start: PageIndex,
    end: PageIndex,
    pages: &mut BTreeSet<PageIndex>,
) -> Result<()> {
    let mut scan = view.scan(Family::History, Some(keys::history(layer, end, Epoch(0)).to_vec()));
    scan.seek(&keys::history(layer, start, Epoch(0)));
    while let Some((key, _)) = scan.item()? {
        let (_, page, _) =
            keys::read_history(key).map_err(|source| malformed(Family::History, key, source))?;
        pages.insert(page);
        // One record names the page; the rest of its history need not be read.
        scan.seek(&keys::history(layer, PageIndex(page.0 + 1), Epoch(0)));
    }
    Ok(())
}
