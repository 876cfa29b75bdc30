//! `vault.json`: what a vault is, written once when it is made. The log's first entry holds its hash.

use serde::{Deserialize, Serialize};

use super::VERSION;
use super::codec::{malformed, too_new};
use super::digest::{Signer, VaultId};
use crate::error::Result;
use crate::store::LockMode;

/// What a vault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Always `vault`.
    pub firn: String,
    /// The version of all formats in it.
    pub format: u16,
    /// Its identity.
    pub vault: VaultId,
    /// When it was made by the store's clock, in ms since 1970.
    pub created_ms: u64,
    /// The hash of everything: `blake3`.
    pub hash: String,
    /// How frames are compressed: `zstd`.
    pub compression: String,
    /// How they are encrypted.
    pub cipher: Cipher,
    /// Bytes of a block: 4096.
    pub block_bytes: u32,
    /// How points with a date are locked in the store; nothing where dates are firn's promise alone.
    pub lock: Option<LockMode>,
    /// Who signed the log's first entry; other signers are let in by entries.
    pub founder: Signer,
}

/// How frames are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// Not at all.
    #[serde(rename = "none")]
    None,
    /// AES-256 in Galois/counter mode, under a key per frame.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

impl Settings {
    /// Those of a new vault.
    pub fn new(
        vault: VaultId,
        founder: Signer,
        created_ms: u64,
        cipher: Cipher,
        lock: Option<LockMode>,
    ) -> Self {
        Self {
            firn: "vault".to_owned(),
            format: VERSION,
            vault,
            created_ms,
            hash: "blake3".to_owned(),
            compression: "zstd".to_owned(),
            cipher,
            block_bytes: 4096,
            lock,
            founder,
        }
    }

    /// Their bytes.
    pub fn encode(&self) -> Vec<u8> {
        super::json(self)
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) when they can't be settings, `Invalid` for a newer version or unknown methods.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "read vault.json";
        let format = super::version_of(WHAT, bytes)?;
        if format != VERSION {
            return Err(too_new(WHAT, format));
        }
        let settings: Self = super::from_json(WHAT, bytes)?;
        let known = (
            settings.firn.as_str(),
            settings.hash.as_str(),
            settings.compression.as_str(),
            settings.block_bytes,
        );
        if known != ("vault", "blake3", "zstd", 4096) {
            return Err(malformed(WHAT, format!("{known:?} is not what version {VERSION} has")));
        }
        Ok(settings)
    }
}
