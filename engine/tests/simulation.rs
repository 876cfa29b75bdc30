//! The seeded simulation, as many seeds as `make test` has time for; `make soak` runs fresh ones.
//! A failure prints its seed: `cargo run --release -p firn-engine --features sim --example soak -- --from SEED --seeds 1`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use firn_engine::sim::{damage, run};

/// Runs `one` for each seed on all cores, twice as many at once, since each waits for RocksDB's threads now and then;
/// panics naming every seed that failed.
fn each_seed<T: Send>(seeds: u64, one: impl Fn(u64) -> T + Sync, mut take: impl FnMut(T) + Send) {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let taken = Mutex::new(&mut take);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..2 * threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(seed))) {
                        Ok(report) => taken.lock().expect("not poisoned")(report),
                        Err(_) => failed.lock().expect("not poisoned").push(seed),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("not poisoned");
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}

/// I1, I2, I3, I5, I6, I8 over crashes at random points, also of recovery and of checkpoints.
#[test]
fn ten_thousand_seeds_lose_nothing() {
    let (mut crashes, mut checkpoints, mut compared, mut ahead, mut landed) = (0, 0, 0, 0, 0);
    each_seed(10_000, run::run, |report| {
        crashes += report.crashes;
        checkpoints += report.checkpoints;
        compared += report.compared;
        ahead += report.ahead;
        landed += report.landed;
    });
    println!(
        "{crashes} crashes and closes, {checkpoints} checkpoints, {compared} volumes and snapshots compared, {ahead} \
         reads answered by what was read ahead, {landed} blocks landed"
    );
    // A simulation that crashes nothing proves nothing.
    assert!(crashes > 10_000 && checkpoints > 10_000 && compared > 50_000 && ahead > 10_000);
    assert!(landed > 100_000);
}

/// I4, I7 under a disk that lies once.
#[test]
fn a_thousand_lies_are_repaired_harmless_or_reported() {
    let mut verdicts: BTreeMap<String, u32> = BTreeMap::new();
    each_seed(1_000, damage::damage, |verdict| *verdicts.entry(format!("{verdict:?}")).or_default() += 1);
    println!("{verdicts:?}");
    assert_eq!(verdicts.len(), 3, "each way out must have been taken: {verdicts:?}");
}
