//! Who runs when: of several actors exactly one runs at any time, and before each request to the store a seed decides
//! who goes on, and whether the one who asks dies there. So one seed is one schedule, to the request. The store's clock
//! goes on with each request, and jumps.
//!
//! 1. A read of a log entry takes no turn: what it reads never changes and never goes, so it comes out the same whenever
//!    it is made. Several threads of one actor read entries at once, and nothing else.
//! 2. Requests that are made while nobody takes turns (before the first actor begins, after the last ended) pass.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use firn_engine::sim::random::Random;
use firn_replicator::error::{Error, Kind, Result};
use firn_replicator::format::name;
use firn_replicator::store::{Capabilities, Key, MemoryStore, ObjectInfo, Put, Retention, Stage, Store};

use crate::world::DAY_MS;

/// An actor that dies does so within so many of its requests.
const DEATH_WITHIN: u64 = 100;
/// How many in 16 requests the same actor goes on after, in different schedules.
const STAYS: [u64; 4] = [2, 8, 12, 14];

/// The turns of one schedule.
pub(crate) struct Turns {
    state: Mutex<State>,
    /// One for each actor: whether it is called, and how it is woken. Apart from the state, so that who is woken does not
    /// wait for who wakes.
    calls: Vec<(Mutex<bool>, Condvar)>,
    clock: Arc<MemoryStore>,
}

struct State {
    random: Random,
    running: usize,
    actors: Vec<Life>,
    begun: bool,
    /// The latest time that the clock showed.
    latest_ms: u64,
    /// How many in 64 requests the clock jumps at.
    jumps: u64,
    /// How many in 16 requests the same actor goes on after.
    stays: u64,
    /// The hash of all requests so far.
    trace: blake3::Hasher,
}

impl State {
    /// Who runs now, of those who have not ended.
    fn choose(&mut self) -> Option<usize> {
        let going: Vec<usize> =
            (0..self.actors.len()).filter(|actor| !self.actors[*actor].has_ended).collect();
        if going.is_empty() {
            return None;
        }
        let chosen = self.random.below(u64::try_from(going.len()).unwrap());
        self.running = going[usize::try_from(chosen).unwrap()];
        Some(self.running)
    }
}

/// What became of an actor.
struct Life {
    has_ended: bool,
    is_dead: bool,
    /// How many requests before the one that it dies at, and whether that one takes effect.
    death: Option<(u64, bool)>,
}

/// How a request ends.
enum Fate {
    Answered,
    Unanswered,
}

