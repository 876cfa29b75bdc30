//! `Keep`: how many recovery points of each class stay, as users write it: `last=3,hourly=24,daily=7,within=30d`.
//!
//! 1. What is printed reads back as the same policy.
//! 2. What is not understood is refused; it never reads as a policy that keeps less.
//! 3. A policy that says nothing keeps everything.

use std::fmt;
use std::str::FromStr;

use jiff::{Span, SpanFieldwise};
use serde::{Deserialize, Serialize};

use super::calendar::{Bucket, time_ms, utc};
use crate::error::{Error, Kind, Result};

/// A class of points that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The newest points, whenever they were taken.
    Last,
    /// The newest of an hour.
    Hourly,
    /// The newest of a day.
    Daily,
    /// The newest of an ISO week.
    Weekly,
    /// The newest of a month.
    Monthly,
    /// The newest of a year.
    Yearly,
}

impl Rule {
    /// All of them, from the shortest to the longest.
    pub const ALL: [Self; 6] =
        [Self::Last, Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }

    /// The bucket that a time falls into; none for [`Rule::Last`], to which each point is its own.
    pub fn bucket(self, at_ms: u64) -> Option<Bucket> {
        let at = utc(at_ms);
        let (year, month, day) = (at.year(), at.month(), at.day());
        Some(match self {
            Self::Last => return None,
            Self::Hourly => Bucket::Hour(year, month, day, at.hour()),
            Self::Daily => Bucket::Day(year, month, day),
            Self::Weekly => Bucket::Week(at.iso_week_date().year(), at.iso_week_date().week()),
            Self::Monthly => Bucket::Month(year, month),
            Self::Yearly => Bucket::Year(year),
        })
    }
}

/// How many points of each class stay, and until what age every one does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keep {
    /// In the order of [`Rule::ALL`]; 0 where the policy does not name the class.
    counts: [u32; 6],
    within: Option<SpanFieldwise>,
}

impl Keep {
    /// Whether it says nothing, and so keeps everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The classes it names, from the shortest to the longest, and how many points of each stay.
    pub fn rules(&self) -> impl Iterator<Item = (Rule, u32)> + '_ {
        Rule::ALL.into_iter().zip(self.counts).filter(|(_, count)| *count > 0)
    }

    /// How many points of a class stay; 0 where the policy does not name it.
    pub fn count(&self, rule: Rule) -> u32 {
        self.rules().find(|(named, _)| *named == rule).map_or(0, |(_, count)| count)
    }

    /// The age up to which every point stays, as it is written.
    pub fn within(&self) -> Option<String> {
        self.within.map(|span| format!("{:#}", span.0))
    }

    /// Until when every point stays that was committed at a time; nothing where the policy names no age. Ages are the
    /// calendar's: a month after 31 January is the last day of February.
    pub fn young_until_ms(&self, at_ms: u64) -> Option<u64> {
        // Counted from the point on: an age counted back from now is longer on 31 March than on 30 March, and what has
        // expired would be wanted again.
        self.within.map(|span| time_ms(utc(at_ms).saturating_add(span.0)))
    }

    fn add(&mut self, part: &str) -> Result<()> {
        let Some((name, value)) = part.split_once('=') else {
            return Err(wrong(format!("{part:?} names no number")));
        };
        let (name, value) = (name.trim(), value.trim());
        if name == "within" {
            return match self.within.replace(age(value)?.into()) {
                None => Ok(()),
                Some(_) => Err(wrong("within is named twice".to_owned())),
            };
        }
        let Some(place) = Rule::ALL.iter().position(|rule| rule.name() == name) else {
            return Err(wrong(format!("there is no class {name:?}")));
        };
        let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
        match value.parse().ok().filter(|_| is_number) {
            _ if self.counts[place] > 0 => Err(wrong(format!("{name} is named twice"))),
            Some(0) => {
                Err(wrong(format!("{name}=0 keeps nothing"))
                    .hint("leave out a class that should keep nothing"))
            }
            Some(count) => {
                self.counts[place] = count;
                Ok(())
            }
            None => Err(wrong(format!("{value:?} is no number of points from 1 to {}", u32::MAX))),
        }
    }
}

/// An age of whole hours or more. Minutes are refused: elsewhere `6m` means six months.
fn age(text: &str) -> Result<Span> {
    let no_age = |detail: String| wrong(detail).hint("write an age as 36h, 30d, 8w, 6mo or 2y");
    let span: Span = text.parse().map_err(|source| no_age(format!("{text:?} is no age")).source(source))?;
    let has_small_units = span.get_minutes() != 0
        || span.get_seconds() != 0
        || span.get_milliseconds() != 0
        || span.get_microseconds() != 0
        || span.get_nanoseconds() != 0;
    match () {
        () if has_small_units => Err(no_age(format!("{text:?} has minutes or less"))),
        () if !span.is_positive() => Err(no_age(format!("{text:?} keeps nothing"))),
        () => Ok(span),
    }
}

fn wrong(detail: String) -> Error {
    Error::new(Kind::Invalid, "read keep policy", detail)
        .hint("write it as last=3,hourly=24,daily=7,weekly=5,monthly=12,yearly=20,within=30d; any of them may be left out")
}

impl FromStr for Keep {
    type Err = Error;

    /// # Errors
    /// [`Kind::Invalid`] for anything but names and numbers that each stand there once.
    fn from_str(text: &str) -> Result<Self> {
        let mut keep = Self::default();
        if !text.trim().is_empty() {
            text.split(',').try_for_each(|part| keep.add(part.trim()))?;
        }
        Ok(keep)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.rules().map(|(rule, count)| format!("{}={count}", rule.name()));
        let parts: Vec<String> = counts.chain(self.within().map(|age| format!("within={age}"))).collect();
        f.write_str(&parts.join(","))
    }
}

impl TryFrom<String> for Keep {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}
