//! Keys of an encrypted vault: slots open the master key, the master key opens a data key for each volume.
//!
//! 1. An object in `keys/` is written before the entry that names it, and deleted only after the entry that says so.
//! 2. A data key is drawn at random, once for each volume, by whoever's entry comes first.
//! 3. There is always a slot. A key under which a point must stay is not destroyed.

use std::collections::BTreeMap;

use firn_engine::sys::random_bytes;

use super::catalog::Catalog;
use super::hidden::uncovering;
use super::{Vault, bounded};
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, KeyId, PoolId};
use crate::format::entry::Action;
use crate::format::frame::FrameKeys;
use crate::format::name;
use crate::format::secret::Secret;
use crate::format::settings::{Cipher, Settings};
use crate::format::slot::{Slot, Wrapping};
use crate::policy::calendar;
use crate::store::{Put, Store};

/// What opens a slot.
#[derive(Clone)]
pub enum Unlock {
    /// A passphrase.
    Passphrase(zeroize::Zeroizing<String>),
    /// The 32 bytes of a key file.
    KeyFile(Secret),
}

/// Keys that were opened, until the vault is dropped.
pub(super) struct Keyring {
    cipher: Cipher,
    master: Option<Secret>,
    opened: BTreeMap<KeyId, FrameKeys>,
}

impl Keyring {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { cipher: settings.cipher, master: None, opened: BTreeMap::new() }
    }

    /// Opens the master key with the first slot that `unlock` fits.
    pub(super) fn unlock(&mut self, store: &dyn Store, catalog: &Catalog, unlock: &Unlock) -> Result<()> {
        const WHAT: &str = "unlock vault";
        if self.cipher == Cipher::None {
            // Otherwise whoever may write to the store puts a vault without encryption there, and gets what is sent.
            let detail = format!("a {} was given, and the vault is not encrypted", unlock.name());
            return Err(Error::new(Kind::Invalid, WHAT, detail).hint(
                "if it was encrypted, somebody put another one in its place: send nothing there; otherwise open it without a key",
            ));
        }
        if catalog.slots().is_empty() {
            return Ok(());
        }
        let (mut unreadable, mut tried) = (None, 0);
        for (id, known) in catalog.slots() {
            match try_slot(store, *id, known.object, unlock, &mut tried) {
                Ok(None) => {}
                Ok(master) => {
                    self.master = master;
                    return Ok(());
                }
                // Another slot may do.
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Invalid) => {
                    unreadable = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let (what, slots) = (unlock.name(), catalog.slots().len());
        match unreadable {
            Some(error) => {
                let detail =
                    format!("no slot that can be read is opened by this {what}, and one can't be read");
                Err(Error::new(Kind::Damaged, WHAT, detail).source(error))
            }
            None => {
                let detail = format!("this {what} opens none of {slots} slots ({tried} are for a {what})");
                Err(Error::new(Kind::Invalid, WHAT, detail)
                    .hint("try another one; it is not kept anywhere else"))
            }
        }
    }

    /// The master key.
    fn master(&self) -> Result<&Secret> {
        self.master.as_ref().ok_or_else(|| {
            Error::new(Kind::Invalid, "use vault", "it is encrypted and locked")
                .hint("give its passphrase or key file")
        })
    }
}

impl Unlock {
    /// The key for a slot; nothing when the slot is opened by something else.
    fn key(&self, wrapping: &Wrapping) -> Result<Option<Secret>> {
        match (self, wrapping) {
            (Unlock::Passphrase(text), Wrapping::Passphrase { .. }) => wrapping.of_passphrase(text).map(Some),
            (Unlock::KeyFile(file), Wrapping::KeyFile) => Ok(Some(Wrapping::of_key_file(file))),
            _ => Ok(None),
        }
    }

    /// Whether a slot may be made for it.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Unlock::Passphrase(text) if text.is_empty() => {
                Err(Error::new(Kind::Invalid, "add key slot", "the passphrase is empty"))
            }
            _ => Ok(()),
        }
    }

    fn new_wrapping(&self) -> Result<Wrapping> {
        self.check()?;
        match self {
            Unlock::Passphrase(_) => Ok(Wrapping::passphrase(random_bytes()?)),
            Unlock::KeyFile(_) => Ok(Wrapping::KeyFile),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Unlock::Passphrase(_) => "passphrase",
            Unlock::KeyFile(_) => "key file",
        }
    }
}