impl Turns {
    pub(crate) fn new(store: Arc<MemoryStore>, actors: usize, mut random: Random) -> Arc<Self> {
        let life = |random: &mut Random| {
            let death = (random.below(DEATH_WITHIN), random.below(2) == 0);
            let is_mortal = random.below(3) == 0;
            Life { has_ended: false, is_dead: false, death: is_mortal.then_some(death) }
        };
        let state = State {
            actors: (0..actors).map(|_| life(&mut random)).collect(),
            running: usize::try_from(random.below(actors as u64)).unwrap(),
            begun: false,
            latest_ms: store.clock_ms().unwrap(),
            jumps: random.below(8),
            stays: STAYS[usize::try_from(random.below(4)).unwrap()],
            trace: blake3::Hasher::new(),
            random,
        };
        let calls: Vec<(Mutex<bool>, Condvar)> = (0..actors).map(|_| Default::default()).collect();
        *lock(&calls[state.running].0) = true;
        Arc::new(Self { state: Mutex::new(state), calls, clock: store })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Runs `work` as `actor`, whenever it is its turn.
    pub(crate) fn act<T>(&self, actor: usize, work: impl FnOnce() -> T) -> T {
        struct Ended<'a>(&'a Turns, usize);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                let mut state = self.0.state();
                state.actors[self.1].has_ended = true;
                let next = state.choose();
                drop(state);
                next.into_iter().for_each(|next| self.0.call(next));
            }
        }
        self.wait(actor);
        self.state().begun = true;
        let _ended = Ended(self, actor);
        work()
    }

    /// Whether the store answers `actor` no more.
    pub(crate) fn is_dead(&self, actor: usize) -> bool {
        self.state().actors[actor].is_dead
    }

    /// The actor is started again, and dies no more.
    pub(crate) fn revive(&self, actor: usize) {
        let life = &mut self.state().actors[actor];
        (life.is_dead, life.death) = (false, None);
    }

    /// The latest time that the clock showed.
    pub(crate) fn latest_ms(&self) -> u64 {
        self.state().latest_ms
    }

    /// The hash of all requests, in their order.
    pub(crate) fn trace(&self) -> blake3::Hash {
        self.state().trace.finalize()
    }

    /// Waits until somebody calls `actor`.
    fn wait(&self, actor: usize) {
        let (is_called, woken) = &self.calls[actor];
        let is_called = woken.wait_while(lock(is_called), |is_called| !*is_called);
        *is_called.unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn call(&self, actor: usize) {
        let (is_called, woken) = &self.calls[actor];
        *lock(is_called) = true;
        woken.notify_one();
    }

    /// Waits until `actor` may ask, and says whether it hears what the store answers.
    fn begin(&self, actor: usize, operation: &str, subject: &str) -> Result<Fate> {
        let mut state = self.state();
        if state.actors[actor].is_dead {
            return Err(no_answer(subject));
        }
        if !state.begun || state.actors[actor].has_ended {
            return Ok(Fate::Answered);
        }
        assert_eq!(state.running, actor, "an actor asks one request after the other, when it is its turn");
        if state.random.below(16) >= state.stays
            && let Some(next) = state.choose().filter(|next| *next != actor)
        {
            drop(state);
            self.call(next);
            self.wait(actor);
            state = self.state();
        }
        let now_ms = self.clock.clock_ms().unwrap() + 1;
        let is_jump = state.random.below(64) < state.jumps;
        let now_ms = if is_jump { jump(&mut state.random, now_ms) } else { now_ms };
        state.latest_ms = state.latest_ms.max(now_ms);
        self.clock.set_clock_ms(now_ms);
        let who = u8::try_from(actor).unwrap();
        state.trace.update(&[who]).update(operation.as_bytes()).update(subject.as_bytes());
        let life = &mut state.actors[actor];
        match &mut life.death {
            Some((0, takes_effect)) => {
                life.is_dead = true;
                if *takes_effect { Ok(Fate::Unanswered) } else { Err(no_answer(subject)) }
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(Fate::Answered)
            }
            None => Ok(Fate::Answered),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_answer(subject: &str) -> Error {
    Error::new(Kind::Retry, "ask store", format!("{subject}: the store did not answer"))
}

/// Days on, or years forward or back.
fn jump(random: &mut Random, now_ms: u64) -> u64 {
    match random.below(4) {
        0 => now_ms.saturating_sub(random.below(10 * 365) * DAY_MS),
        1 => now_ms + random.below(10 * 365) * DAY_MS,
        _ => now_ms + random.below(15) * DAY_MS,
    }
}

/// The store as one actor sees it.
#[derive(Clone)]
pub(crate) struct TurnStore {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) actor: usize,
    /// Whether objects can be locked and held there.
    pub(crate) has_locks: bool,
}

impl TurnStore {
    fn ask<T>(
        &self,
        operation: &str,
        subject: &str,
        call: impl FnOnce(&MemoryStore) -> Result<T>,
    ) -> Result<T> {
        let fate = self.turns.begin(self.actor, operation, subject)?;
        let answer = call(&self.inner);
        match fate {
            Fate::Answered => answer,
            Fate::Unanswered => Err(no_answer(subject)),
        }
    }

    /// Whether a lock or hold in the store protects an object now.
    fn is_locked(&self, key: &Key) -> bool {
        let now_ms = self.inner.clock_ms().unwrap();
        let retention = self.inner.retention(key).unwrap_or(None);
        retention.is_some_and(|retention| retention.until_ms > now_ms)
            || self.inner.legal_hold(key).unwrap_or(false)
    }

    fn remove(&self, key: &Key, remove: impl FnOnce(&MemoryStore, &Key) -> Result<()>) -> Result<()> {
        self.ask("delete", key.as_str(), |store| {
            let was_locked = self.is_locked(key);
            let removed = remove(store, key);
            assert!(!was_locked || store.head(key)?.is_some(), "{key} was locked and was deleted");
            removed
        })
    }
}

impl Store for TurnStore {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        Capabilities { retention: self.has_locks, legal_hold: self.has_locks, ..inner }
    }

    fn clock_ms(&self) -> Result<u64> {
        self.ask("clock", "", |store| store.clock_ms())
    }

    fn stage(&self) -> Result<Box<dyn Stage + '_>> {
        Ok(Box::new(TurnStage { store: self, stage: self.inner.stage()? }))
    }

    fn put(&self, key: &Key, body: &[u8]) -> Result<()> {
        self.ask("put", key.as_str(), |store| store.put(key, body))
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        if name::entry_number(key).is_some() && !self.turns.is_dead(self.actor) {
            return self.inner.get(key);
        }
        self.ask("get", key.as_str(), |store| store.get(key))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.ask("get range", key.as_str(), |store| store.get_range(key, offset, length))
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.ask("head", key.as_str(), |store| store.head(key))
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        self.ask("list", prefix, |store| store.list(prefix, after))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.remove(key, |store, key| store.delete(key))
    }

    fn delete_governed(&self, key: &Key) -> Result<()> {
        self.remove(key, |store, key| store.delete_governed(key))
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        self.ask("retention", key.as_str(), |store| store.retention(key))
    }

    fn set_retention(&self, key: &Key, retention: Retention) -> Result<()> {
        self.ask("set retention", key.as_str(), |store| store.set_retention(key, retention))
    }

    fn legal_hold(&self, key: &Key) -> Result<bool> {
        self.ask("legal hold", key.as_str(), |store| store.legal_hold(key))
    }

    fn set_legal_hold(&self, key: &Key, held: bool) -> Result<()> {
        self.ask("set legal hold", key.as_str(), |store| store.set_legal_hold(key, held))
    }
}

/// An object in the making. That it gets its name is a request.
struct TurnStage<'a> {
    store: &'a TurnStore,
    stage: Box<dyn Stage + 'a>,
}

impl Stage for TurnStage<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.stage.append(bytes)
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Put> {
        let Self { store, stage } = *self;
        store.ask("publish", key.as_str(), |_| stage.publish(key))
    }

    fn publish_locked(self: Box<Self>, key: &Key, retention: Retention) -> Result<Put> {
        let Self { store, stage } = *self;
        store.ask("publish locked", key.as_str(), |_| stage.publish_locked(key, retention))
    }
}
