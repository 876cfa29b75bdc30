//! Copying forward: what lives of packs that are mostly dead, or locked too short, goes into new ones; every point holds
//! what it held, by its old name too, whenever the work is stopped.

use std::collections::BTreeSet;
use std::sync::Arc;

use firn_replicator::error::Kind;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::name;
use firn_replicator::format::settings::Cipher;
use firn_replicator::policy::reclaim::Limits;
use firn_replicator::store::faults::{Fault, FaultyStore};
use firn_replicator::store::{Key, LockMode, MemoryStore, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::verify::Depth;

use crate::model::{Random, Snapshot, Volume};
use crate::place::{START_MS, init_locking, keys, open, prune, restored, send, send_all};

const DAY_MS: u64 = 86_400_000;
const NOW: Limits = Limits { condemn_ms: 0, session_ms_max: 0 };

/// A vault, what it lies in, and its points with what they must hold.
struct Scene {
    store: Arc<MemoryStore>,
    cipher: Cipher,
    vault: Vault,
    volume: Volume,
    random: Random,
    points: Vec<(Digest, Snapshot)>,
}

impl Scene {
    fn new(cipher: Cipher, lock: Option<LockMode>) -> Self {
        let store = Arc::new(MemoryStore::new(START_MS));
        let vault = init_locking(&store, cipher, lock);
        let (volume, random) = (Volume::new(1, 200), Random(11));
        Self { store, cipher, vault, volume, random, points: Vec::new() }
    }

    /// Writes the blocks, and sends a snapshot of the volume.
    fn send(&mut self, blocks: impl IntoIterator<Item = u64>, retain_until_ms: Option<u64>) -> Digest {
        for block in blocks {
            let content = self.random.block();
            self.volume.write(block, content);
        }
        let snapshot = self.volume.snapshot();
        let options = SendOptions { retain_until_ms, ..SendOptions::default() };
        let id = send_all(&self.vault, &[&snapshot], &options).unwrap().points[0].id;
        self.points.push((id, snapshot));
        id
    }

    fn prune(&mut self, ids: &[Digest]) {
        prune(&self.vault, ids);
        self.points.retain(|(id, _)| !ids.contains(id));
    }

    fn packs(&self, id: Digest) -> BTreeSet<Key> {
        let needed = self.vault.needed_by(id).unwrap();
        needed.into_iter().filter(|key| key.as_str().starts_with(name::PACKS)).collect()
    }

    fn check(&self, what: &str) {
        check(&self.store, self.cipher, &self.points, what);
    }
}

/// All points hold what they held, and nothing is wrong in the vault.
fn check(store: &Arc<MemoryStore>, cipher: Cipher, points: &[(Digest, Snapshot)], what: &str) {
    let vault = open(store.clone(), cipher).unwrap();
    assert_eq!(vault.catalog().points().len(), points.len(), "{what}");
    for (id, snapshot) in points {
        assert!(restored(&vault, *id) == snapshot.content(), "{what}: {id}");
    }
    assert_eq!(vault.check().unwrap().findings, [], "{what}");
    assert_eq!(vault.verify(Depth::Content, &()).unwrap().damaged, [], "{what}");
    let void = vault.catalog().void().to_vec();
    assert_eq!(void, [], "{what}");
}

fn bytes(store: &MemoryStore) -> u64 {
    keys(store).iter().map(|key| store.head(key).unwrap().unwrap().bytes).sum()
}

/// A point that sees 50 blocks of a pack of 100, and 50 of another.
fn half_overwritten(cipher: Cipher, lock: Option<LockMode>) -> (Scene, Digest) {
    let mut scene = Scene::new(cipher, lock);
    let short = lock.map(|_| START_MS + 5 * DAY_MS);
    scene.send(0..100, short);
    let id = scene.send((0..50).chain(150..160), short);
    (scene, id)
}

#[test]
fn a_longer_date_copies_forward_what_lives_of_packs_that_are_mostly_dead() {
    for cipher in [Cipher::None, Cipher::Aes256Gcm] {
        let (scene, id) = half_overwritten(cipher, Some(LockMode::Compliance));
        let until_ms = START_MS + 100 * DAY_MS;
        let before = scene.packs(id);
        scene.vault.retain(&BTreeSet::from([id]), until_ms).unwrap();
        let live = scene.vault.catalog().point(id).unwrap().clone();
        assert_ne!(live.committed.id, id, "it went on as another one");
        assert_eq!(live.retain_until_ms, Some(until_ms));
        let after = scene.packs(id);
        assert_eq!((before.len(), after.len()), (2, 2));
        assert_eq!(before.intersection(&after).count(), 1, "the pack that lives whole stays");
        for key in scene.vault.needed_by(id).unwrap() {
            let locked = scene.store.retention(&key).unwrap().unwrap();
            assert!(locked.until_ms >= until_ms && locked.mode == LockMode::Compliance, "{key}");
        }
        let left = before.difference(&after).next().unwrap();
        assert!(scene.store.retention(left).unwrap().unwrap().until_ms < START_MS + 40 * DAY_MS);
        scene.check("retained");
        // The same again, under the old name and under the new one, changes nothing.
        let entries = scene.vault.catalog().head().number;
        scene.vault.retain(&BTreeSet::from([id]), until_ms).unwrap();
        scene.vault.retain(&BTreeSet::from([live.committed.id]), until_ms).unwrap();
        assert_eq!(scene.vault.refresh().unwrap().head().number, entries);
        // Old names are understood by whoever asks.
        assert_eq!(scene.vault.catalog().choose(&id.to_string()[..12]).unwrap().committed, live.committed);
        assert_eq!(scene.vault.remove_points(&[id], "old").unwrap_err().kind(), Kind::Conflict);
    }
}

#[test]
fn a_longer_date_extends_packs_that_mostly_live() {
    let mut scene = Scene::new(Cipher::None, Some(LockMode::Compliance));
    let short = Some(START_MS + 5 * DAY_MS);
    scene.send(0..100, short);
    let id = scene.send(0..30, short);
    let before = scene.packs(id);
    scene.vault.retain(&BTreeSet::from([id]), START_MS + 100 * DAY_MS).unwrap();
    assert_eq!(scene.vault.catalog().point(id).unwrap().committed.id, id);
    assert_eq!(scene.packs(id), before);
    scene.check("extended");
}

/// The first send after a period finds its parent's packs locked too short.
#[test]
fn a_send_copies_forward_what_its_parent_left_locked_too_short() {
    let mut scene = Scene::new(Cipher::Aes256Gcm, Some(LockMode::Compliance));
    let first = scene.send(0..100, Some(START_MS + 5 * DAY_MS));
    scene.store.set_clock_ms(START_MS + 40 * DAY_MS);
    let until_ms = START_MS + 45 * DAY_MS;
    let second = scene.send(0..60, Some(until_ms));
    let (one, other) = (scene.packs(first), scene.packs(second));
    assert_eq!((one.len(), other.len(), one.intersection(&other).count()), (1, 2, 0));
    for key in scene.vault.needed_by(second).unwrap() {
        assert!(scene.store.retention(&key).unwrap().unwrap().until_ms >= until_ms, "{key}");
    }
    scene.check("sent");
}

#[test]
fn compaction_and_reclaim_give_back_what_is_dead_in_packs_that_are_partly_needed() {
    for cipher in [Cipher::None, Cipher::Aes256Gcm] {
        let mut scene = Scene::new(cipher, None);
        let mut ids = vec![scene.send(0..200, None)];
        for step in 0..6 {
            ids.push(scene.send((0..200).skip(step).step_by(4), None));
        }
        scene.prune(&ids[..5]);
        scene.vault.reclaim(NOW).unwrap();
        scene.vault.reclaim(NOW).unwrap();
        let before = bytes(&scene.store);
        let plan = scene.vault.plan_compact().unwrap();
        assert!(
            plan.packs.len() >= 2 && plan.points == 2 && plan.after_bytes < plan.before_bytes,
            "{plan:?}"
        );
        let done = scene.vault.compact().unwrap();
        assert_eq!((&done.packs, done.points, done.unknown.as_ref()), (&plan.packs, 2, None));
        scene.check("compacted");
        scene.vault.reclaim(NOW).unwrap();
        scene.vault.reclaim(NOW).unwrap();
        scene.check("reclaimed");
        let after = bytes(&scene.store);
        let freed: u64 = plan.packs.iter().map(|pack| pack.bytes).sum();
        assert!(after < before && freed > done.after_bytes, "{before} {after} {done:?}");
        assert!(plan.packs.iter().all(|pack| scene.store.head(&pack.object).unwrap().is_none()));
        assert_eq!(scene.vault.compact().unwrap().packs, [], "what was copied lives whole");
        // Sends go on from points that went on.
        scene.send(0..10, None);
        scene.check("sent again");
        let report = send(&scene.vault, &scene.points.last().unwrap().1.clone()).unwrap();
        assert!(report.was_there && report.points[0].parent.is_some());
    }
}

/// What is locked or held would stay, so it is not copied.
#[test]
fn compaction_leaves_alone_what_is_locked_or_held() {
    let (mut scene, id) = half_overwritten(Cipher::None, Some(LockMode::Governance));
    let first = scene.points[0].0;
    scene.store.set_clock_ms(START_MS + 6 * DAY_MS);
    scene.prune(&[first]);
    assert_eq!(scene.vault.plan_compact().unwrap().packs, [], "its class is locked still");
    scene.store.set_clock_ms(START_MS + 40 * DAY_MS);
    assert_eq!(scene.vault.plan_compact().unwrap().packs.len(), 1);
    scene.vault.hold(id, "court").unwrap();
    assert_eq!(scene.vault.compact().unwrap().packs, []);
    scene.vault.release(id, "court").unwrap();
    assert_eq!(scene.vault.compact().unwrap().points, 1);
    scene.check("compacted");
}

/// Where the store locks nothing, the packs of a retained point would be kept beside their copy.
#[test]
fn compaction_leaves_alone_what_must_stay_by_the_log_alone() {
    let (mut scene, id) = half_overwritten(Cipher::None, None);
    let first = scene.points[0].0;
    scene.prune(&[first]);
    assert_eq!(scene.vault.plan_compact().unwrap().packs.len(), 1);
    let until_ms = START_MS + 9 * DAY_MS;
    scene.vault.retain(&BTreeSet::from([id]), until_ms).unwrap();
    assert_eq!(
        scene.vault.catalog().point(id).unwrap().committed.id,
        id,
        "nothing is locked, nothing copied"
    );
    assert_eq!(scene.vault.compact().unwrap().packs, []);
    scene.store.set_clock_ms(until_ms);
    assert_eq!(scene.vault.compact().unwrap().points, 1);
    scene.check("compacted");
}

#[test]
fn each_object_that_a_former_point_needs_is_missed() {
    let (scene, id) = half_overwritten(Cipher::None, Some(LockMode::Compliance));
    scene.vault.retain(&BTreeSet::from([id]), START_MS + 100 * DAY_MS).unwrap();
    let catalog = scene.vault.catalog();
    let former = catalog.standing_former(START_MS).next().expect("it has its first date still");
    assert_eq!(former.id, id);
    let needed = scene.vault.needed_by_former(former).unwrap();
    let needed: BTreeSet<Key> = needed
        .into_iter()
        .filter(|key| {
            [name::PACKS, name::RUNS, name::POINTS].iter().any(|prefix| key.as_str().starts_with(prefix))
        })
        .collect();
    for key in &needed {
        let copy = Arc::new(scene.store.copy());
        copy.tamper(key, None);
        let vault = open(copy, Cipher::None).unwrap();
        let damaged = vault.verify(Depth::Objects, &()).unwrap().damaged;
        assert!(
            damaged.iter().any(|damage| damage.object == *key && damage.points.contains(&id)),
            "{damaged:?}"
        );
        let findings = vault.check().unwrap().findings;
        assert!(
            findings.iter().any(|found| found.object == *key && found.points.contains(&id)),
            "{findings:?}"
        );
    }
    assert!(needed.len() >= 4);
}

#[test]
fn a_held_point_goes_on_held_and_is_let_go_with_what_it_was() {
    let (scene, id) = half_overwritten(Cipher::None, Some(LockMode::Compliance));
    scene.vault.hold(id, "court").unwrap();
    let before = scene.vault.needed_by(id).unwrap();
    scene.vault.retain(&BTreeSet::from([id]), START_MS + 100 * DAY_MS).unwrap();
    let after = scene.vault.needed_by(id).unwrap();
    assert_ne!(before, after);
    let live = scene.vault.catalog().point(id).unwrap().clone();
    assert_eq!(live.holds.keys().collect::<Vec<_>>(), ["court"]);
    assert!(before.union(&after).all(|key| scene.store.legal_hold(key).unwrap()));
    scene.check("held");
    scene.vault.release(id, "court").unwrap();
    assert!(before.union(&after).all(|key| !scene.store.legal_hold(key).unwrap()));
    scene.check("released");
}

/// A store in front of `store` that does `fault` at request `index`, or none. It lives as long as the test.
fn faulty(store: &Arc<MemoryStore>, plan: Option<(usize, Fault)>) -> Arc<FaultyStore<'static>> {
    let inner: &'static Arc<MemoryStore> = Box::leak(Box::new(store.clone()));
    Arc::new(match plan {
        None => FaultyStore::new(inner.as_ref()),
        Some((index, fault)) => FaultyStore::failing(inner.as_ref(), index, fault),
    })
}

