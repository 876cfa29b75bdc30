//! Keys in RocksDB: fixed-width big-endian integers, so that keys sort by layer, then by what a scan walks along.

use super::Malformed;
use crate::units::{Epoch, LayerId, PageIndex};

/// `head`: layer (4), page (6).
pub fn head(layer: LayerId, page: PageIndex) -> [u8; 10] {
    let mut key = [0; 10];
    key[..4].copy_from_slice(&layer.0.to_be_bytes());
    key[4..].copy_from_slice(&page.0.to_be_bytes()[2..]);
    key
}

/// `history`: layer (4), page (6), epoch end (4).
pub fn history(layer: LayerId, page: PageIndex, end: Epoch) -> [u8; 14] {
    let mut key = [0; 14];
    key[..10].copy_from_slice(&head(layer, page));
    key[10..].copy_from_slice(&end.0.to_be_bytes());
    key
}

/// `changed`: layer (4), epoch end (4), page (6).
pub fn changed(layer: LayerId, end: Epoch, page: PageIndex) -> [u8; 14] {
    let mut key = [0; 14];
    key[..4].copy_from_slice(&layer.0.to_be_bytes());
    key[4..8].copy_from_slice(&end.0.to_be_bytes());
    key[8..].copy_from_slice(&page.0.to_be_bytes()[2..]);
    key
}

/// `dead`: layer (4), epoch end (4), birth (4), page (6).
pub fn dead(layer: LayerId, end: Epoch, birth: Epoch, page: PageIndex) -> [u8; 18] {
    let mut key = [0; 18];
    key[..4].copy_from_slice(&layer.0.to_be_bytes());
    key[4..8].copy_from_slice(&end.0.to_be_bytes());
    key[8..12].copy_from_slice(&birth.0.to_be_bytes());
    key[12..].copy_from_slice(&page.0.to_be_bytes()[2..]);
    key
}

/// `space`: number of the chunk of 4096 blocks (8).
pub fn space(chunk: u64) -> [u8; 8] {
    chunk.to_be_bytes()
}

fn u32_at(key: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*key.get(at..at + 4)?.first_chunk()?))
}

fn u48_at(key: &[u8], at: usize) -> Option<u64> {
    let [a, b, c, d, e, f] = *key.get(at..at + 6)?.first_chunk()?;
    Some(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

fn sized(key: &[u8], length: usize) -> Result<&[u8], Malformed> {
    if key.len() == length { Ok(key) } else { Err(Malformed("metadata key of a wrong length")) }
}

const SHORT: Malformed = Malformed("metadata key too short");

/// Reads a `head` key.
///
/// # Errors
/// [`Malformed`] when its length is wrong.
pub fn read_head(key: &[u8]) -> Result<(LayerId, PageIndex), Malformed> {
    let key = sized(key, 10)?;
    Ok((LayerId(u32_at(key, 0).ok_or(SHORT)?), PageIndex(u48_at(key, 4).ok_or(SHORT)?)))
}

/// Reads a `history` key.
///
/// # Errors
/// [`Malformed`] when its length is wrong.
pub fn read_history(key: &[u8]) -> Result<(LayerId, PageIndex, Epoch), Malformed> {
    let key = sized(key, 14)?;
    let (layer, page) = read_head(&key[..10])?;
    Ok((layer, page, Epoch(u32_at(key, 10).ok_or(SHORT)?)))
}

/// Reads a `changed` key.
///
/// # Errors
/// [`Malformed`] when its length is wrong.
pub fn read_changed(key: &[u8]) -> Result<(LayerId, Epoch, PageIndex), Malformed> {
    let key = sized(key, 14)?;
    let page = PageIndex(u48_at(key, 8).ok_or(SHORT)?);
    Ok((LayerId(u32_at(key, 0).ok_or(SHORT)?), Epoch(u32_at(key, 4).ok_or(SHORT)?), page))
}

/// Reads a `dead` key: layer, epoch end, birth, page.
///
/// # Errors
/// [`Malformed`] when its length is wrong.
pub fn read_dead(key: &[u8]) -> Result<(LayerId, Epoch, Epoch, PageIndex), Malformed> {
    let key = sized(key, 18)?;
    let page = PageIndex(u48_at(key, 12).ok_or(SHORT)?);
    let [end, birth] = [u32_at(key, 4).ok_or(SHORT)?, u32_at(key, 8).ok_or(SHORT)?];
    Ok((LayerId(u32_at(key, 0).ok_or(SHORT)?), Epoch(end), Epoch(birth), page))
}

/// Reads a `space` key.
///
/// # Errors
/// [`Malformed`] when its length is wrong.
pub fn read_space(key: &[u8]) -> Result<u64, Malformed> {
    key.first_chunk::<8>()
        .filter(|_| key.len() == 8)
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or(Malformed("space key of a wrong length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_sort() {
        let (layer, page, end, birth) = (LayerId(7), PageIndex(1 << 40), Epoch(9), Epoch(3));
        assert_eq!(read_head(&head(layer, page)), Ok((layer, page)));
        assert_eq!(read_history(&history(layer, page, end)), Ok((layer, page, end)));
        assert_eq!(read_changed(&changed(layer, end, page)), Ok((layer, end, page)));
        assert_eq!(read_dead(&dead(layer, end, birth, page)), Ok((layer, end, birth, page)));
        assert_eq!(read_space(&space(5)), Ok(5));
        assert!(history(layer, page, Epoch(255)) < history(layer, page, Epoch(256)));
        assert!(read_dead(&[0; 17]).is_err() && read_head(&[0; 11]).is_err() && read_space(&[0; 9]).is_err());
    }
}
