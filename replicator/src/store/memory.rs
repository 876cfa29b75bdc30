//! A store in memory for tests: a clock that the test sets, and object lock as strict as the strictest service.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Capabilities, Key, LIST_MAX, LockMode, ObjectInfo, Put, Retention, Stage, Store};
use crate::error::{Error, Kind, Result};

#[derive(Clone, Debug)]
struct Object {
    body: Arc<[u8]>,
    modified_ms: u64,
    retention: Option<Retention>,
    is_held: bool,
}

/// Objects in memory. It keeps no versions of its own, only those that a test hides.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<Key, Object>>,
    /// What was hidden.
    first: Mutex<BTreeMap<Key, First>>,
    clock_ms: AtomicU64,
}

/// The first version of an object that was hidden.
#[derive(Clone, Debug)]
struct First {
    object: Object,
    /// Whether it is taken for the object.
    is_uncovered: bool,
}

impl MemoryStore {
    /// An empty store at the time `clock_ms`.
    pub fn new(clock_ms: u64) -> Self {
        Self { clock_ms: AtomicU64::new(clock_ms), ..Self::default() }
    }

    /// Sets the store's clock, forward or back.
    pub fn set_clock_ms(&self, clock_ms: u64) {
        self.clock_ms.store(clock_ms, Ordering::SeqCst);
    }

    /// A copy with the same objects, for trying something and throwing it away.
    #[must_use]
    pub fn copy(&self) -> Self {
        let clock_ms = AtomicU64::new(self.now_ms());
        Self {
            objects: Mutex::new(self.objects().clone()),
            first: Mutex::new(self.first().clone()),
            clock_ms,
        }
    }

    /// Replaces or removes an object behind the back of everybody, locks included.
    pub fn tamper(&self, key: &Key, body: Option<Vec<u8>>) {
        let mut objects = self.objects();
        match body {
            None => drop(objects.remove(key)),
            Some(body) => {
                if let Some(object) = objects.get_mut(key) {
                    object.body = body.into();
                }
            }
        }
    }

    /// Puts a newer version over an object, or the mark of a deletion, as who may write can do whatever locks it has.
    pub fn hide(&self, key: &Key, newer: Option<&[u8]>) {
        let mut objects = self.objects();
        if let Some(object) = objects.remove(key) {
            self.first().entry(key.clone()).or_insert(First { object, is_uncovered: false });
        }
        if let Some(newer) = newer {
            objects.insert(key.clone(), self.new_object(newer));
        }
    }

    fn first(&self) -> MutexGuard<'_, BTreeMap<Key, First>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is taken for the object, if there is one.
    fn change<T>(&self, key: &Key, change: impl FnOnce(&mut Object) -> T) -> Option<T> {
        if let Some(first) = self.first().get_mut(key).filter(|first| first.is_uncovered) {
            return Some(change(&mut first.object));
        }
        self.objects().get_mut(key).map(change)
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.clock_ms.load(Ordering::SeqCst)
    }

    fn new_object(&self, body: &[u8]) -> Object {
        Object { body: body.into(), modified_ms: self.now_ms(), retention: None, is_held: false }
    }

    fn object(&self, key: &Key) -> Result<Object> {
        let found = self.change(key, |object| object.clone());
        found.ok_or_else(|| Error::new(Kind::NotFound, "read object", key.to_string()))
    }

    fn check_unlocked(&self, operation: &'static str, key: &Key, object: Option<&Object>) -> Result<()> {
        let is_locked = |retention: Retention| retention.until_ms > self.now_ms();
        if object.is_some_and(|object| object.is_held || object.retention.is_some_and(is_locked)) {
            return Err(Error::new(Kind::Conflict, operation, format!("{key} is locked")));
        }
        Ok(())
    }
}

impl Store for MemoryStore {
    fn name(&self) -> String {
        "memory".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { conditional_put: true, versions: false, retention: true, legal_hold: true }
    }

