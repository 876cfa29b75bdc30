//! How long the reactor looks for work before it sleeps.
//!
//! To wake a sleeping thread costs tens of microseconds on a virtual machine: as much as a device's answer takes, and
//! more than a client on the same machine needs for its next request. So a wait that is likely to be short is spent
//! awake. What is likely is what was: the window grows while waits end within [`LONGEST`], and shrinks with each one
//! that takes longer.
//!
//! 1. The window is between 0 and [`LONGEST`]: so much processor time is lost at most for each wait.
//! 2. A pool that has something to do only now and then does not look at all: three long waits close the widest window.

use std::time::Duration;

/// The longest that is waited awake.
const LONGEST: Duration = Duration::from_micros(100);
/// What a window begins with; a shorter one is none.
const SHORTEST: Duration = Duration::from_micros(25);

/// When to stop looking for work.
#[derive(Debug, Default)]
pub(super) struct Patience {
    window: Duration,
    /// Since when there is nothing to do.
    since: Option<Duration>,
}

impl Patience {
    /// There is nothing to do; says whether to sleep.
    pub(super) fn is_over(&mut self, now: Duration) -> bool {
        let since = *self.since.get_or_insert(now);
        now.saturating_sub(since) >= self.window
    }

    /// Whether there was nothing to do until now.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// There is something to do again: learns from how long that took.
    pub(super) fn ended(&mut self, now: Duration) {
        let Some(since) = self.since.take() else { return };
        self.window = if now.saturating_sub(since) <= LONGEST {
            (self.window * 2).clamp(SHORTEST, LONGEST)
        } else {
            Some(self.window / 2).filter(|window| *window >= SHORTEST).unwrap_or_default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits of `micros` one after the other; gives how long each was spent awake.
    fn awake(patience: &mut Patience, waits: &[u64]) -> Vec<u64> {
        let mut now = Duration::from_secs(1);
        let mut spent = Vec::new();
        for &micros in waits {
            let end = now + Duration::from_micros(micros);
            let begin = now;
            while now < end && !patience.is_over(now) {
                now += Duration::from_micros(1);
            }
            spent.push(u64::try_from((now - begin).as_micros()).expect("short"));
            now = end;
            // A wait may be told of more than once.
            patience.is_over(now);
            patience.ended(now);
            assert!(!patience.is_waiting());
        }
        spent
    }

    #[test]
    fn short_waits_are_spent_awake_and_long_ones_are_not() {
        let mut patience = Patience::default();
        assert_eq!(awake(&mut patience, &[60, 60, 60, 60, 100]), [0, 25, 50, 60, 100]);
        assert_eq!(awake(&mut patience, &[5000, 5000, 5000, 5000, 5000]), [100, 50, 25, 0, 0]);
        assert_eq!(awake(&mut patience, &[20, 20]), [0, 20], "and it learns again");
    }
}
