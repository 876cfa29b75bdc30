//! One layer's part of a checkpoint: the overlay's versions laid over the old head pages, in page order.

use std::collections::{BTreeMap, BTreeSet};

use super::FrozenLayer;
use super::edits::Edits;
use super::usage::Usage;
use crate::error::Result;
use crate::format::head::{self, HeadPage, bits};
use crate::format::undo::{self, Changed, Undo};
use crate::format::{dead, keys};
use crate::map::overlay::{LayerOverlay, Overlay, PageVersions, Version};
use crate::map::store::{Family, malformed};
use crate::map::walk::pages_between;
use crate::map::{Entry, Page};
use crate::units::{Epoch, LayerId, PageIndex};

/// Displaced entries of one page from one keyframe to the next: a reader at an old snapshot passes at most so many
/// undo records, and a keyframe costs a bounded share of what it stands for (decision record 1).
const KEYFRAME_ENTRIES: u8 = 128;
/// Pages of an unmapped range that are looked for at once.
const WINDOW_PAGES: u64 = 1 << 16;

pub(super) struct Merge<'m, 'a> {
    layer: LayerId,
    frozen: &'m FrozenLayer,
    overlay: &'m Overlay,
    edits: &'m mut Edits<'a>,
    usage: &'m mut Usage,
}

/// What one page's versions add to the indexes.
#[derive(Default)]
struct PageEdits {
    undo: BTreeMap<Epoch, UndoEdit>,
    changed: BTreeMap<Epoch, ChangedEdit>,
    dead: BTreeMap<(Epoch, Epoch), Vec<dead::PhysicalRun>>,
    displaced_since_keyframe: u8,
}

/// A page's undo record of one interval.
struct UndoEdit {
    /// Whether the store has one. If not, nothing of the page died in the interval before.
    stored: bool,
    undo: Undo,
}

/// A page's mask of one interval, as the store has it and as it is to be.
struct ChangedEdit {
    stored: Option<Changed>,
    mask: Changed,
}

impl<'m, 'a> Merge<'m, 'a> {
    pub(super) fn new(
        layer: LayerId,
        frozen: &'m FrozenLayer,
        overlay: &'m Overlay,
        edits: &'m mut Edits<'a>,
        usage: &'m mut Usage,
    ) -> Self {
        Self { layer, frozen, overlay, edits, usage }
    }

    pub(super) fn run(&mut self, pages: &LayerOverlay) -> Result<()> {
        for (&page, versions) in &pages.pages {
            self.page(page, versions)?;
        }
        for (&start, range) in &pages.holes {
            let versions = PageVersions(vec![Version::unmapped(range.birth)]);
            let mut window = start.0;
            while window < range.end.0 {
                let end = range.end.0.min(window + WINDOW_PAGES);
                for page in self.present(PageIndex(window), PageIndex(end))? {
                    if !pages.pages.contains_key(&page) {
                        self.page(page, &versions)?;
                    }
                }
                window = end;
            }
        }
        Ok(())
    }

    /// Pages that the layer or an origin has something for.
    fn present(&self, start: PageIndex, end: PageIndex) -> Result<BTreeSet<PageIndex>> {
        let mut chain = vec![(self.layer, None)];
        chain.extend_from_slice(&self.frozen.origins);
        pages_between(self.edits.view, &[self.overlay], &chain, start, end)
    }

    fn base(&self, page: PageIndex) -> Result<HeadPage> {
        if let Some(head) = self.edits.view.head_page(self.layer, page)? {
            return Ok(head);
        }
        if self.frozen.origins.is_empty() {
            return Ok(HeadPage { page: Page::default(), displaced_since_keyframe: 0 });
        }
        let found = self.edits.view.resolve(&self.frozen.origins, page)?;
        let mut inherited = found.page;
        let from = (found.depth + 1).min(self.frozen.origins.len());
        for &(layer, at) in self.frozen.origins[..from].iter().rev() {
            self.overlay.apply(layer, page, at, &mut inherited);
        }
        Ok(HeadPage { page: inherited, displaced_since_keyframe: 0 })
    }

    fn page(&mut self, index: PageIndex, versions: &PageVersions) -> Result<()> {
        let base = self.base(index)?;
        let mut page = base.page;
        let mut edits =
            PageEdits { displaced_since_keyframe: base.displaced_since_keyframe, ..PageEdits::default() };
        for version in &versions.0 {
            self.version(index, version, &mut page, &mut edits)?;
        }
        self.write(index, page, edits)
    }

    fn version(
        &mut self,
        index: PageIndex,
        version: &Version,
        page: &mut Page,
        edits: &mut PageEdits,
    ) -> Result<()> {
        let live = self.frozen.live_before(version.birth);
        let interval = self.frozen.interval(version.birth);
        for slot in bits(version.mask) {
            let old = page.0[slot];
            let new = version.get(slot).unwrap_or(Entry::HOLE);
            if old.is_hole() && new.is_hole() {
                continue;
            }
            if let Some(interval) = interval
                && !is_known(&old, &new, interval)
            {
                self.change(index, interval, slot, &old, &new, edits)?;
            }
            self.displace(index, (live, interval), slot, &old, page, edits)?;
            if !new.is_hole() {
                self.edits.allocate(new.physical)?;
            }
            self.usage.add(self.layer, version.birth, i64::from(!new.is_hole()) - i64::from(!old.is_hole()));
            page.0[slot] = new;
        }
        Ok(())
    }

