//! How many points reach each object: who lists a vault sees what is shared, and what is dead.
//!
//! Each point is read once and each run opened once, and a point that reaches an object in several ways counts once.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::Vault;
use super::reach::{NamedRun, unreadable};
use crate::error::Result;
use crate::format::digest::Digest;
use crate::format::name;
use crate::format::point::{Point, RunRef};
use crate::store::Key;

/// Objects by number, and the runs that were opened.
#[derive(Default)]
struct Sharing {
    numbers: FxHashMap<Key, usize>,
    /// Of each object, how many points reach it, and the last one that was counted.
    counts: Vec<(u64, u64)>,
    /// A run and its packs, by number.
    runs: FxHashMap<NamedRun, Rc<[usize]>>,
    /// Points so far.
    points: u64,
}

impl Vault {
    /// How many of the points reach each object, of all that are live in the catalog as it was last read, or former and
    /// stand; nothing for those that none reaches.
    ///
    /// # Errors
    /// As [`needed_by`](Self::needed_by) and [`needed_by_former`](Self::needed_by_former).
    pub fn sharing(&self) -> Result<BTreeMap<Key, u64>> {
        let (catalog, mut sharing) = (self.catalog(), Sharing::default());
        for live in catalog.points().values() {
            let id = live.committed.id;
            let point = self.read_point(id)?;
            if catalog.is_destroyed(point.key) && !point.runs.is_empty() {
                return Err(unreadable(id, "find what a point needs"));
            }
            sharing.begin(id);
            point.runs.iter().try_for_each(|run| sharing.add(self, &point, run))?;
        }
        let former = catalog.standing_former(self.store.clock_ms()?).map(|former| former.id);
        for id in former.filter(|id| !catalog.points().contains_key(id)).collect::<BTreeSet<_>>() {
            let Some(point) = self.unless_given_back(&name::point(id), || self.read_point(id))? else {
                continue;
            };
            sharing.begin(id);
            for run in &point.runs {
                self.unless_given_back(&run.key(), || sharing.add(self, &point, run))?;
            }
        }
        let counted = sharing.numbers.into_iter().map(|(key, number)| (key, sharing.counts[number].0));
        Ok(counted.collect())
    }
}

impl Sharing {
    /// Goes on to the next point.
    fn begin(&mut self, id: Digest) {
        self.points += 1;
        let number = self.number(name::point(id));
        self.count(number);
    }

    /// Adds a run of the point.
    fn add(&mut self, vault: &Vault, point: &Point, run: &RunRef) -> Result<()> {
        let named = NamedRun::of(point, run);
        let reached = match self.runs.get(&named) {
            Some(reached) => Rc::clone(reached),
            None => {
                let reached = self.open(vault, point, run)?;
                self.runs.insert(named, Rc::clone(&reached));
                reached
            }
        };
        reached.iter().for_each(|number| self.count(*number));
        Ok(())
    }

    fn open(&mut self, vault: &Vault, point: &Point, run: &RunRef) -> Result<Rc<[usize]>> {
        let mut keys = vec![run.key()];
        // What was under a destroyed key can't be told any more.
        if !vault.catalog().is_destroyed(point.key) {
            keys.extend(vault.open_run(point, run)?.packs().map(|pack| pack.name.key()));
        }
        Ok(keys.into_iter().map(|key| self.number(key)).collect())
    }

    fn number(&mut self, key: Key) -> usize {
        let next = self.counts.len();
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.counts.push((0, 0));
        }
        number
    }

    fn count(&mut self, number: usize) {
        let (points, last) = &mut self.counts[number];
        if *last != self.points {
            (*points, *last) = (*points + 1, self.points);
        }
    }
}
