//! The value of a `head` key, one map page, and the run encoding of entries that `undo` shares.
//!
//! ```text
//! head     1 flags: bit 0, all 64 blocks are mapped
//!          8 mask of mapped blocks, absent when bit 0 is set
//!          1 displaced entries in undo records since the last keyframe, at most 255
//!          runs over the mapped blocks
//! runs     for each run, 1 byte: bits 0..5 length-1, bit 6: data (else a hole)
//!          for each data run, zigzag varint: first physical block - the end of the data run before (at first 0)
//!          for each data run, zigzag varint: birth - birth of the data run before (at first 0)
//!          for each data block, 4 bytes: checksum
//! ```
//! A run covers `length` successive blocks of the mask, at consecutive physical blocks, of one birth. Values of one
//! kind stand together because that compresses better (decision record 1).

use super::Malformed;
use super::bytes::{Reader, put_varint};
use super::page::{Entry, Page};
use crate::units::PAGE_LEN;

const FULL: u8 = 1;
const DATA: u8 = 0x40;

/// A decoded head page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadPage {
    /// The 64 entries.
    pub page: Page,
    /// Displaced entries in the page's undo records since its last keyframe.
    pub displaced_since_keyframe: u8,
}

/// The value's bytes.
pub fn encode(head: &HeadPage) -> Vec<u8> {
    let mask = head.page.mapped();
    let mut out = Vec::with_capacity(32);
    out.push(if mask == u64::MAX { FULL } else { 0 });
    if mask != u64::MAX {
        out.extend_from_slice(&mask.to_le_bytes());
    }
    out.push(head.displaced_since_keyframe);
    encode_runs(&mut out, mask, &head.page);
    out
}

/// Reads a value.
///
/// # Errors
/// [`Malformed`] when it does not follow the format.
pub fn decode(value: &[u8]) -> Result<HeadPage, Malformed> {
    let mut reader = Reader::new(value);
    let mask = match reader.u8()? {
        FULL => u64::MAX,
        0 => reader.u64()?,
        _ => return Err(Malformed("head page with unknown flags")),
    };
    let displaced_since_keyframe = reader.u8()?;
    let page = decode_runs(&mut reader, mask)?;
    if page.mapped() != mask || reader.remaining() > 0 {
        return Err(Malformed("head page does not match its mask"));
    }
    Ok(HeadPage { page, displaced_since_keyframe })
}

/// The runs of the blocks in `mask`: the first entry of each and its length.
fn runs(mask: u64, page: &Page) -> Vec<(Entry, usize)> {
    let mut runs: Vec<(Entry, usize)> = Vec::new();
    for entry in bits(mask).map(|slot| page.0[slot]) {
        match runs.last_mut() {
            Some((first, length)) if first.followed_by(*length, &entry) => *length += 1,
            _ => runs.push((entry, 1)),
        }
    }
    runs
}

/// Appends the runs of the blocks in `mask`.
pub fn encode_runs(out: &mut Vec<u8>, mask: u64, page: &Page) {
    let runs = runs(mask, page);
    for (first, length) in &runs {
        let [low, ..] = (length - 1).to_le_bytes();
        out.push(if first.is_hole() { low } else { low | DATA });
    }
    let data = || runs.iter().filter(|(first, _)| !first.is_hole());
    let mut expected = 0_u64;
    for (first, length) in data() {
        put_varint(out, zigzag(first.physical.0.wrapping_sub(expected)));
        expected = first.physical.0 + *length as u64;
    }
    let mut birth = 0_u64;
    for (first, _) in data() {
        put_varint(out, zigzag(u64::from(first.birth.0).wrapping_sub(birth)));
        birth = u64::from(first.birth.0);
    }
    for entry in bits(mask).map(|slot| page.0[slot]).filter(|entry| !entry.is_hole()) {
        out.extend_from_slice(&entry.checksum.to_le_bytes());
    }
}

/// Reads runs until every block of `mask` has its entry; blocks outside the mask are holes.
///
/// # Errors
/// [`Malformed`] when a run reaches past the mask or a value is out of range.
pub fn decode_runs(reader: &mut Reader<'_>, mask: u64) -> Result<Page, Malformed> {
    let mut runs = Vec::new();
    let mut left = mask.count_ones() as usize;
    while left > 0 {
        let byte = reader.u8()?;
        let length = usize::from(byte & 0x3f) + 1;
        left = left.checked_sub(length).ok_or(Malformed("run reaches past its mask"))?;
        if byte & !(0x3f | DATA) != 0 {
            return Err(Malformed("run of unknown kind"));
        }
        runs.push((Entry::HOLE, length, byte & DATA != 0));
    }
    let mut expected = 0_u64;
    for (first, length, _) in runs.iter_mut().filter(|(.., data)| *data) {
        let start = expected.wrapping_add(unzigzag(reader.varint()?));
        if start == 0 || start >= 1 << 40 {
            return Err(Malformed("run at an impossible physical block"));
        }
        first.physical.0 = start;
        expected = start + *length as u64;
    }
    let mut birth = 0_u64;
    for (first, ..) in runs.iter_mut().filter(|(.., data)| *data) {
        birth = birth.wrapping_add(unzigzag(reader.varint()?));
        first.birth.0 = u32::try_from(birth).map_err(|_| Malformed("run with an impossible birth"))?;
    }
    let mut page = Page::default();
    let mut slots = bits(mask);
    for (first, length, data) in runs {
        for (slot, at) in slots.by_ref().take(length).zip(first.physical.0..) {
            if data {
                page.0[slot] = Entry::data(at, first.birth.0, reader.u32()?);
            }
        }
    }
    Ok(page)
}

/// The set bits of a mask, lowest first.
pub fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let slot = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            slot
        })
    })
    .take(PAGE_LEN)
}

fn zigzag(value: u64) -> u64 {
    (value << 1) ^ if value >> 63 == 1 { u64::MAX } else { 0 }
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ if value & 1 == 1 { u64::MAX } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: Page, at_most: usize) {
        let head = HeadPage { page, displaced_since_keyframe: 5 };
        let bytes = encode(&head);
        assert_eq!(decode(&bytes), Ok(head));
        assert!(bytes.len() <= at_most, "{} bytes", bytes.len());
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn pages_come_back() {
        check(Page::default(), 10);
        let mut page = Page::default();
        (0..64).for_each(|slot| page.0[slot] = Entry::data(1000 + slot as u64, 3, 9));
        check(page.clone(), 1 + 1 + 1 + 2 + 1 + 256);
        page.0[7] = Entry::default();
        page.0[8] = Entry::data((1 << 40) - 1, u32::MAX, 0);
        page.0[9] = Entry::data(1, 1, 0);
        check(page, 320);
    }

    #[test]
    fn zigzag_comes_back() {
        for value in [0, 1, u64::MAX, 1 << 63, 12345] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }
}
