//! Frames: up to 64 KiB of content, compressed, perhaps encrypted, with a keyed hash of the content.
//!
//! 1. The same content under the same key gives the same stored bytes, so that a send that was cut is taken up again.
//! 2. No AES key meets two plaintexts: a frame's key is derived from the volume's data key and a salt, and the salt is
//!    a keyed hash of what is encrypted. So the nonce is zero. Two frames with equal content look equal to the store.
//! 3. The hash over the content is keyed too: with a data key, the store can't tell whether it holds a known block.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use zstd::bulk::{Compressor, Decompressor};
use zstd::compress_bound;

use super::codec::malformed;
use super::container::{Codec, Content, FRAME_BYTES_MAX, Row};
use super::digest::{Digest, VaultId};
use super::secret::Secret;
use crate::error::{Error, Kind, Result};

/// Bytes of a frame's salt.
const SALT_BYTES: usize = 16;
/// Bytes of AES-GCM's tag.
const TAG_BYTES: usize = 16;

/// zstd's level where nothing else is asked for: a disk's speed on one core, and most of what higher ones save.
pub const LEVEL_DEFAULT: i32 = 1;

/// What frames of one volume in one vault are hashed and encrypted with.
#[derive(Clone, Debug)]
pub struct FrameKeys {
    hash: Secret,
    cipher: Option<CipherKeys>,
}

#[derive(Clone, Debug)]
struct CipherKeys {
    salt: Secret,
    frame: Secret,
}

impl FrameKeys {
    /// Those of frames that are not encrypted.
    pub fn plain(vault: VaultId) -> Self {
        let hash = blake3::derive_key("firn vault 1: hash of plain frames", &vault.0);
        Self { hash: Secret::new(hash), cipher: None }
    }

    /// Those of frames that are encrypted under a volume's data key.
    pub fn encrypted(data_key: &Secret) -> Self {
        Self {
            hash: data_key.derive("firn vault 1: hash of encrypted frames"),
            cipher: Some(CipherKeys {
                salt: data_key.derive("firn vault 1: salt of a frame"),
                frame: data_key.derive("firn vault 1: key of a frame"),
            }),
        }
    }

    fn hash(&self, content: &[u8]) -> Digest {
        Digest(*blake3::keyed_hash(self.hash.bytes(), content).as_bytes())
    }
}

impl CipherKeys {
    fn salt(&self, codec: Codec, compressed: &[u8]) -> [u8; SALT_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(self.salt.bytes());
        let hash = hasher.update(&[codec.code()]).update(compressed).finalize();
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&hash.as_bytes()[..SALT_BYTES]);
        salt
    }

    fn cipher(&self, salt: &[u8]) -> Aes256Gcm {
        let key = Secret::new(*blake3::keyed_hash(self.frame.bytes(), salt).as_bytes());
        Aes256Gcm::new(key.bytes().into())
    }
}

/// Makes frames. One per thread.
pub struct Sealer {
    keys: FrameKeys,
    compressor: Compressor<'static>,
    /// What the last frame was compressed to: its memory stays in the processor's cache.
    compressed: Vec<u8>,
}

impl Sealer {
    /// One that compresses at zstd's `level`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a level that zstd does not have.
    pub fn new(keys: FrameKeys, level: i32) -> Result<Self> {
        let compressor = Compressor::new(level).map_err(|source| {
            Error::new(Kind::Invalid, "begin compressing", format!("level {level}")).source(source)
        })?;
        let compressed = Vec::with_capacity(compress_bound(FRAME_BYTES_MAX));
        Ok(Self { keys, compressor, compressed })
    }

    /// A frame of `content` (1 byte to 64 KiB): its row, and its stored bytes at the end of `stored`. `first` goes into
    /// the row.
    ///
    /// # Errors
    /// [`Kind::Bug`] when a library refused what it must take.
    pub fn seal(&mut self, kind: Content, first: u64, content: &[u8], stored: &mut Vec<u8>) -> Result<Row> {
        assert!((1..=FRAME_BYTES_MAX).contains(&content.len()), "a frame of {} bytes", content.len());
        let hash = self.keys.hash(content);
        self.compressor
            .compress_to_buffer(content, &mut self.compressed)
            .map_err(|source| Error::new(Kind::Bug, "compress frame", "zstd refused it").source(source))?;
        let (codec, body) = match self.compressed.len() < content.len() {
            true => (Codec::Zstd, &self.compressed[..]),
            false => (Codec::Plain, content),
        };
        let start = stored.len();
        match &self.keys.cipher {
            None => stored.extend_from_slice(body),
            Some(keys) => encrypt(keys, codec, body, stored)?,
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(Row {
            content: kind,
            codec,
            stored_bytes: length(&stored[start..]),
            content_bytes: length(content),
            first,
            hash,
        })
    }
}

/// Adds salt, encrypted body and tag to `stored`.
fn encrypt(keys: &CipherKeys, codec: Codec, body: &[u8], stored: &mut Vec<u8>) -> Result<()> {
    let salt = keys.salt(codec, body);
    stored.extend_from_slice(&salt);
    let start = stored.len();
    stored.extend_from_slice(body);
    let tag = keys
        .cipher(&salt)
        .encrypt_inout_detached(&Nonce::default(), &[codec.code()], (&mut stored[start..]).into())
        .map_err(|_| Error::new(Kind::Bug, "encrypt frame", "AES-GCM refused it"))?;
    stored.extend_from_slice(&tag);
    Ok(())
}

/// Reads frames. One per thread.
pub struct Opener {
    keys: FrameKeys,
    decompressor: Decompressor<'static>,
}

impl Opener {
    /// One for frames under these keys.
    ///
    /// # Errors
    /// [`Kind::Bug`] when zstd can't be set up.
    pub fn new(keys: FrameKeys) -> Result<Self> {
        let decompressor = Decompressor::new()
            .map_err(|source| Error::new(Kind::Bug, "begin decompressing", "zstd refused").source(source))?;
        Ok(Self { keys, decompressor })
    }

