//! The most memory that this process holds while something runs.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::process::anonymous_bytes;

/// Between two looks.
const PIECE: Duration = Duration::from_millis(2);

/// Runs `work`, and says the most bytes that were held meanwhile, without pages of files.
pub(super) fn peak_bytes<T>(work: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
    thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        let watch = scope.spawn(move || -> Result<u64> {
            let mut most = anonymous_bytes()?;
            while stopped.recv_timeout(PIECE) == Err(RecvTimeoutError::Timeout) {
                most = most.max(anonymous_bytes()?);
            }
            Ok(most)
        });
        let done = work();
        drop(stop);
        let most = watch.join().unwrap_or_else(|_| Err(anyhow!("the thread that watches ended")));
        Ok((most?, done?))
    })
}
