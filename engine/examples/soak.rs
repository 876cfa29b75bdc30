//! Runs fresh seeds of the simulation: `cargo run --release -p firn-engine --features sim --example soak -- --seeds n`
//! (`--from seed` to begin at a given one, which is how a failure is run again).

use std::sync::atomic::{AtomicU64, Ordering};

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    arguments.next()?.parse().ok()
}

fn main() {
    let seeds = argument("--seeds").unwrap_or(10_000);
    let fresh = firn_engine::sys::random_bytes::<4>().map(|bytes| u64::from(u32::from_le_bytes(bytes)) << 20);
    let from = argument("--from").unwrap_or_else(|| fresh.unwrap_or(0));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("{seeds} seeds from {from} on {threads} threads");
    let next = AtomicU64::new(from);
    let [crashes, events, ahead, landed, failed] = [const { AtomicU64::new(0) }; 5];
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    match std::panic::catch_unwind(|| firn_engine::sim::run::run(seed)) {
                        Ok(report) => {
                            crashes.fetch_add(report.crashes, Ordering::Relaxed);
                            events.fetch_add(report.events, Ordering::Relaxed);
                            ahead.fetch_add(report.ahead, Ordering::Relaxed);
                            landed.fetch_add(report.landed, Ordering::Relaxed);
                        }
                        Err(_) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            eprintln!("seed {seed} failed; run it again with --from {seed} --seeds 1");
                        }
                    }
                }
            });
        }
    });
    let [crashes, events, ahead, landed, failed] =
        [crashes, events, ahead, landed, failed].map(AtomicU64::into_inner);
    println!(
        "{seeds} seeds, {events} operations, {ahead} reads answered by what was read ahead, {landed} blocks landed, \
         {crashes} crashes and closes, {failed} failed"
    );
    std::process::exit(i32::from(failed > 0));
}
