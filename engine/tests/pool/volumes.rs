//! Reading and writing volumes, against a model in memory.

use firn_engine::catalog::Tags;
use firn_engine::core::CoreOptions;
use firn_engine::error::Kind;
use firn_engine::sim::random::Random;
use firn_engine::sys::DeviceKind;
use firn_engine::volume::Volume;

use crate::place::{MIB, Place, assert_same, each_device, kind, pattern, read};

/// What a volume should read as.
struct Model {
    volume: Volume,
    bytes: Vec<u8>,
}

impl Model {
    fn step(&mut self, random: &mut Random, mark: u64) {
        let sectors = self.bytes.len() as u64 / 512;
        let longest = random.pick(&[1, 8, 9, 64, 300, 4000]);
        let first = random.below(sectors);
        let count = random.range(1..longest + 1).min(sectors - first);
        let (offset, length) = (first * 512, usize::try_from(count * 512).expect("small"));
        let at = usize::try_from(offset).expect("small");
        match random.below(10) {
            0 => {
                self.volume.unmap(offset, count * 512).expect("unmapped");
                self.bytes[at..at + length].fill(0);
            }
            1 => {
                let zeros = vec![0; length];
                self.volume.write_at(offset, &zeros).expect("written");
                self.bytes[at..at + length].fill(0);
            }
            2..=6 => {
                let data = pattern(mark, offset, length);
                let written = match random.chance(50_000) {
                    true => self.volume.write_at_fua(offset, &data),
                    false => self.volume.write_at(offset, &data),
                };
                written.expect("written");
                self.bytes[at..at + length].copy_from_slice(&data);
            }
            _ => assert_same(&read(&self.volume, offset, length), &self.bytes[at..at + length], "a read"),
        }
    }

    fn check(&self, what: &str) {
        assert_same(&read(&self.volume, 0, self.bytes.len()), &self.bytes, what);
    }
}

#[test]
fn unaligned_reads_and_writes_follow_the_model() {
    each_device(|place| {
        let mut random = Random::new(11);
        let pool = place.create(128 * MIB);
        let length = (6 << 20) + 4096;
        let volume = pool.create_volume("a", length as u64, Tags::new()).expect("created");
        let mut model = Model { volume, bytes: vec![0; length] };
        let mut snapshots = Vec::new();
        for step in 0..600 {
            model.step(&mut random, step + 1);
            if step % 100 == 50 {
                let snapshot = model.volume.snapshot(&format!("s{step}"), Tags::new()).expect("taken");
                snapshots.push((snapshot, model.bytes.clone()));
            }
            if step % 150 == 149 {
                pool.checkpoint().expect("checkpoint");
            }
        }
        model.check("the volume");
        for (snapshot, bytes) in &snapshots {
            let mut found = vec![0; length];
            snapshot.read_at(0, &mut found).expect("read");
            assert_same(&found, bytes, "a snapshot");
        }
        drop(pool);
        let pool = place.open();
        model.volume = pool.volume("a").expect("found");
        model.check("after a restart");
        for (found, (_, bytes)) in model.volume.snapshots().expect("listed").iter().zip(&snapshots) {
            let mut content = vec![0; length];
            found.read_at(0, &mut content).expect("read");
            assert_same(&content, bytes, "a snapshot after a restart");
        }
    });
}

#[test]
fn ranges_that_can_not_be_are_refused() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", MIB, Tags::new()).expect("created");
    for (offset, length) in [(1, 512), (0, 511), (MIB, 512), (MIB - 512, 1024), (u64::MAX - 511, 512)] {
        let mut bytes = vec![1; length];
        assert_eq!(kind(volume.write_at(offset, &bytes)), Kind::Invalid, "{offset} {length}");
        assert_eq!(kind(volume.read_at(offset, &mut bytes)), Kind::Invalid, "{offset} {length}");
        assert_eq!(kind(volume.unmap(offset, length as u64)), Kind::Invalid, "{offset} {length}");
    }
    volume.write_at(0, &[]).expect("nothing");
    volume.read_at(0, &mut []).expect("nothing");
}

#[test]
fn several_threads_write_several_volumes() {
    each_device(|place| {
        let pool = place.create(128 * MIB);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let pool = &pool;
                scope.spawn(move || {
                    let name = format!("volume-{thread}");
                    let volume = pool.create_volume(&name, 4 * MIB, Tags::new()).expect("created");
                    let mut random = Random::new(thread);
                    let mut model = Model { volume, bytes: vec![0; 4 << 20] };
                    for step in 0..150 {
                        model.step(&mut random, (thread << 16) + step + 1);
                        if step % 40 == 0 {
                            model.volume.flush().expect("flushed");
                        }
                    }
                    model.check("at the thread's end");
                });
            }
        });
        assert_eq!(pool.volumes().expect("listed").len(), 4);
        pool.close().expect("closed");
    });
}

#[test]
fn memory_keeps_to_its_caps_when_the_map_is_larger() {
    let core = CoreOptions { cache_bytes: 1 << 20, overlay_bytes: 1 << 20, ..CoreOptions::default() };
    let mut place = Place::new(DeviceKind::Auto);
    place.options.core = core;
    let pool = place.create(256 * MIB);
    let volume = pool.create_volume("a", 1 << 40, Tags::new()).expect("created");
    let mut random = Random::new(5);
    let blocks: Vec<u64> = (0..20_000).map(|_| random.below(1 << 28)).collect();
    let mut most = 0;
    for (index, block) in blocks.iter().enumerate() {
        volume.write_at(block * 4096, &pattern(block + 1, 0, 4096)).expect("written");
        if index % 500 == 0 {
            most = most.max(pool.status().expect("status").statistics.overlay_bytes);
        }
    }
    assert!(most < 5 << 20, "{most} bytes of changes in memory");
    let repeated = |block: &u64| blocks.iter().filter(|other| *other == block).count() > 1;
    for block in blocks.iter().step_by(97).filter(|block| !repeated(block)) {
        assert_eq!(read(&volume, block * 4096, 4096), pattern(block + 1, 0, 4096), "block {block}");
    }
    assert!(pool.status().expect("status").statistics.cache_bytes <= 2 << 20);
}
