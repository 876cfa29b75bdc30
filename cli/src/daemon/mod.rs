//! `firn serve`: one process that owns a pool and does for others what they ask.
//!
//! 1. The sockets are taken before the pool is opened: whoever connects while it recovers waits, and is answered then.
//! 2. It stops in this order: no new connections, requests under way end, NBD clients end, the pool is closed. What is
//!    cut off in any of that is recovered at the next start, as after a crash.
//! 3. The engine's calls wait, so they run on threads of their own, a bounded number at a time; the threads that take
//!    connections never wait for the pool.

mod answer;
mod api;
mod connections;
mod endpoint;
mod exports;
mod log;
mod metrics;
mod nbd_metrics;
mod pool_metrics;
mod settings;
mod teller;
mod watch;

use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use firn_engine::core::CoreOptions;
use firn_engine::error::Error;
use firn_engine::export::nbd;
use firn_engine::pool::{Pool, PoolOptions};
use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch as flag};
use tokio::task::JoinHandle;

use crate::args::Globals;
use crate::args::serve::Serve;
use crate::operation::Served;
use crate::operation::served::Filling;
use crate::output::Answer;
use crate::runtime::Serving;
use crate::service::{explain_open, metadata};
use api::Api;
use connections::Limited;
use endpoint::Endpoint;
use metrics::Metrics;
use settings::Settings;

/// Short operations at once; more wait.
const SHORT: usize = 16;
/// Long operations at once; more are refused.
const LONG: usize = 8;
/// Threads for what is neither: metrics and the watch.
const OTHER: usize = 4;
/// Connections at once to the address that has only metrics.
const METRICS_CONNECTIONS: usize = 16;
/// How long requests under way have to end when the daemon stops.
const STOP: Duration = Duration::from_secs(10);

/// What every request is answered from.
struct Daemon {
    served: Served,
    nbd: nbd::Server,
    metrics: Metrics,
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
    /// True from when the daemon stops.
    stopping: flag::Sender<bool>,
}

/// Serves until it is told to stop.
pub(crate) fn run(globals: &Globals, serve: Serve) -> Result<Answer> {
    if serve.print_openapi {
        return Ok(Answer::verbatim(Api::all().document().to_pretty_json()?));
    }
    let checks_only = serve.check_config;
    let settings = Settings::find(globals, serve)?;
    if checks_only {
        let file = toml::to_string(&settings).context("write the configuration")?;
        return Answer::new(&settings, file);
    }
    log::start(&settings);
    self::serve(&settings)?;
    Ok(Answer::verbatim(String::new()))
}

fn serve(settings: &Settings) -> Result<()> {
    let (endpoint, listener) = Endpoint::listen(&settings.socket)?;
    let metrics_listener = settings.metrics_listen.map(listen_for_metrics).transpose()?;
    let daemon = Arc::new(Daemon::open(settings)?);
    // A note that can't be made costs an error its hint, and nobody else anything.
    let note = Serving::note(&settings.pool, endpoint.path());
    if let Err(error) = &note {
        tracing::warn!(%error, "which socket serves the pool could not be noted");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(SHORT + LONG + OTHER)
        .thread_name("firn-api")
        .enable_all()
        .build()
        .context("start the API's threads")?;
    let attended = runtime.block_on(daemon.clone().attend(settings, listener, metrics_listener));
    runtime.shutdown_timeout(STOP);
    daemon.nbd.stop();
    let closed = daemon.served.pool.close();
    attended?;
    closed?;
    tracing::info!("stopped, and the pool is closed");
    Ok(())
}

fn listen_for_metrics(address: std::net::SocketAddr) -> Result<StdTcpListener, Error> {
    StdTcpListener::bind(address).map_err(|source| Error::io("listen", address, source))
}

impl Daemon {
    fn open(settings: &Settings) -> Result<Self, Error> {
        let core = CoreOptions { cache_bytes: bytes(settings.cache.0), ..CoreOptions::default() };
        let options = PoolOptions { meta: settings.meta.clone(), core, ..PoolOptions::default() };
        let path = &settings.pool;
        tracing::info!(pool = %path.display(), version = env!("CARGO_PKG_VERSION"), "opening the pool");
        let pool = Pool::open(path, &options).map_err(|error| explain_open(error, path))?;
        let recovery = pool.status()?.recovery;
        if !recovery.clean {
            let (records, cut, finished) = (recovery.records, recovery.cut_records, recovery.tail_blocks);
            tracing::info!(records, cut, finished, "recovered: the pool had not been closed");
        }
        for note in recovery.notes {
            tracing::warn!("recovery: {note}");
        }
        let nbd = exports::start(&pool, settings)?;
        let metadata = metadata(path, settings.meta.as_deref());
        Ok(Self {
            served: Served {
                pool,
                path: path.clone(),
                metadata,
                nbd: exports::local_address(&nbd),
                state: settings.state.clone(),
                restoring: Filling::default(),
            },
            nbd,
            metrics: Metrics::default(),
            short: Arc::new(Semaphore::new(SHORT)),
            long: Arc::new(Semaphore::new(LONG)),
            stopping: flag::Sender::new(false),
        })
    }

    /// Answers until a signal says to stop, and then until what is under way has ended.
    async fn attend(
        self: Arc<Self>,
        settings: &Settings,
        listener: StdUnixListener,
        metrics_listener: Option<StdTcpListener>,
    ) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
        let mut servers = vec![self.clone().answer_api(listener, settings.api_connections)?];
        if let Some(listener) = metrics_listener {
            servers.push(self.clone().answer_metrics(listener)?);
        }
        tracing::info!(socket = %settings.socket.display(), "serving");
        notify(&[NotifyState::Ready]);
        // After that: nobody waits for a sign of life from a service that is not ready.
        let watch = tokio::spawn(watch::watch(self.clone()));
        tokio::select! {
            _ = terminate.recv() => tracing::info!("stopping, by SIGTERM"),
            _ = interrupt.recv() => tracing::info!("stopping, by SIGINT"),
        }
        notify(&[NotifyState::Stopping]);
        self.stopping.send_replace(true);
        watch.abort();
        let ended = async {
            for server in servers {
                // A server that panicked has ended too.
                let _ = server.await;
            }
        };
        if tokio::time::timeout(STOP, ended).await.is_err() {
            tracing::warn!("requests under way are cut off");
        }
        Ok(())
    }

    fn answer_api(self: Arc<Self>, listener: StdUnixListener, connections: usize) -> Result<JoinHandle<()>> {
        listener.set_nonblocking(true)?;
        let listener = Limited::new(UnixListener::from_std(listener)?, connections);
        let router = Api::all().router(self.clone());
        Ok(tokio::spawn(self.until_stopped(axum::serve(listener, router))))
    }

    fn answer_metrics(self: Arc<Self>, listener: StdTcpListener) -> Result<JoinHandle<()>> {
        listener.set_nonblocking(true)?;
        tracing::info!(at = %listener.local_addr()?, "serving metrics");
        let listener = Limited::new(TcpListener::from_std(listener)?, METRICS_CONNECTIONS);
        let router = Api::metrics_only().router(self.clone());
        Ok(tokio::spawn(self.until_stopped(axum::serve(listener, router))))
    }

    async fn until_stopped<L: axum::serve::Listener>(
        self: Arc<Self>,
        serve: axum::serve::Serve<L, Router, Router>,
    ) where
        L::Addr: std::fmt::Debug,
    {
        let mut stopping = self.stopping.subscribe();
        let stopped = async move {
            // The sender lives in the daemon, which the server holds.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        if let Err(error) = serve.with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "a listener failed");
        }
    }
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
