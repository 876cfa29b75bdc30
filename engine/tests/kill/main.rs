//! A writer is killed with SIGKILL at random moments, and what its pool then holds is compared with what it said.
//!
//! The writer (`writer`, this same binary) does a sequence of operations that its seed decides, several under way at
//! once. It notes each one in a log before it submits it and after it was acknowledged; the log outlives it, as
//! everything does that was handed to the kernel. It submits from one thread, so its operations take effect in the
//! order of their numbers, but for those that are not aligned and those on the catalog, which it does alone.
//! The checker replays the same sequence over a model and looks for a number of steps after which the model is
//! exactly what the pool holds: every sector of both volumes and of every snapshot. Some number must fit (I2, I3),
//! it must not be beyond what was submitted, and
//!
//! - after a kill, not before the last acknowledged operation (I8);
//! - when the shared memory is taken away too, as by a power cut, not before the last one that was acknowledged
//!   durable, or acknowledged before an acknowledged flush (I1).
//!
//! `FIRN_SEED` and `FIRN_KILLS` choose another run; the moments of the kills differ from run to run all the same.

mod content;
mod sequence;
mod writer;

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::mpsc::channel;
use std::time::Duration;

use firn_engine::catalog::Tags;
use firn_engine::pool::{CreateOptions, Pool};
use firn_engine::sim::random::Random;

use content::{Content, VOLUMES, stamp};
use sequence::{Operation, SECTORS, Sequence};
use writer::{ACKNOWLEDGED, Log, Orders, SUBMITTED, Victim};

/// Waits; nobody ever sends.
fn pause(milliseconds: u64) {
    let (_sender, receiver) = channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(milliseconds));
}

/// The pool that is written, killed and compared over and over.
struct Trial {
    disk: tempfile::TempDir,
    shared: tempfile::TempDir,
    random: Random,
    orders: Orders,
    model: Content,
    kills: u64,
    /// Operations found, and blocks finished for dead writers: what the trial is worth.
    operations: u64,
    finished: u64,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        let shared = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let orders = Orders {
            path: disk.path().join("pool"),
            shared: shared.path().to_owned(),
            log: disk.path().join("log"),
            seed,
            round: 0,
            plain: false,
            idle: false,
        };
        let create =
            CreateOptions { bytes: Some(256 << 20), journal_blocks: Some(512), ..CreateOptions::default() };
        let pool = Pool::create(&orders.path, &create, &orders.options()).expect("created");
        let group = pool.create_group("both", Tags::new()).expect("created");
        for name in VOLUMES {
            group
                .add(&pool.create_volume(name, SECTORS * 512, Tags::new()).expect("created"))
                .expect("added");
        }
        pool.close().expect("closed");
        Self {
            disk,
            shared,
            random: Random::new(seed),
            orders,
            model: Content::new(),
            kills: 0,
            operations: 0,
            finished: 0,
        }
    }

    /// Lets a writer run for a while, kills it, maybe takes the shared memory away, and compares.
    fn round(&mut self, power_cut: bool) {
        self.orders.round += 1;
        self.orders.plain = self.random.percent(30);
        File::create(&self.orders.log).expect("an empty log");
        self.write_and_kill(power_cut);
        while self.random.percent(25) {
            self.kill_recovery(power_cut);
        }
        let pool = self.orders.open().expect("opened after the kill");
        self.compare(&pool, power_cut);
        self.finished += pool.status().expect("status").recovery.tail_blocks;
        if self.random.percent(30) {
            pool.close().expect("closed");
        }
        drop(pool);
        let report = Pool::check(&self.orders.path, &self.orders.options(), true).expect("checked");
        assert!(report.is_clean(), "FIRN_SEED={} round {}: {report:?}", self.orders.seed, self.orders.round);
    }

    fn write_and_kill(&mut self, power_cut: bool) {
        let mut victim = Victim::start(&self.orders);
        if self.random.percent(85) {
            while !victim.has_ended() && std::fs::metadata(&self.orders.log).expect("a log").len() == 0 {
                pause(2);
            }
            pause(self.random.below(250));
        } else {
            pause(self.random.below(120));
        }
        self.end(victim, power_cut);
    }

    /// Kills a process that does nothing but open the pool, maybe in the middle of that.
    fn kill_recovery(&mut self, power_cut: bool) {
        let victim = Victim::start(&Orders { idle: true, ..self.orders.clone() });
        pause(self.random.below(120));
        self.end(victim, power_cut);
    }

    fn end(&mut self, victim: Victim, power_cut: bool) {
        victim.kill();
        self.kills += 1;
        if power_cut {
            for entry in std::fs::read_dir(self.shared.path()).expect("listed") {
                std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
            }
        }
    }

    fn compare(&mut self, pool: &Pool, power_cut: bool) {
        let found = Content::read(pool);
        let entries = Log::read(&self.orders.log);
        let submitted = entries.iter().filter(|(kind, _)| *kind == SUBMITTED).count() as u64;
        let mut sequence = Sequence::new(self.orders.seed, self.orders.round, self.model.names());
        let operations: Vec<_> = (0..submitted).map(|_| sequence.next()).collect();
        let needed = if power_cut { durable(&entries, &operations) } else { acknowledged(&entries) };
        let mut model = self.model.clone();
        let mut fits = (needed == 0 && model == found).then(|| model.clone());
        let mut difference = model.difference(&found);
        for (number, operation) in &operations {
            let steps = operation.steps();
            for (index, &step) in steps.iter().enumerate() {
                model.apply(operation, step, stamp(self.orders.round, *number));
                let enough = *number > needed || *number == needed && index + 1 == steps.len();
                if enough && fits.is_none() {
                    difference = model.difference(&found);
                    fits = (model == found).then(|| model.clone());
                }
            }
        }
        let told = || {
            let disk = self.disk.path().display();
            format!(
                "FIRN_SEED={} round {} ({}): none of the states from operation {needed} to {submitted} fits; with all of \
                 them: {difference}; recovery: {:?}; see {disk}",
                self.orders.seed,
                self.orders.round,
                if power_cut { "power cut" } else { "kill" },
                pool.status().map(|status| status.recovery),
            )
        };
        self.operations += needed;
        self.model = fits.unwrap_or_else(|| panic!("{}", told()));
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // Left for whoever looks into it.
        self.disk.disable_cleanup(std::thread::panicking());
    }
}

