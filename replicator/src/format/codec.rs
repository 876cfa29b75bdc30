//! Fixed places in byte strings, little-endian, and the error of a structure that is not what it should be.

use crate::error::{Error, Kind};

/// Fills one fixed-size structure from its start.
pub(crate) struct Put<'a> {
    into: &'a mut [u8],
    at: usize,
}

impl<'a> Put<'a> {
    pub(crate) fn new(into: &'a mut [u8]) -> Self {
        Self { into, at: 0 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.into[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
}

/// Takes one structure apart from its start. The structure's length is checked before: reading beyond is our own bug.
pub(crate) struct Take<'a> {
    from: &'a [u8],
    at: usize,
}

impl<'a> Take<'a> {
    pub(crate) fn new(from: &'a [u8]) -> Self {
        Self { from, at: 0 }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.from[self.at..self.at + N]);
        self.at += N;
        bytes
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Whether the next `count` bytes, which mean nothing in this version, are zero as they must be.
    pub(crate) fn zeros(&mut self, count: usize) -> bool {
        let zeros = self.from[self.at..self.at + count].iter().all(|byte| *byte == 0);
        self.at += count;
        zeros
    }
}

/// A structure that can't be what was written. Whoever read it adds which object it is.
pub(crate) fn malformed(what: &'static str, detail: impl Into<String>) -> Error {
    Error::new(Kind::Damaged, what, detail)
}

/// A structure of a version that is not known here.
pub(crate) fn too_new(what: &'static str, version: u16) -> Error {
    newer_than(what, version, super::VERSION)
}

/// A structure of a version above the one, `known`, that is the newest here.
pub(crate) fn newer_than(what: &'static str, version: u16, known: u16) -> Error {
    let detail = format!("it has format version {version}, this firn knows {known}");
    Error::new(Kind::Invalid, what, detail).hint("use a newer firn")
}
