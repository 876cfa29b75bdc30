//! The device's invariants, over many seeds.

use std::io;

use super::bench::Bench;
use super::{DiskStatistics, KILLED, POWER_CUT, SimDevice, SimDisk, ZEROS};
use crate::device::{Device, DeviceRequest};
use crate::sim::random::Random;
use crate::sys::{Memory, MemorySlice};
use crate::units::BLOCK_LEN;

/// Invariants 3 and 4.
#[test]
fn synced_writes_survive_every_crash() {
    for seed in 0..100 {
        let mut bench = Bench::new(seed, 1 << 20);
        for round in 1..10 {
            (0..20).for_each(|block| bench.write(block, round).expect("sound"));
            bench.sync().expect("sound");
            bench.crash();
            assert!((0..20).all(|block| bench.read(block).expect("sound") == round), "seed {seed}");
        }
    }
}

/// Invariant 5: over many cuts an unsynced write is kept, lost and torn, and torn only between sectors. What
/// reads see afterwards is the medium.
#[test]
fn unsynced_writes_are_kept_lost_or_torn() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..500 {
        let mut bench = Bench::new(seed, 1 << 20);
        bench.write(1, 1).expect("sound");
        bench.sync().expect("sound");
        bench.write(1, 2).expect("sound");
        bench.submit_write(9, 2, &[2, 2]);
        bench.crash();
        for (block, old) in [(1, 1), (2, 0), (3, 0)] {
            let sectors = bench.sectors(block);
            assert_eq!(bench.read_bytes(block).expect("sound"), bench.medium_bytes(block));
            assert!(sectors.iter().all(|fill| [old, 2].contains(fill)));
            match sectors.iter().filter(|fill| **fill == 2).count() {
                0 => lost += 1,
                8 => kept += 1,
                _ => torn += 1,
            }
        }
    }
    assert!(kept > 200 && lost > 200 && torn > 50, "{kept} kept, {lost} lost, {torn} torn");
}

/// Invariant 5: overlapping writes, and a later one that outlives an earlier one.
#[test]
fn crash_reorders_and_mixes() {
    let (mut mixed, mut earlier_won, mut overtaken) = (0, 0, 0);
    for seed in 0..500 {
        let mut bench = Bench::new(seed, 1 << 20);
        (1..=3).for_each(|fill| bench.write(1, fill).expect("sound"));
        (2..10).for_each(|block| bench.write(block, 7).expect("sound"));
        bench.crash();
        let sectors = bench.sectors(1);
        mixed += u32::from(sectors.iter().any(|fill| *fill != sectors[0]));
        earlier_won += u32::from(sectors.contains(&1));
        overtaken += u32::from((2..9).any(|block| bench.medium(block) == 0 && bench.medium(block + 1) == 7));
    }
    assert!(mixed > 50 && earlier_won > 50 && overtaken > 50, "{mixed} {earlier_won} {overtaken}");
}

/// Invariant 4: a sync promises nothing about a write that completed after it was submitted.
#[test]
fn sync_covers_only_what_completed_before_its_submission() {
    let mut lost = 0;
    for seed in 0..300 {
        let mut bench = Bench::new(seed, 1 << 20);
        bench.write(1, 1).expect("sound");
        bench.submit_write(2, 2, &[1]);
        bench.device.submit(3, DeviceRequest::Sync);
        bench.reap(2);
        assert_eq!((bench.medium(1), bench.medium(2)), (1, 0), "exactly what it covers, seed {seed}");
        bench.crash();
        assert_eq!(bench.sectors(1), [1; 8], "seed {seed}");
        lost += u32::from(bench.medium(2) == 0);
    }
    assert!((50..250).contains(&lost), "{lost}");
}

/// Invariant 4: a write that a failed sync left volatile never replaces a newer one that is durable.
#[test]
fn medium_never_goes_back() {
    use crate::sim::faults::{FaultKind, FaultOrder};
    for seed in 0..300 {
        let mut bench = Bench::new(seed, 1 << 20);
        bench.disk.faults(|faults| faults.order(FaultOrder::new(FaultKind::SyncError)));
        bench.write(1, 1).expect("sound");
        assert!(bench.sync().is_err());
        bench.write(1, 2).expect("sound");
        bench.sync().expect("the error was transient");
        bench.crash();
        assert_eq!(bench.sectors(1), [2; 8], "seed {seed}");
    }
}

