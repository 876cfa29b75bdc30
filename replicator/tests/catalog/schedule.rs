//! Senders, prunes and reclaims at the same time, in every order that a seed gives, with a clock that is off by years:
//! nothing that a live point reaches is ever deleted, or named as deleted.
//!
//! Vaults, log, prune, reclaim and commit are the real ones. That the test would see a fault is shown by a sender and a
//! reclaim of its own that each leave out one rule. `FIRN_SEED` replays one schedule, `FIRN_SCHEDULES` runs so many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use firn_engine::sim::random::Random;
use firn_replicator::error::{Error, Kind, Result};
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::Action;
use firn_replicator::format::name;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::{Key, MemoryStore, Store, each_object};
use firn_replicator::vault::Vault;

use crate::sender::{Snapshot, send, upload};
use crate::turns::{TurnStore, Turns};
use crate::world::{DAY_MS, open, store, vault};

const SCHEDULES: u64 = 100_000;
/// Within so many schedules a missing rule must show.
const FAULTY_SCHEDULES: u64 = 20_000;
const ACTORS: usize = 3;
const LIMITS: [Limits; 2] = [
    Limits { condemn_ms: 0, session_ms_max: 0 },
    Limits { condemn_ms: 7 * DAY_MS, session_ms_max: 7 * DAY_MS },
];

/// What an actor leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// Nothing: everything is the vault's own.
    Nothing,
    /// The sender does not look at what was deleted.
    RuleC,
    /// Reclaim does not look at what was committed meanwhile.
    RuleD,
}

/// What happened in all schedules, so that it is seen that something did.
#[derive(Debug, Default)]
struct Tally {
    commits: AtomicU64,
    prunes: AtomicU64,
    deleted: AtomicU64,
    renamed: AtomicU64,
    deepest: AtomicU64,
}

/// Vaults in which there is something to quarrel about.
fn beginnings() -> Vec<Arc<MemoryStore>> {
    (0..4).map(beginning).collect()
}

fn beginning(number: u64) -> Arc<MemoryStore> {
    let store = store();
    let vault = vault(&store, None);
    let now = LIMITS[0];
    let first = send(&vault, &Snapshot::new(1, "first", b"ab")).unwrap();
    send(&vault, &Snapshot::new(1, "second", b"c").on_parent()).unwrap();
    if number == 0 {
        return store;
    }
    // A send that never ended.
    upload(&vault, &Snapshot::new(2, "cut", b"d")).unwrap();
    vault.remove_points(&[first], "old").unwrap();
    vault.reclaim(now).unwrap();
    if number == 2 {
        send(&vault, &Snapshot::new(2, "third", b"d")).unwrap();
    }
    if number == 3 {
        // A reclaim that ended before it deleted anything.
        let objects = vault.catalog().condemned().keys().cloned().collect();
        vault.append(&mut |_, _| Ok(Some(Action::Delete { objects: Vec::clone(&objects) }))).unwrap();
    }
    store
}

/// One schedule; the fault that it showed, if any.
fn run(beginnings: &[Arc<MemoryStore>], seed: u64, leaves: Leaves, tally: &Tally) -> Option<String> {
    let (vault, store) = play(beginnings, seed, leaves, tally);
    judge(&vault, &store, tally)
}

/// Plays one schedule to its end.
fn play(
    beginnings: &[Arc<MemoryStore>],
    seed: u64,
    leaves: Leaves,
    tally: &Tally,
) -> (Vault, Arc<MemoryStore>) {
    let mut random = Random::new(seed);
    let beginning = &beginnings[usize::try_from(random.below(beginnings.len() as u64)).unwrap()];
    let store = Arc::new(beginning.copy());
    let turns = Turns::new(store.clone(), ACTORS, random.fork());
    let mut vaults: Vec<Vault> = (0..ACTORS)
        .map(|actor| open(Arc::new(TurnStore { inner: store.clone(), turns: turns.clone(), actor })).unwrap())
        .collect();
    let limits = LIMITS[usize::try_from(random.below(2)).unwrap()];
    let two_reclaim = random.below(3) == 0;
    std::thread::scope(|scope| {
        for (actor, vault) in vaults.iter().enumerate() {
            let (random, turns) = (random.fork(), turns.clone());
            let is_reclaimer = actor == 0 || (actor == 1 && two_reclaim);
            scope.spawn(move || {
                turns.act(actor, || match is_reclaimer {
                    true => keep_house(vault, random, limits, leaves, tally),
                    false => send_some(vault, actor as u64, random, leaves, tally),
                });
            });
        }
    });
    (vaults.swap_remove(0), store)
}