impl Vault {
    /// The data key for what is sent of a volume: all zeros when the vault is not encrypted. A volume without one gets
    /// one, which is logged.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the vault is locked; as [`append`](Self::append).
    pub fn data_key(&self, pool: PoolId, volume: u64) -> Result<KeyId> {
        if self.settings.cipher == Cipher::None {
            return Ok(KeyId::default());
        }
        if let Some(id) = self.catalog().key_of(pool, volume) {
            return Ok(id);
        }
        let slot = {
            let keyring = self.keyring();
            let secret = Secret::new(random_bytes()?);
            self.new_slot(Wrapping::MasterKey { pool, volume }, keyring.master()?, &secret)?
        };
        let object = self.put_slot(&slot)?;
        let (id, mut present) = (slot.id, None);
        self.append(&mut |catalog, _| {
            present = catalog.key_of(pool, volume);
            Ok(present.is_none().then_some(Action::AddKey { id, object, pool, volume }))
        })?;
        Ok(present.unwrap_or(id))
    }

    /// What frames under data key `key` are hashed and encrypted with.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the vault is locked; [`Kind::Conflict`] when the key was destroyed; [`Kind::Damaged`] when
    /// its object is missing or not what was written; what the store said.
    pub fn frame_keys(&self, key: KeyId) -> Result<FrameKeys> {
        const WHAT: &str = "open data key";
        if key == KeyId::default() {
            return Ok(FrameKeys::plain(self.settings.vault));
        }
        if let Some(keys) = self.keyring().opened.get(&key) {
            return Ok(keys.clone());
        }
        let catalog = self.catalog();
        let known = match catalog.keys().get(&key) {
            Some(known) => known,
            None => return Err(Error::new(Kind::Damaged, WHAT, format!("the log knows no key {key}"))),
        };
        if let Some(time_ms) = known.destroyed_ms {
            let detail =
                format!("key {key} was destroyed on {}: what it encrypts is lost", calendar::text(time_ms));
            return Err(Error::new(Kind::Conflict, WHAT, detail));
        }
        let mut keyring = self.keyring();
        let master = keyring.master()?;
        let slot = read_slot(self.store.as_ref(), key, known.object)?;
        let data_key = slot.unwrap(master)?.ok_or_else(|| {
            Error::new(Kind::Damaged, WHAT, format!("the master key does not open {}", name::slot(key)))
        })?;
        let keys = FrameKeys::encrypted(&data_key);
        keyring.opened.insert(key, keys.clone());
        Ok(keys)
    }

    /// Adds a slot that `unlock` opens; the vault must be unlocked. Returns its identity.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the vault is locked or not encrypted; as [`append`](Self::append).
    pub fn add_slot(&self, unlock: &Unlock, name: &str) -> Result<KeyId> {
        if self.settings.cipher == Cipher::None {
            return Err(Error::new(Kind::Invalid, "add key slot", "the vault is not encrypted"));
        }
        let master = self.keyring().master()?.clone();
        self.add_slot_for(&master, unlock, name, |_| true)
    }

    /// Makes the master key and its first slot, unless somebody else's came first.
    pub(super) fn found_keyring(&self, unlock: &Unlock, name: &str) -> Result<()> {
        let master = Secret::new(random_bytes()?);
        self.add_slot_for(&master, unlock, name, |catalog| catalog.slots().is_empty())?;
        self.keyring().unlock(self.store.as_ref(), &self.catalog(), unlock)
    }

    fn add_slot_for(
        &self,
        master: &Secret,
        unlock: &Unlock,
        name: &str,
        still: impl Fn(&Catalog) -> bool,
    ) -> Result<KeyId> {
        let wrapping = unlock.new_wrapping()?;
        let key = unlock.key(&wrapping)?.ok_or_else(|| {
            Error::new(Kind::Bug, "add key slot", "it is not opened by what it is made for")
        })?;
        let slot = self.new_slot(wrapping, &key, master)?;
        let object = self.put_slot(&slot)?;
        let id = slot.id;
        self.append(&mut |catalog, _| {
            Ok(still(catalog).then(|| Action::AddSlot { id, object, name: name.to_owned() }))
        })?;
        Ok(id)
    }

