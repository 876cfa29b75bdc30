//! Vaults: recovery points in a store, and the log that says which.
//!
//! 1. What is in no entry of the log did not happen. An entry is created only if absent, by whoever read all before it.
//! 2. Every fact is decided again when another writer's entry came first ([`Vault::append`]).
//! 3. Nothing here reads the host's clock: time is the store's.
//! 4. Secrets are wiped when they go. The store sees only wrapped keys.

mod affected;
mod aligned;
mod bounded;
pub mod cache;
pub mod catalog;
pub mod check;
pub mod commit;
pub mod compact;
mod container;
pub mod damage;
mod fold;
pub mod former;
mod forward;
mod foundation;
mod fresh;
pub mod groups;
mod hidden;
mod hold;
pub mod identity;
pub mod init;
pub mod keyring;
mod layer;
pub mod lock;
mod log;
mod map;
mod pack;
mod points;
pub mod progress;
pub mod prune;
pub mod reach;
pub mod reclaim;
pub mod restore;
mod retain;
mod run;
mod seal;
pub mod send;
mod sharing;
pub mod sink;
pub mod source;
mod tables;
pub mod verify;
mod workers;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ed25519_dalek::SigningKey;

use self::cache::LogCache;
use self::catalog::Catalog;
use self::hidden::uncovering;
use self::keyring::{Keyring, Unlock};
use crate::error::{Error, Kind, Result};
use crate::format::entry::{Action, Signed, Who};
use crate::format::name;
use crate::format::settings::Settings;
use crate::store::Store;

/// How often an entry is written anew because other writers came first.
const RACES_MAX: usize = 1000;

/// What a vault is opened with.
#[derive(Clone, Default)]
pub struct OpenOptions {
    /// The directory in which what was read of the log is kept for the next time. Without one the log is read whole,
    /// and nobody notices that it went back.
    pub cache: Option<PathBuf>,
    /// Signs entries; not needed to read.
    pub signing: Option<SigningKey>,
    /// Opens the vault's keys; not needed for what is not encrypted.
    pub unlock: Option<Unlock>,
    /// Goes into entries.
    pub who: Who,
}

/// A vault. All calls may be made from several threads, and by several processes on one store.
pub struct Vault {
    store: Arc<dyn Store>,
    settings: Settings,
    signing: Option<SigningKey>,
    who: Who,
    keyring: Mutex<Keyring>,
    log: Mutex<Log>,
}

/// How far the log was read.
struct Log {
    catalog: Arc<Catalog>,
    cache: Option<LogCache>,
}

impl Vault {
    /// Opens the vault in `store`: reads its log to the end, and its keys when it is unlocked.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no vault; [`Kind::Damaged`] when its log is not whole, went back, or has an
    /// entry by a stranger; [`Kind::Invalid`] for a wrong passphrase or key file; what the store said.
    pub fn open(store: Arc<dyn Store>, options: OpenOptions) -> Result<Self> {
        let open = || {
            let settings = read_settings(store.as_ref())?;
            Self::with_settings(Arc::clone(&store), settings, options.clone())
        };
        // Settings that don't fit the log may hide those that do.
        let vault = uncovering(store.as_ref(), &name::settings(), open)?;
        if vault.catalog().head().number == 0 {
            return Err(Error::new(
                Kind::NotFound,
                "open vault",
                format!("{} has no log", vault.store.name()),
            )
            .hint("init was interrupted there: run it again"));
        }
        Ok(vault)
    }

    /// Opens a vault whose log may be empty still.
    fn with_settings(store: Arc<dyn Store>, settings: Settings, options: OpenOptions) -> Result<Self> {
        let mut catalog = Catalog::new(settings.vault, settings.founder);
        let cache = match &options.cache {
            None => None,
            Some(directory) => Some(LogCache::open(directory, &store.name(), &mut catalog)?),
        };
        log::check_head(store.as_ref(), catalog.head())?;
        let log = Mutex::new(Log { catalog: Arc::new(catalog), cache });
        let vault = Self {
            keyring: Mutex::new(Keyring::new(&settings)),
            store,
            settings,
            signing: options.signing,
            who: options.who,
            log,
        };
        let catalog = vault.refresh()?;
        vault.check_settings(&catalog)?;
        if let Some(unlock) = &options.unlock {
            vault.keyring().unlock(vault.store.as_ref(), &catalog, unlock)?;
        }
        Ok(vault)
    }

