//! Seeded runs on a disk that lies once: a flipped bit, a lost write or a misdirected one, anywhere. Whatever it is,
//! the pool repairs it, is not harmed by it, or reports it; it never returns a wrong byte (I4, I7).

use super::faults::{FaultKind, FaultOrder};
use super::machine::DISK_BLOCKS;
use super::random::Random;
use super::run::Run;
use crate::error::Kind;

/// What became of the damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as it should be, and nothing had to be mended.
    Harmless,
    /// A damaged superblock was written again.
    Repaired,
    /// Requests for what is damaged were refused, or the pool was not opened.
    Reported,
}

/// Runs one seed.
///
/// # Panics
/// When a wrong byte was returned, something flushed is gone without a word, or anything else is wrong.
pub fn damage(seed: u64) -> Verdict {
    let mut run = Run::new(seed, true);
    let mut random = Random::new(seed ^ 0xda3a6e);
    let mut running = run.machine.open().expect("a new pool opens");
    let lie = random.pick(&[None, Some(FaultKind::LostWrite), Some(FaultKind::MisdirectedWrite)]);
    let steps = random.range(10..80);
    let lies_at = random.below(steps);
    for step in 0..steps {
        if step == lies_at
            && let Some(kind) = lie
        {
            let order = FaultOrder::new(kind).skip(random.below(20));
            run.machine.disk.faults(|faults| faults.order(order));
        }
        run.step(&mut running);
    }
    // The lie, if it has not happened, never will; and the journal says how far it is durable.
    run.machine.disk.faults(super::faults::Faults::clear);
    let way = random.below(3);
    run.calm(&mut running, way == 0);
    let reached = running.next_lsn();
    match way {
        0 => run.machine.close(running).expect("a healthy device"),
        1 => run.machine.kill(running),
        _ => run.machine.power_cut(Some(running)),
    }
    if lie.is_none() {
        let place = match random.below(4) {
            0 => random.below(2 * 4096),
            1 => random.range(16 * 4096..80 * 4096),
            _ => random.below(DISK_BLOCKS * 4096),
        };
        run.machine.disk.flip_bit(place, u32::try_from(random.below(8)).expect("below 8"));
    }
    let mut running = match run.machine.open() {
        Ok(running) => running,
        Err(error) if error.kind() == Kind::Damaged => return Verdict::Reported,
        Err(error) => panic!("the pool does not open: {error:?}"),
    };
    run.recovered(&running, reached, reached);
    run.compare(&mut running);
    match (run.reported, running.report.repaired_superblock) {
        (1.., _) => Verdict::Reported,
        (0, true) => Verdict::Repaired,
        (0, false) => Verdict::Harmless,
    }
}
