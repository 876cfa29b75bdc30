//! A bucket that is connected to: client, runtime, and what the bucket can do.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    Builder, ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::runtime::Runtime;

use super::condition::Trial;
use super::failure::Failure;
use super::hidden::Hidden;
use super::limits::S3Limits;
use super::pins::Pins;
use crate::error::{Error, Kind, Result};
use crate::store::{Capabilities, Key};

/// The region that requests are signed for when an endpoint is given and no region anywhere.
const ENDPOINT_REGION: &str = "us-east-1";
/// Threads for the traffic of one store. Callers drive their own requests.
const RUNTIME_THREADS: usize = 2;

/// Where a bucket is. [`Address`](crate::store::Address) reads and writes it as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Address {
    /// The bucket's name.
    pub bucket: String,
    /// What stands before each key, without a slash at its end; may be empty.
    pub prefix: String,
    /// The service's URL; none is AWS, or what the environment says.
    pub endpoint: Option<String>,
    /// The region; none is what environment or profile say.
    pub region: Option<String>,
    /// The bucket is named in the path and not in the host name, as most services beside AWS want it.
    pub path_style: bool,
    /// The profile whose credentials are used, out of the file of credentials.
    pub profile: Option<String>,
    /// The file of credentials, as the AWS tools write it; none is the one in the home directory. With neither this
    /// nor a profile, credentials are looked for everywhere.
    pub credentials: Option<String>,
}

/// Objects in a bucket.
pub struct S3Store {
    client: Client,
    /// Taken when the store is dropped.
    runtime: Option<Runtime>,
    address: S3Address,
    features: Capabilities,
    /// What is put over an object or deleted leaves versions, new ones or old ones.
    is_versioned: bool,
    /// An object's first version is the object, and not its newest.
    takes_first: bool,
    trial: Trial,
    pub(super) limits: S3Limits,
    pub(super) pins: Pins,
    pub(super) hidden: Hidden,
    /// Whether the service completes an upload in parts conditionally; asked when it matters for the first time.
    pub(super) conditional_parts: OnceLock<bool>,
}