    fn check_settings(&self, catalog: &Catalog) -> Result<()> {
        let present = crate::format::digest::Digest::of(&self.settings.encode());
        match catalog.settings() {
            Some(logged) if logged != present => {
                let detail = format!("{} is not the one that the log begins with", name::SETTINGS);
                Err(Error::new(Kind::Damaged, "open vault", detail))
            }
            _ => Ok(()),
        }
    }

    /// Where it lies.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What it is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the log said when it was last read.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.log().catalog)
    }

    /// Reads the log on to its end.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn refresh(&self) -> Result<Arc<Catalog>> {
        let mut log = self.log();
        let log = &mut *log;
        let mut entries = Vec::new();
        let keeps = log.cache.is_some();
        let catalog = Arc::make_mut(&mut log.catalog);
        let read = log::read_on(self.store.as_ref(), catalog, &mut |number, bytes| {
            if keeps {
                entries.push((number, bytes.to_vec()));
            }
        });
        if let Some(cache) = &mut log.cache {
            cache.add(&entries)?;
        }
        read?;
        Ok(Arc::clone(&log.catalog))
    }

    /// Adds an entry to the log. `decide` is given the catalog at the log's end and the store's time, and says what is
    /// to be added, or nothing; it is asked again whenever somebody else's entry came first.
    ///
    /// Durable on return. After an error the entry may be there all the same.
    ///
    /// # Errors
    /// What `decide` said; [`Kind::Conflict`] when the action contradicts the catalog; [`Kind::Invalid`] without a key
    /// to sign with, or when the vault does not know it; [`Kind::Retry`] when others always came first; what the store said.
    pub fn append(
        &self,
        decide: &mut dyn FnMut(&Catalog, u64) -> Result<Option<Action>>,
    ) -> Result<Option<Signed>> {
        const WHAT: &str = "write to log";
        let Some(key) = &self.signing else {
            return Err(Error::new(Kind::Invalid, WHAT, "no signing key was given"));
        };
        let signer = identity::signer(key);
        let mut reached = foundation::Reached::default();
        for _ in 0..RACES_MAX {
            let catalog = self.refresh()?;
            let clock_ms = self.store.clock_ms()?;
            let Some(action) = decide(&catalog, clock_ms)? else { return Ok(None) };
            if !catalog.signers().contains_key(&signer) {
                return Err(Error::new(Kind::Invalid, WHAT, format!("{signer} may not sign in this vault"))
                    .hint(format!("on a machine that may: firn vault keys add-signer VAULT {signer}")));
            }
            let entry = catalog.next_entry(&self.who, clock_ms, action);
            // The log's time may have run ahead of the store's. A date that has not come yet by either one stands.
            let objection = catalog.objection(&entry.action, entry.time_ms);
            if let Some(why) = objection.or_else(|| catalog.objection(&entry.action, clock_ms)) {
                return Err(Error::new(Kind::Conflict, WHAT, why));
            }
            let bytes = entry.encode(key)?;
            let locked = self.lock_below(&catalog, &entry, clock_ms, &mut reached)?;
            if log::put(self.store.as_ref(), entry.number, &bytes, locked)? {
                // Whoever shares a catalog has it copied before it is changed.
                drop(catalog);
                return self.take_up(entry.number, bytes).map(Some);
            }
        }
        Err(Error::new(Kind::Retry, WHAT, format!("{RACES_MAX} times somebody else's entry came first")))
    }

    /// Takes up an entry that was written here, after all before it.
    fn take_up(&self, number: u64, bytes: Vec<u8>) -> Result<Signed> {
        let signed = log::decode_again(number, &bytes)?;
        let mut log = self.log();
        // Another thread may have read it back already.
        if log.catalog.head().number + 1 == number {
            Arc::make_mut(&mut log.catalog).apply(&signed)?;
            if let Some(cache) = &mut log.cache {
                cache.add(&[(number, bytes)])?;
            }
        }
        Ok(signed)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keyring(&self) -> MutexGuard<'_, Keyring> {
        self.keyring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `vault.json`.
fn read_settings(store: &dyn Store) -> Result<Settings> {
    let key = name::settings();
    let read = || Settings::decode(&bounded::get(store, &key, bounded::SETTINGS_BYTES_MAX)?);
    uncovering(store, &key, read).map_err(|error| match error.kind() {
        Kind::NotFound => {
            Error::new(Kind::NotFound, "open vault", format!("{} holds no vault", store.name()))
                .hint("make one with `firn vault init`")
        }
        _ => error,
    })
}
