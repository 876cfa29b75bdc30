//! Reclaim's protocol in random schedules: senders, prunes and reclaims take turns at each single request, are killed
//! anywhere, and the store's clock is off by years. The rulings are the library's; who reads and writes what, and in
//! which order, is written here as the protocol demands it. Then one rule after the other is broken, and the fault must
//! show: a model that cannot fail proves nothing.

use firn_engine::sim::random::Random;
use firn_replicator::policy::claim::{self, Claim};
use firn_replicator::policy::lock::Locks;
use firn_replicator::policy::reclaim::{Limits, Plan, rule};
use firn_replicator::store::ObjectInfo;

use crate::world::{Action, CONTENTS, Fault, GENERATIONS, Object, Set, View, World, objects};

const DAY_MS: u64 = 86_400_000;

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// A commit is made although a name that it reaches is dead.
    CommitReachesDeadNames,
    /// A dead name is used again for the same bytes.
    NamesAreReused,
    /// A commit is written at whatever number is free, without reading the entries below it.
    CommitReadsTooLittle,
    /// A `delete` entry likewise.
    DeleteReadsTooLittle,
    /// What was condemned is deleted without another look at who reaches it.
    CondemnedIsEnough,
    /// Objects are deleted before the entry that says so.
    DeletedBeforeItIsSaid,
    /// A commit takes up condemned objects without acquitting them.
    NobodyAcquits,
}

/// Who takes part. Each variant is what comes next for it.
enum Actor {
    Sender { view: View, wanted: Vec<usize>, parent: Set, chosen: Set, step: Send },
    Pruner { view: Option<View> },
    Reclaimer { view: View, listed: Vec<ObjectInfo>, doomed: Vec<Object>, step: Reclaim },
}

#[derive(Clone, Copy)]
enum Send {
    Begin,
    Upload(usize),
    Read,
    Commit,
}

#[derive(Clone, Copy, PartialEq)]
enum Reclaim {
    Read,
    List,
    Sweep,
    Write,
    Delete(Set),
}

/// How often each thing happened, so that a quiet model is noticed.
#[derive(Debug, Default)]
struct Tally {
    commits: u64,
    renamed: u64,
    acquitted: u64,
    deleted: u64,
    swept: u64,
    races_lost: u64,
    killed: u64,
}

struct Schedule<'a> {
    world: World,
    random: Random,
    limits: Limits,
    broken: &'a [Broken],
    tally: &'a mut Tally,
}

fn sender() -> Actor {
    Actor::Sender { view: View::default(), wanted: Vec::new(), parent: 0, chosen: 0, step: Send::Begin }
}

fn reclaimer() -> Actor {
    Actor::Reclaimer { view: View::default(), listed: Vec::new(), doomed: Vec::new(), step: Reclaim::Read }
}