impl S3Store {
    /// Connects to the bucket and asks what it can do. Where the address names no credentials they are looked for as by
    /// every program that uses AWS: environment, `~/.aws`, web identity, container, instance.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when there are no credentials, no such bucket, or no right to look at it;
    /// [`Kind::Retry`] when the service does not answer.
    pub fn open(address: &S3Address) -> Result<Self> {
        Self::open_with(address, S3Limits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(address: &S3Address, limits: S3Limits) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("firn-s3")
            .enable_all()
            .build()
            .map_err(|source| Error::io("start s3 client", address, source))?;
        let client = runtime.block_on(client(address, &limits))?;
        let mut store = Self {
            client,
            runtime: Some(runtime),
            address: address.clone(),
            features: Capabilities { conditional_put: true, ..Capabilities::default() },
            is_versioned: false,
            takes_first: false,
            trial: Trial::default(),
            limits,
            pins: Pins::default(),
            hidden: Hidden::default(),
            conditional_parts: OnceLock::new(),
        };
        let (versioning, has_lock) = store.block_on(store.ask_features())?;
        let versions = versioning == Some(BucketVersioningStatus::Enabled);
        store.features =
            Capabilities { versions, retention: has_lock, legal_hold: has_lock, ..store.features };
        store.is_versioned = versioning.is_some();
        if store.is_versioned {
            store.trial = store.block_on(store.try_conditions())?;
            store.takes_first = !store.trial.is_honoured;
        }
        Ok(store)
    }

    /// Takes out of the bucket again what opening it put there, if it put anything there: for a bucket that was only
    /// tried. The store is of no use after that.
    ///
    /// # Errors
    /// What the service said.
    pub fn leave_no_trace(self) -> Result<()> {
        match self.trial.has_left {
            true => self.block_on(self.remove_trial()),
            false => Ok(()),
        }
    }

    /// Where it is.
    pub fn address(&self) -> &S3Address {
        &self.address
    }

    pub(super) fn features(&self) -> &Capabilities {
        &self.features
    }

    pub(super) fn is_versioned(&self) -> bool {
        self.is_versioned
    }

    pub(super) fn takes_first(&self) -> bool {
        self.takes_first
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn bucket(&self) -> &str {
        &self.address.bucket
    }

    /// The key's whole name in the bucket.
    pub(super) fn object(&self, key: &Key) -> String {
        self.object_prefix(key.as_str())
    }

    pub(super) fn object_prefix(&self, prefix: &str) -> String {
        match self.address.prefix.as_str() {
            "" => prefix.to_owned(),
            above => format!("{above}/{prefix}"),
        }
    }

    /// The key of an object of the bucket; none for what no store put here.
    pub(super) fn key(&self, object: &str) -> Option<Key> {
        let name = match self.address.prefix.as_str() {
            "" => object,
            above => object.strip_prefix(above)?.strip_prefix('/')?,
        };
        Key::new(name).ok()
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(future),
            None => Err(Error::new(Kind::Bug, "use s3 store", "it was dropped")),
        }
    }

    /// Whether the bucket keeps versions, or once did, and whether it has object lock.
    async fn ask_features(&self) -> Result<(Option<BucketVersioningStatus>, bool)> {
        let operation = "open bucket";
        let lock = self.client.get_object_lock_configuration().bucket(self.bucket()).send().await;
        let has_lock = match lock.map_err(Failure::from) {
            Ok(reply) => {
                let configuration = reply.object_lock_configuration();
                configuration.and_then(|lock| lock.object_lock_enabled()) == Some(&ObjectLockEnabled::Enabled)
            }
            Err(failure) if failure.is_unlocked() || failure.is_not_implemented() => false,
            Err(failure) => return Err(failure.error(operation, &self.address)),
        };
        if has_lock {
            // There is none without versions, and they can't be switched off under it.
            return Ok((Some(BucketVersioningStatus::Enabled), true));
        }
        let versioning = self.client.get_bucket_versioning().bucket(self.bucket()).send().await;
        match versioning.map_err(Failure::from) {
            Ok(reply) => Ok((reply.status().cloned(), false)),
            Err(failure) if failure.is_not_implemented() => Ok((None, false)),
            Err(failure) => Err(failure.error(operation, &self.address)),
        }
    }

    pub(super) async fn read_clock(&self) -> Result<u64> {
        let operation = "read clock";
        let date = Arc::new(Date::default());
        let request = self.client.head_bucket().bucket(self.bucket()).customize();
        let sent = request.interceptor(DateReader(Arc::clone(&date))).send().await;
        sent.map_err(|error| Failure::from(error).error(operation, &self.address))?;
        let text = date.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        DateTime::from_str(&text, DateTimeFormat::HttpDate).ok().and_then(|date| ms(&date)).ok_or_else(|| {
            Error::new(Kind::Unavailable, operation, format!("{}: its Date header is {text:?}", self.address))
        })
    }
}

impl Drop for S3Store {
    fn drop(&mut self) {
        // A runtime that is simply dropped waits for its threads, and panics where tasks run.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn client(address: &S3Address, limits: &S3Limits) -> Result<Client> {
    let tls = Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(limits.connect)
        .operation_attempt_timeout(limits.attempt)
        // It would cut the upload of a large body, whose attempt has a limit of its own.
        .disable_read_timeout();
    let retries = RetryConfig::standard()
        .with_max_attempts(limits.attempts.max(1))
        .with_initial_backoff(limits.backoff_first)
        .with_max_backoff(limits.backoff_max);
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http);
    if let Some(endpoint) = &address.endpoint {
        // Beside AWS the region hardly ever matters, and there is no instance to ask for it.
        let named = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
        let named = named.or_else(ProfileFileRegionProvider::new()).or_else(Region::new(ENDPOINT_REGION));
        loader = loader.endpoint_url(endpoint).region(named);
    }
    if let Some(region) = &address.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(provider) = named_credentials(address) {
        loader = loader.credentials_provider(provider);
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        return Err(Error::new(Kind::Invalid, "connect to s3", format!("{address}: no region is known"))
            .hint("add ?region=NAME to the address, or set AWS_REGION"));
    }
    let config = Builder::from(&shared)
        .timeout_config(timeouts.build())
        .retry_config(retries)
        .force_path_style(address.path_style)
        // Most services beside AWS refuse the checksums that the client would add by itself. Bodies carry an MD5.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    Ok(Client::from_conf(config.build()))
}

/// The credentials that the address names; what it names counts before the environment.
fn named_credentials(address: &S3Address) -> Option<ProfileFileCredentialsProvider> {
    if address.profile.is_none() && address.credentials.is_none() {
        return None;
    }
    let mut provider = ProfileFileCredentialsProvider::builder();
    if let Some(name) = &address.profile {
        provider = provider.profile_name(name);
    }
    if let Some(path) = &address.credentials {
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path);
        provider = provider.profile_files(files.build());
    }
    Some(provider.build())
}

/// The `Date` header of the last reply.
#[derive(Debug, Default)]
struct Date(Mutex<Option<String>>);

#[derive(Debug)]
struct DateReader(Arc<Date>);

impl Intercept for DateReader {
    fn name(&self) -> &'static str {
        "read date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

/// Milliseconds since 1970, to the second as all dates of the service are; none before that.
pub(super) fn ms(date: &DateTime) -> Option<u64> {
    u64::try_from(date.secs()).ok()?.checked_mul(1000)
}
