//! Big-endian numbers and strings out of a byte slice, with every length checked.

use super::STRING_BYTES_MAX;

/// Bytes that are not what the protocol asks for, and what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Takes values from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("it is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it is too short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    /// The next two bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next four bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next eight bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string with its length in four bytes before it.
    ///
    /// # Errors
    /// When it is longer than 4096 bytes or than what is there, no UTF-8, or holds a NUL.
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let bytes = self.bytes(length)?;
        text(bytes)
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// When something is.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("it is too long")) }
    }
}

/// Bytes as a string of the protocol.
///
/// # Errors
/// When it is longer than 4096 bytes, no UTF-8, or holds a NUL.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > STRING_BYTES_MAX {
        return Err(Malformed("a string is longer than 4096 bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a string is no UTF-8"))?;
    if text.contains('\0') { Err(Malformed("a string holds a NUL")) } else { Ok(text) }
}

/// Appends a string with its length in four bytes before it.
pub(super) fn put_string(out: &mut Vec<u8>, string: &str) {
    let length = u32::try_from(string.len()).expect("our strings are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(string.as_bytes());
}
