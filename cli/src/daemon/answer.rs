//! From a request over HTTP to an operation, and from its result to an answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use firn_engine::error::{Error, Kind};
use firn_engine::sys::{Clock, SystemClock};
use serde::de::DeserializeOwned;

use super::Daemon;
use super::teller::teller;
use crate::failure::{Failed, Failure};
use crate::line;
use crate::operation::{LongOperation, Method, Operation, Route, Served};

/// No request is longer than this.
const REQUEST_LEN: usize = 1 << 20;

/// The answer to an operation.
pub(super) async fn operation<O: Operation>(State(daemon): State<Arc<Daemon>>, request: Request) -> Response {
    let began = SystemClock.monotonic();
    let done = match read::<O>(O::ROUTE.method, request).await {
        Ok(request) => daemon.clone().short(move |served| request.run(served)).await,
        Err(failure) => Err(failure),
    };
    let status = done.as_ref().map_or_else(http_status, |_| StatusCode::OK);
    daemon.answered(O::ROUTE, status, began, done.as_ref().err());
    match done {
        Ok(view) => Json(view).into_response(),
        Err(failure) => failed(failure),
    }
}

/// The answer to a long operation. It is told of when it ends, not when its answer begins.
pub(super) async fn long<O: LongOperation>(State(daemon): State<Arc<Daemon>>, request: Request) -> Response {
    let began = SystemClock.monotonic();
    let begun = match read::<O>(O::ROUTE.method, request).await {
        Ok(request) => daemon.clone().begin(request, began).await,
        Err(failure) => {
            daemon.answered(O::ROUTE, http_status(&failure), began, Some(&failure));
            Err(failure)
        }
    };
    begun.unwrap_or_else(failed)
}

/// The answer to a path that is none.
pub(super) async fn nothing(request: Request) -> Response {
    let detail = format!("there is no {}", request.uri().path());
    failed(
        Error::new(Kind::NotFound, "find the route", detail)
            .hint("GET /openapi.json describes what there is")
            .into(),
    )
}

/// The answer to a method that the path does not have.
pub(super) async fn another_method(request: Request) -> Response {
    let detail = format!("{} does not take {}", request.uri().path(), request.method());
    let failure = Error::new(Kind::Invalid, "find the route", detail)
        .hint("what changes something takes POST, what only looks takes GET");
    (StatusCode::METHOD_NOT_ALLOWED, failed(failure.into())).into_response()
}

impl Daemon {
    /// Does short work on a thread where it may wait.
    pub(super) async fn short<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Served) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Failure> {
        // The semaphore is never closed. A client that goes away while it waits has not begun anything.
        let turn = self.short.clone().acquire_owned().await.ok();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&self.served);
            drop(turn);
            done
        });
        done.await.unwrap_or_else(|source| Err(panicked(source))).map_err(Failure::from)
    }

    async fn begin<O: LongOperation>(
        self: Arc<Self>,
        request: O,
        began: Duration,
    ) -> Result<Response, Failure> {
        let Ok(turn) = self.long.clone().try_acquire_owned() else {
            let failure = Failure::from(
                Error::new(Kind::Retry, "begin", format!("{} long operations are under way", super::LONG))
                    .hint("try again when one of them has ended"),
            );
            self.answered(O::ROUTE, http_status(&failure), began, Some(&failure));
            return Err(failure);
        };
        let (mut teller, lines) = teller(self.stopping.subscribe());
        tokio::task::spawn_blocking(move || {
            let done = request.run(&self.served, &mut teller);
            drop(turn);
            let failure = done.as_ref().err().map(Failure::from);
            let status = failure.as_ref().map_or(StatusCode::OK, http_status);
            self.answered(O::ROUTE, status, began, failure.as_ref());
            teller.finish(done);
        });
        let lines = lines.begin().await?;
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(line::CONTENT_TYPE))];
        Ok((content_type, Body::new(lines)).into_response())
    }

    /// Counts and logs an answer.
    fn answered(&self, route: Route, status: StatusCode, began: Duration, failure: Option<&Failure>) {
        let took = SystemClock.monotonic().saturating_sub(began);
        self.metrics.answered(route.path, status.as_u16(), took);
        let (path, status, ms) = (route.path, status.as_u16(), took.as_millis());
        match failure {
            Some(failure) if status >= 500 => tracing::warn!(path, status, ms, "{}", failure.message),
            Some(failure) => tracing::info!(path, status, ms, "{}", failure.message),
            None if route.method == Method::Post => tracing::info!(path, status, ms),
            None => tracing::debug!(path, status, ms),
        }
    }
}

async fn read<T: DeserializeOwned>(method: Method, request: Request) -> Result<T, Failure> {
    let refused = |detail: String| {
        Failure::from(
            Error::new(Kind::Invalid, "read the request", detail).hint("GET /openapi.json describes it"),
        )
    };
    match method {
        Method::Get => {
            let query = request.uri().query().unwrap_or_default();
            serde_urlencoded::from_str(query).map_err(|error| refused(error.to_string()))
        }
        Method::Post => {
            let body = to_bytes(request.into_body(), REQUEST_LEN).await;
            let body = body.map_err(|error| refused(error.to_string()))?;
            serde_json::from_slice(&body).map_err(|error| refused(error.to_string()))
        }
    }
}

/// An answer that is a failure.
pub(super) fn failed(failure: Failure) -> Response {
    (http_status(&failure), Json(Failed { error: failure })).into_response()
}

/// The nearest that HTTP has. What counts is in the body.
fn http_status(failure: &Failure) -> StatusCode {
    let is = |kind| failure.is(kind);
    match () {
        () if is(Kind::Invalid) => StatusCode::BAD_REQUEST,
        () if is(Kind::NotFound) => StatusCode::NOT_FOUND,
        () if is(Kind::Conflict) => StatusCode::CONFLICT,
        () if is(Kind::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        () if is(Kind::OutOfSpace) => StatusCode::INSUFFICIENT_STORAGE,
        () if is(Kind::Retry) => StatusCode::TOO_MANY_REQUESTS,
        () => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn panicked(source: tokio::task::JoinError) -> Error {
    Error::new(Kind::Bug, "answer", "the operation panicked").source(source)
}
