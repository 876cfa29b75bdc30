//! Dates until which something is kept, as people write them: `30d`, `12w`, `7y`, or `2033-01-31`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// A date, or a time from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Until {
    /// So much later than now; years and months as the calendar has them.
    Later { years: u16, months: u16, days: u32, hours: u32 },
    /// A time, in ms since 1970.
    At(u64),
}

const WRONG: &str = "write it as 12h, 30d, 12w, 6m, 7y, or as a date such as 2033-01-31";

impl Until {
    /// The time it says when it is `now_ms` since 1970.
    pub(crate) fn after(self, now_ms: u64) -> Option<u64> {
        match self {
            Self::At(time) => Some(time),
            Self::Later { years, months, days, hours } => {
                let now = Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?;
                let span = Span::new()
                    .try_years(years)
                    .and_then(|span| span.try_months(months))
                    .and_then(|span| span.try_days(days))
                    .and_then(|span| span.try_hours(hours))
                    .ok()?;
                let then = now.to_zoned(TimeZone::UTC).checked_add(span).ok()?;
                u64::try_from(then.timestamp().as_millisecond()).ok()
            }
        }
    }
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no date or time: {WRONG}");
        if let Ok(date) = text.parse::<Date>() {
            let time = date.to_zoned(TimeZone::UTC).map_err(|_| wrong())?.timestamp();
            return u64::try_from(time.as_millisecond()).map(Self::At).map_err(|_| wrong());
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return u64::try_from(time.as_millisecond()).map(Self::At).map_err(|_| wrong());
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(end);
        let number: u16 = number.parse().map_err(|_| wrong())?;
        let (mut years, mut months, mut days, mut hours) = (0, 0, 0, 0);
        match unit {
            "y" => years = number,
            "m" => months = number,
            "w" => days = u32::from(number) * 7,
            "d" => days = u32::from(number),
            "h" => hours = u32::from(number),
            _ => return Err(wrong()),
        }
        Ok(Self::Later { years, months, days, hours })
    }
}

impl TryFrom<String> for Until {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Until> for String {
    fn from(until: Until) -> Self {
        until.to_string()
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => f.write_str(&crate::time::utc(*time).unwrap_or_else(|| time.to_string())),
            Self::Later { years, months, days, hours } => {
                let parts =
                    [(u32::from(*years), 'y'), (u32::from(*months), 'm'), (*days, 'd'), (*hours, 'h')];
                parts
                    .iter()
                    .filter(|(number, _)| *number > 0)
                    .try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_407_183_042; // 2026-11-23T04:13:03.042Z

    #[test]
    fn a_time_from_now_follows_the_calendar() {
        for (text, then) in [
            ("7y", "2033-11-23T04:13:03.042Z"),
            ("3m", "2027-02-23T04:13:03.042Z"),
            ("2w", "2026-12-07T04:13:03.042Z"),
            ("30d", "2026-12-23T04:13:03.042Z"),
            ("12h", "2026-11-23T16:13:03.042Z"),
            ("2033-01-31", "2033-01-31T00:00:00.000Z"),
            ("2033-01-31T12:00:00Z", "2033-01-31T12:00:00.000Z"),
        ] {
            let until: Until = text.parse().expect(text);
            assert_eq!(until.after(NOW).and_then(crate::time::utc).as_deref(), Some(then), "{text}");
        }
        for text in ["", "7", "y", "7 y", "-7d", "2033-13-01", "99999d", "tomorrow"] {
            assert!(text.parse::<Until>().is_err(), "{text}");
        }
        assert_eq!("65535y".parse::<Until>().expect("a time").after(NOW), None);
    }
}