/// Invariant 2: completions come in every order, and a buffer changed too early shows at times.
#[test]
fn requests_complete_in_any_order() {
    let (mut reordered, mut early, mut partial) = (0, 0, 0);
    for seed in 0..200 {
        let mut bench = Bench::new(seed, 1 << 20);
        let slices: Vec<_> = (0..4).map(|token| bench.submit_write(token, token, &[1])).collect();
        slices[0].copy_in(0, &[2; BLOCK_LEN]);
        let mut some = Vec::new();
        bench.device.poll(&mut some);
        partial += u32::from(!some.is_empty() && some.len() < 4);
        let rest = bench.reap(4 - some.len());
        some.extend(rest);
        let tokens: Vec<u64> = some.iter().map(|completion| completion.token).collect();
        reordered += u32::from(!tokens.is_sorted());
        assert_eq!(tokens.iter().sum::<u64>(), 6);
        early += u32::from(bench.read(0).expect("sound") == 2);
    }
    assert!(reordered > 150 && partial > 50 && (50..150).contains(&early), "{reordered} {partial} {early}");
}

/// Invariant 6.
#[test]
fn killed_process_loses_no_completed_write() {
    let mut outcomes = [0; 3];
    for seed in 0..200 {
        let mut bench = Bench::new(seed, 1 << 20);
        (0..10).for_each(|block| bench.write(block, 1).expect("sound"));
        bench.submit_write(1, 10, &[2; 4]);
        bench.disk.kill();
        bench.reopen();
        assert!((0..10).all(|block| bench.read(block).expect("sound") == 1), "seed {seed}");
        let done =
            (10..14).filter(|block| bench.read_bytes(*block).expect("sound") == [2; BLOCK_LEN]).count();
        let untouched = (10..14).filter(|block| bench.read_bytes(*block).expect("sound") == ZEROS).count();
        assert_eq!(done + untouched, 4, "no block is torn, seed {seed}");
        outcomes[if done == 0 { 0 } else { 1 + usize::from(done == 4) }] += 1;
        assert!((0..10).all(|block| bench.medium(block) == 0), "it is as volatile as before");
        bench.sync().expect("sound");
        assert!((0..10).all(|block| bench.medium(block) == 1), "and a sync of the next process covers it");
    }
    assert!(outcomes.iter().all(|count| *count > 20), "{outcomes:?}");
}

/// Invariant 7.
#[test]
fn old_handle_fails_and_touches_nothing() {
    for killed in [false, true] {
        let mut bench = Bench::new(11, 1 << 20);
        bench.write(1, 1).expect("sound");
        bench.sync().expect("sound");
        bench.submit_write(7, 1, &[1]);
        if killed {
            bench.disk.kill()
        } else {
            bench.disk.crash()
        }
        let mut new =
            Bench { disk: bench.disk.clone(), device: SimDevice::open(&bench.disk, 1).expect("a waker") };
        let failed = bench.reap(1).pop().expect("one completion");
        let error = failed.result.expect_err("it was in flight");
        assert_eq!((failed.token, error.kind()), (7, io::ErrorKind::Other));
        assert_eq!(error.to_string(), if killed { KILLED } else { POWER_CUT });
        assert!(bench.write(1, 9).is_err() && bench.read(1).is_err() && bench.sync().is_err());
        assert!(bench.device.refresh_size().is_err());
        assert_eq!(new.read(1).expect("the new handle is live"), 1);
    }
}

#[test]
fn scheduled_cut_strikes_after_so_many_completions() {
    let mut bench = Bench::new(12, 1 << 20);
    bench.disk.cut_after(5);
    let done = (0..10).filter(|block| bench.write(*block, 1).is_ok()).count();
    assert_eq!(done, 5);
    assert!(bench.disk.is_cut() && bench.sync().is_err() && bench.read(0).is_err());
    bench.reopen();
    assert!(!bench.disk.is_cut());
    (0..10).for_each(|block| bench.write(block, 2).expect("the power is on again"));
    bench.submit_write(1, 1, &[3]);
    bench.disk.cut_after(0);
    assert!(bench.disk.is_cut() && bench.reap_one().is_err());
}

