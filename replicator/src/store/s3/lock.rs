//! Locks: dates, and legal holds. The service keeps them; nothing here would stop a date from moving back.

use aws_sdk_s3::types::{
    ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode,
};

use super::S3Store;
use super::connection::ms;
use super::failure::Failure;
use super::put::until;
use super::versions::Pin;
use crate::error::{Error, Kind, Result};
use crate::store::{Key, LockMode, Retention};

impl S3Store {
    pub(super) async fn read_retention(&self, key: &Key) -> Result<Option<Retention>> {
        let operation = "read retention";
        let pin = self.pin_for(operation, key).await?;
        let read = self.retention_of(&self.object(key), pin.as_deref()).await;
        read.map_err(|failure| failure.error(operation, key))
    }

    /// How to name the version that is the object, which must be there.
    async fn pin_for(&self, operation: &'static str, key: &Key) -> Result<Pin> {
        let pin = self.pin(&self.object(key)).await.map_err(|failure| failure.error(operation, key))?;
        pin.ok_or_else(|| Error::new(Kind::NotFound, operation, key.to_string()))
    }

    async fn retention_of(
        &self,
        object: &str,
        version: Option<&str>,
    ) -> std::result::Result<Option<Retention>, Failure> {
        let request = self.client().get_object_retention().bucket(self.bucket()).key(object);
        let reply = request.set_version_id(version.map(str::to_owned)).send().await;
        let reply = match reply.map_err(Failure::from) {
            Ok(reply) => reply,
            Err(failure) if failure.is_unlocked() => return Ok(None),
            // Some services tell of a lock only where they tell of the object.
            Err(failure) if failure.is_senseless() => {
                return self.retention_by_head(object, version).await?.map(Some).ok_or(failure);
            }
            Err(failure) => return Err(failure),
        };
        let Some(lock) = reply.retention() else { return Ok(None) };
        let mode = match lock.mode() {
            Some(ObjectLockRetentionMode::Compliance) => LockMode::Compliance,
            Some(_) => LockMode::Governance,
            None => return Ok(None),
        };
        Ok(lock.retain_until_date().and_then(ms).map(|until_ms| Retention { mode, until_ms }))
    }

    /// The lock in the reply to a request for the object's metadata; none when it does not say.
    async fn retention_by_head(
        &self,
        object: &str,
        version: Option<&str>,
    ) -> std::result::Result<Option<Retention>, Failure> {
        let request = self.client().head_object().bucket(self.bucket()).key(object);
        let reply = request.set_version_id(version.map(str::to_owned)).send().await?;
        let mode = match reply.object_lock_mode() {
            Some(ObjectLockMode::Compliance) => LockMode::Compliance,
            Some(_) => LockMode::Governance,
            None => return Ok(None),
        };
        let until_ms = reply.object_lock_retain_until_date().and_then(ms);
        Ok(until_ms.map(|until_ms| Retention { mode, until_ms }))
    }

    pub(super) async fn write_retention(&self, key: &Key, retention: Retention) -> Result<()> {
        let operation = "set retention";
        let mode = match retention.mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let lock = ObjectLockRetention::builder().mode(mode).retain_until_date(until(retention)).build();
        let pin = self.pin_for(operation, key).await?;
        let request = self.client().put_object_retention().bucket(self.bucket()).key(self.object(key));
        let Err(failure) = request.set_version_id(pin).retention(lock).send().await.map_err(Failure::from)
        else {
            return Ok(());
        };
        if failure.is_refusal()
            && let Some(present) = self.read_retention(key).await?
            && is_weaker(retention, present)
        {
            let detail = format!("{key} is locked until {} ms", present.until_ms);
            return Err(Error::new(Kind::Conflict, operation, detail));
        }
        Err(failure.error(operation, key))
    }

    pub(super) async fn read_hold(&self, key: &Key) -> Result<bool> {
        let operation = "read legal hold";
        let pin = self.pin_for(operation, key).await?;
        let read = self.hold_of(&self.object(key), pin.as_deref()).await;
        read.map_err(|failure| failure.error(operation, key))
    }

    async fn hold_of(&self, object: &str, version: Option<&str>) -> std::result::Result<bool, Failure> {
        let request = self.client().get_object_legal_hold().bucket(self.bucket()).key(object);
        match request.set_version_id(version.map(str::to_owned)).send().await.map_err(Failure::from) {
            Ok(reply) => {
                let status = reply.legal_hold().and_then(|hold| hold.status());
                Ok(status == Some(&ObjectLockLegalHoldStatus::On))
            }
            Err(failure) if failure.is_unlocked() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn write_hold(&self, key: &Key, held: bool) -> Result<()> {
        let status = if held { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let operation = "set legal hold";
        let pin = self.pin_for(operation, key).await?;
        let request = self.client().put_object_legal_hold().bucket(self.bucket()).key(self.object(key));
        let sent = request.set_version_id(pin).legal_hold(hold).send().await;
        sent.map_err(|error| Failure::from(error).error(operation, key))?;
        Ok(())
    }

    /// Whether the object, if there is one, may not be overwritten.
    pub(super) async fn is_object_locked(&self, object: &str) -> Result<bool> {
        let pin = self.pin(object).await.map_err(|failure| failure.error("read retention", &object))?;
        match pin {
            Some(pin) => self.is_locked(object, pin.as_deref(), false).await,
            None => Ok(false),
        }
    }

    /// Whether a date that has not come or a hold forbids deleting; with `bypass` a governance date does not count.
    pub(super) async fn is_locked(&self, object: &str, version: Option<&str>, bypass: bool) -> Result<bool> {
        let operation = "read retention";
        let retention = match self.retention_of(object, version).await {
            Ok(retention) => retention,
            Err(failure) if failure.is_absent() => return Ok(false),
            Err(failure) => return Err(failure.error(operation, &object)),
        };
        if let Some(retention) = retention
            && !(bypass && retention.mode == LockMode::Governance)
            && retention.until_ms > self.read_clock().await?
        {
            return Ok(true);
        }
        match self.hold_of(object, version).await {
            Err(failure) if failure.is_absent() => Ok(false),
            held => held.map_err(|failure| failure.error(operation, &object)),
        }
    }
}

fn is_weaker(retention: Retention, present: Retention) -> bool {
    let loses_mode = present.mode == LockMode::Compliance && retention.mode == LockMode::Governance;
    retention.until_ms < present.until_ms || loses_mode
}