    fn change(
        &self,
        index: PageIndex,
        interval: Epoch,
        slot: usize,
        old: &Entry,
        new: &Entry,
        edits: &mut PageEdits,
    ) -> Result<()> {
        let changed = match edits.changed.entry(interval) {
            std::collections::btree_map::Entry::Occupied(present) => &mut present.into_mut().mask,
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let key = keys::changed(self.layer, interval, index);
                let stored = self.edits.view.get(Family::Changed, &key)?;
                let stored = stored
                    .map(|value| undo::decode_changed(&value))
                    .transpose()
                    .map_err(|source| malformed(Family::Changed, &key, source))?;
                &mut vacant.insert(ChangedEdit { stored, mask: stored.unwrap_or_default() }).mask
            }
        };
        let bit = 1 << slot;
        if changed.changed & bit == 0 {
            changed.changed |= bit;
            changed.before |= if old.is_hole() { 0 } else { bit };
        }
        changed.after = changed.after & !bit | if new.is_hole() { 0 } else { bit };
        Ok(())
    }

    /// The old entry leaves the head: a live snapshot that sees it keeps it, else it is freed.
    fn displace(
        &mut self,
        index: PageIndex,
        (live, interval): (Option<Epoch>, Option<Epoch>),
        slot: usize,
        old: &Entry,
        page: &Page,
        edits: &mut PageEdits,
    ) -> Result<()> {
        let owned = !old.is_hole() && old.birth > self.frozen.origin_epoch();
        // A hole has no birth: an earlier entry of the block in this interval, if there is one, is the right one.
        let seen = live.is_some_and(|live| old.birth <= live);
        let Some(interval) = interval.filter(|_| seen) else {
            return if owned { self.edits.free(old.physical) } else { Ok(()) };
        };
        self.prepare_undo(index, interval, page, edits)?;
        let Some(UndoEdit { undo, .. }) = edits.undo.get_mut(&interval) else { return Ok(()) };
        if undo.displaced >> slot & 1 == 0 {
            undo.displaced |= 1 << slot;
            undo.page.0[slot] = *old;
            edits.displaced_since_keyframe = edits.displaced_since_keyframe.saturating_add(1);
        }
        if owned {
            dead::push(edits.dead.entry((interval, old.birth)).or_default(), old.physical);
        }
        Ok(())
    }

    /// Makes sure that the interval's undo record is among the edits.
    fn prepare_undo(
        &self,
        index: PageIndex,
        interval: Epoch,
        page: &Page,
        edits: &mut PageEdits,
    ) -> Result<()> {
        if edits.undo.contains_key(&interval) {
            return Ok(());
        }
        let stored = self.edits.view.undo(self.layer, index, interval)?;
        let is_stored = stored.is_some();
        let undo = match stored {
            Some(stored) => stored,
            // The first displacement in the interval: the page is still what it was when the interval began.
            None if edits.displaced_since_keyframe >= KEYFRAME_ENTRIES => {
                edits.displaced_since_keyframe = 0;
                Undo { displaced: 0, keyframe: true, page: page.clone() }
            }
            None => Undo::default(),
        };
        edits.undo.insert(interval, UndoEdit { stored: is_stored, undo });
        Ok(())
    }

    fn write(&mut self, index: PageIndex, page: Page, edits: PageEdits) -> Result<()> {
        let key = keys::head(self.layer, index);
        if page.mapped() == 0 && self.frozen.origins.is_empty() {
            self.edits.batch.delete(Family::Head, &key);
        } else {
            let value =
                head::encode(&HeadPage { page, displaced_since_keyframe: edits.displaced_since_keyframe });
            self.edits.batch.put(Family::Head, &key, &value);
        }
        for (end, UndoEdit { undo, .. }) in &edits.undo {
            self.edits.batch.put(
                Family::History,
                &keys::history(self.layer, index, *end),
                &undo::encode(undo),
            );
        }
        for (end, changed) in edits.changed.iter().filter(|(_, edit)| edit.stored != Some(edit.mask)) {
            let key = keys::changed(self.layer, *end, index);
            self.edits.batch.put(Family::Changed, &key, &undo::encode_changed(&changed.mask));
        }
        for ((end, birth), mut runs) in edits.dead {
            let key = keys::dead(self.layer, end, birth, index);
            let may_be_stored = edits.undo.get(&end).is_none_or(|edit| edit.stored);
            if may_be_stored && let Some(stored) = self.edits.view.get(Family::Dead, &key)? {
                let mut before =
                    dead::decode(&stored).map_err(|source| malformed(Family::Dead, &key, source))?;
                before.append(&mut runs);
                runs = before;
            }
            self.edits.batch.put(Family::Dead, &key, &dead::encode(&runs));
        }
        Ok(())
    }
}

/// Whether an overwrite changes nothing of the interval's mask: the old data was written in the same interval, so the
/// mask says since then that the block changed, and that it holds data. Most overwrites are such, and need no look.
fn is_known(old: &Entry, new: &Entry, interval: Epoch) -> bool {
    !old.is_hole() && !new.is_hole() && old.birth > interval
}
