//! The daemon's client: one request, one connection, over a unix socket.
//!
//! 1. A daemon that has just been started may not listen yet: the socket is tried again for a while. Connections that
//!    it has taken before its pool is open wait for the pool. Where no daemon was named and none is seen to run
//!    (`starting`), the while is a moment: just enough for one that was started in the same breath.
//! 2. An answer that breaks off is an error, never half an answer.

mod lines;
mod starting;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use firn_engine::error::{Error, Kind};
use firn_engine::sys::{Clock, SystemClock};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::failure::Failed;
use crate::operation::{LongOperation, Method, Operation, Route};
use lines::Lines;

/// How long a named daemon that does not listen is waited for.
const WAIT: Duration = Duration::from_secs(5);
/// How long one is waited for that was not named, has no socket, and runs.
const WAIT_DEFAULT: Duration = Duration::from_secs(2);
/// How long one is waited for of which nothing is to be seen.
const WAIT_UNSEEN: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a daemon that is not there is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The user named it, so it should be there.
    Named,
    /// It is where one would be. A missing socket is waited for only while a daemon runs that may be about to make it.
    Default,
}

/// A daemon that is asked.
pub(crate) struct Client {
    socket: PathBuf,
    patience: Patience,
    runtime: Runtime,
}

impl Client {
    /// The daemon at `socket`, which must listen.
    pub(crate) fn connect(socket: PathBuf, patience: Patience) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::io("start a runtime", "for the connection to the daemon", source))?;
        let client = Self { socket, patience, runtime };
        client.runtime.block_on(client.open())?;
        Ok(client)
    }

    /// Asks for an operation.
    pub(crate) fn call<O: Operation>(&self, request: &O) -> Result<O::View> {
        self.runtime.block_on(async {
            let response = self.send(O::ROUTE, request).await?;
            let body = response.into_body().collect().await.map_err(|source| self.gone(source))?.to_bytes();
            read(&body)
        })
    }

    /// Asks for a long operation, and shows `told` what it finds. When that fails, the daemon's work ends too.
    pub(crate) fn long<O: LongOperation>(
        &self,
        request: &O,
        mut told: impl FnMut(O::Event) -> Result<(), Error>,
    ) -> Result<O::View> {
        self.runtime.block_on(async {
            let mut body = self.send(O::ROUTE, request).await?.into_body();
            let mut lines = Lines::default();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|source| self.gone(source))?;
                let done = lines.take(frame.data_ref().map_or(&[], |data| data), &mut told)?;
                if let Some(view) = done {
                    return Ok(view);
                }
            }
            Err(self.gone("the answer has no end").into())
        })
    }

    /// Sends a request, and gives the answer if it is no failure.
    async fn send(&self, route: Route, request: &impl Serialize) -> Result<Response<Incoming>> {
        let stream = self.open().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.gone(source))?;
        // It ends with the answer, and what goes wrong with it is the answer's error.
        tokio::spawn(connection);
        let response =
            sender.send_request(build(route, request)?).await.map_err(|source| self.gone(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(|source| self.gone(source))?.to_bytes();
        Err(read::<Failed>(&body)?.error.into())
    }

    async fn open(&self) -> Result<UnixStream, Error> {
        let began = SystemClock.monotonic();
        loop {
            let source = match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(source) => source,
            };
            let waited = SystemClock.monotonic().saturating_sub(began);
            let is_worth_waiting = match (source.kind(), self.patience) {
                (io::ErrorKind::ConnectionRefused, _) | (io::ErrorKind::NotFound, Patience::Named) => {
                    waited <= WAIT
                }
                (io::ErrorKind::NotFound, Patience::Default) => {
                    waited <= WAIT_UNSEEN || waited <= WAIT_DEFAULT && starting::is_seen()
                }
                _ => false,
            };
            if !is_worth_waiting {
                return Err(self.unreachable(source));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn unreachable(&self, source: io::Error) -> Error {
        let subject = self.socket.display();
        let is_missing = matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        let hint = match source.kind() {
            io::ErrorKind::PermissionDenied => {
                "run it as the user that the daemon runs as, or as one of its group"
            }
            _ if self.patience == Patience::Named => "is it running? `firn serve --pool PATH` starts one",
            _ => {
                "start one with `firn serve --pool PATH`, name its --socket, or name a --pool to do without one"
            }
        };
        let detail = match is_missing {
            true => format!("no daemon listens at {subject}"),
            false => subject.to_string(),
        };
        Error::new(Kind::Unavailable, "reach the daemon", detail).source(source).hint(hint)
    }

    fn gone(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let detail = format!("the daemon at {} went away before it had answered", self.socket.display());
        Error::new(Kind::Unavailable, "ask the daemon", detail)
            .source(source)
            .hint("it may have done it or not: look before you try again")
    }
}

fn build(route: Route, request: &impl Serialize) -> Result<Request<Full<Bytes>>> {
    // A unix socket has no name; HTTP wants one.
    let builder = Request::builder().header(header::HOST, "firn");
    let request = match route.method {
        Method::Get => {
            let query = serde_urlencoded::to_string(request).context("write the request as a query")?;
            builder.method("GET").uri(format!("{}?{query}", route.path)).body(Full::default())
        }
        Method::Post => {
            let json = serde_json::to_vec(request).context("write the request as JSON")?;
            let builder = builder.method("POST").header(header::CONTENT_TYPE, "application/json");
            builder.uri(route.path).body(Full::from(json))
        }
    };
    request.context("write the request")
}

/// What a daemon of another version answers may not be what is expected.
fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json)
        .context("read the daemon's answer: is the daemon of the same version as this command?")
}