    /// Removes a slot; what it was opened by opens the vault no more. A slot whose removal was interrupted may be removed
    /// again. Where the store has its object locked, that stays until its date, and is no slot all the same.
    ///
    /// # Errors
    /// [`Kind::Conflict`] for one that was never there, or is the last; as [`append`](Self::append).
    pub fn remove_slot(&self, id: KeyId) -> Result<()> {
        self.append(&mut |catalog, _| {
            // That the name is dead is not enough: a void `delete` entry can have named it.
            let is_there = catalog.slots().contains_key(&id) || catalog.keys().contains_key(&id);
            let is_removed = !is_there && catalog.is_deleted(&name::slot(id));
            Ok((!is_removed).then_some(Action::RemoveSlot { id }))
        })?;
        match self.store.delete(&name::slot(id)) {
            Err(error) if error.kind() != Kind::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    /// Destroys a data key: the points under it can never be read again. A key whose destruction was interrupted may be
    /// destroyed again.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when there is no such key, or while something under it is held, retained or locked; as
    /// [`append`](Self::append).
    pub fn destroy_key(&self, id: KeyId) -> Result<()> {
        self.append(&mut |catalog, clock_ms| {
            let is_destroyed = catalog.is_destroyed(id);
            // An entry that was dated ahead can have destroyed it before its time.
            match catalog.key_stays(id, clock_ms).filter(|_| is_destroyed) {
                Some(why) => Err(Error::new(Kind::Conflict, "destroy key", why)),
                None => Ok((!is_destroyed).then_some(Action::DestroyKey { id })),
            }
        })?;
        self.keyring().opened.remove(&id);
        self.store.delete(&name::slot(id))
    }

    fn new_slot(&self, wrapping: Wrapping, key: &Secret, secret: &Secret) -> Result<Slot> {
        let id = KeyId(random_bytes()?);
        Slot::wrap(self.settings.vault, id, wrapping, key, secret, random_bytes()?)
    }

    fn put_slot(&self, slot: &Slot) -> Result<Digest> {
        let bytes = slot.encode();
        let key = name::slot(slot.id);
        match self.store.put_if_absent(&key, &bytes)? {
            Put::Created => Ok(Digest::of(&bytes)),
            // A request below us that was made twice finds its own object.
            Put::Exists if self.store.get(&key)? == bytes => Ok(Digest::of(&bytes)),
            Put::Exists => Err(Error::new(Kind::Conflict, "write key", format!("{key} is there"))),
        }
    }
}

/// The master key, when `unlock` opens this slot; `tried` counts the slots that are for such a thing.
fn try_slot(
    store: &dyn Store,
    id: KeyId,
    object: Digest,
    unlock: &Unlock,
    tried: &mut usize,
) -> Result<Option<Secret>> {
    let slot = read_slot(store, id, object)?;
    let wrong =
        |error: Error| Error::new(error.kind(), "open key slot", name::slot(id).to_string()).source(error);
    let Some(key) = unlock.key(&slot.wrapping).map_err(wrong)? else { return Ok(None) };
    *tried += 1;
    slot.unwrap(&key).map_err(wrong)
}

/// Reads a wrapped key whose object the log says has the hash `object`.
pub(super) fn read_slot(store: &dyn Store, id: KeyId, object: Digest) -> Result<Slot> {
    uncovering(store, &name::slot(id), || read_present_slot(store, id, object))
}

fn read_present_slot(store: &dyn Store, id: KeyId, object: Digest) -> Result<Slot> {
    const WHAT: &str = "read key";
    let key = name::slot(id);
    let bytes = bounded::get(store, &key, bounded::SLOT_BYTES_MAX).map_err(|error| match error.kind() {
        Kind::NotFound => Error::new(Kind::Damaged, WHAT, format!("{key} is missing")),
        _ => error,
    })?;
    let slot = Slot::decode(object, &bytes)
        .map_err(|error| Error::new(error.kind(), WHAT, key.to_string()).source(error))?;
    match slot.id == id {
        true => Ok(slot),
        false => Err(Error::new(Kind::Damaged, WHAT, format!("{key} holds {}", slot.id))),
    }
}
