//! Conditional puts on a service that keeps versions and ignores the condition: everybody who puts gets a version, and
//! whose version is the first has created the object.
//!
//! 1. A version is listed before its put is answered, and the order of versions never changes. So who finds its own
//!    version first after its put has won for good: whatever comes later comes behind it.
//! 2. Readers take the first version too ([`S3Store::pin`]), so they never see what lost.
//! 3. Who lost deletes its version. One that is locked, or whose writer died, stays behind the first and is never read.

use super::S3Store;
use super::failure::Failure;
use super::put::{Creation, MARK};
use crate::store::{ObjectVersion, Put};

impl S3Store {
    /// Who has created the object: this creation, somebody else, or nobody. What this creation has left behind the
    /// first version is deleted, as far as that is possible.
    pub(super) async fn elected(&self, creation: &Creation<'_>) -> std::result::Result<Option<Put>, Failure> {
        let mut bodies = self.versions_of(creation.object).await?;
        bodies.retain(|version| !version.is_deletion);
        let Some(first) = bodies.pop() else { return Ok(None) };
        let is_ours = self.has_mark(creation, &first).await?;
        for later in bodies {
            if self.has_mark(creation, &later).await? {
                let request = self.client().delete_object().bucket(self.bucket()).key(creation.object);
                // It is never read; where it is locked it goes with the object.
                let _ = request.version_id(later.id).send().await;
            }
        }
        Ok(Some(if is_ours { Put::Created } else { Put::Exists }))
    }

    /// Whether this creation wrote the version. One that is gone meanwhile was another's.
    async fn has_mark(
        &self,
        creation: &Creation<'_>,
        version: &ObjectVersion,
    ) -> std::result::Result<bool, Failure> {
        let request = self.client().head_object().bucket(self.bucket()).key(creation.object);
        match request.version_id(&version.id).send().await.map_err(Failure::from) {
            Ok(reply) => Ok(reply.metadata().and_then(|metadata| metadata.get(MARK)) == Some(&creation.mark)),
            Err(failure) if failure.is_absent() => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
