//! The S3 service that the tests share: the first to need it starts it, and it stops when nobody has used it for a
//! while.

use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use firn_engine::sys::random_bytes;
use firn_replicator::store::{S3Address, S3Limits, S3Store};
use tempfile::TempDir;

/// A user of the service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    access_key: &'static str,
    secret_key: &'static str,
}

/// The owner of the buckets.
pub(crate) const OWNER: User = User { access_key: "FIRNACCESSKEY", secret_key: "firnsecretkey" };
/// A user of the service who has no right to them.
pub(crate) const STRANGER: User = User { access_key: "STRANGERACCESSKEY", secret_key: "strangersecretkey" };
/// Nobody the service knows.
pub(crate) const UNKNOWN: User = User { access_key: "UNKNOWNACCESSKEY", secret_key: "unknownsecretkey" };
/// The owner, mistyped.
pub(crate) const MISTYPED: User = User { access_key: "FIRNACCESSKEY", secret_key: "firnsecretkeys" };

/// The service, borrowed.
pub(crate) struct Service {
    endpoint: String,
    folder: TempDir,
    /// While it is locked the service stays.
    _lock: File,
}

impl Service {
    /// Starts it unless it runs.
    pub(crate) fn borrow() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s3-server");
        let starting = File::create(directory.with_extension("starting")).unwrap();
        starting.lock().unwrap();
        let lock = File::create(directory.with_extension("lock")).unwrap();
        lock.lock_shared().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s3-server");
        let started = Command::new(script).arg("lend").arg(&directory).output().unwrap();
        let said = String::from_utf8(started.stdout).unwrap();
        assert!(started.status.success(), "{said}{}", String::from_utf8_lossy(&started.stderr));
        let endpoint = said.lines().find_map(|line| line.strip_prefix("S3_ENDPOINT=")).unwrap().to_owned();
        Self { endpoint, folder: TempDir::new().unwrap(), _lock: lock }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A new bucket, with object lock or without.
    pub(crate) fn bucket(&self, has_lock: bool) -> S3Address {
        let bucket = format!("firn-{:016x}", u64::from_le_bytes(random_bytes().unwrap()));
        run(self.client().create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(has_lock).send())
            .unwrap();
        self.address(&bucket)
    }

    /// The address of a bucket that may be there or not.
    pub(crate) fn address(&self, bucket: &str) -> S3Address {
        S3Address {
            bucket: bucket.into(),
            prefix: "some/prefix".into(),
            endpoint: Some(self.endpoint.clone()),
            path_style: true,
            credentials: Some(self.credentials(OWNER).to_str().unwrap().into()),
            ..S3Address::default()
        }
    }

    /// A file with the credentials of `user`.
    pub(crate) fn credentials(&self, user: User) -> PathBuf {
        credentials(self.folder.path(), user)
    }

    /// A client beside the store, to see and do what a store does not.
    pub(crate) fn client(&self) -> Client {
        client(&self.endpoint)
    }
}

/// Writes the credentials of `user` to a file in `folder`.
pub(crate) fn credentials(folder: &Path, user: User) -> PathBuf {
    let User { access_key, secret_key } = user;
    let path = folder.join(secret_key);
    let text = format!("[default]\naws_access_key_id={access_key}\naws_secret_access_key={secret_key}\n");
    fs::write(&path, text).unwrap();
    path
}

/// A client of the service at `endpoint`, as the owner.
pub(crate) fn client(endpoint: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(OWNER.access_key, OWNER.secret_key, None, None, "test"))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .force_path_style(true);
    Client::from_conf(config.build())
}

/// Opens a store that loses no time.
pub(crate) fn open(address: &S3Address) -> S3Store {
    S3Store::open_with(address, limits()).unwrap()
}

/// Limits under which a test that lets a service fail ends soon.
pub(crate) fn limits() -> S3Limits {
    S3Limits {
        backoff_first: std::time::Duration::from_millis(20),
        backoff_max: std::time::Duration::from_millis(100),
        ..S3Limits::default()
    }
}

/// Runs what a client beside the store does.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}
