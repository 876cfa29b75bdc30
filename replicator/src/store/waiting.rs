//! Letting time pass.

use std::time::Duration;

use firn_engine::sys::{Clock, SystemClock};

/// Waits for `time` on this thread.
pub(super) fn wait(time: Duration) {
    let end = SystemClock.monotonic() + time;
    while let Some(left) = end.checked_sub(SystemClock.monotonic()).filter(|left| !left.is_zero()) {
        // It may wake early, and is then parked again.
        std::thread::park_timeout(left);
    }
}
