//! Secrets in files: the key that a firn signs its entries with, and key files that open a vault.
//!
//! 1. A file is readable by its owner only; one that others can read is refused.
//! 2. It appears whole or not at all, and never over one that is there: of two who make it at once, both get the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use firn_engine::sys::random_bytes;
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::format::digest::Signer;
use crate::format::secret::Secret;

const SIGNING_KEY: &str = "firn signing key 1";
const KEY_FILE: &str = "firn key file 1";
/// Bytes of such a file at most.
const FILE_BYTES_MAX: u64 = 4096;

/// The key in the file at `path`, which is made when there is none.
///
/// # Errors
/// [`Kind::Invalid`] when others can read the file or it is no signing key; what the file system said.
pub fn signing_key(path: &Path) -> Result<SigningKey> {
    match read(path, SIGNING_KEY) {
        Err(error) if error.kind() == Kind::NotFound => create(path, SIGNING_KEY)?,
        other => return other.map(|secret| SigningKey::from_bytes(secret.bytes())),
    }
    // Read back: somebody else's may have come first.
    read(path, SIGNING_KEY).map(|secret| SigningKey::from_bytes(secret.bytes()))
}

/// The public half, as it stands in entries.
pub fn signer(key: &SigningKey) -> Signer {
    Signer(key.verifying_key().to_bytes())
}

/// Makes a key file with a secret drawn at random.
///
/// # Errors
/// [`Kind::Conflict`] when there is a file already; what the file system said.
pub fn create_key_file(path: &Path) -> Result<Secret> {
    if path.exists() {
        return Err(Error::new(Kind::Conflict, "make key file", format!("{} is there", path.display())));
    }
    create(path, KEY_FILE)?;
    read(path, KEY_FILE)
}

/// The secret in a key file.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::Invalid`] when others can read the file or it is no key file; what the file system said.
pub fn read_key_file(path: &Path) -> Result<Secret> {
    read(path, KEY_FILE)
}

fn read(path: &Path, title: &str) -> Result<Secret> {
    const WHAT: &str = "read key";
    let failed = |source| Error::io(WHAT, path.display(), source);
    let wrong = |why: &str| Error::new(Kind::Invalid, WHAT, format!("{} {why}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(wrong("can be read by others").hint("let only its owner read it: chmod 600"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(wrong("is too long for a key"));
    }
    let text = Zeroizing::new(io::read_to_string(file).map_err(failed)?);
    let digits = text.trim_end().strip_prefix(title).and_then(|rest| rest.strip_prefix('\n'));
    let bytes = digits.and_then(|digits| HEXLOWER.decode(digits.as_bytes()).ok()).map(Zeroizing::new);
    let secret = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    secret.map(Secret::new).ok_or_else(|| wrong(&format!("is no {title}")))
}

/// Makes the file, unless there is one when it is done.
fn create(path: &Path, title: &str) -> Result<()> {
    let failed = |source| Error::io("make key", path.display(), source);
    let secret = Secret::new(random_bytes::<32>()?);
    let text = Zeroizing::new(format!("{title}\n{}\n", HEXLOWER.encode(secret.bytes())));
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let unnamed = directory.join(format!(".key-{:032x}", u128::from_le_bytes(random_bytes::<16>()?)));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unnamed)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| match fs::hard_link(&unnamed, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = fs::remove_file(&unnamed);
    written.and(removed).and_then(|()| File::open(directory)?.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new").join("signing.key");
        let key = signing_key(&path).unwrap();
        assert_eq!(signing_key(&path).unwrap().to_bytes(), key.to_bytes());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let others = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(others, 1, "nothing is left beside it");
        assert_eq!(read_key_file(&path).unwrap_err().kind(), Kind::Invalid, "one is not the other");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = signing_key(&path).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert!(refused.next_step().unwrap().contains("chmod 600"));
    }

    #[test]
    fn two_who_make_a_key_at_once_have_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| signing_key(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().to_bytes()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_key_file_is_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.key");
        let secret = create_key_file(&path).unwrap();
        assert_eq!(read_key_file(&path).unwrap().bytes(), secret.bytes());
        assert_eq!(create_key_file(&path).unwrap_err().kind(), Kind::Conflict);
        fs::write(&path, "firn key file 1\nnot digits\n").unwrap();
        assert_eq!(read_key_file(&path).unwrap_err().kind(), Kind::Invalid);
    }
}
