//! Waking a thread that waits for a device, without a system call while it is awake.
//!
//! Two flags and an eventfd. A wake sets `pending` and then looks at `sleeping`; the sleeper sets `sleeping` and then
//! looks at `pending`. All four are sequentially consistent, so in their one order either the sleeper's look comes
//! after the wake (it sees it and stays awake) or the waker's look comes after the sleeper's announcement (it writes
//! the eventfd). Neither can miss the other.
//!
//! 1. A wake that starts after [`WakeState::awake`] returned makes the next sleep return at once.
//! 2. A wake before that is used up by it; so the owner looks at its queues after it woke, not before.
//! 3. Whoever finds `pending` already set does nothing: the one who set it has seen, or will see, `sleeping`.
//! 4. A sleep may end early: a wake that saw `sleeping` may write the eventfd after the sleeper has gone on.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Longest single sleep. The kernel refuses times that do not fit its own type; a sleep may end early anyway.
pub(super) const SLEEP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Wakes one device's thread from any other.
#[derive(Clone, Debug)]
pub struct Waker(Arc<WakeState>);

impl Waker {
    /// Makes the wait that is going on, or else the next one, return. What was written before this call is seen by
    /// whoever returns.
    pub fn wake(&self) {
        let already = self.0.pending.swap(true, Ordering::SeqCst);
        if !already && self.0.sleeping.load(Ordering::SeqCst) {
            // It fails only when the counter is full, and then the sleeper has long been woken.
            let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
        }
    }
}

/// The sleeper's side: one per device.
pub struct WakeState {
    pending: AtomicBool,
    sleeping: AtomicBool,
    event: OwnedFd,
}

impl WakeState {
    /// A sleeper that is awake, with no wake pending.
    ///
    /// # Errors
    /// What the operating system said (no more file descriptors).
    pub fn new() -> std::io::Result<Arc<Self>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self { pending: AtomicBool::new(false), sleeping: AtomicBool::new(false), event }))
    }

    /// A handle that wakes this sleeper.
    pub fn waker(self: &Arc<Self>) -> Waker {
        Waker(Arc::clone(self))
    }

    /// Sleeps until woken, until one of `others` is readable or until `timeout` is over, maybe shorter. For the one
    /// thread that owns the state.
    pub fn sleep(&self, timeout: Option<Duration>, others: &[Arc<OwnedFd>]) {
        if !self.fall_asleep() {
            return;
        }
        let limit = Timespec::try_from(timeout.unwrap_or(SLEEP_MAX).min(SLEEP_MAX)).ok();
        let all = std::iter::once(&self.event).chain(others.iter().map(|other| &**other));
        let mut watched: Vec<PollFd<'_>> = all.map(|one| PollFd::new(one, PollFlags::IN)).collect();
        // An interrupted or failed poll is a sleep that ended early.
        if matches!(poll(&mut watched, limit.as_ref()), Ok(1..))
            && watched[0].revents().contains(PollFlags::IN)
        {
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
        }
        self.awake();
    }

    /// Announces the sleep. `false` if a wake is pending: it is used up, and the caller must not sleep.
    pub(super) fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        if self.pending.load(Ordering::SeqCst) {
            self.awake();
            return false;
        }
        true
    }

    /// Ends the sleep and uses up the wake. The swap also makes visible what the waker wrote before it.
    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
        self.pending.swap(false, Ordering::SeqCst);
    }

    /// What becomes readable when a sleeper is woken.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl fmt::Debug for WakeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pending, sleeping) =
            (self.pending.load(Ordering::Relaxed), self.sleeping.load(Ordering::Relaxed));
        write!(f, "WakeState {{ pending: {pending}, sleeping: {sleeping} }}")
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "these run on the real clock and real threads")]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_sleeping_thread_is_woken() {
        let state = WakeState::new().expect("eventfd");
        let waker = state.waker();
        let sleeper = thread::spawn(move || {
            let start = Instant::now();
            state.sleep(Some(LONG), &[]);
            start.elapsed()
        });
        thread::sleep(Duration::from_millis(50));
        waker.wake();
        assert!(sleeper.join().expect("joined") < LONG / 2);
    }

    #[test]
    fn a_wake_before_the_sleep_ends_it_at_once_and_only_once() {
        let state = WakeState::new().expect("eventfd");
        state.waker().wake();
        state.waker().wake();
        let start = Instant::now();
        state.sleep(Some(LONG), &[]);
        assert!(start.elapsed() < LONG / 2);
        let start = Instant::now();
        state.sleep(Some(Duration::from_millis(30)), &[]);
        assert!(start.elapsed() >= Duration::from_millis(25));
    }

    /// Each side waits for the other's number to rise, and for nothing else: one lost wakeup and a sleep lasts
    /// for `LONG`.
    #[test]
    fn no_wake_is_lost_between_two_threads() {
        const ROUNDS: u64 = 20_000;
        let states = [WakeState::new().expect("eventfd"), WakeState::new().expect("eventfd")];
        let numbers = [AtomicU64::new(0), AtomicU64::new(0)];
        let start = Instant::now();
        thread::scope(|scope| {
            for me in 0..2 {
                let (states, numbers) = (&states, &numbers);
                scope.spawn(move || {
                    let other = states[1 - me].waker();
                    for round in 1..=ROUNDS {
                        numbers[me].store(round, Ordering::Relaxed);
                        other.wake();
                        while numbers[1 - me].load(Ordering::Relaxed) < round {
                            states[me].sleep(Some(LONG), &[]);
                        }
                    }
                });
            }
        });
        assert!(start.elapsed() < LONG, "a wakeup was lost");
    }
}
