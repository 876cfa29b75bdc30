//! What can be asked of a pool: each operation is a typed request with a typed answer, one noun per file.
//!
//! 1. An operation is written once. The command line runs it on a pool that it opened itself, the daemon runs it behind
//!    HTTP, and the route, the document and the client all come from its [`Route`].
//! 2. Requests and answers are this crate's own types: what the API says changes only on purpose.
//! 3. Answers are data. Text for people is made in `command` only.

pub(crate) mod check;
pub(crate) mod clone;
pub(crate) mod delta;
pub(crate) mod group;
pub(crate) mod pool;
pub(crate) mod report;
pub(crate) mod scrub;
pub(crate) mod served;
pub(crate) mod snapshot;
pub(crate) mod vault;
pub(crate) mod volume;

use firn_engine::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

pub(crate) use served::Served;

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// It changes nothing; its fields are the query.
    Get,
    /// Its fields are a JSON object in the body.
    Post,
}

/// Where an operation is found over HTTP, and what it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// `/v1/NOUN/VERB`.
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
}

impl Route {
    const fn get(path: &'static str, summary: &'static str) -> Self {
        Self { method: Method::Get, path, summary }
    }

    const fn post(path: &'static str, summary: &'static str) -> Self {
        Self { method: Method::Post, path, summary }
    }
}

/// What travels: there and back, with a schema.
pub(crate) trait Message: Serialize + DeserializeOwned + ToSchema + Send + 'static {}

impl<T: Serialize + DeserializeOwned + ToSchema + Send + 'static> Message for T {}

/// A request that is answered soon, in one piece.
pub(crate) trait Operation: Message {
    type View: Message;
    const ROUTE: Route;

    /// Does it.
    fn run(self, served: &Served) -> Result<Self::View, Error>;
}

/// A request that may take long, and tells what it finds or how far it is on the way.
pub(crate) trait LongOperation: Message {
    type Event: Message;
    type View: Message;
    const ROUTE: Route;

    /// Does it. It ends early when nobody listens any more and its work is of use to nobody else.
    fn run(self, served: &Served, told: &mut dyn Told<Self::Event>) -> Result<Self::View, Error>;
}

/// Who is told what a long operation finds.
pub(crate) trait Told<E> {
    /// Tells it. An error when nobody listens any more: then the operation ends with it.
    fn event(&mut self, event: E) -> Result<(), Error>;

    /// An error when nobody listens any more.
    fn listening(&mut self) -> Result<(), Error>;
}

/// In one process the listener is a closure, which is there for as long as the operation runs.
impl<E, F: FnMut(E) -> Result<(), Error>> Told<E> for F {
    fn event(&mut self, event: E) -> Result<(), Error> {
        self(event)
    }

    fn listening(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
