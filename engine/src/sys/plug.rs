//! Small reads for a device that answers in bulk: the later ones are held back, so that the earlier ones are answered.
//!
//! Some hypervisors' disks take requests for as long as there are any, one after the other, and tell of all of them
//! when there are none left. A client with many reads under way then gets nothing while the device works, and the
//! device nothing while the client does. Held back until the device has answered, its reads fall into two halves that
//! take turns. They are answered no later for that: the device would not have told of them sooner.
//!
//! 1. What a device does is seen by how much of what it has it answers at one look. Others answer a few of many, and
//!    nothing is held back from them.
//! 2. A read is held back only while the device has [`ENOUGH`] others, and none that comes later overtakes it: there is
//!    always an answer that lets it go.

use std::collections::VecDeque;

/// Reads of more bytes are no concern of this: the device is busy with each for long enough.
pub(super) const SMALL_BYTES_MAX: usize = 16 << 10;
/// Small reads that the device has while others are held back.
const ENOUGH: usize = 12;
/// A look tells something only if the device had so many.
const TELLING: usize = 4;
/// How much a new look counts for: a part in so many.
const MEMORY: f32 = 8.0;
/// The part of what it has that a device answers at one look, from which on it answers in bulk.
const BULK: f32 = 0.5;

/// What is held back, and why.
#[derive(Default)]
pub(super) struct Plug {
    held: VecDeque<usize>,
    /// Small reads that were let through and are not answered.
    unanswered: usize,
    /// How many of them the device had at the last look.
    seen: usize,
    /// Means of the telling looks: small reads that were answered at once, and that the device had.
    answered: f32,
    had: f32,
}

impl Plug {
    fn holds(&self) -> bool {
        self.unanswered >= ENOUGH && self.answered > BULK * self.had
    }

    /// Whether a small read may go to the device now; else it is kept here.
    pub(super) fn lets_through(&mut self, slot: usize) -> bool {
        if self.holds() {
            self.held.push_back(slot);
            return false;
        }
        self.unanswered += 1;
        true
    }

    /// The device was looked at and had answered so many small reads: lets go of what waited for that.
    pub(super) fn looked(&mut self, answered: usize, go: &mut VecDeque<usize>) {
        let had = self.seen.max(answered);
        if answered > 0 && had >= TELLING {
            #[expect(clippy::cast_precision_loss, reason = "a device has a few hundred at most")]
            let (answered, had) = (answered as f32, had as f32);
            self.answered += (answered - self.answered) / MEMORY;
            self.had += (had - self.had) / MEMORY;
        }
        self.unanswered -= answered;
        if !self.holds() {
            self.unanswered += self.held.len();
            go.extend(self.held.drain(..));
        }
        self.seen = self.unanswered;
    }

    /// Forgets everything that is under way; gives what was held back.
    pub(super) fn abandon(&mut self) -> VecDeque<usize> {
        std::mem::take(self).held
    }
}

#[cfg(test)]
impl Plug {
    /// A plug that takes its device for one that answers in bulk, for hundreds of looks.
    pub(super) fn convinced() -> Self {
        Self { had: f32::MIN, ..Self::default() }
    }

    /// How much is held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Bench {
        plug: Plug,
        at_device: usize,
    }

    impl Bench {
        /// Keeps `depth` reads asked for over so many looks, at each of which the device answers as many as `answers`
        /// says when it has so many; gives the most that it had at once in the second half of them.
        fn most_at_device(&mut self, depth: usize, answers: impl Fn(usize) -> usize) -> usize {
            let mut most = 0;
            for look in 0..200 {
                while self.at_device + self.plug.held() < depth {
                    self.at_device += usize::from(self.plug.lets_through(look));
                }
                if look >= 100 {
                    most = most.max(self.at_device);
                }
                let answered = answers(self.at_device);
                assert!(answered > 0, "nothing is answered, so nothing goes on");
                self.at_device -= answered;
                let mut go = VecDeque::new();
                self.plug.looked(answered, &mut go);
                self.at_device += go.len();
                assert!(
                    self.plug.held() == 0 || self.at_device >= ENOUGH,
                    "held back, with nothing to wait for"
                );
            }
            most
        }
    }

    #[test]
    fn what_answers_in_bulk_gets_its_reads_in_turns() {
        let mut bench = Bench::default();
        let most = bench.most_at_device(32, |has| has);
        assert!((ENOUGH..=32 - ENOUGH).contains(&most), "{most} at once");
        assert_eq!(bench.most_at_device(8, |has| has), 8, "few are never held back");
    }

    #[test]
    fn what_answers_a_few_gets_everything() {
        for at_once in [1, 2, 8] {
            assert_eq!(Bench::default().most_at_device(32, |has| has.min(at_once)), 32);
        }
    }

    #[test]
    fn a_device_that_changes_is_seen_through() {
        let mut bench = Bench::default();
        bench.most_at_device(32, |has| has);
        assert_eq!(bench.most_at_device(32, |_| 1), 32);
        assert!(bench.most_at_device(32, |has| has) < 32);
    }
}
