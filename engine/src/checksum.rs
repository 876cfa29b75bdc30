//! The checksum of a block, behind one function so that another can take its place in a later format version.

/// The CRC-32 (IEEE 802.3) of `bytes`.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
