//! Vaults in which there is something to quarrel about, for schedules to begin with.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use firn_replicator::format::digest::VaultId;
use firn_replicator::format::entry::Action;
use firn_replicator::format::name;
use firn_replicator::format::settings::{Cipher, Settings};
use firn_replicator::store::faults::{Fault, FaultyStore};
use firn_replicator::store::{LockMode, MemoryStore, Store};
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::source::Source;
use firn_replicator::vault::{OpenOptions, Vault, identity};

use crate::cells::{Cells, Volume};
use crate::schedule::NOW;
use crate::world::{DAY_MS, START_MS, init_options, open, open_options, signing};

/// A vault, and what was sent to it.
pub(crate) struct Beginning {
    pub(crate) store: MemoryStore,
    pub(crate) volumes: [Volume; 2],
    /// Whether its store has locks.
    pub(crate) has_locks: bool,
    /// The name and content of the file that holds what was read of its log.
    cache: (String, Vec<u8>),
}

impl Beginning {
    /// All there are: four vaults, in each way to lock and without locks in the store.
    pub(crate) fn all() -> Vec<Self> {
        let locks = [None, Some(LockMode::Governance), Some(LockMode::Compliance)];
        locks.into_iter().flat_map(|lock| (0..4).map(move |number| Self::new(number, lock))).collect()
    }

    fn new(number: u32, lock: Option<LockMode>) -> Self {
        let store = Arc::new(MemoryStore::new(START_MS));
        let volumes = [Volume::new(1, &[*b"ab", *b"bb"]), Volume::new(2, &[*b"b\0"])];
        let directory = tempfile::tempdir().unwrap();
        let cache = Some(directory.path().to_owned());
        // Init takes it up: nothing of a schedule may be drawn at random but by its seed.
        let founder = identity::signer(&signing(1));
        let settings = Settings::new(VaultId([8; 16]), founder, START_MS, Cipher::None, lock);
        store.put(&name::settings(), &settings.encode()).unwrap();
        let options = InitOptions { cache: cache.clone(), ..init_options(store.as_ref(), lock) };
        let vault = Vault::init(store.clone(), options).unwrap();
        fill(number, &store, &vault, &volumes.each_ref().map(|volume| Arc::new(volume.clone())));
        drop(Vault::open(store.clone(), OpenOptions { cache, ..open_options() }).unwrap());
        let file = fs::read_dir(&directory).unwrap().next().unwrap().unwrap();
        let cache = (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap());
        Self { store: store.copy(), volumes, has_locks: lock.is_some(), cache }
    }

    /// Makes `directory` hold what was read of the log, and nothing else.
    pub(crate) fn write_cache(&self, directory: &Path) {
        let (file, bytes) = &self.cache;
        fs::write(directory.join(file), bytes).unwrap();
    }
}

fn fill(number: u32, store: &Arc<MemoryStore>, vault: &Vault, volumes: &[Arc<Volume>; 2]) {
    let lock = vault.settings().lock;
    let plain = SendOptions { level: 1, threads: 1, ..SendOptions::default() };
    let dated = SendOptions { retain_until_ms: Some(START_MS + 30 * DAY_MS), ..plain.clone() };
    let snapshot = |volume: usize, epoch| Cells::new(&volumes[volume], epoch, 1);
    let first = vault.send(&[&snapshot(0, 1)], &plain, &()).unwrap().points[0].id;
    let second = if lock.is_some() { &dated } else { &plain };
    let second = vault.send(&[&snapshot(0, 2)], second, &()).unwrap().points[0].id;
    if number == 0 {
        return;
    }
    if lock.is_some() {
        vault.hold(second, "court").unwrap();
    }
    cut(store, &snapshot(1, 1), &plain);
    vault.remove_points(&[first], "old").unwrap();
    vault.reclaim(NOW).unwrap();
    if number == 2 {
        vault.send(&[&snapshot(1, 1)], &plain, &()).unwrap();
    }
    if number == 3 {
        // A reclaim that ended before it deleted anything.
        let objects = vault.catalog().condemned().keys().cloned().collect();
        vault.append(&mut |_, _| Ok(Some(Action::Delete { objects: Vec::clone(&objects) }))).unwrap();
    }
}

/// A send that was killed before its entry.
fn cut(store: &Arc<MemoryStore>, source: &dyn Source, options: &SendOptions) {
    let send = |faulty: FaultyStore<'static>| {
        let faulty = Arc::new(faulty);
        let sent = open(faulty.clone()).and_then(|vault| vault.send(&[source], options, &()).map(|_| ()));
        (faulty.requests(), sent)
    };
    // A wrapper borrows its store, a vault keeps it: these two stay for as long as the test runs.
    let (requests, sent) = send(FaultyStore::new(Box::leak(Box::new(store.copy()))));
    sent.unwrap();
    let is_entry = |subject: &str| subject.starts_with(name::LOG);
    let entry = requests
        .iter()
        .position(|made| made.operation.starts_with("put_if_absent") && is_entry(&made.subject));
    let left: &'static MemoryStore = Box::leak(Box::new(store.clone()));
    send(FaultyStore::failing(left, entry.unwrap(), Fault::KillBefore)).1.unwrap_err();
}
