//! A store in front of another that takes no more than its share of the line and of the service.
//!
//! 1. No more than `requests` calls are under way; others wait their turn.
//! 2. Bytes of bodies are counted when they are handed over: what is staged as it is appended, what is read when it has
//!    come. Over any time no more than the rate and one body pass; a single body may still go at the line's speed.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firn_engine::sys::{Clock, SystemClock};

use super::waiting::wait;
use super::{Capabilities, Key, ObjectInfo, ObjectVersion, Put, Retention, Stage, Store};
use crate::error::Result;

/// What a store may use at most; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Calls under way at the same time.
    pub requests: Option<NonZeroUsize>,
    /// Bytes a second that are written.
    pub upload_bytes_per_s: Option<NonZeroU64>,
    /// Bytes a second that are read.
    pub download_bytes_per_s: Option<NonZeroU64>,
}

/// The shortest wait.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// A store with limits.
pub struct ThrottledStore {
    inner: Box<dyn Store>,
    requests: Option<NonZeroUsize>,
    under_way: Mutex<usize>,
    ended: Condvar,
    upload: Pace,
    download: Pace,
}

impl ThrottledStore {
    /// Puts limits on `inner`.
    pub fn new(inner: Box<dyn Store>, throttle: Throttle) -> Self {
        Self {
            inner,
            requests: throttle.requests,
            under_way: Mutex::default(),
            ended: Condvar::new(),
            upload: Pace::new(throttle.upload_bytes_per_s),
            download: Pace::new(throttle.download_bytes_per_s),
        }
    }

    /// Waits for a turn, which lasts until what is returned is dropped.
    fn turn(&self) -> Turn<'_> {
        let mut under_way = lock(&self.under_way);
        while self.requests.is_some_and(|requests| *under_way >= requests.get()) {
            under_way = self.ended.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
        *under_way += 1;
        Turn { store: self }
    }

    fn read(&self, call: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let _turn = self.turn();
        let bytes = call()?;
        self.download.pass(bytes.len());
        Ok(bytes)
    }
}

struct Turn<'a> {
    store: &'a ThrottledStore,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.store.under_way) -= 1;
        self.store.ended.notify_one();
    }
}

/// A rate, and until when it is used up.
struct Pace {
    bytes_per_s: Option<NonZeroU64>,
    free_at: Mutex<Duration>,
}

impl Pace {
    fn new(bytes_per_s: Option<NonZeroU64>) -> Self {
        Self { bytes_per_s, free_at: Mutex::default() }
    }

    /// Waits until `bytes` more are within the rate.
    fn pass(&self, bytes: usize) {
        if let Some(bytes_per_s) = self.bytes_per_s {
            let now = SystemClock.monotonic();
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            let owed = take(&mut lock(&self.free_at), now, bytes, bytes_per_s);
            // What is owed stays so until a later call waits for it. Timers of a few nanoseconds are not worth a sleep,
            // and were seen to be slept through on a virtual machine.
            if owed >= WAIT_MIN {
                wait(owed);
            }
        }
    }
}

/// Takes `bytes` out of the rate, and says how long to wait at `now` for that.
fn take(free_at: &mut Duration, now: Duration, bytes: u64, bytes_per_s: NonZeroU64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_s.get());
    let busy = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
    *free_at = (*free_at).max(now).saturating_add(busy);
    *free_at - now
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for ThrottledStore {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn clock_ms(&self) -> Result<u64> {
        let _turn = self.turn();
        self.inner.clock_ms()
    }

    fn stage(&self) -> Result<Box<dyn Stage + '_>> {
        Ok(Box::new(ThrottledStage { store: self, inner: self.inner.stage()? }))
    }

    fn put_if_absent(&self, key: &Key, body: &[u8]) -> Result<Put> {
        let _turn = self.turn();
        self.upload.pass(body.len());
        self.inner.put_if_absent(key, body)
    }

    fn put_if_absent_locked(&self, key: &Key, body: &[u8], retention: Retention) -> Result<Put> {
        let _turn = self.turn();
        self.upload.pass(body.len());
        self.inner.put_if_absent_locked(key, body, retention)
    }

    fn put(&self, key: &Key, body: &[u8]) -> Result<()> {
        let _turn = self.turn();
        self.upload.pass(body.len());
        self.inner.put(key, body)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        self.read(|| self.inner.get(key))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.read(|| self.inner.get_range(key, offset, length))
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        let _turn = self.turn();
        self.inner.head(key)
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        let _turn = self.turn();
        self.inner.list(prefix, after)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let _turn = self.turn();
        self.inner.delete(key)
    }

    fn delete_governed(&self, key: &Key) -> Result<()> {
        let _turn = self.turn();
        self.inner.delete_governed(key)
    }

    fn versions(&self, key: &Key) -> Result<Vec<ObjectVersion>> {
        let _turn = self.turn();
        self.inner.versions(key)
    }

    fn get_version(&self, key: &Key, id: &str) -> Result<Vec<u8>> {
        self.read(|| self.inner.get_version(key, id))
    }

    fn uncover(&self, key: &Key) -> Result<bool> {
        let _turn = self.turn();
        self.inner.uncover(key)
    }

    fn hidden(&self) -> Vec<Key> {
        self.inner.hidden()
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        let _turn = self.turn();
        self.inner.retention(key)
    }

    fn set_retention(&self, key: &Key, retention: Retention) -> Result<()> {
        let _turn = self.turn();
        self.inner.set_retention(key, retention)
    }

    fn legal_hold(&self, key: &Key) -> Result<bool> {
        let _turn = self.turn();
        self.inner.legal_hold(key)
    }

    fn set_legal_hold(&self, key: &Key, held: bool) -> Result<()> {
        let _turn = self.turn();
        self.inner.set_legal_hold(key, held)
    }
}

struct ThrottledStage<'a> {
    store: &'a ThrottledStore,
    inner: Box<dyn Stage + 'a>,
}

impl Stage for ThrottledStage<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.store.upload.pass(bytes.len());
        self.inner.append(bytes)
    }

    fn publish(self: Box<Self>, key: &Key) -> Result<Put> {
        let _turn = self.store.turn();
        self.inner.publish(key)
    }

    fn publish_locked(self: Box<Self>, key: &Key, retention: Retention) -> Result<Put> {
        let _turn = self.store.turn();
        self.inner.publish_locked(key, retention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_time_and_rest_is_not_saved_up() {
        let rate = NonZeroU64::new(1000).unwrap();
        let (mut free_at, ms) = (Duration::ZERO, Duration::from_millis);
        assert_eq!(take(&mut free_at, ms(0), 500, rate), ms(500));
        assert_eq!(take(&mut free_at, ms(100), 500, rate), ms(900));
        assert_eq!(take(&mut free_at, ms(5_000), 1, rate), ms(1));
        assert_eq!(take(&mut free_at, ms(5_000), 0, rate), ms(1));
        assert_eq!(take(&mut free_at, ms(5_000), u64::MAX, rate), free_at - ms(5_000));
    }
}
