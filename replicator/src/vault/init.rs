//! Making a vault: `vault.json`, the log's first entry, and the first slot when it is encrypted.
//!
//! The first entry makes it a vault. An init that was killed before is taken up by the next one of the same signer.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use firn_engine::sys::random_bytes;

use super::keyring::Unlock;
use super::{OpenOptions, Vault, identity, read_settings};
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, VaultId};
use crate::format::entry::{Action, Who};
use crate::format::name;
use crate::format::settings::{Cipher, Settings};
use crate::store::{Capabilities, LockMode, Put, Store};

const WHAT: &str = "make vault";

/// What a vault is made with.
pub struct InitOptions {
    /// What the store was found to be able to do.
    pub probed: Capabilities,
    /// How frames are encrypted.
    pub cipher: Cipher,
    /// How points with a date are locked in the store.
    pub lock: Option<LockMode>,
    /// Signs the first entry.
    pub signing: SigningKey,
    /// What opens the first slot, and what it is called; needed when the vault is encrypted.
    pub unlock: Option<(Unlock, String)>,
    /// Goes into entries.
    pub who: Who,
    /// As [`OpenOptions::cache`].
    pub cache: Option<std::path::PathBuf>,
}

impl Vault {
    /// Makes a vault in `store`.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when there is one, or another init was begun there; [`Kind::Invalid`] when the store lacks
    /// what is asked for, or an encrypted vault has nothing to open it; what the store said.
    pub fn init(store: Arc<dyn Store>, options: InitOptions) -> Result<Self> {
        check(&options)?;
        let settings = put_settings(store.as_ref(), &options)?;
        let InitOptions { signing, unlock, who, cache, .. } = options;
        let open = OpenOptions { cache, signing: Some(signing), unlock: None, who };
        let vault = Self::with_settings(store, settings, open)?;
        let hash = Digest::of(&vault.settings.encode());
        let begun = vault.append(&mut |catalog, _| {
            Ok((catalog.head().number == 0).then_some(Action::Init { settings: hash }))
        })?;
        let lacks_slot = vault.settings.cipher != Cipher::None && vault.catalog().slots().is_empty();
        match unlock {
            Some((unlock, name)) if lacks_slot => vault.found_keyring(&unlock, &name)?,
            _ if begun.is_none() => return Err(exists(vault.store.as_ref())),
            _ => {}
        }
        Ok(vault)
    }
}

fn check(options: &InitOptions) -> Result<()> {
    let refused = |detail: &str| Err(Error::new(Kind::Invalid, WHAT, detail));
    if !options.probed.conditional_put {
        return refused("the store can't create an object only if it is absent, which commits rest on");
    }
    if options.lock.is_some() && !options.probed.retention {
        return refused("the store has no object lock, which points with a date are to be locked with");
    }
    if options.cipher != Cipher::None && options.unlock.is_none() {
        return refused("an encrypted vault needs a passphrase or a key file");
    }
    options.unlock.as_ref().map_or(Ok(()), |(unlock, _)| unlock.check())
}

/// Writes new settings, or finds those of an init that was begun with the same options.
fn put_settings(store: &dyn Store, options: &InitOptions) -> Result<Settings> {
    let founder = identity::signer(&options.signing);
    let vault = VaultId(random_bytes()?);
    let settings = Settings::new(vault, founder, store.clock_ms()?, options.cipher, options.lock);
    if store.put_if_absent(&name::settings(), &settings.encode())? == Put::Created {
        return Ok(settings);
    }
    let present = read_settings(store)?;
    let mine = (founder, options.cipher, options.lock);
    if (present.founder, present.cipher, present.lock) == mine {
        return Ok(present);
    }
    if store.head(&name::entry(1))?.is_some() {
        return Err(exists(store));
    }
    let detail = format!("{}: another init was begun there, with other settings", store.name());
    Err(Error::new(Kind::Conflict, WHAT, detail)
        .hint(format!("if nobody goes on with it, delete {} and run init again", name::SETTINGS)))
}

fn exists(store: &dyn Store) -> Error {
    Error::new(Kind::Conflict, WHAT, format!("{} holds a vault already", store.name()))
        .hint("`firn vault add NAME ADDRESS` gives it a name on this machine")
}