fn send_some(vault: &Vault, volume: u64, mut random: Random, leaves: Leaves, tally: &Tally) {
    for turn in 0..1 + random.below(2) {
        let letters = 1 + random.below(2);
        let blocks: Vec<u8> =
            (0..letters).map(|_| b"abcd"[usize::try_from(random.below(4)).unwrap()]).collect();
        // Half of them for the volume that has points already.
        let volume = if random.below(2) == 0 { 1 } else { volume };
        let snapshot = Snapshot::new(volume, &format!("s{turn}"), &blocks);
        let snapshot = if random.below(2) == 0 { snapshot.on_parent() } else { snapshot };
        match leaves == Leaves::RuleC {
            true => careless_send(vault, &snapshot).map(|_| ()),
            false => send(vault, &snapshot).map(|_| ()),
        }
        .unwrap_or_else(|error| allow(&error, leaves));
        tally.commits.fetch_add(1, Ordering::Relaxed);
    }
}

fn keep_house(vault: &Vault, mut random: Random, limits: Limits, leaves: Leaves, tally: &Tally) {
    for _ in 0..2 + random.below(2) {
        let points: Vec<Digest> = vault.refresh().unwrap().points().keys().copied().collect();
        if random.below(2) == 0 && !points.is_empty() {
            let point = points[usize::try_from(random.below(points.len() as u64)).unwrap()];
            match vault.remove_points(&[point], "old") {
                Ok(()) => drop(tally.prunes.fetch_add(1, Ordering::Relaxed)),
                // The other one was faster.
                Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{error}"),
            }
        }
        let deleted = match leaves == Leaves::RuleD {
            true => careless_reclaim(vault, limits),
            false => vault.reclaim(limits).map(|report| report.deleted_objects),
        };
        match deleted {
            Ok(deleted) => drop(tally.deleted.fetch_add(deleted, Ordering::Relaxed)),
            Err(error) => allow(&error, leaves),
        }
    }
}

/// Whoever keeps the rules meets no error at all.
fn allow(error: &Error, leaves: Leaves) {
    assert_ne!(leaves, Leaves::Nothing, "{error}");
}

/// What a live point reaches is there, and in no `delete` entry: that may be carried out at any later time.
fn judge(vault: &Vault, store: &MemoryStore, tally: &Tally) -> Option<String> {
    let catalog = vault.refresh().unwrap();
    tally.deepest.fetch_max(catalog.head().number, Ordering::Relaxed);
    let reach = match vault.reach() {
        Ok(reach) => reach,
        Err(error) => return Some(error.to_string()),
    };
    for key in reach.objects() {
        if store.head(key).unwrap().is_none() {
            return Some(format!("{key} is gone"));
        }
        if catalog.is_deleted(key) {
            return Some(format!("{key} is in a delete entry"));
        }
        let is_renamed = key.as_str().ends_with(".1");
        tally.renamed.fetch_add(u64::from(is_renamed), Ordering::Relaxed);
    }
    None
}

/// A send whose commit does not look at what the log says of its objects.
fn careless_send(vault: &Vault, snapshot: &Snapshot) -> Result<()> {
    let committed = upload(vault, snapshot)?.committed;
    vault.append(&mut |_, _| Ok(Some(Action::Commit { points: vec![committed.clone()], group: None })))?;
    Ok(())
}

