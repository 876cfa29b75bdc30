//! Senders, prunes, holds, dates and reclaims at the same time, in every order that a seed gives, killed anywhere, with
//! clocks that are off by years: every live point restores to the byte. In one schedule of four somebody has stolen a
//! signing key, and every point restores that had to stay.
//!
//! All that is done is the library's own. That a schedule would show a fault is shown by those who each leave out one
//! rule. `FIRN_SEED` replays one schedule, `FIRN_SCHEDULES` runs so many.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use firn_engine::sim::random::Random;
use firn_replicator::error::Result;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::MemoryStore;
use firn_replicator::vault::{OpenOptions, Vault};

use crate::actor::Actor;
use crate::beginning::Beginning;
use crate::cells::Volume;
use crate::judge::judge;
use crate::turns::{TurnStore, Turns};
use crate::world::{DAY_MS, START_MS, open_options};

const SCHEDULES: u64 = 100_000;
/// Within so many schedules a missing rule must show.
const FAULTY_SCHEDULES: u64 = 20_000;
const ACTORS: usize = 3;
/// Snapshots that are taken of a volume beyond those that a vault begins with.
const SNAPSHOTS: u64 = 3;
/// Nothing is spared because of its age.
pub(crate) const NOW: Limits = Limits { condemn_ms: 0, session_ms_max: 0 };
const LIMITS: [Limits; 2] = [NOW, Limits { condemn_ms: 7 * DAY_MS, session_ms_max: 7 * DAY_MS }];

/// What an actor leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Nothing: everything is the vault's own.
    Nothing,
    /// The sender does not look at what was deleted.
    RuleC,
    /// Reclaim does not look at what was committed meanwhile.
    RuleD,
    /// A date is written to the log, and nothing is locked.
    Locks,
    /// Reclaim does not look at what former points need.
    Former,
}

/// A count that several threads add to.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// What happened in all schedules, so that it is seen that something did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sends: Count,
    pub(crate) prunes: Count,
    pub(crate) protected: Count,
    pub(crate) deaths: Count,
    pub(crate) deleted: Count,
    /// Objects that the log says are deleted and a lock in the store keeps.
    pub(crate) refused: Count,
    /// Objects that live points reach under another name, since the first is dead.
    pub(crate) renamed: Count,
    pub(crate) restored: Count,
    /// Points that a compaction let go on as others.
    pub(crate) forwarded: Count,
    /// Live points that took the place of others, dates that were moved included.
    pub(crate) successors: Count,
    /// What a thief tried.
    pub(crate) thefts: Count,
    /// Former points that had to stay all the time, and were restored.
    pub(crate) former: Count,
}

/// What the actors of one schedule have in common.
pub(crate) struct Scene<'t> {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) volumes: [Arc<Volume>; 2],
    pub(crate) limits: Limits,
    pub(crate) leaves: Leaves,
    pub(crate) tally: &'t Tally,
    has_locks: bool,
    /// Where they all keep what they read of the log, as processes of one machine do.
    cache: PathBuf,
    faults: Mutex<Vec<String>>,
}

impl Scene<'_> {
    /// Opens the vault as `actor`.
    pub(crate) fn open(&self, actor: usize) -> Result<Vault> {
        let (inner, turns) = (self.store.clone(), self.turns.clone());
        let store = TurnStore { inner, turns, actor, has_locks: self.has_locks };
        Vault::open(Arc::new(store), OpenOptions { cache: Some(self.cache.clone()), ..open_options() })
    }

    /// Notes something that must not happen.
    pub(crate) fn complain(&self, fault: String) {
        self.faults.lock().unwrap().push(fault);
    }
}

/// Plays one schedule to its end: what it left, and a vault that was open in it.
fn play<'t>(
    beginnings: &[Beginning],
    seed: u64,
    leaves: Leaves,
    tally: &'t Tally,
    cache: &Path,
) -> (Scene<'t>, Vault) {
    let mut random = Random::new(seed);
    let beginning = &beginnings[usize::try_from(random.below(beginnings.len() as u64)).unwrap()];
    let store = Arc::new(beginning.store.copy());
    let scene = Scene {
        turns: Turns::new(store.clone(), ACTORS, random.fork()),
        volumes: beginning.volumes.each_ref().map(|volume| Arc::new(grown(volume, &mut random))),
        limits: LIMITS[usize::try_from(random.below(2)).unwrap()],
        has_locks: beginning.has_locks,
        cache: cache.to_owned(),
        faults: Mutex::default(),
        store,
        leaves,
        tally,
    };
    beginning.write_cache(cache);
    let (two_keep_house, has_thief) = (random.below(3) == 0, random.below(4) == 0);
    let mut actors: Vec<Actor<'_>> = (0..ACTORS)
        .map(|number| Actor {
            number,
            scene: &scene,
            vault: scene.open(number).unwrap(),
            random: random.fork(),
            keeps_house: number == 0 || (number == 1 && two_keep_house),
            is_thief: number == ACTORS - 1 && has_thief,
            host_ms: host_ms(&mut random),
        })
        .collect();
    std::thread::scope(|scope| {
        for actor in &mut actors {
            scope.spawn(|| scene.turns.act(actor.number, || actor.act()));
        }
    });
    let vault = actors.swap_remove(0).vault;
    drop(actors);
    (scene, vault)
}

