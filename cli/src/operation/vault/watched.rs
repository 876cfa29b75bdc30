//! Long work on a thread of its own, while whoever asked for it is told how far it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use firn_engine::error::{Error, Kind};
use firn_replicator::vault::progress::Progress;

use super::Transferring;
use crate::operation::Told;

/// How often it is told.
const PAUSE: Duration = Duration::from_millis(200);

/// How far work is, as its threads say.
#[derive(Default)]
pub(super) struct Meter {
    expected_bytes: AtomicU64,
    done_bytes: AtomicU64,
}

impl Progress for Meter {
    fn expect(&self, bytes: u64) {
        self.expected_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Meter {
    fn now(&self) -> Transferring {
        Transferring {
            expected_bytes: self.expected_bytes.load(Ordering::Relaxed),
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
        }
    }
}

/// Does `work`, and tells how far it is. The work is of use even when nobody listens any more, so it goes on then.
pub(super) fn watched<T: Send>(
    told: &mut dyn Told<Transferring>,
    work: impl FnOnce(&Meter) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let meter = Meter::default();
    let (done, finished) = channel();
    thread::scope(|scope| {
        let meter = &meter;
        scope.spawn(move || {
            // The other end waits for it below.
            let _ = done.send(work(meter));
        });
        let mut last = None;
        loop {
            match finished.recv_timeout(PAUSE) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) => {
                    let now = meter.now();
                    if last.replace(now) != Some(now) {
                        let _ = told.event(now);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(Kind::Bug, "work on vault", "the thread ended before its work"));
                }
            }
        }
    })
}
