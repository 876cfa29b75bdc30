//! The check against sound states of random runs, and against every kind of planted damage.

use super::*;
use crate::catalog::SnapshotKey;
use crate::checksum::checksum;
use crate::delta::model::{DATA_START, Model};
use crate::error::Error;
use crate::format::head::{self, bits};
use crate::format::{dead, keys, undo};
use crate::map::store::{Batch, Family};
use crate::units::{BLOCK_LEN, PageIndex};

impl Model {
    fn check_with(&self, options: CheckOptions<'_>) -> CheckReport {
        let area = PhysicalBlock(DATA_START)..PhysicalBlock(self.end() + 10);
        check(&self.store.view(), &self.stored_catalog(), area, options).unwrap()
    }

    fn check(&self) -> CheckReport {
        self.check_with(CheckOptions::default())
    }

    fn damage(&self, plant: impl FnOnce(&mut Batch<'_>)) {
        let mut batch = self.store.batch();
        plant(&mut batch);
        self.store.commit(batch, &self.store.state().unwrap()).unwrap();
    }

    /// The first key and value of a family for which `wanted` says so.
    fn find(&self, family: Family, mut wanted: impl FnMut(&[u8], &[u8]) -> bool) -> (Vec<u8>, Vec<u8>) {
        let mut found = None;
        let visit = |key: &[u8], value: &[u8]| {
            if wanted(key, value) {
                found = Some((key.to_vec(), value.to_vec()));
            }
            Ok(found.is_none())
        };
        self.store.view().each(family, &[], &[0xff; 32], visit).unwrap();
        found.expect("the model has such a key")
    }
}

fn kinds(report: &CheckReport) -> Vec<DiscrepancyKind> {
    let mut kinds: Vec<_> = report.discrepancies.iter().map(|found| found.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[test]
fn random_runs_are_clean() {
    let mut keyframes = 0;
    for seed in 100..115 {
        let mut model = Model::new(seed);
        for step in 0..300 {
            model.step();
            // Also in the middle of things: the last checkpoint is a sound state whatever came after it.
            if step % 20 == 19 && step > 60 {
                let report = model.check();
                assert!(report.is_clean(), "seed {seed} step {step}: {report:#?}");
            }
        }
        model.checkpoint();
        let view = model.store.view();
        view.each(Family::History, &[], &[0xff; 32], |_, value| {
            keyframes += u32::from(undo::decode(value).unwrap().keyframe);
            Ok(true)
        })
        .unwrap();
        drop(view);
        model.settle();
        let report = model.check();
        assert!(report.is_clean(), "seed {seed}: {report:#?}");
        assert_eq!(report.allocated_blocks, model.allocated.len() as u64);
        assert_eq!(report.head_blocks + report.dead_blocks, report.allocated_blocks);
    }
    assert!(keyframes > 0, "the runs come to keyframes");
}

/// Two snapshots with what they keep, one being read through a keyframe, a clone with its own and inherited blocks.
fn sample() -> Model {
    let mut model = Model::new(7);
    let layer = model.create();
    model.write(layer, 0, 200);
    let first = model.snapshot(&[layer]);
    for round in 0..12 {
        model.write(layer, round % 3 * 8, 24);
        model.snapshot(&[layer]);
        model.checkpoint();
    }
    model.unmap(layer, 70, 10);
    let clone = model.clone_of(SnapshotKey { layer, epoch: first });
    model.write(clone, 3, 2);
    model.snapshot(&[clone]);
    model.write(clone, 4, 4);
    model.unmap(clone, 130, 4);
    model.checkpoint();
    assert!(model.check().is_clean());
    model
}

const LAYER: LayerId = LayerId(1);
const CLONE: LayerId = LayerId(2);

#[track_caller]
fn reported(plant: impl FnOnce(&Model, &mut Batch<'_>), expected: &[DiscrepancyKind]) {
    let model = sample();
    model.damage(|batch| plant(&model, batch));
    let report = model.check();
    assert_eq!(kinds(&report), expected, "{report:#?}");
}

fn edit_head(model: &Model, batch: &mut Batch<'_>, layer: LayerId, edit: impl FnOnce(&mut crate::map::Page)) {
    let key = keys::head(layer, PageIndex(0));
    let mut page = model.store.view().head_page(layer, PageIndex(0)).unwrap().unwrap();
    edit(&mut page.page);
    batch.put(Family::Head, &key, &head::encode(&page));
}

#[test]
fn bitmap_damage_is_reported() {
    use DiscrepancyKind::{Leaked, NotAllocated, OutsideDataArea, Unreadable};
    let flip = |bit: usize| {
        move |model: &Model, batch: &mut Batch<'_>| {
            let (key, mut value) = model.find(Family::Space, |_, _| true);
            value[bit / 8] ^= 1 << (bit % 8);
            batch.put(Family::Space, &key, &value);
        }
    };
    let model = sample();
    let used = usize::try_from(*model.allocated.keys().next().unwrap()).unwrap();
    let end = usize::try_from(model.end()).unwrap();
    reported(flip(used), &[NotAllocated]);
    reported(flip(end), &[Leaked]);
    reported(flip(1), &[OutsideDataArea]);
    reported(|_, batch| batch.put(Family::Space, &keys::space(0), &[0; 9]), &[Unreadable, NotAllocated]);
}

#[test]
fn head_damage_is_reported() {
    use DiscrepancyKind::{
        ChangeMissing, Epoch as WrongEpoch, Inherited, Leaked, MappedTwice, OutsideDataArea, Unknown,
        Unreadable, Usage,
    };
    reported(
        |model, batch| edit_head(model, batch, LAYER, |page| page.0[1].physical = page.0[0].physical),
        &[MappedTwice, Leaked],
    );
    reported(
        |model, batch| edit_head(model, batch, CLONE, |page| page.0[3].physical = PhysicalBlock(1 << 30)),
        &[OutsideDataArea, Leaked],
    );
    reported(
        |model, batch| edit_head(model, batch, CLONE, |page| page.0[4].birth = Epoch(1000)),
        &[WrongEpoch],
    );
    reported(|model, batch| edit_head(model, batch, CLONE, |page| page.0[0].checksum ^= 1), &[Inherited]);
    reported(
        |model, batch| edit_head(model, batch, CLONE, |page| page.0[4] = crate::map::Entry::HOLE),
        &[Leaked, Usage],
    );
    reported(
        |_, batch| batch.put(Family::Head, &keys::head(LAYER, PageIndex(3)), &[7]),
        &[Unreadable, Leaked],
    );
    reported(
        |model, batch| {
            let (_, value) = model.find(Family::Head, |_, _| true);
            batch.put(Family::Head, &keys::head(LayerId(77), PageIndex(3)), &value);
        },
        &[Unknown],
    );
    reported(
        |_, batch| batch.delete(Family::Changed, &keys::changed(CLONE, Epoch(1), PageIndex(0))),
        &[ChangeMissing],
    );
}

#[test]
fn dead_and_undo_damage_is_reported() {
    use DiscrepancyKind::{
        ChangeMissing, DeadWithoutUndo, Inherited, Keyframe, Leaked, MappedTwice, NotAllocated,
        UndoWithoutDead, Unneeded, Unreadable, Usage,
    };
    reported(
        |model, batch| batch.delete(Family::Dead, &model.find(Family::Dead, |_, _| true).0),
        &[Leaked, UndoWithoutDead],
    );
    reported(
        |model, batch| {
            // The same blocks, displaced in an interval in which nothing was.
            let (key, value) = model.find(Family::Dead, |_, _| true);
            let (layer, _, birth, _) = keys::read_dead(&key).unwrap();
            batch.put(Family::Dead, &keys::dead(layer, Epoch(2), birth, PageIndex(9)), &value);
        },
        &[MappedTwice, DeadWithoutUndo],
    );
    reported(
        |model, batch| {
            let (key, value) = model.find(Family::Dead, |_, _| true);
            batch.delete(Family::Dead, &key);
            let (layer, ..) = keys::read_dead(&key).unwrap();
            batch.put(Family::Dead, &keys::dead(layer, Epoch(0), Epoch(1), PageIndex(0)), &value);
        },
        &[DiscrepancyKind::Epoch, DeadWithoutUndo, Unneeded, UndoWithoutDead],
    );
    reported(
        |model, batch| batch.put(Family::Dead, &model.find(Family::Dead, |_, _| true).0, &[0, 1]),
        &[Unreadable, Leaked],
    );
    reported(
        |model, batch| {
            let (key, value) = model.find(Family::History, |_, value| undo::decode(value).unwrap().keyframe);
            let mut record = undo::decode(&value).unwrap();
            let slot = bits(!record.displaced & record.page.mapped()).next().unwrap();
            record.page.0[slot].physical.0 += 1;
            batch.put(Family::History, &key, &undo::encode(&record));
        },
        &[Keyframe],
    );
    reported(
        |model, batch| {
            let (key, value) = model.find(Family::History, |_, value| !undo::decode(value).unwrap().keyframe);
            let mut record = undo::decode(&value).unwrap();
            record.displaced |= 1 << 63;
            record.page.0[63] = crate::map::Entry::HOLE;
            batch.put(Family::History, &key, &undo::encode(&record));
        },
        &[Inherited, ChangeMissing, Usage],
    );
    reported(
        |model, batch| {
            let (key, value) = model.find(Family::Dead, |_, _| true);
            let mut runs = dead::decode(&value).unwrap();
            runs[0].blocks += 1;
            batch.put(Family::Dead, &key, &dead::encode(&runs));
        },
        &[NotAllocated, DeadWithoutUndo],
    );
}

#[test]
fn catalog_damage_is_reported() {
    use DiscrepancyKind::{Unknown, Unreadable, Usage};
    reported(|_, batch| batch.put(Family::Catalog, &[b'u', 0, 0, 0, 1], &[9, 0, 0, 0, 0, 0, 0, 0]), &[Usage]);
    reported(|_, batch| batch.put(Family::Catalog, &[b'u', 0, 0, 0, 1], &[9]), &[Unreadable]);
    reported(|_, batch| batch.delete(Family::Catalog, &[b'r', 0, 0, 0, 1, 0, 0, 0, 1]), &[Usage]);
    reported(|_, batch| batch.put(Family::Catalog, &[b'u', 0, 0, 0, 99], &[0; 8]), &[Unknown]);
    reported(|_, batch| batch.put(Family::Catalog, b"A?", &[0; 8]), &[Unreadable]);
}

#[test]
fn data_is_verified_where_it_can_be_read() {
    let mut model = Model::new(3);
    let layer = model.create();
    let bytes_of = |block: u64| vec![u8::try_from(block % 251).unwrap(); BLOCK_LEN];
    let mut contents = std::collections::BTreeMap::new();
    for block in 0..100 {
        let tag = checksum(&bytes_of(block));
        contents.insert(tag, bytes_of(block));
        model.put(layer, block, tag);
    }
    model.snapshot(&[layer]);
    model.put(layer, 5, checksum(&bytes_of(7)));
    model.checkpoint();
    let place = |nth: usize| *model.allocated.keys().nth(nth).unwrap();
    let (wrong, unreadable) = (place(10), place(99));
    for (damaged, expected) in
        [(false, vec![]), (true, vec![DiscrepancyKind::Checksum, DiscrepancyKind::UnreadableBlock])]
    {
        let mut read = |first: PhysicalBlock, blocks: u64, buffer: &mut [u8]| {
            for (physical, into) in (first.0..first.0 + blocks).zip(buffer.chunks_exact_mut(BLOCK_LEN)) {
                into.copy_from_slice(&contents[&model.allocated[&physical]]);
                if damaged && physical == unreadable {
                    return Err(Error::io("read", "block", std::io::Error::other("failed")));
                }
                into[9] ^= u8::from(damaged && physical == wrong);
            }
            Ok(())
        };
        let report = model.check_with(CheckOptions { read: Some(&mut read), ..CheckOptions::default() });
        assert_eq!(kinds(&report), expected, "{report:#?}");
        assert!(if damaged { report.verified_blocks < 100 } else { report.verified_blocks == 101 });
    }
}

#[test]
fn random_damage_never_panics_and_lists_stay_short() {
    let mut seeded = crate::delta::model::Seeded(42);
    for round in 0..60 {
        let model = sample();
        for _ in 0..4 {
            let family = seeded
                .one(&[Family::Head, Family::History, Family::Changed, Family::Dead, Family::Space])
                .unwrap();
            let mut all = Vec::new();
            let view = model.store.view();
            let mut scan = view.scan(family, None);
            scan.seek(&[]);
            while let Some((key, value)) = scan.item().unwrap() {
                all.push((key.to_vec(), value.to_vec()));
                scan.advance();
            }
            let (key, value) = &all[usize::try_from(seeded.below(all.len() as u64)).unwrap()];
            let mut bytes = if round % 2 == 0 { value.clone() } else { key.clone() };
            let at = usize::try_from(seeded.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << seeded.below(8);
            model.damage(|batch| {
                if round % 2 == 0 {
                    batch.put(family, key, &bytes);
                } else {
                    batch.delete(family, key);
                    batch.put(family, &bytes, value);
                }
            });
        }
        let report = model.check_with(CheckOptions { discrepancies_max: 3, read: None });
        assert!(report.discrepancies.len() <= 3);
        // A moved key leaves a gap where it was and something strange where it went.
        assert!(round % 2 == 0 || report.discrepancies_total > 0, "round {round}");
    }
}
