//! What every decoder has to do with bytes that nobody wrote, or that somebody wrote who means harm. Tests hand over
//! golden objects that were mutated, fuzz targets whatever they come upon; each function takes any bytes.
//!
//! 1. A decoder ends without a panic, and refuses with `Damaged`, or with `Invalid` what may be of a newer version.
//! 2. What it returns takes no more room than a fixed number of bytes for each byte that was given.
//! 3. What it takes it writes again: to the same bytes where the format has one way to write a value, else to bytes
//!    that are read as the same value.
//!
//! Checksums, hashes and signatures are no protection here, since who means harm computes them: [`forged`] and [`entry`]
//! put them right first, so that what lies behind them is reached.

use ed25519_dalek::SigningKey;

use super::codec::Put;
use super::container::{
    Content, FRAME_BYTES_MAX, HEADER_BYTES, Header, ROW_BYTES, TRAILER_BYTES, Table, shape_of,
};
use super::digest::{Digest, VaultId};
use super::entry::Signed;
use super::extent::EXTENT_BYTES;
use super::frame::{FrameKeys, Opener};
use super::name::{self, PackName};
use super::pack_list::PACK_BYTES;
use super::point::Point;
use super::secret::Secret;
use super::settings::Settings;
use super::slot::{Slot, Wrapping};
use super::{extent, pack_list};
use crate::error::{Kind, Result};
use crate::store::Key;

/// A volume of 2^40 blocks, to whose end extents may reach.
const LIMIT: u64 = 1 << 40;

/// Every decoder, with the same bytes.
pub fn all(bytes: &[u8]) {
    settings(bytes);
    entry(bytes);
    point(bytes);
    slot(bytes);
    container(bytes);
    container(&forged(bytes));
    extents(bytes);
    packs(bytes);
    names(bytes);
}

/// `vault.json`.
pub fn settings(bytes: &[u8]) {
    if let Some(settings) = taken(Settings::decode(bytes)) {
        assert_eq!(taken(Settings::decode(&settings.encode())), Some(settings));
    }
}

/// An entry of the log: as it is, and with its first line signed by somebody.
pub fn entry(bytes: &[u8]) {
    taken(Signed::decode(bytes));
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let key = SigningKey::from_bytes(&[7; 32]);
    if let Some(signed) = taken(Signed::decode(&super::entry::signed(line.to_vec(), &key))) {
        let again = signed.entry.encode(&key).expect("not longer than it was");
        assert_eq!(taken(Signed::decode(&again)).map(|again| again.entry), Some(signed.entry));
    }
}

/// A recovery point under its own hash.
pub fn point(bytes: &[u8]) {
    if let Some(point) = taken(Point::decode(Digest::of(bytes), bytes)) {
        let again = point.encode();
        assert_eq!(taken(Point::decode(Digest::of(&again), &again)), Some(point));
    }
}

/// A wrapped key under its own hash; costs that are no joke are not paid here.
pub fn slot(bytes: &[u8]) {
    let Some(slot) = taken(Slot::decode(Digest::of(bytes), bytes)) else { return };
    let again = slot.encode();
    assert_eq!(taken(Slot::decode(Digest::of(&again), &again)).as_ref(), Some(&slot));
    assert!(taken(slot.unwrap(&Secret::new([7; 32]))).flatten().is_none(), "nobody wrapped it with this key");
    if let Wrapping::Passphrase { memory_kib, passes, .. } = &slot.wrapping
        && (*memory_kib <= 64 || *memory_kib > 1 << 20 || *passes > 64)
    {
        taken(slot.wrapping.of_passphrase("passphrase"));
    }
}

/// A pack or run, with all its frames, under keys that anybody knows.
pub fn container(bytes: &[u8]) {
    let (Some(header), Some(trailer)) = (bytes.first_chunk(), bytes.last_chunk()) else { return };
    taken(Header::decode(header));
    let Some(shape) = taken(shape_of(bytes.len() as u64, trailer)) else { return };
    let Some((start, length)) = shape.table() else { return };
    let start = usize::try_from(start).expect("within the bytes");
    let Some(table) = taken(Table::decode(&shape, header, &bytes[start..start + length])) else { return };
    assert!(table.rows().len() * ROW_BYTES <= bytes.len());
    let mut opener = Opener::new(FrameKeys::plain(table.header.vault)).expect("zstd");
    for (index, row) in table.rows().iter().enumerate() {
        let at = usize::try_from(table.offset(index)).expect("within the bytes");
        let Some(content) = taken(opener.open(row, &bytes[at..at + row.stored_bytes as usize])) else {
            continue;
        };
        assert!(content.len() == row.content_bytes as usize && content.len() <= FRAME_BYTES_MAX);
        match row.content {
            Content::Blocks => {}
            Content::Extents => extents(&content),
            Content::Packs => packs(&content),
        }
    }
}

