//! The process behind an attached device. `firn attach` starts it, and it ends when the device was taken away.
//!
//! Its stdin is the entry's lock, its stdout a pipe on which it says once how its start went, its stderr the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use firn_engine::error::Error;
use firn_engine::export::nbd::client::{Event, Export, Observer, Reconnect, Uri};
use firn_engine::sys::{Clock, SystemClock};
use rustix::process::{configure_io_flusher_behavior, setsid};

use super::entry::{Entry, Health, Record, State};
use super::log::log;
use super::starting::Started;
use super::transport::{self, Device, Wish};
use crate::args::attach::Helper;

/// Attaches, tells the parent, and serves until the end.
pub(crate) fn run(helper: &Helper) -> Result<()> {
    stand_alone();
    let entry = Entry::at(helper.entry.clone());
    let device = match start(helper, &entry) {
        Ok((record, device)) => {
            Started::Ready(record).tell()?;
            device
        }
        Err(error) => {
            entry.remove()?;
            Started::Failed((&error).into()).tell()?;
            return Err(error.into());
        }
    };
    let served = device.serve();
    log("detached");
    entry.remove()?;
    Ok(served?)
}

/// Belongs to no terminal, and is not made to wait for itself: what the kernel does to find memory for this process
/// must not be writing to its own device. Neither is worth failing for where it is not allowed.
fn stand_alone() {
    let _ = setsid();
    let _ = configure_io_flusher_behavior(true);
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
}

fn start(helper: &Helper, entry: &Entry) -> Result<(Record, Box<dyn Device>), Error> {
    let uri: Uri = helper.uri.parse()?;
    let reconnect = match helper.reconnect_timeout_ms {
        Some(limit) => Reconnect::Within(Duration::from_millis(limit)),
        None => Reconnect::Forever,
    };
    let watch = Arc::new(Watch::new(entry.clone()));
    watch.write();
    let observer = || -> Observer {
        let watch = watch.clone();
        Box::new(move |event| watch.see(event))
    };
    let wish = Wish { uri: &uri, connections: helper.connections, reconnect };
    let (kind, device) = transport::offer(helper.by, &wish, observer, entry)?;
    let export = device.export();
    let record = Record {
        name: uri.export.clone(),
        uri: uri.to_string(),
        transport: kind.text().to_owned(),
        device: device.path().to_owned(),
        bytes: export.bytes,
        is_read_only: export.has(Export::READ_ONLY),
        pid: std::process::id(),
        attached_ms: SystemClock.now_ms(),
    };
    if let Err(error) = entry.set_record(&record) {
        transport::release(entry)?;
        return Err(error);
    }
    log(&format!("{} attached as {}", record.uri, record.device.display()));
    Ok((record, device))
}

/// Keeps the health file.
struct Watch {
    entry: Entry,
    seen: Mutex<Seen>,
}

struct Seen {
    health: Health,
    /// Connections that are broken.
    lost: u64,
}

impl Watch {
    fn new(entry: Entry) -> Self {
        let since_ms = SystemClock.now_ms();
        let health = Health { state: State::Connected, since_ms, reason: None, reconnects: 0 };
        Self { entry, seen: Mutex::new(Seen { health, lost: 0 }) }
    }

    fn see(&self, event: &Event) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.take(event, SystemClock.now_ms());
        match event {
            Event::Lost(error) => log(&format!("waiting for the server: {error}")),
            // The kernel does not say how many it sends again.
            Event::Restored { resent: 0, .. } => log("connected again"),
            Event::Restored { resent, .. } => log(&format!("connected again, {resent} requests sent again")),
            Event::Failing { error, is_final: false } => {
                log(&format!("requests fail until it is back: {error}"))
            }
            Event::Failing { error, is_final: true } => log(&format!("requests fail from now on: {error}")),
        }
        self.write_health(&seen.health);
    }

    fn write(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_health(&seen.health);
    }

    /// The device does not depend on it, so a failure is only told.
    fn write_health(&self, health: &Health) {
        if let Err(error) = self.entry.set_health(health) {
            log(&error.to_string());
        }
    }
}

impl Seen {
    /// What is final stays; otherwise it is the worst of all connections that counts.
    fn take(&mut self, event: &Event, now_ms: u64) {
        let (state, reason) = match event {
            Event::Lost(error) => {
                self.lost += 1;
                (State::Waiting, Some(error.to_string()))
            }
            Event::Restored { .. } => {
                self.lost = self.lost.saturating_sub(1);
                self.health.reconnects += 1;
                if self.lost > 0 {
                    return;
                }
                (State::Connected, None)
            }
            Event::Failing { error, is_final } => {
                (if *is_final { State::Gone } else { State::Failing }, Some(error.to_string()))
            }
        };
        if self.health.state != State::Gone {
            let since_ms = if state == self.health.state { self.health.since_ms } else { now_ms };
            self.health = Health { state, since_ms, reason, reconnects: self.health.reconnects };
        }
    }
}

#[cfg(test)]
mod tests {
    use firn_engine::error::Kind as ErrorKind;

    use super::*;

    #[test]
    fn the_health_is_that_of_the_worst_connection() {
        let error = || Error::new(ErrorKind::Unavailable, "use NBD export", "cable");
        let health = Health { state: State::Connected, since_ms: 0, reason: None, reconnects: 0 };
        let mut seen = Seen { health, lost: 0 };
        let restored = Event::Restored { resent: 0, bytes: 0 };
        let mut check = |event: Event, expected: State, since_ms: u64| {
            seen.take(&event, since_ms.max(seen.health.since_ms + 1));
            assert_eq!(seen.health.state, expected, "{event:?}");
        };
        check(Event::Lost(error()), State::Waiting, 1);
        check(Event::Lost(error()), State::Waiting, 2);
        check(restored.clone(), State::Waiting, 3);
        check(Event::Failing { error: error(), is_final: false }, State::Failing, 4);
        check(restored.clone(), State::Connected, 5);
        check(Event::Failing { error: error(), is_final: true }, State::Gone, 6);
        check(restored, State::Gone, 7);
        assert_eq!(seen.health.reconnects, 3);
    }
}
