//! Which clients keep memory that others wait for, and are too slow about it.
//!
//! A client that sends a byte now and then is as bad as one that has stopped. So while somebody waits for memory, each
//! client that keeps some has to move at least [`RATE`] bytes a second, over times as long as the limits' patience.

use std::collections::BTreeMap;
use std::time::Duration;

/// Least bytes a second.
const RATE: u64 = 1 << 20;
/// Longest time between two looks.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Mark {
    at: Duration,
    moved: u64,
}

/// Where each of them was.
#[derive(Default)]
pub(super) struct Stalls {
    looked: Duration,
    marks: BTreeMap<usize, Mark>,
}

impl Stalls {
    /// Nobody waits for memory.
    pub(super) fn over(&mut self) {
        self.marks.clear();
    }

    /// A connection's number may mean another from here on.
    pub(super) fn forget(&mut self, key: usize) {
        self.marks.remove(&key);
    }

    /// Looks, when it is time to, at the connections that keep memory and how many bytes each has moved. Returns
    /// those that were too slow for all of `patience`.
    pub(super) fn slow(
        &mut self,
        now: Duration,
        patience: Duration,
        holders: impl Iterator<Item = (usize, u64)>,
    ) -> Vec<usize> {
        if now.saturating_sub(self.looked) < LOOK.min(patience / 4) {
            return Vec::new();
        }
        self.looked = now;
        let before = std::mem::take(&mut self.marks);
        let mut slow = Vec::new();
        for (key, moved) in holders {
            let mark = before.get(&key).copied().unwrap_or(Mark { at: now, moved });
            let millis = u64::try_from(now.saturating_sub(mark.at).as_millis()).unwrap_or(u64::MAX);
            let is_over = now.saturating_sub(mark.at) >= patience;
            if is_over && (moved - mark.moved).saturating_mul(1000) < RATE.saturating_mul(millis) {
                slow.push(key);
            }
            self.marks.insert(key, if is_over { Mark { at: now, moved } } else { mark });
        }
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One holder that has moved `moved` bytes at each second; says at which seconds it was too slow.
    fn slow_at(moved: &[u64]) -> Vec<usize> {
        let mut stalls = Stalls::default();
        let at = |second: usize| Duration::from_secs(100 + second as u64);
        let look = |(second, &moved): (usize, &u64)| {
            let slow = stalls.slow(at(second), Duration::from_secs(3), std::iter::once((7, moved)));
            assert!(slow.iter().all(|key| *key == 7));
            (!slow.is_empty()).then_some(second)
        };
        moved.iter().enumerate().filter_map(look).collect()
    }

    #[test]
    fn a_rate_is_asked_for_and_not_only_a_sign_of_life() {
        const MIB: u64 = 1 << 20;
        assert_eq!(slow_at(&[0, 0, 0, 0, 0]), [3], "it stands still");
        assert_eq!(slow_at(&[0, 1, 2, 3, 4, 5, 6]), [3, 6], "it drips");
        assert_eq!(slow_at(&[9, 9 + MIB, 9 + 2 * MIB, 9 + 3 * MIB, 9 + 3 * MIB]), [0; 0], "as fast as asked");
        assert_eq!(slow_at(&[0, 0, 0, 3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB]), [6], "in one piece is as good");
    }

    #[test]
    fn a_new_connection_or_a_new_shortage_begins_anew() {
        let (mut stalls, patience) = (Stalls::default(), Duration::from_secs(3));
        let look = |stalls: &mut Stalls, second| {
            stalls.slow(Duration::from_secs(second), patience, std::iter::once((7, 5)))
        };
        look(&mut stalls, 100);
        stalls.forget(7);
        assert_eq!(look(&mut stalls, 103), [0; 0]);
        stalls.over();
        assert_eq!(look(&mut stalls, 106), [0; 0]);
        assert_eq!(look(&mut stalls, 109), [7]);
    }
}
