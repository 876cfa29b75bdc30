//! The vaults that this machine knows by name, and what it keeps for them.
//!
//! The state directory holds a file per known vault (`vaults/NAME.toml`: its address, its identity, where its key is),
//! the key that this machine signs with (`identity`) and what it remembers of each vault's log (`cache/`). None of it
//! is needed to restore: a vault's address, and its key if it is encrypted, are enough.

pub(crate) mod opening;

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use firn_engine::error::{Error, Kind};
use firn_replicator::SigningKey;
use firn_replicator::format::digest::{Digest, VaultId};
use firn_replicator::vault::identity;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::args::Globals;

/// The state directory.
pub(crate) struct Vaults {
    directory: PathBuf,
}

/// A vault that is known by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Its store.
    pub(crate) address: String,
    /// Its identity.
    pub(crate) vault: VaultId,
    /// The hash of its settings: who founded it and whether it is encrypted can't be exchanged unnoticed.
    pub(crate) settings: Digest,
    /// Where its key file is, when it is opened by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    /// Where its passphrase is, when it is opened by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl Vaults {
    /// Those of the state directory that was named, or the default one.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when there is no home to keep state in.
    pub(crate) fn of(globals: &Globals) -> Result<Self, Error> {
        Self::at(globals.state.as_deref())
    }

    /// Those of `directory`, or of the default one.
    pub(crate) fn at(directory: Option<&Path>) -> Result<Self, Error> {
        let directory = match directory {
            Some(directory) => directory.to_owned(),
            None => default_directory()?,
        };
        let directory = std::path::absolute(&directory)
            .map_err(|source| Error::io("find state directory", directory.display(), source))?;
        Ok(Self { directory })
    }

    /// The key that this machine signs with, which is made the first time.
    pub(crate) fn signing_key(&self) -> Result<SigningKey, Error> {
        self.make(&self.directory)?;
        identity::signing_key(&self.directory.join("identity"))
    }

    /// Where what is remembered of vaults lies.
    pub(crate) fn cache(&self) -> Result<PathBuf, Error> {
        let cache = self.directory.join("cache");
        self.make(&cache)?;
        Ok(cache)
    }

    /// An empty place for what is remembered, until it takes the other's.
    pub(crate) fn fresh_cache(&self) -> Result<TempDir, Error> {
        self.make(&self.directory)?;
        let made = tempfile::Builder::new().prefix("cache-").tempdir_in(&self.directory);
        made.map_err(|source| Error::io("make index", self.directory.display(), source))
    }

    /// Puts what a fresh place holds where what is remembered lies.
    pub(crate) fn replace_cache(&self, fresh: &TempDir) -> Result<(), Error> {
        let cache = self.cache()?;
        let replace = || -> std::io::Result<()> {
            for entry in fs::read_dir(fresh.path())? {
                let entry = entry?;
                fs::rename(entry.path(), cache.join(entry.file_name()))?;
            }
            Ok(())
        };
        replace().map_err(|source| Error::io("make index", cache.display(), source))
    }

    fn make(&self, directory: &Path) -> Result<(), Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| {
            Error::io("make state directory", directory.display(), source)
                .hint("name another one with --state DIR")
        })
    }

    /// The vault of this name, if it is known.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Known>, Error> {
        let path = self.file(name)?;
        let text = match fs::read_to_string(&path) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| Error::io("read known vault", path.display(), source))?,
        };
        toml::from_str(&text).map(Some).map_err(|source| {
            Error::new(Kind::Damaged, "read known vault", path.display().to_string())
                .source(source)
                .hint("`firn vault add` writes it anew; the vault itself is not touched")
        })
    }

    /// All of them by name.
    pub(crate) fn all(&self) -> Result<Vec<(String, Known)>, Error> {
        let directory = self.directory.join("vaults");
        let failed = |source| Error::io("list known vaults", directory.display(), source);
        let entries = match fs::read_dir(&directory) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".toml"));
            names.extend(name.filter(|name| is_name(name)).map(ToOwned::to_owned));
        }
        names.sort();
        let mut known = Vec::new();
        for name in names {
            // Another process may have forgotten it since.
            known.extend(self.find(&name)?.map(|found| (name, found)));
        }
        Ok(known)
    }

    /// Knows a vault from now on.
    pub(crate) fn remember(&self, name: &str, known: &Known) -> Result<(), Error> {
        let path = self.file(name)?;
        if self.find(name)?.is_some_and(|before| before.vault != known.vault) {
            return Err(Error::new(
                Kind::Conflict,
                "name vault",
                format!("another vault is known as {name:?}"),
            )
            .hint(format!("choose another name, or `firn vault forget {name}` first")));
        }
        let text = toml::to_string(known)
            .map_err(|source| Error::new(Kind::Bug, "name vault", name.to_owned()).source(source))?;
        write(&path, &text).map_err(|source| Error::io("name vault", path.display(), source))
    }

    /// No longer knows a vault.
    pub(crate) fn forget(&self, name: &str) -> Result<(), Error> {
        let path = self.file(name)?;
        match fs::remove_file(&path) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Err(unknown(name)),
            done => done.map_err(|source| Error::io("forget vault", path.display(), source)),
        }
    }

    fn file(&self, name: &str) -> Result<PathBuf, Error> {
        match is_name(name) {
            true => Ok(self.directory.join("vaults").join(format!("{name}.toml"))),
            false => Err(Error::new(Kind::Invalid, "name vault", format!("{name:?} can be no name"))
                .hint("1 to 64 letters, digits, `_`, `-` or `.`, beginning with a letter or digit")),
        }
    }
}

