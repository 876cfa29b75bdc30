//! A bounded cache of decoded map pages, evicted by second chance.
//!
//! 1. A page of the head is the layer's state without the overlays of that layer; a checkpoint that changes it
//!    updates it here in the same turn in which it drops the overlay.
//! 2. A page of a snapshot is complete and never changes.

use rustc_hash::FxHashMap;

use super::Page;
use crate::units::{Epoch, LayerId, PageIndex};

/// A view of a layer: the head, or what a snapshot saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct View {
    /// The layer.
    pub layer: LayerId,
    /// The snapshot's epoch; `None` for the head.
    pub at: Option<Epoch>,
}

/// About what a cached page takes in memory.
pub const PAGE_BYTES: usize = 1024 + 96;

struct Cached {
    key: (View, PageIndex),
    page: Page,
    used: bool,
}

/// The cache.
pub struct PageCache {
    index: FxHashMap<(View, PageIndex), usize>,
    pages: Vec<Cached>,
    hand: usize,
    pages_max: usize,
}

impl PageCache {
    /// A cache that takes at most about `bytes_max`, and at least 1024 pages.
    pub fn new(bytes_max: usize) -> Self {
        let pages_max = (bytes_max / PAGE_BYTES).max(1024);
        Self { index: FxHashMap::default(), pages: Vec::new(), hand: 0, pages_max }
    }

    /// The page, when it is here.
    pub fn get(&mut self, view: View, page: PageIndex) -> Option<&Page> {
        let cached = &mut self.pages[*self.index.get(&(view, page))?];
        cached.used = true;
        Some(&cached.page)
    }

    /// The page to be changed, when it is here.
    pub fn get_mut(&mut self, view: View, page: PageIndex) -> Option<&mut Page> {
        Some(&mut self.pages[*self.index.get(&(view, page))?].page)
    }

    /// Keeps a page, in the place of one not used lately when the cache is full.
    pub fn insert(&mut self, view: View, page: PageIndex, content: Page) {
        let key = (view, page);
        let cached = Cached { key, page: content, used: true };
        if let Some(&at) = self.index.get(&key) {
            self.pages[at] = cached;
        } else if self.pages.len() < self.pages_max {
            self.index.insert(key, self.pages.len());
            self.pages.push(cached);
        } else {
            let at = self.victim();
            self.index.remove(&self.pages[at].key);
            self.index.insert(key, at);
            self.pages[at] = cached;
        }
    }

    fn victim(&mut self) -> usize {
        loop {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.pages.len();
            if !std::mem::take(&mut self.pages[at].used) {
                return at;
            }
        }
    }

    /// Shows `visit` up to `count` pages from `*from` on, which moves; says whether the end was reached.
    pub fn sweep(
        &mut self,
        from: &mut usize,
        count: usize,
        mut visit: impl FnMut(View, PageIndex, &mut Page),
    ) -> bool {
        let end = self.pages.len().min(from.saturating_add(count));
        for cached in self.pages.get_mut(*from..end).unwrap_or_default() {
            visit(cached.key.0, cached.key.1, &mut cached.page);
        }
        *from = end;
        end == self.pages.len()
    }

    /// Forgets every page of a layer.
    pub fn forget(&mut self, layer: LayerId) {
        let keys: Vec<_> = self.index.keys().filter(|(view, _)| view.layer == layer).copied().collect();
        for key in keys {
            let Some(at) = self.index.remove(&key) else { continue };
            self.pages.swap_remove(at);
            if let Some(moved) = self.pages.get(at) {
                self.index.insert(moved.key, at);
            }
        }
        self.hand = 0;
    }

    /// Bytes that the cached pages take, about.
    pub fn bytes(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(layer: u32) -> View {
        View { layer: LayerId(layer), at: None }
    }

    #[test]
    fn stays_within_its_bound_and_keeps_what_is_used() {
        let mut cache = PageCache::new(0);
        for page in 0..3000 {
            cache.insert(view(1), PageIndex(page), Page::default());
            assert!(cache.get(view(1), PageIndex(page)).is_some());
        }
        assert_eq!(cache.bytes(), 1024 * PAGE_BYTES);
        cache.insert(view(2), PageIndex(1), Page::default());
        cache.forget(LayerId(1));
        assert_eq!(cache.bytes(), PAGE_BYTES);
        assert!(cache.get(view(2), PageIndex(1)).is_some() && cache.get(view(1), PageIndex(2999)).is_none());
    }
}
