//! Stores: where a vault's objects lie. One small trait, blocking, which a directory, S3 and (in tests) memory
//! implement. [`Address`] is how a user writes one.
//!
//! 1. An object appears whole or not at all, and is durable when the call that made it returns.
//! 2. Of any number of `put_if_absent` and `publish` under one key, at the same time or one after the other, exactly
//!    one says [`Put::Created`]. This is what commits rest on.
//! 3. A read after a returned write sees it, and so does a list.
//! 4. An object that is put with a lock is never there without it.
//! 5. A key is made of checked segments ([`Key`]), so that no key leaves the store.
//!
//! `contract` holds every implementation to this.

mod address;
#[cfg(any(test, feature = "sim"))]
pub mod contract;
mod directory;
#[cfg(any(test, feature = "sim"))]
pub mod faults;
mod key;
#[cfg(any(test, feature = "sim"))]
mod memory;
pub mod probe;
mod retention;
mod s3;
mod throttle;
mod waiting;

pub use address::Address;
pub use directory::DirectoryStore;
pub use key::Key;
#[cfg(any(test, feature = "sim"))]
pub use memory::MemoryStore;
pub use retention::{LockMode, Retention};
pub use s3::{S3Address, S3Limits, S3Store};
pub use throttle::{Throttle, ThrottledStore};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// Objects that one list returns at most.
pub const LIST_MAX: usize = 1000;

/// What a conditional put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is there now, and was not before.
    Created,
    /// Something is there already, and was left as it is.
    Exists,
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// Its key.
    pub key: Key,
    /// Its length.
    pub bytes: u64,
    /// When it was written by the store's clock, in ms since 1970.
    pub modified_ms: u64,
}

/// One of the bodies that an object has had, or the mark of a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectVersion {
    /// The store's name for it.
    pub id: String,
    /// The length of its body.
    pub bytes: u64,
    /// When it was written by the store's clock, in ms since 1970.
    pub modified_ms: u64,
    /// It marks that the object was deleted, and has no body.
    pub is_deletion: bool,
}

/// What a store can do beyond keeping objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// A put that fails where something is, decided in one place.
    pub conditional_put: bool,
    /// What a put by somebody else displaced can be had back.
    pub versions: bool,
    /// Objects can be locked until a date.
    pub retention: bool,
    /// Objects can be locked without a date.
    pub legal_hold: bool,
}

/// A place for objects. All calls block; all may be made from several threads at once.
pub trait Store: Send + Sync {
    /// How the store is named in messages.
    fn name(&self) -> String;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The store's own time, in ms since 1970.
    ///
    /// # Errors
    /// [`Kind::Retry`] or [`Kind::Unavailable`] when the store does not answer.
    fn clock_ms(&self) -> Result<u64>;

    /// Begins an object that has no name yet, for bodies that should not lie in memory. What is dropped without being
    /// published leaves nothing.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn stage(&self) -> Result<Box<dyn Stage + '_>>;

    /// Writes an object unless something is there; durable on return.
    ///
    /// # Errors
    /// As [`put`](Self::put). After an error the object may be there all the same.
    fn put_if_absent(&self, key: &Key, body: &[u8]) -> Result<Put> {
        let mut stage = self.stage()?;
        stage.append(body)?;
        stage.publish(key)
    }

    /// Writes an object that is locked from its first moment, unless something is there; durable on return. The lock
    /// of what is there already stays as it is.
    ///
    /// # Errors
    /// As [`put_if_absent`](Self::put_if_absent); [`Kind::Invalid`] when the store has no locks.
    fn put_if_absent_locked(&self, key: &Key, body: &[u8], retention: Retention) -> Result<Put> {
        let mut stage = self.stage()?;
        stage.append(body)?;
        stage.publish_locked(key, retention)
    }

    /// Writes an object over what is there; durable on return.
    ///
    /// # Errors
    /// [`Kind::Retry`], [`Kind::Unavailable`] or [`Kind::OutOfSpace`]; [`Kind::Conflict`] when what is there is locked.
    fn put(&self, key: &Key, body: &[u8]) -> Result<()>;

    /// Reads an object whole.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Retry`], [`Kind::Unavailable`].
    fn get(&self, key: &Key) -> Result<Vec<u8>>;

    /// Reads exactly `length` bytes from `offset`.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Kind::Damaged`] when the object ends before.
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// What is known of an object; nothing when there is none.
    ///
    /// # Errors
    /// [`Kind::Retry`], [`Kind::Unavailable`].
    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>>;