/// Does `work` on copies of the scene, stopped at each request in turn; then once more to its end.
fn check_kills(scene: &Scene, work: impl Fn(&Vault), is_done: impl Fn(&Vault) -> bool) {
    let attempt = |store: Arc<FaultyStore<'static>>| {
        let run = || open(store.clone(), scene.cipher).map(|vault| work(&vault));
        // Work that is stopped panics at its own unwrap.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_ok()
    };
    let whole = faulty(&Arc::new(scene.store.copy()), None);
    assert!(attempt(whole.clone()));
    let requests = whole.requests().len();
    assert!(requests > 10, "it makes requests");
    for fault in [Fault::KillBefore, Fault::KillAfter, Fault::LoseReply] {
        for index in 0..requests {
            let context = format!("{fault:?} at request {index} of {requests}");
            let store = Arc::new(scene.store.copy());
            attempt(faulty(&store, Some((index, fault))));
            let left = open(store.clone(), scene.cipher).unwrap();
            for (id, snapshot) in &scene.points {
                assert!(restored(&left, *id) == snapshot.content(), "{context}: {id} is harmed");
            }
            assert_eq!(left.verify(Depth::Objects, &()).unwrap().damaged, [], "{context}");
            assert_eq!(left.check().unwrap().findings, [], "{context}");
            work(&left);
            assert!(is_done(&left), "{context}");
            check(&store, scene.cipher, &scene.points, &context);
        }
    }
}