    fn clock_ms(&self) -> Result<u64> {
        Ok(self.now_ms())
    }

    fn stage(&self) -> Result<Box<dyn Stage + '_>> {
        Ok(Box::new(MemoryStage { store: self, body: Vec::new() }))
    }

    fn put(&self, key: &Key, body: &[u8]) -> Result<()> {
        let mut objects = self.objects();
        self.check_unlocked("put object", key, objects.get(key))?;
        objects.insert(key.clone(), self.new_object(body));
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        Ok(self.object(key)?.body.to_vec())
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        let body = self.object(key)?.body;
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| body.get(start..start.checked_add(length)?));
        let short = || Error::new(Kind::Damaged, "read object", format!("{key} is shorter than it must be"));
        range.map(<[u8]>::to_vec).ok_or_else(short)
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        Ok(self.change(key, |object| info(key, object)))
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        let objects = self.objects();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = objects.range((start, Bound::Unbounded));
        let matching = listed.filter(|(key, _)| key.as_str().starts_with(prefix));
        Ok(matching.take(LIST_MAX).map(|(key, object)| info(key, object)).collect())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let mut objects = self.objects();
        self.check_unlocked("delete object", key, objects.get(key))?;
        objects.remove(key);
        Ok(())
    }

    fn delete_governed(&self, key: &Key) -> Result<()> {
        if let Some(object) = self.objects().get_mut(key)
            && !object.is_held
        {
            object.retention.take_if(|retention| retention.mode == LockMode::Governance);
        }
        self.delete(key)
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        Ok(self.object(key)?.retention)
    }

    fn set_retention(&self, key: &Key, retention: Retention) -> Result<()> {
        let changed = self.change(key, |object| {
            if let Some(present) = object.retention {
                let is_weaker =
                    present.mode == LockMode::Compliance && retention.mode == LockMode::Governance;
                if retention.until_ms < present.until_ms || is_weaker {
                    let detail = format!("{key} is locked until {} ms", present.until_ms);
                    return Err(Error::new(Kind::Conflict, "set retention", detail));
                }
            }
            object.retention = Some(retention);
            Ok(())
        });
        changed.unwrap_or_else(|| Err(Error::new(Kind::NotFound, "set retention", key.to_string())))
    }

    fn uncover(&self, key: &Key) -> Result<bool> {
        let mut first = self.first();
        Ok(first.get_mut(key).map(|first| first.is_uncovered = true).is_some())
    }

    fn hidden(&self) -> Vec<Key> {
        let first = self.first();
        first.iter().filter(|(_, first)| first.is_uncovered).map(|(key, _)| key.clone()).collect()
    }

    fn legal_hold(&self, key: &Key) -> Result<bool> {
        Ok(self.object(key)?.is_held)
    }

    fn set_legal_hold(&self, key: &Key, held: bool) -> Result<()> {
        let changed = self.change(key, |object| object.is_held = held);
        changed.ok_or_else(|| Error::new(Kind::NotFound, "set legal hold", key.to_string()))
    }
}

struct MemoryStage<'a> {
    store: &'a MemoryStore,
    body: Vec<u8>,
}

impl Stage for MemoryStage<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Put> {
        Ok(self.publish_with(key, None))
    }

    fn publish_locked(self: Box<Self>, key: &Key, retention: Retention) -> Result<Put> {
        Ok(self.publish_with(key, Some(retention)))
    }
}

impl MemoryStage<'_> {
    fn publish_with(&self, key: &Key, retention: Option<Retention>) -> Put {
        let mut objects = self.store.objects();
        if objects.contains_key(key) {
            return Put::Exists;
        }
        objects.insert(key.clone(), Object { retention, ..self.store.new_object(&self.body) });
        Put::Created
    }
}

fn info(key: &Key, object: &Object) -> ObjectInfo {
    let bytes = u64::try_from(object.body.len()).unwrap_or(u64::MAX);
    ObjectInfo { key: key.clone(), bytes, modified_ms: object.modified_ms }
}
