//! The calendar that policies count by: UTC, and ISO 8601's weeks, which begin on Monday.
//!
//! One zone for everybody: a policy means the same on each machine that reads it, whatever its local time, and no hour
//! is missing or comes twice.

use std::fmt;

use jiff::civil::{DateTime, ISOWeekDate, Weekday};
use jiff::tz::Offset;
use jiff::{Span, Timestamp};

/// Milliseconds of a day.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// One hour, day, week, month or year. Shown as people write it: `2026-11-20 13:00`, `2026-11-20`, `2026-W47`,
/// `2026-11`, `2026`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// An hour: year, month, day, hour.
    Hour(i16, i8, i8, i8),
    /// A day: year, month, day.
    Day(i16, i8, i8),
    /// A week: the year it belongs to, which is not always the year of its days, and its number.
    Week(i16, i8),
    /// A month: year, month.
    Month(i16, i8),
    /// A year.
    Year(i16),
}

impl Bucket {
    /// When the bucket begins that comes `count` after this one: until then at most `count - 1` newer ones can have a
    /// point.
    pub fn until_ms(self, count: u32) -> u64 {
        let (start, span) = (self.start(), Span::new());
        let later = match self {
            Self::Hour(..) => span.try_hours(count),
            Self::Day(..) => span.try_days(count),
            Self::Week(..) => span.try_weeks(count),
            Self::Month(..) => span.try_months(count),
            Self::Year(..) => span.try_years(count),
        };
        // More than the calendar has ends with it.
        time_ms(later.map_or(DateTime::MAX, |span| start.saturating_add(span)))
    }

    fn start(self) -> DateTime {
        let (year, month, day, hour) = match self {
            Self::Hour(year, month, day, hour) => (year, month, day, hour),
            Self::Day(year, month, day) => (year, month, day, 0),
            Self::Month(year, month) => (year, month, 1, 0),
            Self::Year(year) => (year, 1, 1, 0),
            Self::Week(year, week) => {
                let monday = ISOWeekDate::new(year, week, Weekday::Monday);
                return monday.map_or(DateTime::MAX, |monday| monday.date().into());
            }
        };
        DateTime::new(year, month, day, hour, 0, 0, 0).unwrap_or(DateTime::MAX)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Hour(year, month, day, hour) => write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:00"),
            Self::Day(year, month, day) => write!(f, "{year:04}-{month:02}-{day:02}"),
            Self::Week(year, week) => write!(f, "{year:04}-W{week:02}"),
            Self::Month(year, month) => write!(f, "{year:04}-{month:02}"),
            Self::Year(year) => write!(f, "{year:04}"),
        }
    }
}

/// A time as UTC's clocks and calendars show it; one beyond the year 9999 as the last moment of that year.
pub fn utc(time_ms: u64) -> DateTime {
    Offset::UTC.to_datetime(timestamp(time_ms))
}

/// A time as text, to the second: `2026-11-20T13:04:05Z`.
pub fn text(time_ms: u64) -> String {
    format!("{:.0}", timestamp(time_ms))
}

fn timestamp(time_ms: u64) -> Timestamp {
    let ms = i64::try_from(time_ms).ok();
    ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

/// The time, in ms since 1970, that UTC's clocks show as `time`; the beginning of 1970 for what is before.
pub fn time_ms(time: DateTime) -> u64 {
    let timestamp = Offset::UTC.to_timestamp(time).ok();
    timestamp.and_then(|timestamp| u64::try_from(timestamp.as_millisecond()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lasts_until_the_next_ones_begin() {
        for (bucket, count, until) in [
            (Bucket::Hour(2026, 12, 31, 23), 1, "2027-01-01T00:00:00Z"),
            (Bucket::Day(2028, 2, 28), 2, "2028-03-01T00:00:00Z"),
            (Bucket::Week(2026, 53), 1, "2027-01-04T00:00:00Z"),
            (Bucket::Month(2026, 11), 12, "2027-11-01T00:00:00Z"),
            (Bucket::Year(2026), 20, "2046-01-01T00:00:00Z"),
        ] {
            assert_eq!(text(bucket.until_ms(count)), until, "{bucket}");
        }
    }

    #[test]
    fn times_are_utc_and_the_far_future_is_its_last_moment() {
        let time = time_ms("2026-11-24T13:04:05.678".parse().unwrap());
        assert_eq!(time, 1_795_525_445_678);
        assert_eq!(text(time), "2026-11-24T13:04:05Z");
        assert_eq!(time_ms(utc(time)), time);
        assert_eq!(utc(u64::MAX).year(), 9999);
        assert_eq!(Bucket::Year(2026).until_ms(u32::MAX), time_ms(DateTime::MAX));
        assert_eq!(time_ms("1969-12-31T23:59:59".parse().unwrap()), 0);
    }
}
