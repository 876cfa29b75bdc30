//! `log/NUMBER`: the catalog's log. Each entry is created only if absent, names the hash of the one before, and is
//! signed. The numbers are the order in which things happened; what is in no entry did not happen.
//!
//! 1. An object may be deleted only after a `delete` entry below which nothing live reaches it names it.
//! 2. A `commit` entry never reaches an object that a `delete` entry below it names.
//! 3. So of a commit and a delete that race, the one with the lower number is seen by the other, and no clock counts.
//!
//! An entry is stored as two lines of JSON: what is said, and who signed that line's bytes.

use serde::{Deserialize, Serialize};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::VERSION;
use super::codec::{malformed, newer_than};
use super::digest::{Digest, KeyId, PoolId, Signer, VaultId};
use super::point::{Point, Source};
use crate::error::{Error, Kind, Result};
use crate::store::{Key, LockMode};

/// What is done when an entry is read, as errors say it.
const WHAT: &str = "read log entry";
/// What is signed before the line itself, so that a signature is never one for something else.
const SIGNED_FOR: &[u8] = b"firn vault 1: log entry\n";
/// The version of entries that came with `forward`, and the newest there is.
const FORWARD_VERSION: u16 = 2;
/// Bytes of an entry at most.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;

/// One entry, as it is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The version of its format.
    pub format: u16,
    /// The vault whose log it is in.
    pub vault: VaultId,
    /// Its number, from 1, without gaps.
    pub number: u64,
    /// The hash of the entry before it, as stored; all zeros for the first.
    pub previous: Digest,
    /// When, by the store's clock, in ms since 1970; never before the entry before it.
    pub time_ms: u64,
    /// Who.
    pub who: Who,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// Who did something, as they say themselves. What counts is the signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The account.
    pub user: String,
    /// The machine.
    pub host: String,
    /// The program and its version.
    pub program: String,
}

/// What an entry says was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// The vault was made; always and only the first entry.
    Init {
        /// The hash of `vault.json`.
        settings: Digest,
    },
    /// Points are in the vault from now on, all of them or none.
    Commit {
        /// The points; more than one when a consistency group was sent.
        points: Vec<Committed>,
        /// The consistency group's name.
        group: Option<String>,
    },
    /// Points are no longer in the vault.
    Prune {
        /// The points, and why.
        points: Vec<Pruned>,
    },
    /// Points must be kept at least until a date; it only ever moves later.
    Retain {
        /// The points.
        points: Vec<Digest>,
        /// Until when, by the store's clock, in ms since 1970.
        until_ms: u64,
        /// Everything they reach is locked in the store until then, in this mode.
        locked: Option<LockMode>,
    },
    /// A point is kept, whatever its date, until each of its holds is released.
    Hold {
        /// The point.
        point: Digest,
        /// Why: the hold's name.
        reason: String,
        /// Whether what it reaches is under the store's legal hold too.
        locked: bool,
    },
    /// A hold is taken back.
    Release {
        /// The point.
        point: Digest,
        /// The hold's name.
        reason: String,
    },
    /// Points go on as others that hold the same, in other packs; each keeps its place, its group and its holds.
    Forward {
        /// The points.
        points: Vec<Forwarded>,
    },
    /// Objects that nothing reaches, to be deleted one period later if that is still so.
    Condemn {
        /// The objects.
        objects: Vec<Key>,
    },
    /// Objects that are no longer condemned, since a point reaches them or is about to.
    Acquit {
        /// The objects.
        objects: Vec<Key>,
    },
    /// Objects that are deleted from now on; their names are never used again.
    Delete {
        /// The objects.
        objects: Vec<Key>,
    },
    /// A slot that opens the master key.
    AddSlot {
        /// The slot.
        id: KeyId,
        /// The hash of its object.
        object: Digest,
        /// What the user calls it.
        name: String,
    },
    /// A slot is no longer there.
    RemoveSlot {
        /// The slot.
        id: KeyId,
    },
    /// A volume's data key.
    AddKey {
        /// The key.
        id: KeyId,
        /// The hash of its object.
        object: Digest,
        /// The pool and volume it belongs to.
        pool: PoolId,
        /// See `pool`.
        volume: u64,
    },
    /// A volume's data key is destroyed: its points can never be read again.
    DestroyKey {
        /// The key.
        id: KeyId,
    },
    /// Someone else may sign entries from now on.
    AddSigner {
        /// Their key.
        signer: Signer,
        /// What they are called.
        name: String,
    },
    /// They may not any more.
    RemoveSigner {
        /// Their key.
        signer: Signer,
    },
}

/// What the log itself knows of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The point: the hash of its object.
    pub id: Digest,
    /// The pool it comes from.
    pub pool: PoolId,
    /// The volume's identity in its pool.
    pub volume: u64,
    /// The volume's name.
    pub name: String,
    /// The snapshot's name.
    pub snapshot: String,
    /// When the snapshot was taken, by the source's clock, in ms since 1970.
    pub created_ms: u64,
    /// The volume's size, in bytes.
    pub bytes: u64,
    /// Bytes that changed, as the point says.
    pub changed_bytes: u64,
    /// Bytes stored, as the point says.
    pub stored_bytes: u64,
    /// The point whose changes since were sent.
    pub parent: Option<Digest>,
    /// The data key of its runs and packs; all zeros when they are not encrypted.
    pub key: KeyId,
    /// Until when it must be kept.
    pub retain_until_ms: Option<u64>,
    /// Until when, and how, everything it reaches was locked in the store before this entry was written.
    pub locked: Option<crate::store::Retention>,
}

