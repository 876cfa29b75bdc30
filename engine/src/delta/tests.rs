//! Deltas, allocations, reads at snapshots and what checkpoints free, against a model in memory.

use std::ops::Range;

use super::model::{BLOCKS, Content, Model};
use super::window::Windows;
use super::*;
use crate::catalog::SnapshotKey;
use crate::checkpoint::{layer_usage, snapshot_usage};
use crate::error::Kind;
use crate::units::{LayerId, PAGE_BLOCKS, PageIndex};

fn blocks(range: Range<u64>) -> Range<BlockIndex> {
    BlockIndex(range.start)..BlockIndex(range.end)
}

/// Extents as they should be, of blocks each with whether it holds data.
fn extents(blocks: impl IntoIterator<Item = (u64, bool)>) -> Vec<DeltaExtent> {
    let mut out: Vec<DeltaExtent> = Vec::new();
    for (block, data) in blocks {
        let kind = if data { ExtentKind::Data } else { ExtentKind::Hole };
        match out.last_mut() {
            Some(last) if last.kind == kind && last.first.0 + last.blocks == block => last.blocks += 1,
            _ => out.push(DeltaExtent { first: BlockIndex(block), blocks: 1, kind }),
        }
    }
    out
}

fn expected(older: &Content, newer: &Content, range: Range<u64>) -> Vec<DeltaExtent> {
    extents(
        range
            .filter(|block| older.get(block) != newer.get(block))
            .map(|block| (block, newer.contains_key(&block))),
    )
}

impl Model {
    fn points(&self) -> Vec<(Point, &Content)> {
        let snapshots = self.snapshots.iter().map(|(&key, content)| (Point::from(key), content));
        snapshots.chain(self.heads.iter().map(|(&layer, content)| (Point::head(layer), content))).collect()
    }

    fn related(&self, one: Point, other: Point) -> bool {
        let layers =
            |point: Point| self.catalog.chain(point.layer, point.at).into_iter().map(|(layer, _)| layer);
        layers(one).any(|layer| layers(other).any(|other| other == layer))
    }

    fn delta(&self, older: Point, newer: Point, range: Range<u64>) -> Result<Vec<DeltaExtent>> {
        let mut found = Vec::new();
        let view = self.store.view();
        delta(&view, &self.catalog, older, newer, blocks(range), |extent| {
            found.push(extent);
            Ok(true)
        })?;
        Ok(found)
    }

    /// As `delta`, with so little memory that windows are cut.
    fn narrow_delta(&self, older: Point, newer: Point) -> Vec<DeltaExtent> {
        let mut found = Vec::new();
        let view = self.store.view();
        let range = blocks(0..BLOCKS);
        let segments = path::segments(&self.catalog, older, newer).unwrap();
        let mut windows = Windows::with_records(&view, segments, extent::pages(&range), 8).unwrap();
        let mut extents = extent::Extents::new(range, |extent| {
            found.push(extent);
            Ok(true)
        });
        while windows.next().unwrap() {
            for (page, masks) in windows.pages() {
                assert!(extents.page(page, masks.data(), masks.holes()).unwrap());
            }
        }
        extents.finish().unwrap();
        found
    }

    fn check_contents(&self) {
        let view = self.store.view();
        for (point, content) in self.points() {
            let chain = self.catalog.chain(point.layer, point.at);
            let mut found = Content::new();
            for page in (0..BLOCKS / PAGE_BLOCKS).map(PageIndex) {
                let resolved = view.resolve(&chain, page).unwrap();
                for (block, entry) in (page.first_block().0..).zip(resolved.page.0.iter()) {
                    if !entry.is_hole() {
                        let held = self.allocated.get(&entry.physical.0);
                        assert_eq!(held, Some(&entry.checksum), "{point:?} maps block {block} to {entry:?}");
                        assert!(
                            point.at.is_none_or(|at| entry.birth <= at),
                            "{point:?} block {block}: {entry:?}"
                        );
                        found.insert(block, entry.checksum);
                    }
                }
            }
            if &found != content {
                let block = (0..BLOCKS).find(|block| found.get(block) != content.get(block)).unwrap();
                let [found, content] = [&found, content].map(|content| content.get(&block));
                panic!("{point:?} block {block} is {found:?}, not {content:?}");
            }
            let count = content.len() as u64;
            let usage = match point.at {
                Some(epoch) => snapshot_usage(&view, SnapshotKey { layer: point.layer, epoch }),
                None => layer_usage(&view, point.layer),
            };
            assert_eq!(usage.unwrap(), Some(count), "usage of {point:?}");
        }
    }

    fn check_allocations(&mut self) {
        let (start, length) = (self.seeded.below(BLOCKS), self.seeded.below(BLOCKS));
        let view = self.store.view();
        for (point, content) in self.points() {
            for range in [0..BLOCKS, start..start + length] {
                let mut found = Vec::new();
                allocation(&view, &self.catalog, point, blocks(range.clone()), |extent| {
                    found.push(extent);
                    Ok(true)
                })
                .unwrap();
                assert_eq!(
                    found,
                    extents(content.range(range).map(|(&block, _)| (block, true))),
                    "{point:?}"
                );
            }
        }
    }

