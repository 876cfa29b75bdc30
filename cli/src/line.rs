//! One line of a long operation's answer over HTTP: `application/x-ndjson`.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The content type of such an answer.
pub(crate) const CONTENT_TYPE: &str = "application/x-ndjson";

/// Any number of events, then one of the other two, then the end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line<E, V> {
    /// Something was found, or work went on.
    Event(E),
    /// It is done, and this is the answer.
    Done(V),
    /// It failed.
    Error(Failure),
}
