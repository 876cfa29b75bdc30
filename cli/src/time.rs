//! Points in time: the user's local time in tables, RFC 3339 in JSON.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Local time to the second. Something that is no time is shown as its number.
pub(crate) fn local(since_1970_ms: u64) -> String {
    match timestamp(since_1970_ms) {
        Some(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("{since_1970_ms} ms"),
    }
}

/// UTC to the millisecond.
pub(crate) fn utc(since_1970_ms: u64) -> Option<String> {
    timestamp(since_1970_ms).map(|time| format!("{time:.3}"))
}

/// UTC to the second, without signs that a name can't have: `20261123-041303`.
pub(crate) fn compact(since_1970_ms: u64) -> String {
    match timestamp(since_1970_ms) {
        Some(time) => time.strftime("%Y%m%d-%H%M%S").to_string(),
        None => since_1970_ms.to_string(),
    }
}

fn timestamp(since_1970_ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(since_1970_ms).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_is_rfc_3339() {
        assert_eq!(utc(1_795_407_183_042).as_deref(), Some("2026-11-23T04:13:03.042Z"));
        assert_eq!(utc(u64::MAX), None);
        assert_eq!(local(u64::MAX), format!("{} ms", u64::MAX));
    }
}
