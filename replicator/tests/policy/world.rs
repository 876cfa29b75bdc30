//! A vault as small as it can be and still be reclaimed wrongly: a store, its clock and the log. Objects are places in
//! a table of real names, sets of them are bits.

use std::sync::LazyLock;

use firn_engine::sim::random::Random;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::name::PackName;
use firn_replicator::policy::class;
use firn_replicator::policy::reclaim::Standing;
use firn_replicator::store::{Key, ObjectInfo};

/// Different contents there are. The first of them stand for packs that several points share.
pub(crate) const CONTENTS: usize = 5;
/// Names for the same content.
pub(crate) const GENERATIONS: usize = 12;
const OBJECTS: usize = CONTENTS * GENERATIONS;

/// A set of objects.
pub(crate) type Set = u64;

/// The name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object(pub(crate) usize);

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let pack = |object: usize| PackName {
        class: class::unlocked(),
        period: 742,
        id: Digest::of(&(object / GENERATIONS).to_le_bytes()),
        generation: u32::try_from(object % GENERATIONS).expect("a small number"),
    };
    (0..OBJECTS).map(|object| pack(object).key()).collect()
});

impl Object {
    pub(crate) fn new(content: usize, generation: usize) -> Self {
        Self(content * GENERATIONS + generation)
    }

    pub(crate) fn content(self) -> usize {
        self.0 / GENERATIONS
    }

    pub(crate) fn bit(self) -> Set {
        1 << self.0
    }

    pub(crate) fn key(self) -> &'static Key {
        &KEYS[self.0]
    }

    pub(crate) fn named(key: &Key) -> Self {
        Self(KEYS.iter().position(|known| known == key).expect("the world has no other objects"))
    }
}

/// The objects in a set.
pub(crate) fn objects(set: Set) -> impl Iterator<Item = Object> {
    (0..OBJECTS).map(Object).filter(move |object| set & object.bit() != 0)
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Commit { point: usize, reached: Set },
    Prune { point: usize },
    Condemn(Set),
    Acquit(Set),
    Delete(Set),
}

/// What the log says, all entries below a number taken in.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) entries: usize,
    pub(crate) live: Vec<(usize, Set)>,
    pub(crate) deleted: Set,
    condemned: Set,
    condemned_ms: [u64; OBJECTS],
}

impl Default for View {
    fn default() -> Self {
        Self { entries: 0, live: Vec::new(), deleted: 0, condemned: 0, condemned_ms: [0; OBJECTS] }
    }
}

impl View {
    pub(crate) fn reached(&self) -> Set {
        self.live.iter().fold(0, |all, (_, reached)| all | reached)
    }

    pub(crate) fn standing(&self, object: Object) -> Standing {
        let is_condemned = self.condemned & object.bit() != 0;
        Standing {
            is_reached: self.reached() & object.bit() != 0,
            condemned_ms: is_condemned.then(|| self.condemned_ms[object.0]),
            is_deleted: self.deleted & object.bit() != 0,
        }
    }

    /// Takes in what was written since.
    pub(crate) fn read(&mut self, log: &[(u64, Action)]) {
        for (time_ms, action) in &log[self.entries..] {
            match action {
                Action::Commit { point, reached } => self.live.push((*point, *reached)),
                Action::Prune { point } => self.live.retain(|(live, _)| live != point),
                Action::Condemn(set) => {
                    objects(*set & !self.condemned).for_each(|o| self.condemned_ms[o.0] = *time_ms);
                    self.condemned |= set;
                }
                Action::Acquit(set) => self.condemned &= !set,
                Action::Delete(set) => {
                    self.deleted |= set;
                    self.condemned &= !set;
                }
            }
        }
        self.entries = log.len();
    }
}

/// The store: objects, when they were written, the log's entries, and a clock that may be anywhere.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) log: Vec<(u64, Action)>,
    pub(crate) present: Set,
    modified_ms: Vec<u64>,
    pub(crate) clock_ms: u64,
    points: usize,
    /// What the log says in truth; nobody who takes part looks at it.
    truth: View,
    /// For each object, the time of the entry since which no point reaches it.
    unreached_ms: Vec<u64>,
    /// How long after that it must still be there.
    grace_ms: u64,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A live point reaches what is not in the store.
    Lost,
    /// A `delete` entry names what a point reached less than the period of condemning before.
    NoGrace,
}

impl World {
    pub(crate) fn new(clock_ms: u64, grace_ms: u64) -> Self {
        Self {
            clock_ms,
            grace_ms,
            modified_ms: vec![0; OBJECTS],
            unreached_ms: vec![0; OBJECTS],
            ..Self::default()
        }
    }

    pub(crate) fn put_if_absent(&mut self, object: Object) {
        if self.present & object.bit() == 0 {
            self.present |= object.bit();
            self.modified_ms[object.0] = self.clock_ms;
        }
    }

    pub(crate) fn delete(&mut self, object: Object) {
        self.present &= !object.bit();
    }

    pub(crate) fn list(&self) -> Vec<ObjectInfo> {
        let info = |object: Object| ObjectInfo {
            key: object.key().clone(),
            bytes: 1,
            modified_ms: self.modified_ms[object.0],
        };
        objects(self.present).map(info).collect()
    }

    pub(crate) fn new_point(&mut self) -> usize {
        self.points += 1;
        self.points
    }

    /// Creates entry `number` if there is none, and says whether it did.
    pub(crate) fn append(&mut self, number: usize, action: Action) -> Result<bool, Fault> {
        if self.log.len() != number {
            return Ok(false);
        }
        let time_ms = self.log.last().map_or(0, |(time_ms, _)| *time_ms).max(self.clock_ms);
        let before = self.truth.reached();
        self.log.push((time_ms, action));
        self.truth.read(&self.log);
        for object in objects(before & !self.truth.reached()) {
            self.unreached_ms[object.0] = time_ms;
        }
        match action {
            Action::Delete(set) if objects(set).any(|o| time_ms - self.unreached_ms[o.0] < self.grace_ms) => {
                Err(Fault::NoGrace)
            }
            _ => Ok(true),
        }
    }

    /// What must hold after each step.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        match self.truth.reached() & !self.present {
            0 => Ok(()),
            _ => Err(Fault::Lost),
        }
    }

    /// Time passes, and now and then the clock is off by years, either way.
    pub(crate) fn tick(&mut self, random: &mut Random) {
        const DAY_MS: u64 = 86_400_000;
        self.clock_ms = match random.below(40) {
            0 => self.clock_ms.saturating_add(random.below(30 * 365 * DAY_MS)),
            1 => self.clock_ms.saturating_sub(random.below(30 * 365 * DAY_MS)),
            2..=12 => self.clock_ms.saturating_add(random.below(5 * DAY_MS)),
            _ => self.clock_ms.saturating_add(random.below(3_600_000)),
        };
    }
}
