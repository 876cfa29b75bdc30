//! How far long work is.

/// Is told how far the work is; by several threads.
pub trait Progress: Sync {
    /// The work is about `bytes` bytes more.
    fn expect(&self, _bytes: u64) {}

    /// `bytes` bytes of it are done.
    fn advance(&self, _bytes: u64) {}
}

/// Nobody wants to know.
impl Progress for () {}
