//! The same request for many objects, a few at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::{Error, Kind, Result};

/// Requests that are under way at once.
const WORKERS: usize = 4;
/// Fewer items than this are worked off one by one.
const FEW: usize = 32;

/// Does `work` for each item. The first error ends it; what was begun is still done.
///
/// # Errors
/// What `work` said.
pub(super) fn each<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    if items.len() < FEW {
        return items.iter().try_for_each(work);
    }
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(run)).collect();
        let panicked = |_| Err(Error::new(Kind::Bug, "ask store", "a worker panicked"));
        let ends: Vec<Result<()>> =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(panicked)).collect();
        ends.into_iter().collect()
    })
}