impl Schedule<'_> {
    fn breaks(&self, rule: Broken) -> bool {
        self.broken.contains(&rule)
    }

    /// Runs it to its end or its first fault.
    fn run(&mut self) -> Result<(), Fault> {
        let mut actors = [sender(), sender(), Actor::Pruner { view: None }, reclaimer(), reclaimer()];
        for _ in 0..150 {
            let turn = self.random.index(actors.len());
            self.world.tick(&mut self.random);
            let actor = &mut actors[turn];
            if self.random.percent(2) {
                self.tally.killed += 1;
                *actor = match actor {
                    Actor::Sender { .. } => sender(),
                    Actor::Pruner { .. } => Actor::Pruner { view: None },
                    Actor::Reclaimer { .. } => reclaimer(),
                };
            }
            self.step(actor)?;
            self.world.check()?;
        }
        Ok(())
    }

    fn step(&mut self, actor: &mut Actor) -> Result<(), Fault> {
        match actor {
            Actor::Sender { .. } => self.step_sender(actor),
            Actor::Pruner { view } => self.step_pruner(view),
            Actor::Reclaimer { .. } => self.step_reclaimer(actor),
        }
    }

    fn step_sender(&mut self, actor: &mut Actor) -> Result<(), Fault> {
        let Actor::Sender { view, wanted, parent, chosen, step } = actor else { return Ok(()) };
        match *step {
            Send::Begin => {
                view.read(&self.world.log);
                *wanted = (0..CONTENTS).filter(|_| self.random.percent(30)).collect();
                *parent = match view.live.len() {
                    0 => 0,
                    live if self.random.coin() => view.live[self.random.index(live)].1,
                    _ => 0,
                };
                *chosen = 0;
                *step = Send::Upload(0);
            }
            Send::Upload(nth) if nth < wanted.len() => {
                match self.name(view, wanted[nth]) {
                    Some(object) => {
                        self.world.put_if_absent(object);
                        *chosen |= object.bit();
                        *step = Send::Upload(nth + 1);
                    }
                    // The table has no more names for it.
                    None => *actor = sender(),
                }
            }
            Send::Upload(_) => *step = Send::Read,
            Send::Read => {
                view.read(&self.world.log);
                *step = Send::Commit;
            }
            Send::Commit => return self.commit(actor),
        }
        Ok(())
    }

    /// The name under which some bytes are sent.
    fn name(&self, view: &View, content: usize) -> Option<Object> {
        let is_dead = |generation: u32| {
            let object = Object::new(content, usize::try_from(generation).expect("a small number"));
            view.standing(object).is_deleted && !self.breaks(Broken::NamesAreReused)
        };
        let generation = usize::try_from(claim::generation(is_dead)?).expect("a small number");
        (generation < GENERATIONS).then(|| Object::new(content, generation))
    }

    fn commit(&mut self, actor: &mut Actor) -> Result<(), Fault> {
        let Actor::Sender { view, wanted, parent, chosen, step } = actor else { return Ok(()) };
        let reached = *parent | *chosen;
        let all: Vec<Object> = objects(reached).collect();
        let mut claim = Claim::of(all.iter().map(|object| (object.key(), view.standing(*object))));
        if self.breaks(Broken::CommitReachesDeadNames) || self.breaks(Broken::NamesAreReused) {
            claim.dead.clear();
        }
        if self.breaks(Broken::NobodyAcquits) {
            claim.acquit.clear();
        }
        if !claim.dead.is_empty() {
            // Every content whose name is dead goes up again under the next, the parent's included.
            let dead: Set = claim.dead.iter().map(|key| Object::named(key).bit()).sum();
            self.tally.renamed += 1;
            *wanted = objects(dead).map(Object::content).collect();
            (*parent, *chosen) = (*parent & !dead, *chosen & !dead);
            *step = Send::Upload(0);
            return Ok(());
        }
        let acquit: Set = claim.acquit.iter().map(|key| Object::named(key).bit()).sum();
        if acquit != 0 {
            self.tally.acquitted += u64::from(self.append(view, Action::Acquit(acquit))?);
            *step = Send::Read;
            return Ok(());
        }
        let action = Action::Commit { point: self.world.new_point(), reached };
        let reads_too_little = self.breaks(Broken::CommitReadsTooLittle);
        let number = if reads_too_little { self.world.log.len() } else { view.entries };
        match self.world.append(number, action)? {
            true => {
                self.tally.commits += 1;
                *actor = sender();
            }
            false => {
                self.tally.races_lost += 1;
                *step = Send::Read;
            }
        }
        Ok(())
    }

    /// Writes an entry at the number that the view ends at.
    fn append(&mut self, view: &View, action: Action) -> Result<bool, Fault> {
        let is_written = self.world.append(view.entries, action)?;
        self.tally.races_lost += u64::from(!is_written);
        Ok(is_written)
    }

    fn step_pruner(&mut self, view: &mut Option<View>) -> Result<(), Fault> {
        let Some(known) = view.take() else {
            let mut fresh = View::default();
            fresh.read(&self.world.log);
            *view = Some(fresh);
            return Ok(());
        };
        // Now and then the vault is emptied of points, else it keeps two.
        if known.live.len() > 2 || (!known.live.is_empty() && self.random.percent(20)) {
            let point = known.live[self.random.index(known.live.len())].0;
            self.append(&known, Action::Prune { point })?;
        }
        Ok(())
    }

    fn step_reclaimer(&mut self, actor: &mut Actor) -> Result<(), Fault> {
        let Actor::Reclaimer { view, listed, doomed, step } = actor else { return Ok(()) };
        match *step {
            Reclaim::Read => {
                view.read(&self.world.log);
                // What was listed before the log was read is older than it, and that must do no harm.
                *step = if self.random.coin() { Reclaim::List } else { Reclaim::Sweep };
            }
            Reclaim::List => {
                *listed = self.world.list();
                *step = Reclaim::Sweep;
            }
            Reclaim::Sweep => {
                let sweep = self.plan(view, listed).sweep;
                self.tally.swept += u64::try_from(sweep.len()).expect("a small number");
                doomed.extend(sweep.iter().map(|object| Object::named(&object.key)));
                *step = Reclaim::Write;
            }
            Reclaim::Write if !doomed.is_empty() => self.delete_one(doomed),
            Reclaim::Write => *step = self.write(view, listed, doomed)?,
            Reclaim::Delete(_) if !doomed.is_empty() => self.delete_one(doomed),
            Reclaim::Delete(said) => {
                if said != 0 {
                    self.world.append(self.world.log.len(), Action::Delete(said))?;
                }
                *actor = reclaimer();
            }
        }
        Ok(())
    }

    fn delete_one(&mut self, doomed: &mut Vec<Object>) {
        let nth = self.random.index(doomed.len());
        self.world.delete(doomed.swap_remove(nth));
        self.tally.deleted += 1;
    }

    fn plan(&self, view: &View, listed: &[ObjectInfo]) -> Plan {
        let mut plan = Plan::default();
        for object in listed {
            let mut standing = view.standing(Object::named(&object.key));
            standing.is_reached &= !self.breaks(Broken::CondemnedIsEnough) || standing.condemned_ms.is_none();
            let ruling = rule(object, standing, self.limits, self.world.clock_ms, || Some(Locks::default()));
            plan.add(object.clone(), ruling);
        }
        plan
    }

    /// Writes the entry that is due, decided by what was read up to its number, and says what comes next.
    fn write(
        &mut self,
        view: &View,
        listed: &[ObjectInfo],
        doomed: &mut Vec<Object>,
    ) -> Result<Reclaim, Fault> {
        let plan = self.plan(view, listed);
        let set = |objects: &[ObjectInfo]| objects.iter().map(|o| Object::named(&o.key).bit()).sum::<Set>();
        let (acquit, condemn, delete) = (set(&plan.acquit), set(&plan.condemn), set(&plan.delete));
        if acquit != 0 && !self.breaks(Broken::NobodyAcquits) {
            self.append(view, Action::Acquit(acquit))?;
            return Ok(Reclaim::Read);
        }
        if condemn != 0 && (delete == 0 || self.random.coin()) {
            self.append(view, Action::Condemn(condemn))?;
            return Ok(Reclaim::Read);
        }
        if delete == 0 {
            return Ok(Reclaim::Delete(0));
        }
        if self.breaks(Broken::DeletedBeforeItIsSaid) {
            doomed.extend(objects(delete));
            return Ok(Reclaim::Delete(delete));
        }
        let is_said = match self.breaks(Broken::DeleteReadsTooLittle) {
            true => self.world.append(self.world.log.len(), Action::Delete(delete))?,
            false => self.append(view, Action::Delete(delete))?,
        };
        if is_said {
            doomed.extend(objects(delete));
            return Ok(Reclaim::Delete(0));
        }
        Ok(Reclaim::Read)
    }
}

