//! What the check knows of a layer before it looks at its keys, and what it counts while it does.

use super::Layers;
use crate::catalog::{Catalog, Head, SnapshotState};
use crate::units::{Epoch, LayerId};

/// One layer.
pub(super) struct LayerFacts {
    pub(super) id: LayerId,
    /// Its origins, nearest first.
    pub(super) origins: Vec<(LayerId, Option<Epoch>)>,
    pub(super) head: Head,
    /// Epochs of live snapshots, oldest first.
    pub(super) live: Vec<Epoch>,
    /// Epochs of snapshots that are being reclaimed, oldest first.
    reclaiming: Vec<Epoch>,
    /// Intervals that the changed index names, oldest first.
    pub(super) intervals: Vec<Epoch>,
    /// Blocks that the head maps, less what the origin maps on the same pages.
    pub(super) head_blocks: i64,
    /// The same for each live snapshot, as differences to the one before.
    pub(super) live_blocks: Vec<i64>,
    /// Every page could be counted.
    pub(super) is_counted: bool,
}

/// The facts of every layer in the catalog.
pub(super) fn facts(catalog: &Catalog) -> Layers {
    let of = |id: LayerId, head: Head| {
        let live = catalog.live_epochs(id);
        let reclaiming =
            catalog.snapshots_on(id).filter(|snapshot| snapshot.state == SnapshotState::Reclaiming);
        LayerFacts {
            id,
            origins: catalog.chain(id, None).split_off(1),
            head,
            reclaiming: reclaiming.map(|snapshot| snapshot.key.epoch).collect(),
            intervals: Vec::new(),
            head_blocks: 0,
            live_blocks: vec![0; live.len() + 1],
            live,
            is_counted: true,
        }
    };
    catalog.layers.values().map(|layer| (layer.id, of(layer.id, layer.head))).collect()
}

fn newest(epochs: &[Epoch], at: Epoch) -> Option<Epoch> {
    epochs.partition_point(|&epoch| epoch <= at).checked_sub(1).map(|index| epochs[index])
}

impl LayerFacts {
    /// Entries born in this epoch or before belong to the origin.
    pub(super) fn origin_epoch(&self) -> Epoch {
        self.origins.first().and_then(|(_, at)| *at).unwrap_or(Epoch(0))
    }

    /// Nobody sees the layer: its keys go, some with each checkpoint.
    pub(super) fn is_dropped(&self) -> bool {
        self.head != Head::Live && self.live.is_empty()
    }

    /// The newest live snapshot at `at` or before.
    pub(super) fn newest_live(&self, at: Epoch) -> Option<Epoch> {
        newest(&self.live, at)
    }

    /// Whether a live snapshot sees what was born in `birth` and displaced in the interval that began at `interval`.
    pub(super) fn is_seen(&self, birth: Epoch, interval: Epoch) -> bool {
        newest(&self.live, interval).is_some_and(|live| live >= birth)
    }

    /// Whether a snapshot that is being reclaimed saw it.
    pub(super) fn was_seen(&self, birth: Epoch, interval: Epoch) -> bool {
        newest(&self.reclaiming, interval).is_some_and(|gone| gone >= birth)
    }

    /// From this interval on the changed index may be gone: a head without a volume is trimmed along it.
    pub(super) fn trimmed_from(&self) -> Epoch {
        if self.head == Head::Live { Epoch(u32::MAX) } else { self.live.last().copied().unwrap_or(Epoch(0)) }
    }

    /// The snapshot or origin that a change made in `birth` must have been recorded against.
    pub(super) fn told_from(&self, birth: Epoch) -> Option<Epoch> {
        let before = Epoch(birth.0.saturating_sub(1));
        self.newest_live(before).or((!self.origins.is_empty()).then(|| self.origin_epoch()))
    }

    /// The interval of the changed index that a change made in `birth` stands in: intervals are chronological.
    pub(super) fn interval(&self, birth: Epoch) -> Option<Epoch> {
        newest(&self.intervals, Epoch(birth.0.saturating_sub(1)))
    }

    /// Counts `blocks` for the live snapshots from index `from` to before `to`.
    pub(super) fn count(&mut self, from: usize, to: usize, blocks: i64) {
        self.live_blocks[from] += blocks;
        self.live_blocks[to] -= blocks;
    }
}