impl Committed {
    /// Whether it and the point agree on the volume and the data key.
    pub fn is_of(&self, point: &Point) -> bool {
        let Source { pool, volume, .. } = point.source;
        (self.pool, self.volume, self.key) == (pool, volume, point.key)
    }
}

/// A point that left the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// The point.
    pub id: Digest,
    /// Why.
    pub reason: String,
}

/// A point, and the one that takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// The point that leaves.
    pub from: Digest,
    /// The one that comes: but for its identity, its date and its lock, what the log says of the other.
    pub to: Committed,
}

impl Action {
    /// The version of an entry's format that has it. Whoever knows only an older one must not read on.
    pub fn format(&self) -> u16 {
        match self {
            Self::Forward { .. } => FORWARD_VERSION,
            _ => VERSION,
        }
    }
}

/// An entry as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What it says.
    pub entry: Entry,
    /// Who signed it; whether they may is for the log's reader to decide.
    pub signer: Signer,
    /// The hash of its bytes, which the next entry names.
    pub hash: Digest,
}

#[derive(Serialize, Deserialize)]
struct Seal {
    signer: Signer,
    signature: String,
}

impl Entry {
    /// Its bytes, signed.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when it is too large.
    pub fn encode(&self, key: &SigningKey) -> Result<Vec<u8>> {
        let bytes = signed(serde_json::to_vec(self).expect("formats are made of what JSON has"), key);
        match bytes.len() <= ENTRY_BYTES_MAX {
            true => Ok(bytes),
            false => {
                let detail = format!(
                    "entry {} would be {} bytes, {ENTRY_BYTES_MAX} are allowed",
                    self.number,
                    bytes.len()
                );
                Err(Error::new(Kind::Invalid, "write log entry", detail))
            }
        }
    }
}

/// A line as an entry is stored: the line, and the seal on it.
pub(super) fn signed(line: Vec<u8>, key: &SigningKey) -> Vec<u8> {
    let signature = key.sign(&signed_bytes(&line));
    let seal = Seal {
        signer: Signer(key.verifying_key().to_bytes()),
        signature: data_encoding::HEXLOWER.encode(&signature.to_bytes()),
    };
    let mut bytes = line;
    bytes.push(b'\n');
    serde_json::to_writer(&mut bytes, &seal).expect("a vector takes what is written");
    bytes.push(b'\n');
    bytes
}

impl Signed {
    /// Reads an entry and verifies its signature, but not whether its signer may sign.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it can't be an entry or its signature is wrong, [`Kind::Invalid`] for a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (line, seal) = split(bytes)?;
        verify(line, &seal)?;
        Self::of(bytes, line, &seal)
    }

    /// Who signed an entry, as its seal says: nothing is verified, and nothing that the entry says is looked at.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it can't be an entry.
    pub fn signer_of(bytes: &[u8]) -> Result<Signer> {
        split(bytes).map(|(_, seal)| seal.signer)
    }

    /// Reads an entry whose signature was verified before, or is ours.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), but for the signature.
    pub fn decode_again(bytes: &[u8]) -> Result<Self> {
        let (line, seal) = split(bytes)?;
        Self::of(bytes, line, &seal)
    }

    fn of(bytes: &[u8], line: &[u8], seal: &Seal) -> Result<Self> {
        let format = super::version_of(WHAT, line)?;
        if !(VERSION..=FORWARD_VERSION).contains(&format) {
            return Err(newer_than(WHAT, format, FORWARD_VERSION));
        }
        let entry: Entry = super::from_json(WHAT, line)?;
        match entry.action.format() == format {
            true => Ok(Self { entry, signer: seal.signer, hash: Digest::of(bytes) }),
            false => Err(malformed(WHAT, format!("its action is none of version {format}"))),
        }
    }
}

/// An entry's line and the seal on it.
fn split(bytes: &[u8]) -> Result<(&[u8], Seal)> {
    let wrong = |detail: &str| malformed(WHAT, detail);
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(wrong("it is longer than an entry can be"));
    }
    let text = bytes.strip_suffix(b"\n").ok_or_else(|| wrong("it does not end with a line end"))?;
    let middle = text.iter().position(|byte| *byte == b'\n').ok_or_else(|| wrong("it has no signature"))?;
    Ok((&text[..middle], super::from_json(WHAT, &text[middle + 1..])?))
}

fn signed_bytes(line: &[u8]) -> Vec<u8> {
    [SIGNED_FOR, line].concat()
}

fn verify(line: &[u8], seal: &Seal) -> Result<()> {
    let wrong = || malformed(WHAT, format!("the signature of {} is wrong", seal.signer.short()));
    let key = VerifyingKey::from_bytes(&seal.signer.0).map_err(|_| wrong())?;
    let signature = data_encoding::HEXLOWER.decode(seal.signature.as_bytes()).map_err(|_| wrong())?;
    let signature = Signature::from_slice(&signature).map_err(|_| wrong())?;
    key.verify_strict(&signed_bytes(line), &signature).map_err(|_| wrong())
}
