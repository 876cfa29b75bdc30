//! A store that fails on request: the n-th request, or every one from there on.
//!
//! Bytes given to a stage are no request; publishing them is. A sender that is killed at a request is one whose store
//! answers nothing from that request on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Capabilities, Key, ObjectInfo, ObjectVersion, Put, Retention, Stage, Store};
use crate::error::{Error, Kind, Result};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request never reaches the store.
    FailBefore,
    /// The request takes effect, and its reply is lost.
    LoseReply,
    /// The request never reaches the store, and neither does any later one: the caller died before.
    KillBefore,
    /// The request takes effect, and nothing after it: the caller died right then.
    KillAfter,
    /// A read returns the first half. Anything else is as it should be.
    Truncate,
    /// A list misses its last object. Anything else is as it should be.
    StaleList,
}

/// A request that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name of the call.
    pub operation: &'static str,
    /// The object, or the prefix of a list.
    pub subject: String,
    /// The length of the body that was sent.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<Request>,
    plan: Option<(usize, Fault)>,
    is_dead: bool,
}

/// A store in front of another one.
pub struct FaultyStore<'a> {
    inner: &'a dyn Store,
    state: Mutex<State>,
}

impl<'a> FaultyStore<'a> {
    /// Lets everything through, and notes it.
    pub fn new(inner: &'a dyn Store) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Does `fault` at the request with this index, counted from 0.
    pub fn failing(inner: &'a dyn Store, index: usize, fault: Fault) -> Self {
        Self { inner, state: Mutex::new(State { plan: Some((index, fault)), ..State::default() }) }
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request, and says which fault it meets.
    fn begin(&self, operation: &'static str, subject: &str, bytes: usize) -> Result<Option<Fault>> {
        let mut state = self.state();
        if state.is_dead {
            return Err(no_answer(operation, subject));
        }
        let index = state.requests.len();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        state.requests.push(Request { operation, subject: subject.to_owned(), bytes });
        let fault = state.plan.filter(|(at, _)| *at == index).map(|(_, fault)| fault);
        state.is_dead |= matches!(fault, Some(Fault::KillBefore | Fault::KillAfter));
        match fault {
            Some(Fault::FailBefore | Fault::KillBefore) => Err(no_answer(operation, subject)),
            fault => Ok(fault),
        }
    }

    fn call<T>(
        &self,
        operation: &'static str,
        subject: &str,
        bytes: usize,
        call: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Option<Fault>)> {
        let fault = self.begin(operation, subject, bytes)?;
        let result = call();
        match fault {
            Some(Fault::LoseReply | Fault::KillAfter) => Err(no_answer(operation, subject)),
            fault => result.map(|value| (value, fault)),
        }
    }

    fn plain<T>(&self, operation: &'static str, key: &Key, call: impl FnOnce() -> Result<T>) -> Result<T> {
        self.call(operation, key.as_str(), 0, call).map(|(value, _)| value)
    }

    fn read(
        &self,
        operation: &'static str,
        key: &Key,
        call: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let (mut bytes, fault) = self.call(operation, key.as_str(), 0, call)?;
        if fault == Some(Fault::Truncate) {
            bytes.truncate(bytes.len() / 2);
        }
        Ok(bytes)
    }
}

fn no_answer(operation: &'static str, subject: &str) -> Error {
    Error::new(Kind::Retry, operation, format!("{subject}: the store did not answer"))
}

impl Store for FaultyStore<'_> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn clock_ms(&self) -> Result<u64> {
        self.call("clock", "", 0, || self.inner.clock_ms()).map(|(value, _)| value)
    }

    fn stage(&self) -> Result<Box<dyn Stage + '_>> {
        Ok(Box::new(FaultyStage { store: self, inner: self.inner.stage()?, bytes: 0 }))
    }

    fn put_if_absent(&self, key: &Key, body: &[u8]) -> Result<Put> {
        let put = || self.inner.put_if_absent(key, body);
        self.call("put_if_absent", key.as_str(), body.len(), put).map(|(value, _)| value)
    }

    fn put_if_absent_locked(&self, key: &Key, body: &[u8], retention: Retention) -> Result<Put> {
        let put = || self.inner.put_if_absent_locked(key, body, retention);
        self.call("put_if_absent_locked", key.as_str(), body.len(), put).map(|(value, _)| value)
    }

    fn put(&self, key: &Key, body: &[u8]) -> Result<()> {
        self.call("put", key.as_str(), body.len(), || self.inner.put(key, body)).map(|(value, _)| value)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        self.read("get", key, || self.inner.get(key))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.read("get_range", key, || self.inner.get_range(key, offset, length))
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.plain("head", key, || self.inner.head(key))
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        let (mut page, fault) = self.call("list", prefix, 0, || self.inner.list(prefix, after))?;
        if fault == Some(Fault::StaleList) {
            page.pop();
        }
        Ok(page)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.plain("delete", key, || self.inner.delete(key))
    }

    fn delete_governed(&self, key: &Key) -> Result<()> {
        self.plain("delete_governed", key, || self.inner.delete_governed(key))
    }

    fn versions(&self, key: &Key) -> Result<Vec<ObjectVersion>> {
        self.plain("versions", key, || self.inner.versions(key))
    }

    fn get_version(&self, key: &Key, id: &str) -> Result<Vec<u8>> {
        self.read("get_version", key, || self.inner.get_version(key, id))
    }

    fn uncover(&self, key: &Key) -> Result<bool> {
        self.plain("uncover", key, || self.inner.uncover(key))
    }

    fn hidden(&self) -> Vec<Key> {
        self.inner.hidden()
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        self.plain("retention", key, || self.inner.retention(key))
    }

    fn set_retention(&self, key: &Key, retention: Retention) -> Result<()> {
        self.plain("set_retention", key, || self.inner.set_retention(key, retention))
    }

    fn legal_hold(&self, key: &Key) -> Result<bool> {
        self.plain("legal_hold", key, || self.inner.legal_hold(key))
    }

    fn set_legal_hold(&self, key: &Key, held: bool) -> Result<()> {
        self.plain("set_legal_hold", key, || self.inner.set_legal_hold(key, held))
    }
}

struct FaultyStage<'a> {
    store: &'a FaultyStore<'a>,
    inner: Box<dyn Stage + 'a>,
    bytes: usize,
}

impl Stage for FaultyStage<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len();
        self.inner.append(bytes)
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Put> {
        let FaultyStage { store, inner, bytes } = *self;
        store.call("publish", key.as_str(), bytes, || inner.publish(key)).map(|(value, _)| value)
    }

    fn publish_locked(self: Box<Self>, key: &Key, retention: Retention) -> Result<Put> {
        let FaultyStage { store, inner, bytes } = *self;
        let publish = || inner.publish_locked(key, retention);
        store.call("publish_locked", key.as_str(), bytes, publish).map(|(value, _)| value)
    }
}
