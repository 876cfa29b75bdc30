//! A vault in memory, who works on it, and the times it all happens at.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use firn_replicator::error::{Error, Result};
use firn_replicator::format::digest::PoolId;
use firn_replicator::format::entry::Who;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::faults::{Fault, FaultyStore, Request};
use firn_replicator::store::{LockMode, MemoryStore, Store};
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::keyring::Unlock;
use firn_replicator::vault::{OpenOptions, Vault};

/// When vaults are made: a day in 2026.
pub(crate) const START_MS: u64 = 1_790_000_000_000;
pub(crate) const DAY_MS: u64 = 86_400_000;
pub(crate) const POOL: PoolId = PoolId([7; 16]);

/// The key of somebody who signs.
pub(crate) fn signing(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn who() -> Who {
    Who { user: "ada".into(), host: "db1".into(), program: "firn test".into() }
}

pub(crate) fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(text.to_owned().into())
}

pub(crate) fn init_options(store: &dyn Store, lock: Option<LockMode>) -> InitOptions {
    InitOptions {
        probed: store.capabilities(),
        cipher: Cipher::None,
        lock,
        signing: signing(1),
        unlock: None,
        who: who(),
        cache: None,
    }
}

pub(crate) fn encrypted_options(store: &dyn Store, text: &str) -> InitOptions {
    let unlock = Some((passphrase(text), "first".to_owned()));
    InitOptions { cipher: Cipher::Aes256Gcm, unlock, ..init_options(store, None) }
}

/// An empty store.
pub(crate) fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(START_MS))
}

/// A vault that is not encrypted.
pub(crate) fn vault(store: &Arc<MemoryStore>, lock: Option<LockMode>) -> Vault {
    Vault::init(store.clone(), init_options(store.as_ref(), lock)).unwrap()
}

pub(crate) fn open_options() -> OpenOptions {
    OpenOptions { signing: Some(signing(1)), who: who(), ..OpenOptions::default() }
}

pub(crate) fn open(store: Arc<dyn Store>) -> Result<Vault> {
    Vault::open(store, open_options())
}

/// The error of a vault that must not open.
pub(crate) fn refusal(opened: Result<Vault>) -> Error {
    opened.err().expect("the vault must not open")
}

/// Does `work` on copies of `before`, stopped at each of its requests in turn, before and after it took effect; shows
/// `after` what is left then.
pub(crate) fn killed_everywhere(
    before: &MemoryStore,
    work: impl Fn(Arc<dyn Store>) -> Result<()>,
    after: impl Fn(&Arc<MemoryStore>, usize, Fault),
) -> Vec<Request> {
    let whole = Arc::new(FaultyStore::new(leak(before.copy())));
    work(whole.clone()).expect("nothing stops it");
    let requests = whole.requests();
    for index in 0..requests.len() {
        for fault in [Fault::KillBefore, Fault::KillAfter] {
            let left = Arc::new(before.copy());
            let faulty = FaultyStore::failing(leak_arc(&left), index, fault);
            let _ = work(Arc::new(faulty));
            after(&left, index, fault);
        }
    }
    requests
}

/// A store for a wrapper that borrows it; it is there for as long as the test runs.
fn leak(store: MemoryStore) -> &'static MemoryStore {
    Box::leak(Box::new(store))
}

fn leak_arc(store: &Arc<MemoryStore>) -> &'static MemoryStore {
    Box::leak(Box::new(store.clone()))
}