    fn check_deltas(&mut self, pairs: usize) {
        for _ in 0..pairs {
            let (start, length) = (self.seeded.below(BLOCKS), self.seeded.below(BLOCKS));
            let count = self.points().len() as u64;
            let picks = [self.seeded.below(count), self.seeded.below(count)];
            let points = self.points();
            let [(older, before), (newer, after)] = picks.map(|pick| points[usize::try_from(pick).unwrap()]);
            if !self.related(older, newer) {
                assert_eq!(self.delta(older, newer, 0..BLOCKS).unwrap_err().kind(), Kind::Invalid);
                continue;
            }
            let whole = expected(before, after, 0..BLOCKS);
            assert_eq!(self.delta(older, newer, 0..BLOCKS).unwrap(), whole, "{older:?} to {newer:?}");
            assert_eq!(self.narrow_delta(older, newer), whole, "{older:?} to {newer:?}");
            let part = start..(start + length).min(BLOCKS);
            assert_eq!(self.delta(older, newer, part.clone()).unwrap(), expected(before, after, part));
        }
    }

    /// Compares everything with the model.
    fn verify(&mut self) {
        self.checkpoint();
        if self.heads.is_empty() && self.snapshots.is_empty() {
            return;
        }
        self.check_contents();
        self.check_allocations();
        self.check_deltas(12);
    }

    /// After everything deleted was given back, exactly what live views map is in use.
    fn verify_nothing_leaked(&mut self) {
        self.settle();
        let view = self.store.view();
        let mut used = std::collections::BTreeSet::new();
        for (point, _) in self.points() {
            let chain = self.catalog.chain(point.layer, point.at);
            for page in (0..BLOCKS / PAGE_BLOCKS).map(PageIndex) {
                let resolved = view.resolve(&chain, page).unwrap().page;
                used.extend(resolved.0.iter().filter(|entry| !entry.is_hole()).map(|entry| entry.physical.0));
            }
        }
        let allocated: std::collections::BTreeSet<u64> = self.allocated.keys().copied().collect();
        assert_eq!(allocated, used, "left: allocated, right: used");
    }
}

fn run(seed: u64) {
    let mut model = Model::new(seed);
    for step in 0..400 {
        model.step();
        if step % 40 == 39 {
            model.verify();
        }
    }
    model.verify();
    model.verify_nothing_leaked();
    model.verify();
}

/// More seeds than the default with FIRN_SEEDS, another start with FIRN_SEED.
#[test]
fn random_runs_agree_with_the_model() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("FIRN_SEED").unwrap_or(0);
    for seed in first..first + number("FIRN_SEEDS").unwrap_or(25) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("failed with FIRN_SEED={seed} FIRN_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
    }
}

fn snapshot(model: &mut Model, layer: LayerId) -> Point {
    let epoch = model.snapshot(&[layer]);
    Point::from(SnapshotKey { layer, epoch })
}

#[test]
fn goes_both_ways_and_across_a_rollback() {
    let mut model = Model::new(1);
    let layer = model.create();
    model.write(layer, 0, 4);
    let base = snapshot(&mut model, layer);
    model.write(layer, 2, 1);
    model.unmap(layer, 3, 1);
    model.write(layer, 70, 1);
    let displaced = snapshot(&mut model, layer);
    let layer = model.roll_back(layer, SnapshotKey { layer: base.layer, epoch: base.at.unwrap() });
    model.write(layer, 1, 1);
    let rolled = snapshot(&mut model, layer);
    model.checkpoint();
    let of = |older, newer| model.delta(older, newer, 0..BLOCKS).unwrap();
    assert_eq!(of(base, displaced), extents([(2, true), (3, false), (70, true)]));
    assert_eq!(of(displaced, base), extents([(2, true), (3, true), (70, false)]));
    assert_eq!(of(displaced, rolled), extents([(1, true), (2, true), (3, true), (70, false)]));
    assert_eq!(of(rolled, displaced), extents([(1, true), (2, true), (3, false), (70, true)]));
    assert_eq!(of(rolled, Point::head(layer)), []);
    let sum =
        changed_bytes(&model.store.view(), &model.catalog, displaced, rolled, blocks(0..BLOCKS)).unwrap();
    assert_eq!(sum, ChangedBytes { data: 3 * 4096, holes: 4096 });
    model.verify();
}

#[test]
fn points_that_share_nothing_or_do_not_exist_are_refused() {
    let mut model = Model::new(1);
    let [one, other] = [model.create(), model.create()];
    let gone = snapshot(&mut model, one);
    model.delete_snapshot(SnapshotKey { layer: one, epoch: gone.at.unwrap() });
    model.checkpoint();
    let kind = |older, newer| model.delta(older, newer, 0..BLOCKS).unwrap_err().kind();
    assert_eq!(kind(Point::head(one), Point::head(other)), Kind::Invalid);
    assert_eq!(kind(gone, Point::head(one)), Kind::NotFound);
    assert_eq!(kind(Point::head(one), Point::head(LayerId(99))), Kind::NotFound);
}