/// The last operation that was acknowledged.
fn acknowledged(entries: &[(u64, u64)]) -> u64 {
    entries.iter().filter(|(kind, _)| *kind == ACKNOWLEDGED).map(|(_, number)| *number).max().unwrap_or(0)
}

/// The last operation that was acknowledged as durable, or before an acknowledged flush was submitted.
fn durable(entries: &[(u64, u64)], operations: &[(u64, Operation)]) -> u64 {
    let done: BTreeSet<u64> =
        entries.iter().filter(|(kind, _)| *kind == ACKNOWLEDGED).map(|(_, number)| *number).collect();
    let mut before = 0;
    let mut durable = 0;
    for &(kind, number) in entries {
        let operation = &operations[usize::try_from(number - 1).expect("small")].1;
        match (kind, operation) {
            (SUBMITTED, Operation::Flush | Operation::Checkpoint) if done.contains(&number) => {
                durable = durable.max(before);
            }
            (ACKNOWLEDGED, operation) => {
                before = before.max(number);
                durable = if operation.is_durable() { durable.max(number) } else { durable };
            }
            _ => {}
        }
    }
    durable
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn what_was_acknowledged_survives_the_process() {
    let mut trial = Trial::new(setting("FIRN_SEED", 8));
    while trial.kills < setting("FIRN_KILLS", 30) {
        trial.round(false);
    }
    assert!(trial.operations > 1000 && trial.finished > 10, "{} {}", trial.operations, trial.finished);
}

#[test]
fn what_was_flushed_survives_a_power_cut_and_nothing_is_missing_before_it() {
    let mut trial = Trial::new(setting("FIRN_SEED", 1));
    while trial.kills < setting("FIRN_KILLS", 40) {
        let power_cut = trial.random.percent(75);
        trial.round(power_cut);
    }
    assert!(trial.operations > 1000, "{}", trial.operations);
}