/// The fault of one schedule. Every other one has no waiting times at all: the log's order alone has to do.
fn fault_of(seed: u64, broken: &[Broken], tally: &mut Tally) -> Option<Fault> {
    let mut random = Random::new(seed);
    let limits = match random.coin() {
        true => Limits { condemn_ms: 0, session_ms_max: 0 },
        false => Limits { condemn_ms: DAY_MS, session_ms_max: random.below(DAY_MS) },
    };
    let clock_ms = random.below(60 * 365 * DAY_MS);
    let world = World::new(clock_ms, limits.condemn_ms);
    Schedule { world, random, limits, broken, tally }.run().err()
}

#[test]
fn a_hundred_thousand_schedules_lose_nothing() {
    let mut tally = Tally::default();
    for seed in 0..100_000 {
        assert_eq!(fault_of(seed, &[], &mut tally), None, "seed {seed}");
    }
    let Tally { commits, renamed, acquitted, deleted, swept, races_lost, killed } = tally;
    for (what, count) in [
        ("commits", commits),
        ("renamed", renamed),
        ("acquitted", acquitted),
        ("deleted", deleted),
        ("swept", swept),
        ("races lost", races_lost),
        ("killed", killed),
    ] {
        assert!(count > 10_000, "{what}: {count}");
    }
}

/// Of looking again at who reaches what is condemned, and of acquitting what a commit reaches, either is enough to lose
/// nothing. The second gives the grace besides.
#[test]
fn each_broken_rule_is_found_out() {
    use Broken::*;
    for (broken, fault) in [
        (&[CommitReachesDeadNames][..], Fault::Lost),
        (&[NamesAreReused], Fault::Lost),
        (&[CommitReadsTooLittle], Fault::Lost),
        (&[DeleteReadsTooLittle], Fault::Lost),
        (&[CondemnedIsEnough, NobodyAcquits], Fault::Lost),
        (&[DeletedBeforeItIsSaid], Fault::Lost),
        (&[NobodyAcquits], Fault::NoGrace),
    ] {
        let found = (0..20_000).find(|seed| fault_of(*seed, broken, &mut Tally::default()) == Some(fault));
        assert!(found.is_some(), "{broken:?} went unnoticed");
    }
    for broken in [CondemnedIsEnough, NobodyAcquits] {
        for seed in 0..20_000 {
            assert_ne!(fault_of(seed, &[broken], &mut Tally::default()), Some(Fault::Lost), "seed {seed}");
        }
    }
}
