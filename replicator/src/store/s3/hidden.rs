//! Objects over which somebody put something newer: a version that is no firn's, or the mark of a deletion.
//!
//! 1. Where the newest version is the object, a hidden one is read by its first version once it was uncovered.
//! 2. Where the first version is the object anyway, it is only remembered, to be told.
//! 3. A version with the mark of a put is no stranger's: on a service that ignores conditions it lost a race.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use super::S3Store;
use super::failure::Failure;
use super::put::MARK;
use crate::error::Result;
use crate::store::{Key, ObjectVersion};

/// First versions of hidden objects by the objects' names.
#[derive(Debug, Default)]
pub(super) struct Hidden(Mutex<FxHashMap<String, String>>);

impl Hidden {
    /// The version to read; none for an object that was not found hidden.
    pub(super) fn first(&self, object: &str) -> Option<String> {
        self.map().get(object).cloned()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.map().keys().cloned().collect()
    }

    fn insert(&self, object: &str, first: &ObjectVersion) {
        self.map().insert(object.to_owned(), first.id.clone());
    }

    fn map(&self) -> MutexGuard<'_, FxHashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl S3Store {
    /// Reads the first version from now on, if there is something newer. Whether there is.
    pub(super) async fn uncover_object(&self, key: &Key) -> Result<bool> {
        let object = self.object(key);
        if self.hidden.first(&object).is_some() {
            return Ok(true);
        }
        let listed = self.versions_of(&object).await;
        let versions = listed.map_err(|failure| failure.error("list versions", key))?;
        let first = versions.iter().rfind(|version| !version.is_deletion);
        let Some(first) = first.filter(|first| versions.first() != Some(first)) else { return Ok(false) };
        self.hidden.insert(&object, first);
        Ok(true)
    }

    /// Remembers an object whose `versions`, newest first, end with a stranger's.
    pub(super) async fn notice_hidden(
        &self,
        object: &str,
        versions: &[ObjectVersion],
    ) -> std::result::Result<(), Failure> {
        let first = versions.iter().rfind(|version| !version.is_deletion);
        let (Some(newest), Some(first)) = (versions.first(), first) else { return Ok(()) };
        if newest == first || self.hidden.first(object).is_some() {
            return Ok(());
        }
        if newest.is_deletion || !self.is_put_by_firn(object, newest).await? {
            self.hidden.insert(object, first);
        }
        Ok(())
    }

    async fn is_put_by_firn(
        &self,
        object: &str,
        version: &ObjectVersion,
    ) -> std::result::Result<bool, Failure> {
        let request = self.client().head_object().bucket(self.bucket()).key(object);
        match request.version_id(&version.id).send().await.map_err(Failure::from) {
            Ok(reply) => Ok(reply.metadata().is_some_and(|metadata| metadata.contains_key(MARK))),
            // Its writer has taken it back.
            Err(failure) if failure.is_absent() => Ok(true),
            Err(failure) => Err(failure),
        }
    }
}
