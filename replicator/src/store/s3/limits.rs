//! What an S3 store waits for and how often it tries.

use std::time::Duration;

/// Limits of the requests of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct S3Limits {
    /// Attempts that one request is given, 1 at least.
    pub attempts: u32,
    /// The wait before the second attempt, drawn between nothing and this; doubled for each further one.
    pub backoff_first: Duration,
    /// The longest wait between two attempts.
    pub backoff_max: Duration,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long an attempt may take, the transfer of its body apart.
    pub attempt: Duration,
    /// The slowest transfer that is waited for, in bytes a second; what is slower is broken off and tried again.
    pub slowest_bytes_per_s: u64,
    /// Bodies of this size and more are sent in parts, if the service completes them conditionally.
    pub multipart_min_bytes: u64,
    /// The size of such a part, 5 MiB at least; it grows so that 10,000 parts suffice.
    pub part_bytes: u64,
    /// Parts of one body on their way at the same time.
    pub parts_in_flight: usize,
}

impl Default for S3Limits {
    fn default() -> Self {
        Self {
            attempts: 5,
            backoff_first: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(30),
            slowest_bytes_per_s: 64 << 10,
            multipart_min_bytes: 256 << 20,
            part_bytes: 32 << 20,
            parts_in_flight: 4,
        }
    }
}

impl S3Limits {
    /// How long an attempt may take that transfers `bytes`.
    pub(super) fn attempt_for(&self, bytes: u64) -> Duration {
        self.attempt + Duration::from_secs(bytes / self.slowest_bytes_per_s.max(1))
    }

    /// The longest wait before attempt `attempt`, counted from 0.
    pub(super) fn backoff(&self, attempt: u32) -> Duration {
        let doubled = self.backoff_first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        doubled.min(self.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_transfers_get_time_by_their_size() {
        let limits = S3Limits::default();
        let waits: Vec<u128> = (1..=8).map(|attempt| limits.backoff(attempt).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(limits.backoff(u32::MAX), limits.backoff_max);
        assert_eq!(limits.attempt_for(0), Duration::from_secs(30));
        assert_eq!(limits.attempt_for(64 << 20), Duration::from_secs(30 + 1024));
    }
}
