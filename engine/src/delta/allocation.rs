//! What one point maps, found by walking the layers of its chain side by side in page order.
//!
//! 1. A page is what the nearest layer that speaks of it says: its undo records at the point's epoch or later,
//!    oldest first, then its head page; what they leave open, the origin says.
//! 2. Each layer's keys are passed once, in order; no page is looked up by itself.

use std::ops::Range;

use super::extent::{DeltaExtent, Extents, pages};
use super::path::Point;
use crate::catalog::Catalog;
use crate::error::Result;
use crate::format::{head, keys, undo};
use crate::map::store::{Family, Scan, StoreView, malformed};
use crate::units::{BlockIndex, Epoch, LayerId, PageIndex};

/// Keys passed one by one before a seek is cheaper.
const STEPS_MAX: u32 = 8;

/// Shows `visit` every mapped extent of `range` as `point` sees it, in block order, neighbours merged, until it says
/// stop (`false`). All are data.
///
/// # Errors
/// [`Kind::NotFound`](crate::error::Kind::NotFound) when there is no such point, or what the store or `visit` said.
pub fn allocation(
    view: &StoreView<'_>,
    catalog: &Catalog,
    point: Point,
    range: Range<BlockIndex>,
    visit: impl FnMut(DeltaExtent) -> Result<bool>,
) -> Result<()> {
    point.check(catalog)?;
    let Range { start, end } = pages(&range);
    let chain = catalog.chain(point.layer, point.at);
    let mut walks = Vec::with_capacity(chain.len());
    for (layer, at) in chain {
        walks.push(LayerWalk::new(view, layer, at, end));
    }
    let mut extents = Extents::new(range, visit);
    let mut from = start;
    loop {
        walks.iter_mut().try_for_each(|walk| walk.forward(from))?;
        let Some(page) = walks.iter().filter_map(LayerWalk::page).min() else { break };
        let (mut mapped, mut missing) = (0, u64::MAX);
        for walk in walks.iter_mut().filter(|walk| walk.page() == Some(page)) {
            walk.take(page, &mut mapped, &mut missing)?;
            if missing == 0 {
                break;
            }
        }
        if !extents.page(page, mapped, 0)? {
            return Ok(());
        }
        from = PageIndex(page.0 + 1);
    }
    extents.finish()
}

/// One layer's keys, passed in page order.
struct LayerWalk<'a> {
    layer: LayerId,
    head: Keys<'a>,
    history: Option<(Epoch, Keys<'a>)>,
}

struct Keys<'a> {
    scan: Scan<'a>,
    /// The page of the key here; `None` at the end, and before the first step.
    page: Option<PageIndex>,
    started: bool,
}

impl<'a> Keys<'a> {
    fn new(scan: Scan<'a>) -> Self {
        Self { scan, page: None, started: false }
    }
}

impl<'a> LayerWalk<'a> {
    fn new(view: &'a StoreView<'_>, layer: LayerId, at: Option<Epoch>, end: PageIndex) -> Self {
        let head = view.scan(Family::Head, Some(keys::head(layer, end).to_vec()));
        let history = at.map(|at| {
            let end = keys::history(layer, end, Epoch(0)).to_vec();
            (at, Keys::new(view.scan(Family::History, Some(end))))
        });
        Self { layer, head: Keys::new(head), history }
    }

    /// The next page that the layer speaks of.
    fn page(&self) -> Option<PageIndex> {
        let history = self.history.as_ref().and_then(|(_, keys)| keys.page);
        [self.head.page, history].into_iter().flatten().min()
    }

    /// Goes to the first page not below `from`.
    fn forward(&mut self, from: PageIndex) -> Result<()> {
        let layer = self.layer;
        self.head.forward(
            from,
            |page| keys::head(layer, page).to_vec(),
            |key| {
                let (_, page) =
                    keys::read_head(key).map_err(|source| malformed(Family::Head, key, source))?;
                Ok((page, true))
            },
        )?;
        let Some((at, history)) = &mut self.history else { return Ok(()) };
        let at = *at;
        history.forward(
            from,
            |page| keys::history(layer, page, at).to_vec(),
            |key| {
                let (_, page, end) =
                    keys::read_history(key).map_err(|source| malformed(Family::History, key, source))?;
                Ok((page, end >= at))
            },
        )
    }

    /// Adds what the layer says of blocks that are `missing` on its present page.
    fn take(&mut self, page: PageIndex, mapped: &mut u64, missing: &mut u64) -> Result<()> {
        if let Some((_, history)) = &mut self.history
            && history.page == Some(page)
        {
            while *missing != 0 {
                let Some((key, value)) = history.scan.item()? else { break };
                let damaged = |source| malformed(Family::History, key, source);
                if keys::read_history(key).map_err(damaged)?.1 != page {
                    break;
                }
                let record = undo::decode(value).map_err(damaged)?;
                *mapped |= record.page.mapped() & record.known() & *missing;
                *missing &= !record.known();
                history.scan.advance();
            }
        }
        if *missing != 0
            && self.head.page == Some(page)
            && let Some((key, value)) = self.head.scan.item()?
        {
            let head = head::decode(value).map_err(|source| malformed(Family::Head, key, source))?;
            *mapped |= head.page.mapped() & *missing;
            *missing = 0;
        }
        Ok(())
    }
}

impl Keys<'_> {
    /// Goes to the first wanted key of a page not below `from`: by steps while they are few, else by a seek to what
    /// `place` makes of the page. `read` tells a key's page, and whether it is not before the place on that page.
    fn forward(
        &mut self,
        from: PageIndex,
        place: impl Fn(PageIndex) -> Vec<u8>,
        read: impl Fn(&[u8]) -> Result<(PageIndex, bool)>,
    ) -> Result<()> {
        if self.started && self.page.is_none_or(|page| page >= from) {
            return Ok(());
        }
        if !std::mem::replace(&mut self.started, true) {
            self.scan.seek(&place(from));
        }
        let mut steps = 0;
        loop {
            let Some((key, _)) = self.scan.item()? else {
                self.page = None;
                return Ok(());
            };
            let (page, wanted) = read(key)?;
            if page >= from && wanted {
                self.page = Some(page);
                return Ok(());
            }
            steps += 1;
            if steps <= STEPS_MAX {
                self.scan.advance();
            } else {
                self.scan.seek(&place(page.max(from)));
                steps = 0;
            }
        }
    }
}
