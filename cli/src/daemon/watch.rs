//! Looks at the pool from time to time: tells the service manager that it answers, and the log when it needs somebody.

use std::sync::Arc;
use std::time::Duration;

use firn_engine::pool::PoolStatus;
use sd_notify::NotifyState;

use super::{Daemon, notify};

/// How often it looks, unless the service manager wants to hear from us more often.
const INTERVAL: Duration = Duration::from_secs(10);

/// What needs somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worry {
    None,
    /// Less than a tenth of the room is free.
    Low,
    /// Less than a twentieth.
    VeryLow,
    /// The device failed, and nothing is written any more.
    ReadOnly,
}

/// Looks until it is ended. A pool that does not answer is not told of, and the service manager starts us again.
pub(super) async fn watch(daemon: Arc<Daemon>) {
    let watchdog = sd_notify::watchdog_enabled();
    let interval = watchdog.map_or(INTERVAL, |limit| INTERVAL.min(limit / 2));
    let mut last = Worry::None;
    loop {
        let looking = daemon.clone();
        // Not in the queue of the operations: that they are many is no reason to be started again.
        let looked = tokio::task::spawn_blocking(move || looking.served.pool.status()).await;
        if let Ok(Ok(status)) = looked {
            if watchdog.is_some() {
                notify(&[NotifyState::Watchdog]);
            }
            let now = Worry::of(&status);
            if now != last {
                now.tell(&status);
            }
            last = now;
        }
        tokio::time::sleep(interval).await;
    }
}

impl Worry {
    fn of(status: &PoolStatus) -> Self {
        let free = status.free_bytes.saturating_sub(status.reserve_bytes);
        match () {
            () if status.read_only.is_some() => Self::ReadOnly,
            () if free < status.data_bytes / 20 => Self::VeryLow,
            () if free < status.data_bytes / 10 => Self::Low,
            () => Self::None,
        }
    }

    fn tell(self, status: &PoolStatus) {
        let (free_bytes, data_bytes) = (status.free_bytes, status.data_bytes);
        match self {
            Self::None => tracing::info!(free_bytes, data_bytes, "the pool is well again"),
            Self::Low => tracing::warn!(free_bytes, data_bytes, "the pool is nine tenths full"),
            Self::VeryLow => {
                tracing::error!(
                    free_bytes,
                    data_bytes,
                    "the pool is nearly full: delete something or grow it"
                );
            }
            Self::ReadOnly => {
                let why = status.read_only.as_deref().unwrap_or_default();
                tracing::error!("the pool is read-only: {why}");
            }
        }
    }
}
