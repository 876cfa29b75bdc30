//! Values of `history` (undo records) and `changed` (masks of what changed in an interval between snapshots).
//!
//! ```text
//! undo     1 flags: bit 0 keyframe   8 mask of displaced blocks
//!          runs over the displaced blocks, in a keyframe over all 64
//! changed  1 flags: bit 0 before = changed, bit 1 after = changed
//!          8 changed   8 before, absent with bit 0   8 after, absent with bit 1
//! ```

use super::Malformed;
use super::bytes::Reader;
use super::head::{decode_runs, encode_runs};
use super::page::Page;

const KEYFRAME: u8 = 1;

/// What overwrites displaced in one page and one interval, while a snapshot still needed it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Undo {
    /// Blocks that were displaced in the interval.
    pub displaced: u64,
    /// The whole page as the snapshot saw it is here, not only what was displaced.
    pub keyframe: bool,
    /// The entries; outside `displaced` they mean something only in a keyframe.
    pub page: Page,
}

impl Undo {
    /// The blocks whose entries are in the record.
    pub fn known(&self) -> u64 {
        if self.keyframe { u64::MAX } else { self.displaced }
    }
}

/// The value of a `history` key.
pub fn encode(undo: &Undo) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    out.push(if undo.keyframe { KEYFRAME } else { 0 });
    out.extend_from_slice(&undo.displaced.to_le_bytes());
    encode_runs(&mut out, undo.known(), &undo.page);
    out
}

/// Reads the value of a `history` key.
///
/// # Errors
/// [`Malformed`] when it does not follow the format.
pub fn decode(value: &[u8]) -> Result<Undo, Malformed> {
    let mut reader = Reader::new(value);
    let keyframe = match reader.u8()? {
        0 => false,
        KEYFRAME => true,
        _ => return Err(Malformed("undo record with unknown flags")),
    };
    let displaced = reader.u64()?;
    let page = decode_runs(&mut reader, if keyframe { u64::MAX } else { displaced })?;
    if reader.remaining() > 0 {
        return Err(Malformed("undo record is too long"));
    }
    Ok(Undo { displaced, keyframe, page })
}

/// What changed in one page and one interval between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Changed {
    /// Blocks that were written or unmapped in the interval.
    pub changed: u64,
    /// Of these, the ones that held data when the interval began.
    pub before: u64,
    /// Of these, the ones that hold data when it ends.
    pub after: u64,
}

/// The value of a `changed` key.
pub fn encode_changed(value: &Changed) -> Vec<u8> {
    let same = [value.before == value.changed, value.after == value.changed];
    let mut out = vec![u8::from(same[0]) | u8::from(same[1]) << 1];
    out.extend_from_slice(&value.changed.to_le_bytes());
    for (mask, same) in [value.before, value.after].into_iter().zip(same) {
        if !same {
            out.extend_from_slice(&mask.to_le_bytes());
        }
    }
    out
}

/// Reads the value of a `changed` key.
///
/// # Errors
/// [`Malformed`] when it does not follow the format.
pub fn decode_changed(value: &[u8]) -> Result<Changed, Malformed> {
    let mut reader = Reader::new(value);
    let flags = reader.u8()?;
    let changed = reader.u64()?;
    let before = if flags & 1 == 0 { reader.u64()? } else { changed };
    let after = if flags & 2 == 0 { reader.u64()? } else { changed };
    if flags > 3 || reader.remaining() > 0 || (before | after) & !changed != 0 {
        return Err(Malformed("changed masks contradict each other"));
    }
    Ok(Changed { changed, before, after })
}

#[cfg(test)]
mod tests {
    use super::super::page::Entry;
    use super::*;

    #[test]
    fn undo_comes_back() {
        let mut page = Page::default();
        page.0[3] = Entry::data(9, 2, 1);
        for keyframe in [false, true] {
            let undo = Undo { displaced: 1 << 3 | 1 << 5, keyframe, page: page.clone() };
            let bytes = encode(&undo);
            assert_eq!(decode(&bytes), Ok(undo));
            assert!((0..bytes.len()).all(|cut| decode(&bytes[..cut]).is_err()));
        }
    }

    #[test]
    fn changed_comes_back() {
        for (before, after) in [(5, 5), (1, 5), (5, 4), (0, 0)] {
            let value = Changed { changed: 5, before, after };
            let bytes = encode_changed(&value);
            assert_eq!(decode_changed(&bytes), Ok(value));
            assert!((0..bytes.len()).all(|cut| decode_changed(&bytes[..cut]).is_err()));
        }
    }
}
