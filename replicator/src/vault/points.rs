//! Points by the names that people give them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::catalog::{Catalog, LivePoint};
use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;

/// Digits of an identity at least.
const PREFIX_MIN: usize = 4;
pub(super) const LATEST: &str = "latest";

impl Catalog {
    /// Points in the order in which they were committed; those of one entry by volume.
    pub fn listed(&self) -> Vec<&LivePoint> {
        let mut points: Vec<&LivePoint> = self.points().values().collect();
        points.sort_by(|one, other| {
            (one.number, &one.committed.name, one.committed.id).cmp(&(
                other.number,
                &other.committed.name,
                other.committed.id,
            ))
        });
        points
    }

    /// The point that `text` names: `latest`; the first four or more digits of its identity; a volume, for its latest;
    /// or `VOLUME@WHEN`, where WHEN is a snapshot's name, `latest`, or a time (`2026-11-20`, `2026-11-20T10:00`, in UTC
    /// unless it says otherwise) for the last one whose snapshot was taken by then.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none; [`Kind::Invalid`] when there are several.
    pub fn choose(&self, text: &str) -> Result<&LivePoint> {
        let listed = self.listed();
        let absent = || absent(text);
        if text == LATEST {
            return listed.last().copied().ok_or_else(absent);
        }
        let (volume, when) = text.split_once('@').unwrap_or((text, LATEST));
        let of_volume: Vec<&LivePoint> =
            listed.iter().copied().filter(|point| point.committed.name == volume).collect();
        if !of_volume.is_empty() {
            return choose_of(text, &of_volume, when, "give the point's identity")?.ok_or_else(absent);
        }
        let is_meant = |id: &Digest| is_prefix(text) && id.to_string().starts_with(text);
        // A point that went on as another one is found by either name.
        let ids = self.points.keys().chain(self.forwarded.keys()).filter(|id| is_meant(id));
        let matching: BTreeSet<Digest> = ids.map(|id| self.current(*id)).collect();
        let mut matching = matching.iter().filter_map(|id| self.points.get(id));
        match (matching.next(), matching.next()) {
            (Some(point), None) => Ok(point),
            (Some(_), Some(_)) => {
                Err(Error::new(Kind::Invalid, "find point", format!("several points begin with {text}"))
                    .hint("give more digits"))
            }
            (None, _) => Err(absent()),
        }
    }
}

/// Whether `text` may be the first digits of an identity.
pub(super) fn is_prefix(text: &str) -> bool {
    text.len() >= PREFIX_MIN
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// What is said of a name that no point has.
pub(super) fn absent(text: &str) -> Error {
    Error::new(Kind::NotFound, "find point", format!("{text:?} is no point of this vault"))
        .hint("`firn vault points` lists them")
}

/// The point of a volume's or a group's, given in the order of their commits, that `when` names. `hint` says what to do
/// where more than one pool has one of that name.
pub(super) fn choose_of<'a>(
    text: &str,
    points: &[&'a LivePoint],
    when: &str,
    hint: &str,
) -> Result<Option<&'a LivePoint>> {
    let pools: std::collections::BTreeSet<_> = points.iter().map(|point| point.committed.pool).collect();
    if pools.len() > 1 {
        let detail = format!("{text:?} is in {} pools that were sent here", pools.len());
        return Err(Error::new(Kind::Invalid, "find point", detail).hint(hint));
    }
    if when == LATEST {
        return Ok(points.last().copied());
    }
    // A name may be used again once its snapshot is gone; the latest is meant.
    let named = points.iter().rev().find(|point| point.committed.snapshot == when);
    if named.is_some() {
        return Ok(named.copied());
    }
    let Some(time_ms) = time_ms(when) else { return Ok(None) };
    let by_then = points.iter().filter(|point| point.committed.created_ms <= time_ms);
    Ok(by_then.max_by_key(|point| (point.committed.created_ms, point.number)).copied())
}

/// A time that a person wrote. A day means its end.
fn time_ms(text: &str) -> Option<u64> {
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let time = if let Ok(time) = text.parse::<Timestamp>() {
        time
    } else if text.contains(['T', ' ', ':']) {
        utc(text.parse::<DateTime>().ok()?)?
    } else {
        utc(text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::MAX))?
    };
    u64::try_from(time.as_millisecond()).ok()
}
