//! Writing: conditional puts whose outcome is always known, and overwrites.

use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Config};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::ObjectLockMode;
use firn_engine::sys::random_bytes;

use super::S3Store;
use super::body::Body;
use super::failure::Failure;
use crate::error::{Error, Kind, Result};
use crate::store::{Key, LockMode, Put, Retention, Store};

/// The metadata that says which put wrote an object.
pub(super) const MARK: &str = "firn-put";
/// The largest body that S3 takes in one request.
const SINGLE_BYTES_MAX: u64 = 5 << 30;
const OPERATION: &str = "put object";

/// An object that is about to be created.
pub(super) struct Creation<'a> {
    pub(super) object: &'a str,
    pub(super) body: &'a Body,
    pub(super) retention: Option<Retention>,
    /// Random, and in the object's metadata.
    pub(super) mark: String,
}

impl S3Store {
    /// Writes an object unless something is there, and finds out who did when that is not clear.
    pub(super) async fn create(&self, key: &Key, body: &Body, retention: Option<Retention>) -> Result<Put> {
        if retention.is_some() && !self.features().retention {
            return Err(self.cannot("put locked object", key));
        }
        let mark = format!("{:032x}", u128::from_le_bytes(random_bytes()?));
        let object = self.object(key);
        let creation = Creation { object: &object, body, retention, mark };
        let failed = |failure: Failure| failure.error(OPERATION, key);
        // Nobody would refuse a put over what is there, so one looks first.
        if self.takes_first() && self.first_body(&object).await.map_err(failed)?.is_some() {
            return Ok(Put::Exists);
        }
        let in_parts = self.goes_in_parts(key, body.bytes(), retention).await?;
        let md5 = body.whole().md5()?;
        let mut attempt = 1;
        loop {
            let sent = match in_parts {
                true => self.send_parts(&creation).await,
                false => self.send_whole(&creation, &md5).await,
            };
            match &sent {
                Ok(()) if !self.takes_first() => return Ok(Put::Created),
                Err(failure) if failure.is_transient() => self.pause(attempt).await,
                Err(failure) if !failure.is_condition() => {
                    return sent.map(|()| Put::Created).map_err(failed);
                }
                _ => {}
            }
            match self.writer(&creation).await {
                Ok(Some(put)) => return Ok(put),
                Err(unknown) if !unknown.is_transient() => return Err(failed(unknown)),
                // Nothing is there (any more), or nobody says.
                _ if attempt < self.limits.attempts => attempt += 1,
                unknown => return Err(unclear(key, sent.err().or(unknown.err()))),
            }
        }
    }

    /// Whether a body of this size is sent in parts. One with a lock never is: some services (radosgw) forget the lock
    /// of an upload in parts.
    async fn goes_in_parts(&self, key: &Key, bytes: u64, retention: Option<Retention>) -> Result<bool> {
        let can_do = retention.is_none()
            && bytes >= self.limits.multipart_min_bytes
            && (self.takes_first() || self.completes_conditionally().await?);
        if !can_do && bytes > SINGLE_BYTES_MAX {
            let detail = format!("{key}: {bytes} bytes are more than the service takes at once");
            return Err(Error::new(Kind::Invalid, OPERATION, detail).hint(
                "only a body without a lock can be larger, on a service that completes uploads conditionally",
            ));
        }
        Ok(can_do)
    }

    async fn send_whole(&self, creation: &Creation<'_>, md5: &str) -> std::result::Result<(), Failure> {
        let body = creation.body.whole();
        let request = self.put_request(creation.object, creation.body).if_none_match("*");
        let request = request.body(body.stream()).content_md5(md5).metadata(MARK, &creation.mark);
        let (mode, until) = lock_parts(creation.retention);
        let request = request.set_object_lock_mode(mode).set_object_lock_retain_until_date(until);
        request.customize().config_override(self.once(body.bytes())).send().await?;
        Ok(())
    }

    /// Who wrote what is there: this creation, somebody else, or nobody.
    async fn writer(&self, creation: &Creation<'_>) -> std::result::Result<Option<Put>, Failure> {
        if self.takes_first() {
            return self.elected(creation).await;
        }
        let request = self.client().head_object().bucket(self.bucket()).key(creation.object);
        match request.send().await.map_err(Failure::from) {
            Ok(reply) => {
                let mark = reply.metadata().and_then(|metadata| metadata.get(MARK));
                Ok(Some(if mark == Some(&creation.mark) { Put::Created } else { Put::Exists }))
            }
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Writes an object over what is there, unless that is locked. In a bucket with versions the displaced ones go.
    pub(super) async fn replace(&self, key: &Key, body: &Body) -> Result<()> {
        let object = self.object(key);
        if self.features().retention && self.is_object_locked(&object).await? {
            return Err(Error::new(Kind::Conflict, OPERATION, format!("{key} is locked")));
        }
        let part = body.whole();
        let request = self.put_request(&object, body).body(part.stream()).content_md5(part.md5()?);
        let timeouts = Config::builder().timeout_config(self.timeouts(part.bytes()));
        let reply = request.customize().config_override(timeouts).send().await;
        let reply = reply.map_err(|error| Failure::from(error).error(OPERATION, key))?;
        match reply.version_id() {
            Some(version) if self.is_versioned() => self.remove_displaced(key, &object, version).await,
            _ => Ok(()),
        }
    }

    fn put_request(&self, object: &str, body: &Body) -> PutObjectFluentBuilder {
        let request = self.client().put_object().bucket(self.bucket()).key(object);
        request.content_length(i64::try_from(body.bytes()).unwrap_or(i64::MAX))
    }

    /// Settings of a request that is made once and sends `bytes`.
    pub(super) fn once(&self, bytes: u64) -> Builder {
        Config::builder().retry_config(RetryConfig::disabled()).timeout_config(self.timeouts(bytes))
    }

    pub(super) fn timeouts(&self, bytes: u64) -> TimeoutConfig {
        TimeoutConfig::builder().operation_attempt_timeout(self.limits.attempt_for(bytes)).build()
    }

    /// Waits before another attempt: a random part of what the limits say, so that not all come back at once.
    pub(super) async fn pause(&self, attempt: u32) {
        let longest_ms = u64::try_from(self.limits.backoff(attempt).as_millis()).unwrap_or(u64::MAX);
        let share = random_bytes().map_or(u32::MAX, u32::from_le_bytes);
        let wait_ms = longest_ms.saturating_mul(u64::from(share)) >> 32;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

/// How the service writes a lock.
pub(super) fn lock_parts(retention: Option<Retention>) -> (Option<ObjectLockMode>, Option<DateTime>) {
    let mode = retention.map(|retention| match retention.mode {
        LockMode::Governance => ObjectLockMode::Governance,
        LockMode::Compliance => ObjectLockMode::Compliance,
    });
    (mode, retention.map(until))
}

/// The date of a lock, rounded up to the second: services drop what is below.
pub(super) fn until(retention: Retention) -> DateTime {
    DateTime::from_secs(i64::try_from(retention.until_ms.div_ceil(1000)).unwrap_or(i64::MAX))
}

fn unclear(key: &Key, failure: Option<Failure>) -> Error {
    let why = failure.map_or_else(|| String::from("what was put is gone"), |failure| failure.to_string());
    Error::new(Kind::Retry, OPERATION, format!("{key}: it is not known whether it is there now: {why}"))
        .hint("do the same again: it goes on with what is there")
}
