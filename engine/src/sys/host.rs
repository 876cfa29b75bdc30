//! What the machine knows: the time, this boot's identity and randomness. Passed in wherever it is used.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

use crate::error::{Error, Kind, Result};

/// A source of time.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970 by the wall clock, which can jump either way. 0 for any time before.
    fn now_ms(&self) -> u64;

    /// Time since some fixed point that only ever goes forward, for measuring.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
    }
}

/// The identity of this boot of the machine: what is in shared memory counts only under the boot that wrote it.
///
/// # Errors
/// [`Kind::Unavailable`] without a readable `/proc`.
pub fn boot_id() -> Result<[u8; 16]> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH)
        .map_err(|source| Error::new(Kind::Unavailable, "read boot id", PATH).source(source))?;
    parse_uuid(text.trim_end())
        .ok_or_else(|| Error::new(Kind::Unavailable, "read boot id", format!("{PATH} says {text:?}")))
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut id = [0; 16];
    if digits.len() != 2 * id.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

/// Bytes from the kernel's random number generator, fit for identities and keys.
///
/// # Errors
/// What the operating system said.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::io("draw random bytes", format!("{N} bytes"), errno.into())),
        }
    }
    Ok(bytes)
}

/// Bytes that this process may still write to the file system of `path`.
///
/// # Errors
/// What the operating system said.
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "these run on the real clock and real threads")]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_the_same_each_time_and_random_bytes_are_not() {
        assert_eq!(boot_id().expect("a boot id"), boot_id().expect("a boot id"));
        assert_ne!(boot_id().expect("a boot id"), [0; 16]);
        assert_ne!(random_bytes::<32>().expect("random"), random_bytes::<32>().expect("random"));
    }

    #[test]
    fn a_uuid_is_read_and_anything_else_is_not() {
        let id = parse_uuid("00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(id.map(|id| (id[0], id[15])), Some((0, 0xff)));
        for text in
            ["", "00112233", "00112233-4455-6677-8899-aabbccddeef+", "00112233-4455-6677-8899-aabbccddeeff0"]
        {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn time_passes() {
        let start = SystemClock.monotonic();
        std::thread::sleep(Duration::from_millis(5));
        assert!(SystemClock.monotonic() - start >= Duration::from_millis(5));
        assert!(SystemClock.now_ms() > 1_700_000_000_000);
    }
}
