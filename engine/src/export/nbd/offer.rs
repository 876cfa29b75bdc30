//! What a handshake asks about exports, and what it is told. It is apart from those who answer, so that a handshake
//! needs no pool.

use crate::error::Result;

/// Most names that one answer lists.
pub(super) const LISTED_MAX: usize = 4096;

/// What a client is told of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// What it is, for people.
    pub description: String,
}

/// What the handshake asks about exports. The name "" is the default export.
pub trait Exports {
    /// What serves an export.
    type Opened;

    /// Names of exports, at most a few thousand.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the server is about to end.
    fn names(&self) -> Result<Vec<String>>;

    /// Opens an export.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) when there is none of this name.
    fn open(&self, name: &str) -> Result<(ExportInfo, Self::Opened)>;

    /// The names of the contexts that an export has.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) when there is no such export.
    fn contexts(&self, name: &str) -> Result<Vec<String>>;
}
