//! A bucket of an S3 service as a store.
//!
//! 1. A conditional put carries a random mark as metadata. When its outcome is not clear (no reply, a 5xx, a 409 or a
//!    412 that may speak of our own object) the mark of what is there decides who won. So [`Put::Created`] and
//!    [`Put::Exists`] are always true, and what can't be found out is [`Kind::Retry`](crate::error::Kind::Retry).
//! 2. Such a put is never repeated by the client library, which would take its own object for somebody else's.
//! 3. In a bucket with versions on a service that ignores the condition, an object is its first version, for writers
//!    (`election`) and readers alike. Whether it does is tried when the store is opened.
//! 4. Deleting means every version, the object itself last, and nothing at all while that is locked: a bucket with
//!    versions would else hide an object and report success.
//! 5. Every call ends: each attempt has a time limit by its size, and the number of attempts is limited.
//!
//! Calls block on a small runtime of the store's own, and must not be made on a thread that runs asynchronous tasks.

mod body;
mod condition;
mod connection;
mod delete;
mod election;
mod failure;
mod hidden;
mod limits;
mod lock;
mod multipart;
mod pins;
mod put;
mod read;
mod stage;
mod versions;

pub use connection::{S3Address, S3Store};
pub use limits::S3Limits;

use self::body::Body;
use self::stage::S3Stage;
use super::{Capabilities, Key, ObjectInfo, ObjectVersion, Put, Retention, Stage, Store};
use crate::error::Result;

impl Store for S3Store {
    fn name(&self) -> String {
        self.address().to_string()
    }

    fn capabilities(&self) -> Capabilities {
        *self.features()
    }

    /// The time in the reply's `Date` header, to the second.
    fn clock_ms(&self) -> Result<u64> {
        self.block_on(self.read_clock())
    }

    fn stage(&self) -> Result<Box<dyn Stage + '_>> {
        Ok(Box::new(S3Stage::new(self)))
    }

    fn put_if_absent(&self, key: &Key, body: &[u8]) -> Result<Put> {
        self.block_on(self.create(key, &Body::from(body), None))
    }

    fn put_if_absent_locked(&self, key: &Key, body: &[u8], retention: Retention) -> Result<Put> {
        self.block_on(self.create(key, &Body::from(body), Some(retention)))
    }

    fn put(&self, key: &Key, body: &[u8]) -> Result<()> {
        self.block_on(self.replace(key, &Body::from(body)))
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        self.block_on(self.read(key, None))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.block_on(self.read_range(key, offset, length))
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.block_on(self.look(key))
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        self.block_on(self.list_page(prefix, after))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.block_on(self.remove(key, false))
    }

    fn delete_governed(&self, key: &Key) -> Result<()> {
        self.block_on(self.remove(key, true))
    }

    fn versions(&self, key: &Key) -> Result<Vec<ObjectVersion>> {
        if !self.features().versions {
            return Err(self.cannot("list versions", key));
        }
        self.block_on(self.list_versions(key))
    }

    fn get_version(&self, key: &Key, id: &str) -> Result<Vec<u8>> {
        if !self.features().versions {
            return Err(self.cannot("read version", key));
        }
        self.block_on(self.read(key, Some(id)))
    }

    fn uncover(&self, key: &Key) -> Result<bool> {
        match self.is_versioned() && !self.takes_first() {
            true => self.block_on(self.uncover_object(key)),
            false => Ok(false),
        }
    }

    fn hidden(&self) -> Vec<Key> {
        self.hidden.names().iter().filter_map(|object| self.key(object)).collect()
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        if !self.features().retention {
            return Err(self.cannot("read retention", key));
        }
        self.block_on(self.read_retention(key))
    }

    fn set_retention(&self, key: &Key, retention: Retention) -> Result<()> {
        if !self.features().retention {
            return Err(self.cannot("set retention", key));
        }
        self.block_on(self.write_retention(key, retention))
    }

    fn legal_hold(&self, key: &Key) -> Result<bool> {
        if !self.features().legal_hold {
            return Err(self.cannot("read legal hold", key));
        }
        self.block_on(self.read_hold(key))
    }

    fn set_legal_hold(&self, key: &Key, held: bool) -> Result<()> {
        if !self.features().legal_hold {
            return Err(self.cannot("set legal hold", key));
        }
        self.block_on(self.write_hold(key, held))
    }
}