    /// The content of the frame that is stored as `stored` and described by `row`.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is not what was written, or was written under another key.
    pub fn open(&mut self, row: &Row, stored: &[u8]) -> Result<Vec<u8>> {
        let mut content = vec![0; (row.content_bytes as usize).min(FRAME_BYTES_MAX)];
        self.open_into(row, stored, &mut content)?;
        Ok(content)
    }

    /// Fills `content`, which is as long as `row` says, with that of the frame that is stored as `stored`.
    ///
    /// # Errors
    /// As [`open`](Self::open); what is in `content` is not to be believed then.
    pub fn open_into(&mut self, row: &Row, stored: &[u8], content: &mut [u8]) -> Result<()> {
        const WHAT: &str = "read frame";
        let length = row.content_bytes as usize;
        if stored.len() != row.stored_bytes as usize || length != content.len() || length > FRAME_BYTES_MAX {
            return Err(malformed(WHAT, "its length is wrong"));
        }
        let body = match &self.keys.cipher {
            None => std::borrow::Cow::Borrowed(stored),
            Some(keys) => std::borrow::Cow::Owned(decrypt(keys, row.codec, stored)?),
        };
        let filled = match row.codec {
            Codec::Plain if body.len() == length => {
                content.copy_from_slice(&body);
                length
            }
            Codec::Plain => body.len(),
            Codec::Zstd => self
                .decompressor
                .decompress_to_buffer(&body, content)
                .map_err(|source| malformed(WHAT, "it can't be decompressed").source(source))?,
        };
        if filled != length || self.keys.hash(content) != row.hash {
            return Err(malformed(WHAT, "its content is not what was written"));
        }
        Ok(())
    }
}

fn decrypt(keys: &CipherKeys, codec: Codec, stored: &[u8]) -> Result<Vec<u8>> {
    let wrong = || malformed("read frame", "it can't be decrypted with this key");
    if stored.len() < SALT_BYTES + TAG_BYTES {
        return Err(wrong());
    }
    let (salt, body) = stored.split_at(SALT_BYTES);
    let mut body = body.to_vec();
    keys.cipher(salt).decrypt_in_place(&Nonce::default(), &[codec.code()], &mut body).map_err(|_| wrong())?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> [FrameKeys; 2] {
        [FrameKeys::plain(VaultId([7; 16])), FrameKeys::encrypted(&Secret::new([9; 32]))]
    }

    #[test]
    fn a_frame_is_what_it_was_and_the_same_each_time() {
        let noise: Vec<u8> = blake3::hash(b"noise").as_bytes().to_vec();
        for keys in keys() {
            let mut sealer = Sealer::new(keys.clone(), LEVEL_DEFAULT).unwrap();
            let mut opener = Opener::new(keys).unwrap();
            for content in [vec![1; FRAME_BYTES_MAX], noise.clone(), vec![0], b"firn".repeat(1000)] {
                let mut stored = b"before".to_vec();
                let row = sealer.seal(Content::Blocks, 0, &content, &mut stored).unwrap();
                assert_eq!(stored.drain(..6).collect::<Vec<_>>(), b"before");
                assert_eq!(opener.open(&row, &stored).unwrap(), content);
                let mut again = Vec::new();
                assert_eq!(sealer.seal(Content::Blocks, 0, &content, &mut again).unwrap(), row);
                assert_eq!(again, stored);
            }
        }
    }

    #[test]
    fn a_changed_frame_or_another_key_is_damage() {
        for keys in keys() {
            let mut sealer = Sealer::new(keys.clone(), LEVEL_DEFAULT).unwrap();
            let mut stored = Vec::new();
            let row = sealer.seal(Content::Blocks, 0, &[3; 5000], &mut stored).unwrap();
            let mut opener = Opener::new(keys).unwrap();
            for at in 0..stored.len() {
                let mut changed = stored.clone();
                changed[at] ^= 1;
                // A flipped bit that zstd does not look at gives the same content, and no other.
                match opener.open(&row, &changed) {
                    Ok(content) => assert_eq!(content, [3; 5000]),
                    Err(error) => assert_eq!(error.kind(), Kind::Damaged),
                }
            }
            let shorter = &stored[..stored.len() - 1];
            assert_eq!(opener.open(&row, shorter).unwrap_err().kind(), Kind::Damaged);
            let other = FrameKeys::encrypted(&Secret::new([8; 32]));
            assert_eq!(Opener::new(other).unwrap().open(&row, &stored).unwrap_err().kind(), Kind::Damaged);
        }
    }
}
