//! Deleting: every version of an object, and nothing at all while the object itself is locked.

use super::S3Store;
use super::failure::Failure;
use crate::error::{Error, Kind, Result};
use crate::store::{Key, ObjectVersion};

const OPERATION: &str = "delete object";

impl S3Store {
    /// Deletes an object; `bypass` passes over governance locks.
    pub(super) async fn remove(&self, key: &Key, bypass: bool) -> Result<()> {
        self.remove_object(key.as_str(), &self.object(key), bypass).await
    }

    /// The same for any name in the bucket; `subject` is what it is called in errors.
    pub(super) async fn remove_object(&self, subject: &str, object: &str, bypass: bool) -> Result<()> {
        if !self.is_versioned() {
            return self.remove_version(subject, object, None, bypass).await;
        }
        let listed = self.versions_of(object).await;
        let versions = listed.map_err(|failure| failure.error(OPERATION, &subject))?;
        let Some((object_itself, others)) = self.split(&versions) else { return Ok(()) };
        // Else others could be gone when the service refuses the object itself.
        let may_be_locked = !others.is_empty() && !object_itself.is_deletion;
        if may_be_locked && self.is_locked(object, Some(&object_itself.id), bypass).await? {
            return Err(locked(subject));
        }
        // The object itself last: no reader takes another for it in between.
        for version in others.iter().rev().chain([object_itself]) {
            self.remove_version(subject, object, Some(version), bypass).await?;
        }
        Ok(())
    }

    /// The version that is the object, and the others.
    fn split<'a>(&self, versions: &'a [ObjectVersion]) -> Option<(&'a ObjectVersion, &'a [ObjectVersion])> {
        match self.takes_first() {
            true => versions.split_last(),
            false => versions.split_first(),
        }
    }

    /// Deletes the versions that the version `ours` displaced, those that are locked apart.
    pub(super) async fn remove_displaced(&self, key: &Key, object: &str, ours: &str) -> Result<()> {
        let listed = self.versions_of(object).await;
        let versions = listed.map_err(|failure| failure.error(OPERATION, key))?;
        // What is not behind ours was written later, by somebody else.
        for version in versions.iter().skip_while(|version| version.id != ours).skip(1) {
            match self.remove_version(key.as_str(), object, Some(version), false).await {
                // It is behind the object and does no harm, unless the first version is the object.
                Err(error) if error.kind() == Kind::Conflict && !self.takes_first() => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    async fn remove_version(
        &self,
        subject: &str,
        object: &str,
        version: Option<&ObjectVersion>,
        bypass: bool,
    ) -> Result<()> {
        let id = version.map(|version| version.id.as_str());
        match self.ask_to_delete(object, id, bypass).await {
            Err(failure) if failure.is_refusal() && self.features().retention => {}
            asked => return asked.map_err(|failure| failure.error(OPERATION, &subject)),
        }
        if self.is_locked(object, id, bypass).await? {
            return Err(locked(subject));
        }
        // Nothing has it locked: a lock may have ended since the refusal. A refusal for another reason comes again.
        self.ask_to_delete(object, id, bypass).await.map_err(|failure| failure.error(OPERATION, &subject))
    }

    /// Asks once. What is not there is deleted.
    async fn ask_to_delete(
        &self,
        object: &str,
        id: Option<&str>,
        bypass: bool,
    ) -> std::result::Result<(), Failure> {
        let request = self.client().delete_object().bucket(self.bucket()).key(object);
        let request = request.set_version_id(id.map(str::to_owned));
        let request =
            request.set_bypass_governance_retention((bypass && self.features().retention).then_some(true));
        match request.send().await.map_err(Failure::from) {
            Err(failure) if !failure.is_absent() => Err(failure),
            _ => Ok(()),
        }
    }
}

fn locked(subject: &str) -> Error {
    Error::new(Kind::Conflict, OPERATION, format!("{subject} is locked"))
}