fn grown(volume: &Volume, random: &mut Random) -> Volume {
    let mut volume = volume.clone();
    for _ in 0..SNAPSHOTS {
        let now_ms = host_ms(random);
        volume.grow(random, now_ms);
    }
    volume
}

/// A host's clock, right to ten years.
fn host_ms(random: &mut Random) -> u64 {
    START_MS + random.below(20 * 365) * DAY_MS - 10 * 365 * DAY_MS
}

/// One schedule; the fault that it showed, if any.
fn run(beginnings: &[Beginning], seed: u64, leaves: Leaves, tally: &Tally, cache: &Path) -> Option<String> {
    let schedule = || {
        let (scene, vault) = play(beginnings, seed, leaves, tally, cache);
        let found = scene.faults.lock().unwrap().pop();
        found.or_else(|| judge(&scene, &vault))
    };
    catch_unwind(AssertUnwindSafe(schedule)).unwrap_or_else(|_| Some("it panicked".to_owned()))
}

/// A directory in memory, where there is one.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Runs the seeds, twice as many at once as there are cores, since their actors wait for each other, until a fault shows:
/// the first seed with one, and what it was.
fn search(seeds: std::ops::Range<u64>, leaves: Leaves, tally: &Tally) -> Option<(u64, String)> {
    let beginnings = Beginning::all();
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..2 * cores {
            scope.spawn(|| {
                let cache = directory();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(fault) = run(&beginnings, seed, leaves, tally, cache.path()) {
                        found.lock().unwrap().push((seed, fault));
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap().into_iter().min()
}

#[test]
fn no_schedule_loses_what_a_live_point_reaches() {
    let tally = Tally::default();
    let setting = |name| std::env::var(name).ok().map(|value| value.parse().expect("a setting is a number"));
    let schedules = setting("FIRN_SCHEDULES").unwrap_or(SCHEDULES);
    let seeds = setting("FIRN_SEED").map_or(0..schedules, |seed| seed..seed + 1);
    let is_whole = seeds.end - seeds.start == SCHEDULES;
    let found = search(seeds, Leaves::Nothing, &tally);
    println!("{tally:?}");
    assert_eq!(found, None, "replay it with FIRN_SEED");
    // Nothing is proven by schedules in which nothing happens.
    let wanted = [
        (&tally.sends, SCHEDULES),
        (&tally.prunes, SCHEDULES / 4),
        (&tally.protected, SCHEDULES / 4),
        (&tally.deaths, SCHEDULES / 4),
        (&tally.deleted, SCHEDULES),
        (&tally.refused, SCHEDULES / 10_000),
        (&tally.renamed, SCHEDULES / 100),
        (&tally.restored, SCHEDULES),
        (&tally.forwarded, SCHEDULES / 100),
        (&tally.successors, SCHEDULES / 100),
        (&tally.thefts, SCHEDULES / 4),
        (&tally.former, SCHEDULES / 100),
    ];
    let is_met = |(count, least): (&Count, u64)| count.0.load(Ordering::Relaxed) >= least;
    assert!(!is_whole || wanted.into_iter().all(is_met), "{tally:?}");
}

#[test]
fn a_missing_rule_is_found() {
    for leaves in [Leaves::RuleC, Leaves::RuleD, Leaves::Locks, Leaves::Former] {
        let found = search(0..FAULTY_SCHEDULES, leaves, &Tally::default());
        assert!(found.is_some(), "no schedule shows that {leaves:?} is left out");
    }
}

/// One seed is one schedule, to the request.
#[test]
fn a_seed_gives_the_same_schedule_again() {
    let traces = || -> Vec<blake3::Hash> {
        let (beginnings, cache, tally) = (Beginning::all(), directory(), Tally::default());
        let trace = |seed| {
            let (scene, _) = play(&beginnings, seed, Leaves::Nothing, &tally, cache.path());
            scene.turns.trace()
        };
        (0..200).map(trace).collect()
    };
    assert_eq!(traces(), traces());
}
