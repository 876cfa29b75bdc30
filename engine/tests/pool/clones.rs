//! Clones, detaching them, and what changed between two points.

use std::collections::BTreeMap;

use firn_engine::catalog::Tags;
use firn_engine::delta::{DeltaExtent, ExtentKind};
use firn_engine::error::{Kind, Result};
use firn_engine::sim::random::Random;
use firn_engine::sys::DeviceKind;
use firn_engine::units::BlockIndex;

use crate::place::{MIB, Place, assert_same, kind, pattern, read, settle};

#[test]
fn clones_of_any_depth_read_through_and_detach() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(128 * MIB);
    let volume = pool.create_volume("a", 8 * MIB, Tags::new()).expect("created");
    let old = pattern(1, 0, 4 << 20);
    volume.write_at(0, &old).expect("written");
    let snapshot = volume.snapshot("s", Tags::new()).expect("taken");
    volume.write_at(0, &pattern(2, 0, 4 << 20)).expect("written");

    let clone = snapshot.clone_to("clone", Tags::new()).expect("cloned");
    assert_eq!(clone.info().expect("info").mapped_bytes, 4 * MIB);
    clone.write_at(4096, &pattern(3, 0, 4096)).expect("written");
    let mut expected = old.clone();
    expected[4096..8192].copy_from_slice(&pattern(3, 0, 4096));
    let deep =
        clone.snapshot("s", Tags::new()).expect("taken").clone_to("deep", Tags::new()).expect("cloned");
    deep.unmap(MIB, 512 << 10).expect("unmapped");
    assert_same(&read(&clone, 0, old.len()), &expected, "the clone");
    expected[1 << 20..(1 << 20) + (512 << 10)].fill(0);
    assert_same(&read(&deep, 0, old.len()), &expected, "the clone's clone");
    assert_eq!(deep.info().expect("info").origin.expect("a clone").volume.as_deref(), Some("clone"));
    assert_eq!(snapshot.info().expect("info").clones, 1);

    // Its snapshot is the origin of another, so it can't be detached.
    assert_eq!(kind(clone.detach(|_| ())), Kind::Conflict);
    assert_eq!(kind(volume.detach(|_| ())), Kind::Conflict);
    let mut seen = 0;
    deep.detach(|progress| seen = progress.copied_blocks).expect("detached");
    assert_eq!(seen, (4 << 20) / 4096 - (512 << 10) / 4096);
    assert_eq!(deep.info().expect("info").origin, None);

    // With all it stood on gone, it is still whole.
    clone.delete(true).expect("deleted");
    volume.delete(true).expect("deleted");
    settle(&pool);
    assert_same(&read(&deep, 0, old.len()), &expected, "the detached clone");
    drop(pool);
    let pool = place.open();
    let deep = pool.volume("deep").expect("found");
    assert_same(&read(&deep, 0, old.len()), &expected, "the detached clone after a restart");
    let status = pool.status().expect("status");
    assert_eq!(status.used_bytes - status.waiting_bytes, deep.info().expect("info").mapped_bytes);
}

/// Blocks of the extents, with whether they hold data.
fn blocks(
    visit: impl FnOnce(&mut dyn FnMut(DeltaExtent) -> Result<bool>) -> Result<()>,
) -> BTreeMap<u64, bool> {
    let mut blocks = BTreeMap::new();
    let shown = visit(&mut |extent| {
        let range = extent.first.0..extent.first.0 + extent.blocks;
        range.for_each(|block| assert!(blocks.insert(block, extent.kind == ExtentKind::Data).is_none()));
        Ok(true)
    });
    shown.expect("shown");
    blocks
}

/// Who wrote each block; 0 for a hole.
type Marks = Vec<u64>;

fn mapped(marks: &Marks) -> BTreeMap<u64, bool> {
    (0..).zip(marks).filter(|(_, mark)| **mark != 0).map(|(block, _)| (block, true)).collect()
}

fn changed(before: &Marks, after: &Marks) -> BTreeMap<u64, bool> {
    let pairs = (0..).zip(before.iter().zip(after));
    pairs
        .filter(|(_, (before, after))| before != after)
        .map(|(block, (_, after))| (block, *after != 0))
        .collect()
}

#[test]
fn changes_between_snapshots_and_the_volume_are_exact() {
    const BLOCKS: usize = 2048;
    let all = BlockIndex(0)..BlockIndex(BLOCKS as u64);
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(128 * MIB);
    let volume = pool.create_volume("a", BLOCKS as u64 * 4096, Tags::new()).expect("created");
    let mut random = Random::new(3);
    let mut marks = vec![0; BLOCKS];
    let mut points = Vec::new();
    for round in 1..=8 {
        for step in 1..=60 {
            let block = random.index(BLOCKS);
            let offset = block as u64 * 4096;
            marks[block] = if random.percent(25) { 0 } else { round * 100 + step };
            match marks[block] {
                0 => volume.unmap(offset, 4096).expect("unmapped"),
                mark => volume.write_at(offset, &pattern(mark, offset, 4096)).expect("written"),
            }
        }
        points.push((volume.snapshot(&format!("s{round}"), Tags::new()).expect("taken"), marks.clone()));
        if round == 4 {
            volume.rollback("s2", Some("displaced")).expect("rolled back");
            marks.clone_from(&points[1].1);
        }
    }
    assert_eq!(blocks(|visit| volume.allocation(all.clone(), visit)), mapped(&marks));
    for (older, before) in &points {
        assert_eq!(blocks(|visit| older.allocation(all.clone(), visit)), mapped(before));
        let found = blocks(|visit| volume.changes_since(older, all.clone(), visit));
        assert_eq!(found, changed(before, &marks));
        for (newer, after) in &points {
            let found = blocks(|visit| newer.changes_since(older, all.clone(), visit));
            assert_eq!(found, changed(before, after));
        }
    }
}
