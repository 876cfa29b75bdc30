//! Opening a vault that was asked for by name or address, with what unlocks it.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firn_engine::error::{Error, Kind};
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::Who;
use firn_replicator::format::settings::Settings;
use firn_replicator::store::{Address, Store, Throttle, ThrottledStore};
use firn_replicator::vault::keyring::Unlock;
use firn_replicator::vault::{OpenOptions, Vault, identity};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{Known, Vaults, is_address, unknown};

/// Bytes of a passphrase file's first line at most.
const PASSPHRASE_LEN: usize = 1024;

/// A vault that is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// The name that it is known by, or its store's address.
    pub(crate) vault: String,
    /// The file whose first line is its passphrase; without one, what it is known with.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Its key file; without one, what it is known with.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) key_file: Option<PathBuf>,
}

/// What a vault is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Nothing is signed.
    Read,
    /// Entries are signed with this machine's key.
    Write,
}

impl Wanted {
    /// The same in words that mean the same to a process in another directory.
    pub(crate) fn absolute(self) -> Result<Self, Error> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|source| Error::io("find", path.display(), source))
        };
        let vault = match is_address(&self.vault) {
            true => settled(&self.vault)?.to_string(),
            false => self.vault,
        };
        Ok(Self {
            vault,
            passphrase_file: self.passphrase_file.map(absolute).transpose()?,
            key_file: self.key_file.map(absolute).transpose()?,
        })
    }

    /// Its address, what it is known with, and the name if it was asked for by one.
    pub(crate) fn find(&self, vaults: &Vaults) -> Result<(Address, Option<Known>), Error> {
        if is_address(&self.vault) {
            return Ok((settled(&self.vault)?, None));
        }
        let known = vaults.find(&self.vault)?.ok_or_else(|| unknown(&self.vault))?;
        Ok((known.address.parse()?, Some(known)))
    }

    /// Opens it.
    pub(crate) fn open(&self, vaults: &Vaults, purpose: Purpose) -> Result<Vault, Error> {
        self.open_limited(vaults, purpose, None)
    }

    /// Opens it, and lets no more than so many bytes a second go to its store.
    pub(crate) fn open_limited(
        &self,
        vaults: &Vaults,
        purpose: Purpose,
        bytes_per_second: Option<u64>,
    ) -> Result<Vault, Error> {
        self.open_with(vaults, purpose, bytes_per_second, vaults.cache()?)
    }

    /// Opens it with nothing remembered of its log, and remembers what its log says now.
    pub(crate) fn open_anew(&self, vaults: &Vaults) -> Result<Vault, Error> {
        let fresh = vaults.fresh_cache()?;
        let vault = self.open_with(vaults, Purpose::Read, None, fresh.path().to_owned())?;
        vaults.replace_cache(&fresh)?;
        Ok(vault)
    }

    fn open_with(
        &self,
        vaults: &Vaults,
        purpose: Purpose,
        bytes_per_second: Option<u64>,
        cache: PathBuf,
    ) -> Result<Vault, Error> {
        let (address, known) = self.find(vaults)?;
        let known_files = known.as_ref().map(|known| (known.passphrase_file.clone(), known.key_file.clone()));
        let (passphrase, key) = match (&self.passphrase_file, &self.key_file) {
            (None, None) => known_files.unwrap_or_default(),
            (passphrase, key) => (passphrase.clone(), key.clone()),
        };
        let signing = match purpose {
            Purpose::Read => None,
            Purpose::Write => Some(vaults.signing_key()?),
        };
        let options = OpenOptions {
            cache: Some(cache),
            signing,
            unlock: unlock(passphrase.as_deref(), key.as_deref()).map_err(|error| match error.kind() {
                Kind::NotFound => error.hint(
                    "put the file back, or name what else opens the vault: --key-file FILE or --passphrase-file FILE",
                ),
                _ => error,
            })?,
            who: who(),
        };
        let vault = Vault::open(store(&address, bytes_per_second)?, options)?;
        if let Some(known) = known {
            self.check_known(&known, vault.settings())?;
        }
        Ok(vault)
    }

    /// What is there must be the vault that was named: another one may be encrypted for somebody else, or not at all.
    fn check_known(&self, known: &Known, found: &Settings) -> Result<(), Error> {
        let name = &self.vault;
        if known.vault != found.vault {
            let detail = format!("another vault is at {} than the one known as {name:?}", known.address);
            return Err(Error::new(Kind::Conflict, "open vault", detail)
                .hint(format!("if that is right, `firn vault forget {name}` and add it again")));
        }
        if known.settings != Digest::of(&found.encode()) {
            let detail =
                format!("the settings of {name:?} at {} are not those it was made with", known.address);
            return Err(Error::new(Kind::Damaged, "open vault", detail).hint(
                "they are written once: somebody exchanged them. Write nothing, and bring back vault.json from another copy",
            ));
        }
        Ok(())
    }
}

/// An address as it was typed, a directory as an absolute path.
pub(crate) fn settled(text: &str) -> Result<Address, Error> {
    match text.parse()? {
        Address::Directory(path) => std::path::absolute(&path)
            .map(Address::Directory)
            .map_err(|source| Error::io("find directory", path.display(), source)),
        address => Ok(address),
    }
}

/// The store of a vault that must be there; a directory is not made.
pub(crate) fn store(address: &Address, bytes_per_second: Option<u64>) -> Result<Arc<dyn Store>, Error> {
    if let Address::Directory(path) = address
        && !path.exists()
    {
        return Err(Error::new(Kind::NotFound, "open vault", format!("there is no {}", path.display()))
            .hint("`firn vault init NAME DIRECTORY` makes a vault"));
    }
    let store = address.open()?;
    Ok(match bytes_per_second.and_then(NonZeroU64::new) {
        None => Arc::from(store),
        rate => {
            let throttle = Throttle { upload_bytes_per_s: rate, ..Throttle::default() };
            Arc::new(ThrottledStore::new(store, throttle))
        }
    })
}

/// What was given to open a vault.
pub(crate) fn unlock(
    passphrase_file: Option<&Path>,
    key_file: Option<&Path>,
) -> Result<Option<Unlock>, Error> {
    match (passphrase_file, key_file) {
        (None, None) => Ok(None),
        (Some(file), None) => passphrase(file).map(Unlock::Passphrase).map(Some),
        (None, Some(file)) => identity::read_key_file(file).map(Unlock::KeyFile).map(Some),
        (Some(_), Some(_)) => {
            Err(Error::new(Kind::Invalid, "unlock vault", "both a passphrase and a key file were given")
                .hint("one of them is enough: leave the other away"))
        }
    }
}

/// The first line of a file.
pub(crate) fn passphrase(file: &Path) -> Result<Zeroizing<String>, Error> {
    let wrong =
        |why: &str| Error::new(Kind::Invalid, "read passphrase", format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|source| Error::io("read passphrase", file.display(), source))?;
    let line = text.lines().next().unwrap_or_default();
    match line.len() {
        0 => Err(wrong("its first line is empty")),
        length if length > PASSPHRASE_LEN => Err(wrong("its first line is longer than a passphrase may be")),
        _ => Ok(Zeroizing::new(line.to_owned())),
    }
}

/// Who works here, for the vault's log.
pub(crate) fn who() -> Who {
    let user = rustix::process::geteuid();
    let name = std::env::var("USER").unwrap_or_default();
    Who {
        user: if name.is_empty() { user.as_raw().to_string() } else { name },
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        program: concat!("firn ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}
