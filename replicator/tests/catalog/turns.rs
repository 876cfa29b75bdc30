//! Who runs when: of several actors exactly one runs at any time, and before each request to the store a seed decides
//! who goes on. So one seed is one schedule, to the request. The store's clock jumps with it.
//!
//! Requests that are made while nobody takes turns (before the first actor begins, after the last ended) pass.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use firn_engine::sim::random::Random;
use firn_replicator::error::Result;
use firn_replicator::store::{Capabilities, Key, MemoryStore, ObjectInfo, Put, Retention, Stage, Store};

use crate::world::DAY_MS;

/// The turns of one schedule.
pub(crate) struct Turns {
    state: Mutex<State>,
    /// One for each actor.
    called: Vec<Condvar>,
    clock: Arc<MemoryStore>,
}

struct State {
    random: Random,
    running: usize,
    alive: Vec<bool>,
    begun: bool,
    /// How many in 16 requests the clock jumps at.
    jumps: u64,
}

impl Turns {
    pub(crate) fn new(store: Arc<MemoryStore>, actors: usize, mut random: Random) -> Arc<Self> {
        let jumps = random.below(4);
        let running = usize::try_from(random.below(actors as u64)).unwrap();
        let state = State { random, running, alive: vec![true; actors], begun: false, jumps };
        Arc::new(Self {
            state: Mutex::new(state),
            called: (0..actors).map(|_| Condvar::new()).collect(),
            clock: store,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Runs `work` as `actor`, whenever it is its turn.
    pub(crate) fn act<T>(&self, actor: usize, work: impl FnOnce() -> T) -> T {
        struct Ended<'a>(&'a Turns, usize);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                let mut state = self.0.state();
                state.alive[self.1] = false;
                self.0.pass_on(&mut state);
            }
        }
        let mut state = self.state();
        state.begun = true;
        drop(self.wait(state, actor));
        let _ended = Ended(self, actor);
        work()
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>, actor: usize) -> MutexGuard<'a, State> {
        while state.running != actor {
            state = self.called[actor].wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state
    }

    fn pass_on(&self, state: &mut State) {
        let alive: Vec<usize> = (0..state.alive.len()).filter(|actor| state.alive[*actor]).collect();
        if alive.is_empty() {
            return;
        }
        let chosen = state.random.below(alive.len() as u64);
        state.running = alive[usize::try_from(chosen).unwrap()];
        self.called[state.running].notify_one();
    }

    /// Called by an actor before each request.
    fn request(&self, actor: usize) {
        let mut state = self.state();
        if !state.begun || !state.alive[actor] {
            return;
        }
        assert_eq!(state.running, actor, "an actor asks from one thread, when it is its turn");
        if state.random.below(16) < state.jumps {
            self.clock.set_clock_ms(jump(&mut state.random, self.clock.clock_ms().unwrap()));
        }
        self.pass_on(&mut state);
        drop(self.wait(state, actor));
    }
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
pub(crate) struct TurnStore {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) actor: usize,
}

impl TurnStore {
    fn store(&self) -> &MemoryStore {
        self.turns.request(self.actor);
        &self.inner
    }
}

impl Store for TurnStore {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        // A lock is one more reason not to delete; here nothing but the log's order shall count.
        Capabilities { retention: false, legal_hold: false, ..self.inner.capabilities() }
    }

    fn clock_ms(&self) -> Result<u64> {
        self.store().clock_ms()
    }

    fn stage(&self) -> Result<Box<dyn Stage + '_>> {
        self.store().stage()
    }

    fn put_if_absent(&self, key: &Key, body: &[u8]) -> Result<Put> {
        self.store().put_if_absent(key, body)
    }

    fn put(&self, key: &Key, body: &[u8]) -> Result<()> {
        self.store().put(key, body)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        self.store().get(key)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.store().get_range(key, offset, length)
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.store().head(key)
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        self.store().list(prefix, after)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.store().delete(key)
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        self.store().retention(key)
    }
}
