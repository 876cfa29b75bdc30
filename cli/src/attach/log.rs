//! What a helper has to say: its stderr is the entry's log.

use firn_engine::sys::{Clock, SystemClock};

use crate::time;

/// Says it, with the time.
pub(super) fn log(text: &str) {
    let now = time::utc(SystemClock.now_ms()).unwrap_or_default();
    eprintln!("{now} {text}");
}