#[test]
fn a_longer_date_that_dies_anywhere_is_completed_by_the_next() {
    let (scene, id) = half_overwritten(Cipher::Aes256Gcm, Some(LockMode::Compliance));
    scene.vault.hold(id, "court").unwrap();
    let until_ms = START_MS + 100 * DAY_MS;
    let is_done = |vault: &Vault| vault.catalog().point(id).unwrap().retain_until_ms == Some(until_ms);
    check_kills(&scene, |vault| vault.retain(&BTreeSet::from([id]), until_ms).unwrap(), is_done);
}

#[test]
fn a_compaction_that_dies_anywhere_is_completed_by_the_next() {
    let (mut scene, _) = half_overwritten(Cipher::None, None);
    let first = scene.points[0].0;
    scene.send(60..90, None);
    scene.prune(&[first]);
    let is_done = |vault: &Vault| vault.plan_compact().unwrap().packs.is_empty();
    check_kills(&scene, |vault| drop(vault.compact().unwrap()), is_done);
}

/// Two that do the same at once: whoever comes second finds the points moved.
#[test]
fn two_compactions_and_a_send_meet() {
    let (mut scene, _) = half_overwritten(Cipher::None, None);
    let first = scene.points[0].0;
    scene.prune(&[first]);
    let others: Vec<Vault> = (0..3).map(|_| open(scene.store.clone(), Cipher::None).unwrap()).collect();
    std::thread::scope(|scope| {
        for other in &others {
            scope.spawn(|| other.compact().unwrap());
        }
        scene.send(0..20, None);
    });
    scene.check("met");
}
