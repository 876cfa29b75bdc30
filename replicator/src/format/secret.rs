//! Keys of 32 bytes, which are wiped when they go and never printed.

use std::fmt;

use zeroize::Zeroize;

/// A secret key.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes over `bytes`.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key for one purpose, from which nobody finds this one or another purpose's (BLAKE3's key derivation).
    pub fn derive(&self, purpose: &'static str) -> Self {
        Self(blake3::derive_key(purpose, &self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