    /// Objects whose key starts with `prefix`, in the order of their keys' bytes, from the first after `after`;
    /// at most [`LIST_MAX`], and fewer only at the end.
    ///
    /// # Errors
    /// [`Kind::Retry`], [`Kind::Unavailable`].
    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>>;

    /// Deletes an object; it is no error when there is none.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it is locked; [`Kind::Retry`], [`Kind::Unavailable`].
    fn delete(&self, key: &Key) -> Result<()>;

    /// Deletes an object even while a governance lock protects it, if the store's user may do that. A compliance lock
    /// and a legal hold still refuse.
    ///
    /// # Errors
    /// As [`delete`](Self::delete); [`Kind::Unavailable`] when the user may not.
    fn delete_governed(&self, key: &Key) -> Result<()> {
        self.delete(key)
    }

    /// The versions of an object, newest first; nothing when there never was one.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the store keeps no versions; [`Kind::Retry`], [`Kind::Unavailable`].
    fn versions(&self, key: &Key) -> Result<Vec<ObjectVersion>> {
        Err(self.cannot("list versions", key))
    }

    /// Reads one version of an object whole.
    ///
    /// # Errors
    /// As [`versions`](Self::versions); [`Kind::NotFound`] when there is no such version or it marks a deletion.
    fn get_version(&self, key: &Key, _id: &str) -> Result<Vec<u8>> {
        Err(self.cannot("read version", key))
    }

    /// From now on takes an object's first version for the object, where something newer hides it: another version, or
    /// the mark of a deletion. Says whether something does: what was read before may then have been something else. A
    /// store without versions, or one that takes the first version anyway, does nothing. Lists don't change.
    ///
    /// # Errors
    /// [`Kind::Retry`], [`Kind::Unavailable`].
    fn uncover(&self, _key: &Key) -> Result<bool> {
        Ok(false)
    }

    /// Objects that were found hidden by something newer, as far as they were looked at.
    fn hidden(&self) -> Vec<Key> {
        Vec::new()
    }

    /// The date until which an object is locked.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the store has no locks; as [`get`](Self::get).
    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        Err(self.cannot("read retention", key))
    }

    /// Locks an object, or moves its date later.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the store has no locks, [`Kind::Conflict`] for an earlier date or a weaker mode.
    fn set_retention(&self, key: &Key, _retention: Retention) -> Result<()> {
        Err(self.cannot("set retention", key))
    }

    /// Whether an object is under legal hold.
    ///
    /// # Errors
    /// As [`retention`](Self::retention).
    fn legal_hold(&self, key: &Key) -> Result<bool> {
        Err(self.cannot("read legal hold", key))
    }

    /// Puts an object under legal hold, or takes that back.
    ///
    /// # Errors
    /// As [`retention`](Self::retention).
    fn set_legal_hold(&self, key: &Key, _held: bool) -> Result<()> {
        Err(self.cannot("set legal hold", key))
    }

    /// The error of a store that has no locks or keeps no versions.
    fn cannot(&self, operation: &'static str, key: &Key) -> Error {
        Error::new(Kind::Invalid, operation, format!("{key}: {} has neither locks nor versions", self.name()))
            .hint("use a bucket that was created with object lock")
    }
}

/// An object in the making.
pub trait Stage: Send {
    /// Adds to its end.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Gives it its name, unless something has that already; durable on return.
    ///
    /// # Errors
    /// As [`Store::put_if_absent`].
    fn publish(self: Box<Self>, key: &Key) -> Result<Put>;

    /// Gives it its name and its lock at once, unless something has that name already; durable on return.
    ///
    /// # Errors
    /// As [`Store::put_if_absent_locked`].
    fn publish_locked(self: Box<Self>, key: &Key, _retention: Retention) -> Result<Put> {
        Err(Error::new(Kind::Invalid, "put locked object", format!("{key}: the store has no locks"))
            .hint("use a bucket that was created with object lock"))
    }
}

/// Shows `visit` every object under `prefix`, page by page.
///
/// # Errors
/// What the store or `visit` said.
pub fn each_object(
    store: &dyn Store,
    prefix: &str,
    mut visit: impl FnMut(ObjectInfo) -> Result<()>,
) -> Result<()> {
    let mut after = None;
    loop {
        let page = store.list(prefix, after.as_ref())?;
        let is_last = page.len() < LIST_MAX;
        for object in page {
            after = Some(object.key.clone());
            visit(object)?;
        }
        if is_last {
            return Ok(());
        }
    }
}
