//! `keys/ID`: wrapped keys. A *slot* wraps the vault's master key with a passphrase or a key file; a *data key* of a
//! volume is wrapped with the master key. Wrapping is AES-256-GCM under a random nonce, bound to vault and identity.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::VERSION;
use super::codec::{malformed, too_new};
use super::digest::{Digest, KeyId, PoolId, VaultId};
use super::secret::Secret;
use crate::error::{Error, Kind, Result};

/// Bytes of a wrapping's nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
const WRAPPED_BYTES: usize = NONCE_BYTES + 32 + 16;
/// What Argon2id may ask for at most, so that a forged slot can't take the machine's memory.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;

/// A wrapped key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Always `key`.
    pub firn: String,
    /// The version of its format.
    pub format: u16,
    /// The vault it belongs to.
    pub vault: VaultId,
    /// Its identity.
    pub id: KeyId,
    /// What opens it.
    #[serde(flatten)]
    pub wrapping: Wrapping,
    /// Nonce, ciphertext and tag.
    pub wrapped: String,
}

/// What opens a wrapped key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "opened_by", rename_all = "snake_case")]
pub enum Wrapping {
    /// A passphrase, by Argon2id (RFC 9106) version 0x13 with one lane and 32 bytes of output.
    Passphrase {
        /// Its memory, in KiB.
        memory_kib: u32,
        /// Its passes.
        passes: u32,
        /// Its salt.
        salt: String,
    },
    /// The 32 bytes of a key file, by BLAKE3's key derivation.
    KeyFile,
    /// The master key: this is a data key of a volume.
    MasterKey {
        /// The pool of the volume.
        pool: PoolId,
        /// The volume's identity in its pool.
        volume: u64,
    },
}

impl Wrapping {
    /// A passphrase with the cost that new slots have: 32 MiB and 4 passes, which leaves a send its memory bound.
    pub fn passphrase(salt: [u8; SALT_BYTES]) -> Self {
        Self::Passphrase { memory_kib: 32 << 10, passes: 4, salt: HEXLOWER.encode(&salt) }
    }

    /// The key that a passphrase gives.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when another thing opens it, [`Kind::Damaged`] for costs that can't be.
    pub fn of_passphrase(&self, passphrase: &str) -> Result<Secret> {
        let Self::Passphrase { memory_kib, passes, salt } = self else {
            return Err(Error::new(Kind::Invalid, "open key slot", "a passphrase does not open it"));
        };
        let wrong =
            || malformed("open key slot", format!("Argon2id with {memory_kib} KiB and {passes} passes"));
        if *memory_kib > MEMORY_KIB_MAX || *passes > PASSES_MAX {
            return Err(wrong());
        }
        let params = Params::new(*memory_kib, *passes, 1, Some(32)).map_err(|_| wrong())?;
        let salt = HEXLOWER.decode(salt.as_bytes()).map_err(|_| wrong())?;
        let mut key = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &salt, &mut key)
            .map_err(|_| wrong())?;
        Ok(Secret::new(key))
    }

    /// The key that a key file's 32 bytes give.
    pub fn of_key_file(file: &Secret) -> Secret {
        file.derive("firn vault 1: key file")
    }
}

impl Slot {
    /// `secret` wrapped with `key`. The nonce is drawn at random by the caller, once for each wrapping.
    ///
    /// # Errors
    /// [`Kind::Bug`] when the cipher refused what it must take.
    pub fn wrap(
        vault: VaultId,
        id: KeyId,
        wrapping: Wrapping,
        key: &Secret,
        secret: &Secret,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Self> {
        let mut body = zeroize::Zeroizing::new(secret.bytes().to_vec());
        Aes256Gcm::new(key.bytes().into())
            .encrypt_in_place(&Nonce::from(nonce), &bound_to(vault, id), &mut *body)
            .map_err(|_| Error::new(Kind::Bug, "wrap key", "AES-GCM refused it"))?;
        let wrapped = HEXLOWER.encode(&[&nonce[..], &body].concat());
        Ok(Self { firn: "key".to_owned(), format: VERSION, vault, id, wrapping, wrapped })
    }

    /// The key it wraps; nothing when `key` is not the one that opens it.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it can't be a wrapped key at all.
    pub fn unwrap(&self, key: &Secret) -> Result<Option<Secret>> {
        let wrong = || malformed("open key slot", format!("slot {} can't be a wrapped key", self.id));
        let bytes = HEXLOWER.decode(self.wrapped.as_bytes()).map_err(|_| wrong())?;
        if bytes.len() != WRAPPED_BYTES {
            return Err(wrong());
        }
        let (nonce, body) = bytes.split_at(NONCE_BYTES);
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| wrong())?;
        let mut body = zeroize::Zeroizing::new(body.to_vec());
        let opened = Aes256Gcm::new(key.bytes().into()).decrypt_in_place(
            &Nonce::from(nonce),
            &bound_to(self.vault, self.id),
            &mut *body,
        );
        if opened.is_err() {
            return Ok(None);
        }
        let secret: [u8; 32] = body.as_slice().try_into().map_err(|_| wrong())?;
        Ok(Some(Secret::new(secret)))
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        super::json(self)
    }

    /// Reads it; `object` is the hash that the log says it has.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it has another hash or can't be a key, [`Kind::Invalid`] for a newer version.
    pub fn decode(object: Digest, bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "read key slot";
        if Digest::of(bytes) != object {
            return Err(malformed(WHAT, "it is not the object that the log names"));
        }
        let format = super::version_of(WHAT, bytes)?;
        if format != VERSION {
            return Err(too_new(WHAT, format));
        }
        let slot: Self = super::from_json(WHAT, bytes)?;
        match slot.firn == "key" {
            true => Ok(slot),
            false => Err(malformed(WHAT, "it is no key")),
        }
    }
}

fn bound_to(vault: VaultId, id: KeyId) -> Vec<u8> {
    [b"firn vault 1: wrapped key".as_slice(), &vault.0, &id.0].concat()
}