/// The bytes as a container whose checksums and table hash are right; its frames are as before.
pub fn forged(bytes: &[u8]) -> Vec<u8> {
    let mut forged = bytes.to_vec();
    if forged.len() < HEADER_BYTES + TRAILER_BYTES {
        return forged;
    }
    let end = forged.len() - TRAILER_BYTES;
    let room = (end - HEADER_BYTES) / ROW_BYTES;
    let asked: [u8; 4] = *forged[end + 32..].first_chunk().expect("a trailer");
    let frames = usize::try_from(u32::from_le_bytes(asked)).unwrap_or(room).min(room);
    seal(&mut forged[..HEADER_BYTES]);
    let table = &forged[end - frames * ROW_BYTES..end];
    let hash = *blake3::Hasher::new().update(&forged[..HEADER_BYTES]).update(table).finalize().as_bytes();
    let mut put = Put::new(&mut forged[end..]);
    put.bytes(&hash).u32(u32::try_from(frames).unwrap_or(u32::MAX)).bytes(&[0; 20]).bytes(b"firn");
    seal(&mut forged[end..]);
    forged
}

fn seal(bytes: &mut [u8]) {
    let checksum = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
}

/// The content of a frame of extents.
pub fn extents(bytes: &[u8]) {
    if let Some(extents) = taken(extent::decode(bytes, 0, LIMIT)) {
        assert!(extents.is_sorted_by(|one, next| one.end() <= next.first));
        assert!(extents.iter().all(|extent| extent.blocks > 0 && extent.end() <= LIMIT));
        assert_eq!(extents.len() * EXTENT_BYTES, bytes.len());
        let mut again = Vec::new();
        extents.iter().for_each(|extent| extent::encode(extent, &mut again));
        assert_eq!(again, bytes);
    }
}

/// The content of a frame of packs.
pub fn packs(bytes: &[u8]) {
    if let Some(packs) = taken(pack_list::decode(bytes)) {
        assert_eq!(packs.len() * PACK_BYTES, bytes.len());
        let mut again = Vec::new();
        for pack in &packs {
            pack_list::encode(pack, &mut again);
            assert_eq!(PackName::of(&pack.name.key()).as_ref(), Some(&pack.name));
        }
        assert_eq!(again, bytes);
    }
}

/// A key, and what kinds of names it may be.
pub fn names(bytes: &[u8]) {
    let Some(key) = taken(Key::new(String::from_utf8_lossy(bytes))) else { return };
    assert!(PackName::of(&key).is_none_or(|pack| pack.key() == key && name::hash_in(&key) == Some(pack.id)));
    assert!(name::entry_number(&key).is_none_or(|number| name::entry(number) == key));
}

/// A frame that is encrypted under a known key, stored as `bytes`.
pub fn encrypted_frame(bytes: &[u8]) {
    let keys = FrameKeys::encrypted(&Secret::new([7; 32]));
    let mut row = super::container::Row {
        content: Content::Blocks,
        codec: super::container::Codec::Zstd,
        stored_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        content_bytes: 4096,
        first: 0,
        hash: Digest::default(),
    };
    let mut opener = Opener::new(keys).expect("zstd");
    assert!(taken(opener.open(&row, bytes)).is_none(), "nobody knows content whose hash is zeros");
    row.content_bytes = u32::MAX;
    assert!(taken(opener.open(&row, bytes)).is_none());
    let mut opener = Opener::new(FrameKeys::plain(VaultId::default())).expect("zstd");
    assert!(taken(opener.open(&row, bytes)).is_none());
}

/// What was decoded; refusals must be of the right kind.
fn taken<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(matches!(error.kind(), Kind::Damaged | Kind::Invalid), "{error}");
            None
        }
    }
}
