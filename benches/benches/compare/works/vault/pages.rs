//! What is in the pages of 8 KiB.

use crate::random::Random;

/// Bytes of a page.
pub(super) const PAGE_LEN: usize = 8192;
/// The same, to calculate offsets with.
pub(super) const PAGE_BYTES: u64 = PAGE_LEN as u64;

const ROW_LEN: usize = 128;
const TEXT: &[u8; 88] =
    b"2026-11-24 09:00:00+00 salaries monthly net EUR transfer approved by the payroll office ";

/// What pages look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Rows with numbers, keys and text, that become about a quarter.
    Database,
    /// Random bytes.
    Noise,
    /// A few random bytes in each block, for what is measured in bytes before compression.
    Thin,
}

impl Content {
    /// Fills page `page` as it is in its `version`: no two pages, and no two versions of one, are alike.
    pub(super) fn fill(self, page: u64, version: u64, into: &mut [u8]) {
        let mut random = Random::new(page.wrapping_mul(0x1_0001) ^ version << 48);
        match self {
            Self::Noise => into.chunks_exact_mut(8).for_each(|into| put(into, random.next())),
            Self::Thin => into.chunks_exact_mut(4096).for_each(|block| {
                block.fill(7);
                block[..16].chunks_exact_mut(8).for_each(|into| put(into, random.next()));
            }),
            Self::Database => {
                for (row, into) in (page * 64..).zip(into.chunks_exact_mut(ROW_LEN)) {
                    put(&mut into[..8], row);
                    into[8..40].chunks_exact_mut(8).take(3).for_each(|into| put(into, random.next()));
                    put(&mut into[32..40], version);
                    into[40..].copy_from_slice(TEXT);
                }
            }
        }
    }
}

fn put(into: &mut [u8], number: u64) {
    into.copy_from_slice(&number.to_le_bytes());
}
