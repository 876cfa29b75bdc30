//! Two points in the tree of layers, and the intervals that lie on the paths from where they meet.

use crate::catalog::{Catalog, SnapshotKey};
use crate::error::{Error, Kind, Result};
use crate::units::{Epoch, LayerId};

/// A moment of a volume: a snapshot, or the head of a layer as the checkpoint has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The layer.
    pub layer: LayerId,
    /// The snapshot's epoch; `None` for the head.
    pub at: Option<Epoch>,
}

impl Point {
    /// The head of a layer.
    pub fn head(layer: LayerId) -> Self {
        Self { layer, at: None }
    }

    /// Whether the catalog knows the point.
    pub(super) fn check(self, catalog: &Catalog) -> Result<()> {
        match self.at {
            Some(epoch) => catalog.snapshot(SnapshotKey { layer: self.layer, epoch }).map(drop),
            None if catalog.layers.contains_key(&self.layer) => Ok(()),
            None => Err(Error::new(Kind::NotFound, "find layer", format!("no layer {}", self.layer))),
        }
    }
}

impl From<SnapshotKey> for Point {
    fn from(key: SnapshotKey) -> Self {
        Self { layer: key.layer, at: Some(key.epoch) }
    }
}

/// Which of the two paths from the common point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    ToOlder,
    ToNewer,
}

/// The intervals of a layer from `from` to before `to`, on one of the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) path: Path,
    pub(super) layer: LayerId,
    pub(super) from: Epoch,
    pub(super) to: Epoch,
}

/// No interval begins here or later: the pool runs out of epochs before.
const HEAD: Epoch = Epoch(u32::MAX);

/// The segments of both paths, each path from the common point on.
///
/// # Errors
/// [`Kind::Invalid`] when the points share no origin, [`Kind::NotFound`] when one does not exist.
pub(super) fn segments(catalog: &Catalog, older: Point, newer: Point) -> Result<Vec<Segment>> {
    let chain = |point: Point| -> Result<Vec<(LayerId, Epoch)>> {
        point.check(catalog)?;
        let chain = catalog.chain(point.layer, point.at);
        Ok(chain.into_iter().map(|(layer, at)| (layer, at.unwrap_or(HEAD))).collect())
    };
    let [older, newer] = [chain(older)?, chain(newer)?];
    let meet = older.iter().enumerate().find_map(|(at, &(layer, epoch))| {
        let other = newer.iter().position(|&(other, _)| other == layer)?;
        Some((at, other, epoch.min(newer[other].1)))
    });
    let Some((in_older, in_newer, common)) = meet else {
        return Err(Error::new(Kind::Invalid, "compare points", "the two points share no origin")
            .hint("take the whole of the newer one instead"));
    };
    let mut segments = path(Path::ToOlder, &older[..=in_older], common);
    segments.extend(path(Path::ToNewer, &newer[..=in_newer], common));
    Ok(segments)
}

/// From the common point, on the last layer of `chain`, to the chain's first.
fn path(path: Path, chain: &[(LayerId, Epoch)], common: Epoch) -> Vec<Segment> {
    let starts = chain.iter().skip(1).map(|&(_, origin)| origin).chain([common]);
    let segments = chain.iter().zip(starts).map(|(&(layer, to), from)| Segment { path, layer, from, to });
    let mut segments: Vec<_> = segments.filter(|segment| segment.from < segment.to).collect();
    segments.reverse();
    segments
}
