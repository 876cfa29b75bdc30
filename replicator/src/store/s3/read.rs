//! Reading: objects, ranges, lists.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use tokio::time::timeout;

use super::S3Store;
use super::connection::ms;
use super::failure::Failure;
use super::versions::page_bodies;
use crate::error::{Error, Kind, Result};
use crate::store::{Key, LIST_MAX, ObjectInfo, ObjectVersion};

/// Bytes for which room is made before they arrive, at most.
const RESERVE_BYTES_MAX: u64 = 64 << 20;

impl S3Store {
    /// Reads an object or one of its versions whole.
    pub(super) async fn read(&self, key: &Key, version: Option<&str>) -> Result<Vec<u8>> {
        let object = self.object(key);
        let read = match version {
            Some(_) => self.fetch(&object, version.map(str::to_owned), None).await.map(Some),
            None => self.fetch_object(&object, None).await,
        };
        let absent = || Error::new(Kind::NotFound, "read object", key.to_string());
        read.map_err(|failure| failure.error("read object", key))?.ok_or_else(absent)
    }

    pub(super) async fn read_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        let operation = "read object";
        let short = || Error::new(Kind::Damaged, operation, format!("{key} is shorter than it must be"));
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        let Some(end) = offset.checked_add(bytes).filter(|_| length > 0) else {
            // Nothing that a request could ask for.
            return match self.look(key).await? {
                None => Err(Error::new(Kind::NotFound, operation, key.to_string())),
                Some(info) if length == 0 && offset <= info.bytes => Ok(Vec::new()),
                Some(_) => Err(short()),
            };
        };
        let range = format!("bytes={offset}-{}", end - 1);
        match self.fetch_object(&self.object(key), Some(range)).await {
            Ok(None) => Err(Error::new(Kind::NotFound, operation, key.to_string())),
            Ok(Some(body)) if body.len() == length => Ok(body),
            Ok(Some(body)) if body.len() < length => Err(short()),
            Ok(Some(body)) => {
                let detail = format!("{key}: {} bytes came, {length} were asked for", body.len());
                Err(Error::new(Kind::Unavailable, operation, detail).hint("the service must do ranged reads"))
            }
            Err(failure) if failure.is_range() => Err(short()),
            Err(failure) => Err(failure.error(operation, key)),
        }
    }

    /// Gets the object's body; none when there is no object.
    async fn fetch_object(
        &self,
        object: &str,
        range: Option<String>,
    ) -> std::result::Result<Option<Vec<u8>>, Failure> {
        let pinned = if self.takes_first() { self.pins.get(object) } else { None };
        if let Some(version) = pinned {
            match self.fetch(object, Some(version), range.clone()).await {
                // Deleted meanwhile, and perhaps created anew.
                Err(failure) if failure.is_absent() => self.pins.remove(object),
                fetched => return fetched.map(Some),
            }
        }
        let Some(pin) = self.pin(object).await? else { return Ok(None) };
        if let Some(version) = pin.as_ref().filter(|_| self.takes_first()) {
            self.pins.insert(object, version);
        }
        self.fetch(object, pin, range).await.map(Some)
    }

    /// Gets a body. The client tries again until a reply begins, this when it breaks off.
    async fn fetch(
        &self,
        object: &str,
        version: Option<String>,
        range: Option<String>,
    ) -> std::result::Result<Vec<u8>, Failure> {
        let request = self.client().get_object().bucket(self.bucket()).key(object);
        let request = request.set_version_id(version).set_range(range);
        let mut attempt = 1;
        loop {
            match self.collect(request.clone().send().await?).await {
                Err(_) if attempt < self.limits.attempts => self.pause(attempt).await,
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    async fn collect(&self, reply: GetObjectOutput) -> std::result::Result<Vec<u8>, Failure> {
        let announced = reply.content_length().and_then(|length| u64::try_from(length).ok());
        let reserve = announced.unwrap_or(0).min(RESERVE_BYTES_MAX);
        let mut body = reply.body;
        let mut bytes = Vec::with_capacity(usize::try_from(reserve).unwrap_or(0));
        let arrive = async {
            while let Some(chunk) = body.try_next().await? {
                bytes.extend_from_slice(&chunk);
            }
            Ok::<(), aws_sdk_s3::primitives::ByteStreamError>(())
        };
        match timeout(self.limits.attempt_for(announced.unwrap_or(0)), arrive).await {
            Err(_) => Err(Failure::of_body(&"it took too long")),
            Ok(Err(error)) => Err(Failure::of_body(&error)),
            Ok(Ok(())) if announced.is_some_and(|announced| u64::try_from(bytes.len()) != Ok(announced)) => {
                Err(Failure::of_body(&format!("{} bytes came", bytes.len())))
            }
            Ok(Ok(())) => Ok(bytes),
        }
    }

    pub(super) async fn look(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        if self.takes_first() {
            let first = self.first_body(&self.object(key)).await;
            let first = first.map_err(|failure| failure.error("look at object", key))?;
            return Ok(first.map(|version| info(key.clone(), &version)));
        }
        let object = self.object(key);
        let request = self.client().head_object().bucket(self.bucket()).key(&object);
        let reply = request.set_version_id(self.hidden.first(&object)).send().await;
        match reply.map_err(Failure::from) {
            Ok(reply) => {
                let bytes = u64::try_from(reply.content_length().unwrap_or_default()).unwrap_or_default();
                let modified_ms = reply.last_modified().and_then(ms).unwrap_or_default();
                Ok(Some(ObjectInfo { key: key.clone(), bytes, modified_ms }))
            }
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(failure.error("look at object", key)),
        }
    }

    /// Up to [`LIST_MAX`] objects after `after`, from as many of the service's pages as that takes.
    pub(super) async fn list_page(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        if self.takes_first() {
            return self.list_first_versions(prefix, after).await;
        }
        let operation = "list objects";
        let request =
            self.client().list_objects_v2().bucket(self.bucket()).prefix(self.object_prefix(prefix));
        let mut start = after.map(|key| self.object(key));
        let mut found = Vec::new();
        loop {
            let wanted = i32::try_from(LIST_MAX - found.len()).unwrap_or(i32::MAX);
            let page = request.clone().max_keys(wanted).set_start_after(start).send().await;
            let page = page.map_err(|error| Failure::from(error).error(operation, self.address()))?;
            let objects = page.contents();
            found.extend(objects.iter().filter_map(|object| {
                let key = self.key(object.key()?)?;
                let bytes = u64::try_from(object.size().unwrap_or_default()).unwrap_or_default();
                Some(ObjectInfo {
                    key,
                    bytes,
                    modified_ms: object.last_modified().and_then(ms).unwrap_or_default(),
                })
            }));
            if page.is_truncated() != Some(true) || found.len() >= LIST_MAX {
                return Ok(found);
            }
            start = objects.last().and_then(|object| object.key().map(str::to_owned));
            if start.is_none() {
                let detail = format!("{}: a page without objects is not the last", self.address());
                return Err(Error::new(Kind::Retry, operation, detail));
            }
        }
    }
    /// The same where an object is its first version: all versions are listed, and of each name the last one counts.
    async fn list_first_versions(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<ObjectInfo>> {
        let failed = |error| Failure::from(error).error("list objects", self.address());
        let request = self.client().list_object_versions().bucket(self.bucket());
        let request = request.prefix(self.object_prefix(prefix));
        let (mut key_marker, mut version_marker) = (after.map(|key| self.object(key)), None);
        let mut found: Vec<ObjectInfo> = Vec::new();
        loop {
            let page = request.clone().set_key_marker(key_marker).set_version_id_marker(version_marker);
            let page = page.send().await.map_err(failed)?;
            for (name, version) in page_bodies(&page) {
                // radosgw begins with the marker itself.
                let Some(key) = self.key(name).filter(|key| after.is_none_or(|after| key > after)) else {
                    continue;
                };
                let is_full = found.len() == LIST_MAX;
                match found.last_mut() {
                    Some(last) if last.key == key => *last = info(key, &version),
                    // The versions of the last that fits are complete.
                    _ if is_full => return Ok(found),
                    _ => found.push(info(key, &version)),
                }
            }
            if page.is_truncated() != Some(true) || page.next_key_marker().is_none() {
                return Ok(found);
            }
            key_marker = page.next_key_marker().map(str::to_owned);
            version_marker = page.next_version_id_marker().map(str::to_owned);
        }
    }
}

fn info(key: Key, version: &ObjectVersion) -> ObjectInfo {
    ObjectInfo { key, bytes: version.bytes, modified_ms: version.modified_ms }
}
