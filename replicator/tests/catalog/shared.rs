//! What is asked about many points that share runs costs a few requests for each object, not for each pair of a point and
//! a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firn_replicator::format::digest::{Digest, VaultId};
use firn_replicator::format::entry::{Action, Committed};
use firn_replicator::format::name;
use firn_replicator::format::point::{Point, RunRef};
use firn_replicator::store::faults::{FaultyStore, Request};
use firn_replicator::store::{Key, MemoryStore, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::verify::Depth;

use crate::sender::{Snapshot, send};
use crate::thief;
use crate::world::{START_MS, open, store, vault};

/// A vault of held points that all have the same eight runs. Every other one left, and is former.
struct Scene {
    store: Arc<MemoryStore>,
    /// The held points that live, and what stands in the place of those that left.
    live: Vec<Digest>,
    successors: Vec<Digest>,
}

/// Commits a point as the log says of another one.
fn commit(vault: &Vault, point: &Point, like: Digest) -> Digest {
    let bytes = point.encode();
    let id = Digest::of(&bytes);
    vault.store().put_if_absent(&name::point(id), &bytes).unwrap();
    let committed = Committed { id, ..vault.catalog().point(like).unwrap().committed.clone() };
    let commit = Action::Commit { points: vec![committed], group: None };
    vault.append(&mut |_, _| Ok(Some(commit.clone()))).unwrap();
    id
}

const RUNS: u8 = 8;

impl Scene {
    fn new(count: u8) -> Self {
        let store = store();
        let vault = vault(&store, None);
        let sent: Vec<Digest> =
            (0..RUNS).map(|letter| send(&vault, &Snapshot::new(1, "one", &[letter])).unwrap()).collect();
        let runs: Vec<RunRef> = sent.iter().flat_map(|id| vault.read_point(*id).unwrap().runs).collect();
        let first = vault.read_point(sent[0]).unwrap();
        let (mut live, mut successors) = (Vec::new(), Vec::new());
        for number in 0..count {
            let time_ms = START_MS + u64::from(number);
            let id = commit(&vault, &Point { runs: runs.clone(), time_ms, ..first.clone() }, sent[0]);
            vault.hold(id, "court").unwrap();
            match number % 2 {
                0 => live.push(id),
                _ => {
                    let successor = thief::forward(&vault, id, 0, 0).unwrap();
                    store.set_legal_hold(&name::point(successor), true).unwrap();
                    successors.push(successor);
                }
            }
        }
        Self { store, live, successors }
    }

    /// What `work` asks of the store, done in a copy of the vault.
    fn requests(&self, work: impl Fn(&Vault)) -> Vec<Request> {
        let leaked: &'static MemoryStore = Box::leak(Box::new(self.store.copy()));
        let counted = Arc::new(FaultyStore::new(leaked));
        let vault = open(counted.clone()).unwrap();
        let before = counted.requests().len();
        work(&vault);
        let mut requests = counted.requests().split_off(before);
        requests.retain(|request| !request.subject.starts_with(name::LOG));
        requests
    }
}

/// The most that one object was asked for in one way.
fn most(requests: &[Request]) -> usize {
    let mut times = BTreeMap::<(&str, &str), usize>::new();
    let of_objects = requests.iter().filter(|request| request.subject.contains('/'));
    for request in of_objects {
        *times.entry((request.operation, &request.subject)).or_default() += 1;
    }
    times.into_values().max().unwrap_or(0)
}

/// Opening a run is three reads.
const OPEN: usize = 3;

/// For each hold that was released, each check and each list the runs of each held point were read anew: a thousand points
/// that shared one run had it read a thousand times.
#[test]
fn what_held_points_share_is_read_once() {
    type Work = fn(&Scene, &Vault);
    let works: [(&str, usize, Work); 5] = [
        ("release", OPEN, |scene, vault| vault.release(scene.live[0], "court").unwrap()),
        ("release former", OPEN, |scene, vault| vault.release(scene.successors[0], "court").unwrap()),
        // For live points, for former ones, and for what the store holds.
        ("check", 3 * OPEN, |_, vault| assert_eq!(vault.check().unwrap().findings, [])),
        ("ls", OPEN, |_, vault| drop(vault.sharing().unwrap())),
        ("verify", 2 * OPEN, |_, vault| assert_eq!(vault.verify(Depth::Objects, &()).unwrap().damaged, [])),
    ];
    let (few, many) = (Scene::new(8), Scene::new(64));
    for (what, most_times, work) in works {
        let of_few = few.requests(|vault| work(&few, vault));
        let of_many = many.requests(|vault| work(&many, vault));
        assert!(most(&of_many) <= most_times, "{what}: {} times", most(&of_many));
        // A point is looked for and read, twice at most, and asked for its hold; so is what took its place.
        let (few, many) = (of_few.len(), of_many.len());
        assert!(few >= 8 * OPEN && many <= few + 56 * 8, "{what}: {few} requests of 8 points, {many} of 64");
    }
}

/// What is counted is what each point needs by itself.
#[test]
fn each_object_is_counted_with_the_points_that_reach_it() {
    let scene = Scene::new(6);
    let vault = open(scene.store.clone()).unwrap();
    // Two runs of one point that list the same packs.
    send(&vault, &Snapshot::new(2, "one", b"xy")).unwrap();
    send(&vault, &Snapshot::new(2, "two", b"yx").on_parent()).unwrap();
    let catalog = vault.catalog();
    let mut expected = BTreeMap::<Key, u64>::new();
    let live = catalog.points().keys().map(|id| vault.needed_by(*id).unwrap());
    let former = catalog.standing_former(START_MS).map(|former| vault.needed_by_former(former).unwrap());
    for key in live.chain(former).flatten().filter(|key| *key != name::settings()) {
        *expected.entry(key).or_default() += 1;
    }
    assert_eq!(vault.sharing().unwrap(), expected);
    assert!(expected.values().any(|count| *count == 7), "one of its own and six: {expected:?}");
}

/// What is not held is named with the held points that need it, and no others.
#[test]
fn what_the_store_does_not_hold_is_named_with_the_held_points() {
    let scene = Scene::new(4);
    let vault = open(scene.store.clone()).unwrap();
    let catalog = vault.catalog();
    let former = catalog.standing_former(START_MS).map(|former| former.id);
    let held: BTreeSet<Digest> = scene.live.iter().copied().chain(former).collect();
    let packs = scene.store.list(name::PACKS, None).unwrap();
    scene.store.set_legal_hold(&packs[0].key, false).unwrap();
    scene.store.set_legal_hold(&name::settings(), false).unwrap();
    let findings = vault.check().unwrap().findings;
    let all: BTreeSet<Digest> = held.iter().copied().chain(scene.successors.iter().copied()).collect();
    let found: Vec<_> = findings.iter().map(|finding| (&finding.object, &finding.points)).collect();
    assert_eq!(found, [(&packs[0].key, &held), (&name::settings(), &all)]);
    assert!(findings[0].detail.contains("the store does not hold it"), "{findings:?}");
}

/// A point that says it is of another vault names the runs of an honest one: what is wrong with it there is not wrong with
/// the other.
#[test]
fn a_point_of_another_vault_says_nothing_of_the_runs_that_it_names() {
    let store = store();
    let vault = vault(&store, None);
    let honest = send(&vault, &Snapshot::new(1, "one", b"ab")).unwrap();
    let point = vault.read_point(honest).unwrap();
    let strangers =
        (1..).map(|salt| Point { vault: VaultId([9; 16]), time_ms: START_MS + salt, ..point.clone() });
    let before = strangers.into_iter().find(|point| Digest::of(&point.encode()) < honest).unwrap();
    let stranger = commit(&vault, &before, honest);
    let run = point.runs[0].key();
    let findings = vault.check().unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((&findings[0].object, &findings[0].points), (&run, &[stranger].into()), "{findings:?}");
    let pack = &store.list(name::PACKS, None).unwrap()[0].key;
    store.delete(pack).unwrap();
    let damaged = vault.verify(Depth::Objects, &()).unwrap().damaged;
    assert!(damaged.iter().any(|damage| damage.object == *pack && damage.points == [honest]), "{damaged:?}");
}
