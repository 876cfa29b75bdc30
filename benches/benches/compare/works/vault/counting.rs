//! A store that counts what would be PUT requests: a pack is one, for it is far below what S3 takes in parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use firn_replicator::error::Result;
use firn_replicator::store::{Capabilities, Key, ObjectInfo, Put, Stage, Store};

/// The store.
pub(super) struct CountingStore<S> {
    inner: S,
    puts: Arc<AtomicU64>,
}

impl<S: Store> CountingStore<S> {
    /// Counts for `inner`, in the number that is returned.
    pub(super) fn new(inner: S) -> (Self, Arc<AtomicU64>) {
        let puts = Arc::new(AtomicU64::new(0));
        (Self { inner, puts: Arc::clone(&puts) }, puts)
    }

    fn count(&self) {
        self.puts.fetch_add(1, Ordering::Relaxed);
    }
}

impl<S: Store> Store for CountingStore<S> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn clock_ms(&self) -> Result<u64> {
        self.inner.clock_ms()
    }

    fn stage(&self) -> Result<Box<dyn Stage + '_>> {
        Ok(Box::new(CountingStage { inner: self.inner.stage()?, puts: &self.puts }))
    }

    fn put(&self, key: &Key, body: &[u8]) -> Result<()> {
        self.count();
        self.inner.put(key, body)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        self.inner.get(key)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.inner.get_range(key, offset, length)
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.inner.head(key)
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix, after)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key)
    }
}

struct CountingStage<'s> {
    inner: Box<dyn Stage + 's>,
    puts: &'s AtomicU64,
}

impl Stage for CountingStage<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.append(bytes)
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Put> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.inner.publish(key)
    }
}