/// A reclaim that knows what points reach as of its beginning, and does not look again.
fn careless_reclaim(vault: &Vault, limits: Limits) -> Result<u64> {
    vault.refresh()?;
    let reach = vault.reach()?;
    let mut dead: Vec<Key> = Vec::new();
    for prefix in [name::PACKS, name::RUNS, name::POINTS] {
        each_object(vault.store().as_ref(), prefix, |object| {
            if !reach.objects().contains(&object.key) {
                dead.push(object.key);
            }
            Ok(())
        })?;
    }
    vault.append(&mut |catalog, _| {
        let is_new = |key: &&Key| !catalog.condemned().contains_key(*key) && !catalog.is_deleted(key);
        let objects: Vec<Key> = dead.iter().filter(is_new).cloned().collect();
        Ok((!objects.is_empty()).then_some(Action::Condemn { objects }))
    })?;
    let mut named = Vec::new();
    vault.append(&mut |catalog, clock_ms| {
        let is_due = |key: &&Key| {
            let condemned_ms = catalog.condemned().get(*key);
            condemned_ms.is_some_and(|condemned_ms| condemned_ms + limits.condemn_ms <= clock_ms)
        };
        named = dead.iter().filter(is_due).cloned().collect();
        Ok((!named.is_empty()).then(|| Action::Delete { objects: named.clone() }))
    })?;
    named.iter().try_for_each(|key| vault.store().delete(key))?;
    Ok(named.len() as u64)
}

/// Runs the seeds from `first` on two threads until a fault shows: the first seed with one, and what it was.
fn search(seeds: std::ops::Range<u64>, leaves: Leaves, tally: &Tally) -> Option<(u64, String)> {
    let beginnings = beginnings();
    let next = AtomicU64::new(seeds.start);
    let found = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(fault) = run(&beginnings, seed, leaves, tally) {
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
fn no_schedule_deletes_what_a_live_point_reaches() {
    let tally = Tally::default();
    let setting = |name| std::env::var(name).ok().map(|value| value.parse().expect("a setting is a number"));
    let schedules = setting("FIRN_SCHEDULES").unwrap_or(SCHEDULES);
    let seeds = setting("FIRN_SEED").map_or(0..schedules, |seed| seed..seed + 1);
    let is_whole = seeds.end - seeds.start == SCHEDULES;
    let found = search(seeds, Leaves::Nothing, &tally);
    assert_eq!(found, None, "a false delete; replay it with FIRN_SEED");
    println!("{tally:?}");
    // Nothing is proven by schedules in which nothing happens.
    let at_least = |count: &AtomicU64, least: u64| !is_whole || count.load(Ordering::Relaxed) >= least;
    assert!(at_least(&tally.commits, SCHEDULES) && at_least(&tally.prunes, SCHEDULES / 2), "{tally:?}");
    assert!(at_least(&tally.deleted, SCHEDULES) && at_least(&tally.renamed, SCHEDULES / 100), "{tally:?}");
}

#[test]
fn a_sender_that_ignores_deletions_is_caught() {
    let found = search(0..FAULTY_SCHEDULES, Leaves::RuleC, &Tally::default());
    assert!(found.is_some(), "the test does not see what it is there for");
}

#[test]
fn a_reclaim_that_does_not_look_again_is_caught() {
    let found = search(0..FAULTY_SCHEDULES, Leaves::RuleD, &Tally::default());
    assert!(found.is_some(), "the test does not see what it is there for");
}

/// One seed is one schedule, to the request.
#[test]
fn a_seed_gives_the_same_schedule_again() {
    let beginnings = beginnings();
    let ends = |seed| {
        let (_, store) = play(&beginnings, seed, Leaves::Nothing, &Tally::default());
        let entries = store.list(name::LOG, None).unwrap();
        entries.iter().map(|entry| Digest::of(&store.get(&entry.key).unwrap())).collect::<Vec<_>>()
    };
    for seed in 0..20 {
        assert_eq!(ends(seed), ends(seed), "seed {seed}");
    }
}
