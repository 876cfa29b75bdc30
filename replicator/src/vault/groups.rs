//! Consistency groups by the names that people give them.
//!
//! 1. A group is restored from one entry: what its volumes were at one point, never a volume of one snapshot beside one
//!    of another.
//! 2. A former point is named by `former/` and the first digits of its identity, and no other way: whoever asks for what
//!    it was called gets what took its place.
//! 3. A name that a volume and a group have is refused unless it says which is meant: `volume/NAME` or `group/NAME`.
//!    No name has a slash in it, so none of these can be taken for one.

use super::catalog::{Catalog, LivePoint};
use super::former::FormerPoint;
use super::points::{LATEST, absent, choose_of};
use crate::error::{Error, Kind, Result};

const VOLUME: &str = "volume/";
const GROUP: &str = "group/";
const FORMER: &str = "former/";

/// The points of a consistency group that one entry committed.
#[derive(Clone, Debug)]
pub struct GroupPoint<'c> {
    /// The group's name.
    pub group: &'c str,
    /// The snapshot's name, which all its volumes have.
    pub snapshot: &'c str,
    /// The entry.
    pub number: u64,
    /// Those that live, by volume.
    pub points: Vec<&'c LivePoint>,
}

/// What somebody named.
#[derive(Clone, Debug)]
pub enum Named<'c> {
    /// A volume's point.
    Point(&'c LivePoint),
    /// A consistency group's points.
    Group(GroupPoint<'c>),
    /// A point that left the vault.
    Former(&'c FormerPoint),
}

impl GroupPoint<'_> {
    /// Points that its entry committed and that left the vault since.
    pub fn missing(&self) -> usize {
        let committed = self.points.first().map_or(0, |point| point.committed_together);
        committed.saturating_sub(self.points.len())
    }
}

impl Catalog {
    /// What `text` names: a point as [`choose`](Self::choose) has it, or a consistency group in the same ways, such as
    /// `bank` or `bank@tuesday`. `volume/` or `group/` before it says which of the two; `group/` before the digits of a
    /// point's identity names the group that it was sent with, `former/` before those of a point that left the vault means
    /// that one itself.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none; [`Kind::Invalid`] when there are several.
    pub fn find(&self, text: &str) -> Result<Named<'_>> {
        if let Some(text) = text.strip_prefix(VOLUME) {
            return self.choose(text).map(Named::Point);
        }
        if let Some(text) = text.strip_prefix(GROUP) {
            return self.choose_group(text).map(Named::Group);
        }
        if let Some(digits) = text.strip_prefix(FORMER) {
            return self.choose_former(digits).map(Named::Former);
        }
        let name = text.split_once('@').map_or(text, |(name, _)| name);
        let is_volume = self.points().values().any(|point| point.committed.name == name);
        match (is_volume, self.has_group(name)) {
            (true, true) => {
                let detail = format!("{name:?} is a volume and a consistency group in this vault");
                Err(Error::new(Kind::Invalid, "find point", detail)
                    .hint(format!("say which is meant: {VOLUME}{text} or {GROUP}{text}")))
            }
            (false, true) if text != LATEST => self.choose_group(text).map(Named::Group),
            _ => self.choose(text).map(Named::Point),
        }
    }

    fn has_group(&self, name: &str) -> bool {
        self.points().values().any(|point| point.group.as_deref() == Some(name))
    }

    fn choose_group(&self, text: &str) -> Result<GroupPoint<'_>> {
        let (name, when) = text.split_once('@').unwrap_or((text, LATEST));
        let listed = self.listed();
        let mut of_group: Vec<&LivePoint> =
            listed.into_iter().filter(|point| point.group.as_deref() == Some(name)).collect();
        if of_group.is_empty() {
            let point = self.choose(text)?;
            let alone = || {
                let detail = format!("{text:?} was not sent with a consistency group");
                Error::new(Kind::Invalid, "find point", detail)
            };
            return Ok(self.group_of(point, point.group.as_deref().ok_or_else(alone)?));
        }
        // One of each entry stands for all: a snapshot of a group has one name and one time on every volume.
        of_group.dedup_by_key(|point| point.number);
        let hint = format!("say {GROUP} and the identity of one of its points");
        let chosen = choose_of(text, &of_group, when, &hint)?.ok_or_else(|| absent(text))?;
        Ok(self.group_of(chosen, chosen.group.as_deref().unwrap_or_default()))
    }

    /// All that was committed with `point`.
    fn group_of<'c>(&'c self, point: &'c LivePoint, group: &'c str) -> GroupPoint<'c> {
        let is_with = |other: &&LivePoint| other.number == point.number;
        let points = self.listed().into_iter().filter(is_with).collect();
        GroupPoint { group, snapshot: &point.committed.snapshot, number: point.number, points }
    }
}