/// Invariant 1: a long random run, crashes and kills included, ends in the same bytes; another seed in others.
#[test]
fn same_seed_gives_same_outcome() {
    let run = |seed| {
        let mut bench = Bench::new(seed, 1 << 20);
        let mut random = Random::new(99);
        let mut tokens = Vec::new();
        for step in 0..500 {
            let count = 1 + random.below(4);
            (0..count)
                .for_each(|token| drop(bench.submit_write(token, random.below(250), &[random.byte(); 3])));
            match step % 50 {
                0 => bench.disk.kill(),
                25 => bench.disk.crash(),
                _ => {}
            }
            let reaped = bench.reap(usize::try_from(count).expect("small"));
            tokens.extend(reaped.into_iter().map(|completion| completion.token));
            if step % 25 == 0 {
                bench.reopen();
            }
        }
        let mut bytes = vec![0; 1 << 20];
        bench.disk.read_medium(0, &mut bytes);
        (tokens, crate::checksum::checksum(&bytes), bench.disk.statistics())
    };
    assert_eq!(run(13), run(13));
    assert_ne!(run(13), run(14));
}

#[test]
fn sync_now_is_offered_at_times_and_then_syncs() {
    let (mut bench, mut offered) = (Bench::new(15, 1 << 20), 0);
    for fill in 0..100 {
        bench.write(1, fill).expect("sound");
        if let Some(result) = bench.device.sync_now() {
            result.expect("sound");
            assert_eq!(bench.medium(1), fill);
            offered += 1;
        }
    }
    assert!((25..75).contains(&offered), "{offered}");
    bench.submit_write(1, 1, &[1]);
    assert!((0..20).all(|_| bench.device.sync_now().is_none()), "never beside requests in flight");
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let mut bench = Bench::new(16, 1 << 20);
    assert_eq!(bench.write(256, 1).expect_err("beyond the end").kind(), io::ErrorKind::InvalidInput);
    let into = MemorySlice::whole(Memory::heap(BLOCK_LEN));
    bench.device.submit(0, DeviceRequest::Read { offset: 512, into });
    assert_eq!(bench.reap_one().expect_err("misaligned").kind(), io::ErrorKind::InvalidInput);
    bench.disk.grow(2 << 20);
    assert_eq!((bench.device.bytes(), bench.device.refresh_size().expect("live")), (1 << 20, 2 << 20));
    bench.write(256, 1).expect("it fits now");
}

#[test]
fn statistics_count_what_was_done() {
    let mut bench = Bench::new(17, 1 << 20);
    bench.submit_write(1, 1, &[1, 2, 3]);
    bench.submit_write(2, 3, &[4]);
    bench.reap(2);
    bench.read(1).expect("sound");
    bench.sync().expect("sound");
    let expected = DiskStatistics {
        reads: 1,
        read_bytes: 4096,
        writes: 2,
        written_bytes: 4 * 4096,
        syncs: 1,
        overlaps: 1,
    };
    assert_eq!(bench.disk.statistics(), expected);
}

/// The medium can be edited at any alignment, a newer cached block hides the edit until it is lost, and a
/// duplicate goes its own way.
#[test]
fn medium_is_open_to_tests() {
    let mut bench = Bench::new(18, 1 << 20);
    bench.disk.write_medium(4090, &[5; 12]);
    assert_eq!((bench.read_bytes(0).expect("sound")[4090], bench.read_bytes(1).expect("sound")[5]), (5, 5));
    bench.write(1, 6).expect("sound");
    bench.disk.write_medium(4096, &[7; 4096]);
    assert_eq!((bench.read(1).expect("sound"), bench.medium(1)), (6, 7));
    let twin = SimDisk::duplicate(&bench.disk, 1);
    bench.sync().expect("sound");
    let mut bytes = [0; 6];
    twin.read_medium(4096, &mut bytes);
    assert_eq!((bytes, bench.medium(1)), ([7; 6], 6));
}
