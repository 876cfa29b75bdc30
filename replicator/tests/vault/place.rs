//! Vaults in memory, and what tests do with them again and again.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use firn_replicator::error::Result;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::{Action, Pruned, Who};
use firn_replicator::format::secret::Secret;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{Key, MemoryStore, Store, each_object};
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::keyring::Unlock;
use firn_replicator::vault::send::{SendOptions, SendReport};
use firn_replicator::vault::source::Source;
use firn_replicator::vault::{OpenOptions, Vault};

use crate::model::{Snapshot, Target};

/// When stores in memory begin.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

fn signing() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn unlock() -> Unlock {
    Unlock::KeyFile(Secret::new([6; 32]))
}

/// Makes a vault in `store`.
pub(crate) fn init(store: &Arc<MemoryStore>, cipher: Cipher) -> Vault {
    init_locking(store, cipher, None)
}

/// Makes a vault in `store` that locks.
pub(crate) fn init_locking(
    store: &Arc<MemoryStore>,
    cipher: Cipher,
    lock: Option<firn_replicator::store::LockMode>,
) -> Vault {
    let options = InitOptions {
        probed: store.capabilities(),
        cipher,
        lock,
        signing: signing(),
        unlock: (cipher != Cipher::None).then(|| (unlock(), "file".to_owned())),
        who: Who::default(),
        cache: None,
    };
    let vault = Vault::init(store.clone(), options).expect("a vault is made");
    drop(vault);
    open(store.clone(), cipher).expect("it opens")
}

/// Opens the vault in `store`, with its key.
pub(crate) fn open(store: Arc<dyn Store>, cipher: Cipher) -> Result<Vault> {
    let unlock = (cipher != Cipher::None).then(unlock);
    Vault::open(store, OpenOptions { signing: Some(signing()), unlock, ..OpenOptions::default() })
}

/// Opens the vault in `store` without its key.
pub(crate) fn open_locked(store: Arc<dyn Store>) -> Vault {
    Vault::open(store, OpenOptions::default()).expect("it opens")
}

pub(crate) fn send(vault: &Vault, snapshot: &Snapshot) -> Result<SendReport> {
    send_all(vault, &[snapshot], &SendOptions::default())
}

pub(crate) fn send_all(vault: &Vault, snapshots: &[&Snapshot], options: &SendOptions) -> Result<SendReport> {
    let sources: Vec<&dyn Source> = snapshots.iter().map(|snapshot| *snapshot as &dyn Source).collect();
    vault.send(&sources, options, &())
}

/// What restoring the point gives; panics when it is not whole.
pub(crate) fn restored(vault: &Vault, id: Digest) -> Vec<u8> {
    let reader = vault.open_point(id).expect("the point opens");
    let target = Target::new(reader.point().bytes);
    let _ = reader.restore(&target, &()).expect("it is restored").whole().expect("it is whole");
    target.content()
}

/// Takes points out of the vault.
pub(crate) fn prune(vault: &Vault, ids: &[Digest]) {
    let pruned = |id: &Digest| Pruned { id: *id, reason: "test".to_owned() };
    let points: Vec<Pruned> = ids.iter().map(pruned).collect();
    let action = Action::Prune { points };
    vault.append(&mut |_, _| Ok(Some(action.clone()))).expect("pruned");
}

/// The names of all objects.
pub(crate) fn keys(store: &dyn Store) -> Vec<Key> {
    let mut keys = Vec::new();
    each_object(store, "", |object| {
        keys.push(object.key);
        Ok(())
    })
    .expect("listed");
    keys
}
