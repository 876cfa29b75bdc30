//! What was written since the last checkpoint, for who reads the store and wants to know of now without making one.

use std::ops::Range;

use super::Core;
use crate::map::said::Said;
use crate::units::{LayerId, PageIndex};

/// What lies over the store's newest checkpoint.
#[derive(Debug)]
pub struct Recent {
    /// The number of that checkpoint. The store may hold the next one already, which changes nothing: what that one
    /// took is said here too.
    pub generation: u64,
    /// What was said of a layer's blocks since. It may end before the pages that were asked about.
    pub said: Said,
}

impl Core {
    /// What was written to `pages` of a layer and is in no finished checkpoint. The store and this together say what the
    /// layer's head is now, and what changed on it since any snapshot. Nothing while the store lacks a change of the
    /// catalog, such as a new snapshot: that takes a checkpoint. At most `most` pages that were written to, and as many
    /// holes, are looked at in one overlay.
    pub fn recent(&self, layer: LayerId, pages: Range<PageIndex>, most: usize) -> Option<Recent> {
        if !self.checkpoints.has_catalog() {
            return None;
        }
        let mut said = Said::nothing(pages);
        let overlays = self.frozen.as_deref().into_iter().chain([&self.active]);
        overlays.filter_map(|overlay| overlay.layers.get(&layer)).for_each(|overlay| said.lay(overlay, most));
        Some(Recent { generation: self.checkpoints.generation(), said })
    }
}