/// Whether what was typed for a vault is an address, and no name.
pub(crate) fn is_address(text: &str) -> bool {
    text.contains('/') || text.contains(':') || text.starts_with('.')
}

/// The error for a name that no vault is known by.
pub(crate) fn unknown(name: &str) -> Error {
    Error::new(Kind::NotFound, "find vault", format!("no vault is known as {name:?} on this machine")).hint(
        "`firn vault list` shows the names; `firn vault add NAME ADDRESS` names one that exists; a directory is written with a \
         slash, such as ./vault",
    )
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len()) && !name.starts_with(['.', '-', '_']) && name.bytes().all(allowed)
}

fn default_directory() -> Result<PathBuf, Error> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/firn".into());
    }
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    state.map(|state| state.join("firn")).ok_or_else(|| {
        Error::new(Kind::Invalid, "find state directory", "neither HOME nor XDG_STATE_HOME is set")
            .hint("name one with --state DIR")
    })
}

/// Writes a file that only its owner reads; it is there whole or not at all.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_known_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let vaults = Vaults::at(Some(folder.path())).expect("a place");
        assert_eq!(vaults.all().expect("none"), []);
        let known = Known {
            address: "s3://bucket/firn".to_owned(),
            vault: VaultId([7; 16]),
            settings: Digest::of(b"settings"),
            key_file: Some("key".into()),
            passphrase_file: None,
        };
        vaults.remember("main", &known).expect("it is remembered");
        assert_eq!(vaults.find("main").expect("read").as_ref(), Some(&known));
        assert_eq!(vaults.all().expect("one"), [("main".to_owned(), known.clone())]);
        let other = Known { vault: VaultId([8; 16]), ..known };
        assert_eq!(vaults.remember("main", &other).expect_err("it is taken").kind(), Kind::Conflict);
        vaults.forget("main").expect("it is forgotten");
        assert_eq!(vaults.forget("main").expect_err("twice").kind(), Kind::NotFound);
        for name in ["", ".", "../x", "a/b", "-a", "ä"] {
            assert_eq!(vaults.find(name).expect_err(name).kind(), Kind::Invalid);
        }
    }

    #[test]
    fn an_address_is_told_from_a_name() {
        for (text, address) in
            [("main", false), ("./main", true), ("s3://b/p", true), ("/backup", true), ("a.b", false)]
        {
            assert_eq!(is_address(text), address, "{text}");
        }
    }
}
