//! The versions of an object, and which of them is the object.
//!
//! Where the service honours the condition of a put, the newest version is the object, and nobody needs to name it;
//! unless it hides what was written, which is then the first version (`hidden`).
//! Where it does not (radosgw up to Ceph 16 at least, in buckets with versions) everybody who puts gets a version; then
//! the first version is the object, for readers as for writers, and marks of deletion hide nothing.

use std::cmp::Reverse;

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;

use super::S3Store;
use super::connection::ms;
use super::failure::Failure;
use crate::error::Result;
use crate::store::{Key, ObjectVersion};

/// How a request names the version that is the object: by nothing where the newest is.
pub(super) type Pin = Option<String>;

impl S3Store {
    pub(super) async fn list_versions(&self, key: &Key) -> Result<Vec<ObjectVersion>> {
        let listed = self.versions_of(&self.object(key)).await;
        listed.map_err(|failure| failure.error("list versions", key))
    }

    /// How to name the version that is the object; none when there is no object.
    pub(super) async fn pin(&self, object: &str) -> std::result::Result<Option<Pin>, Failure> {
        match self.takes_first() {
            false => Ok(Some(self.hidden.first(object))),
            true => Ok(self.first_body(object).await?.map(|version| Some(version.id))),
        }
    }

    /// The first version that has a body.
    pub(super) async fn first_body(
        &self,
        object: &str,
    ) -> std::result::Result<Option<ObjectVersion>, Failure> {
        let mut versions = self.versions_of(object).await?;
        self.notice_hidden(object, &versions).await?;
        versions.retain(|version| !version.is_deletion);
        Ok(versions.pop())
    }

    /// The versions of the object with exactly this name, newest first.
    pub(super) async fn versions_of(&self, object: &str) -> std::result::Result<Vec<ObjectVersion>, Failure> {
        let request = self.client().list_object_versions().bucket(self.bucket()).prefix(object);
        let (mut bodies, mut marks, mut newest) = (Vec::new(), Vec::new(), None);
        let (mut key_marker, mut version_marker) = (None, None);
        loop {
            let page = request.clone().set_key_marker(key_marker).set_version_id_marker(version_marker);
            let page = page.send().await?;
            newest = newest.or_else(|| newest_version(&page, object));
            bodies.extend(page_bodies(&page).filter(|(name, _)| *name == object).map(|(_, version)| version));
            marks.extend(page_marks(&page, object));
            // Names that go on after this one are listed after all of its versions.
            if page.is_truncated() != Some(true) || page.next_key_marker() != Some(object) {
                break;
            }
            key_marker = page.next_key_marker().map(str::to_owned);
            version_marker = page.next_version_id_marker().map(str::to_owned);
        }
        Ok(merge(bodies, marks, newest.as_deref()))
    }
}

/// Two lists, each in the service's order, as one. Dates decide only between the lists, and the newest version is
/// known: dates have seconds, and the order of bodies is what says who was first.
fn merge(bodies: Vec<ObjectVersion>, marks: Vec<ObjectVersion>, newest: Option<&str>) -> Vec<ObjectVersion> {
    let rank = |version: &ObjectVersion| (newest == Some(&version.id), version.modified_ms);
    let mut merged = bodies;
    for mark in marks.into_iter().rev() {
        let place = merged.iter().position(|version| Reverse(rank(version)) > Reverse(rank(&mark)));
        merged.insert(place.unwrap_or(merged.len()), mark);
    }
    merged
}

/// The versions with a body on a page, with their objects' names.
pub(super) fn page_bodies(page: &ListObjectVersionsOutput) -> impl Iterator<Item = (&str, ObjectVersion)> {
    page.versions().iter().filter_map(|version| {
        let described = ObjectVersion {
            id: version.version_id().unwrap_or("null").to_owned(),
            bytes: u64::try_from(version.size().unwrap_or_default()).unwrap_or_default(),
            modified_ms: version.last_modified().and_then(ms).unwrap_or_default(),
            is_deletion: false,
        };
        Some((version.key()?, described))
    })
}

fn page_marks(page: &ListObjectVersionsOutput, object: &str) -> impl Iterator<Item = ObjectVersion> {
    page.delete_markers().iter().filter(move |mark| mark.key() == Some(object)).map(|mark| ObjectVersion {
        id: mark.version_id().unwrap_or("null").to_owned(),
        bytes: 0,
        modified_ms: mark.last_modified().and_then(ms).unwrap_or_default(),
        is_deletion: true,
    })
}

/// The version that a read without a version finds, if it is on this page.
fn newest_version(page: &ListObjectVersionsOutput, object: &str) -> Option<String> {
    let bodies =
        page.versions().iter().map(|version| (version.key(), version.is_latest(), version.version_id()));
    let marks = page.delete_markers().iter().map(|mark| (mark.key(), mark.is_latest(), mark.version_id()));
    let mut latest =
        bodies.chain(marks).filter(|(key, latest, _)| *key == Some(object) && *latest == Some(true));
    latest.next().map(|(_, _, id)| id.unwrap_or("null").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(id: &str, modified_ms: u64, is_deletion: bool) -> ObjectVersion {
        ObjectVersion { id: id.into(), bytes: 1, modified_ms, is_deletion }
    }

    fn merged(bodies: &[(&str, u64)], marks: &[(&str, u64)], newest: &str) -> Vec<String> {
        let bodies = bodies.iter().map(|(id, ms)| version(id, *ms, false)).collect();
        let marks = marks.iter().map(|(id, ms)| version(id, *ms, true)).collect();
        merge(bodies, marks, Some(newest)).into_iter().map(|version| version.id).collect()
    }

    #[test]
    fn bodies_keep_the_order_that_the_service_gave_them() {
        // The service's order is not that of the dates, when several writers meet.
        assert_eq!(merged(&[("c", 1), ("b", 2), ("a", 1)], &[], "c"), ["c", "b", "a"]);
        assert_eq!(merged(&[("b", 3), ("a", 1)], &[("m", 2)], "b"), ["b", "m", "a"]);
        assert_eq!(merged(&[("a", 1)], &[("n", 5), ("m", 2)], "n"), ["n", "m", "a"]);
        assert_eq!(merged(&[("a", 1)], &[("m", 1)], "m"), ["m", "a"]);
        assert_eq!(merged(&[("a", 1)], &[("m", 1)], "a"), ["a", "m"]);
        assert_eq!(merged(&[], &[("m", 1)], "m"), ["m"]);
    }
}
