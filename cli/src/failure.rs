//! What went wrong, as the program tells it: the same from the engine, from the command line itself, and from a daemon
//! by way of JSON.

use std::fmt;

use firn_engine::error::{Error as EngineError, Kind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every exit status, the word for it in JSON, and what it means.
pub(crate) const STATUSES: [(u8, &str, &str); 10] = [
    (0, "done", "done"),
    (1, "failed", "something outside the pool failed, such as reading a file"),
    (2, "invalid", "the command can't succeed as it was given"),
    (3, "not-found", "no such pool, volume, snapshot, group, vault, point or file"),
    (
        4,
        "conflict",
        "the present state is against it: a name is taken, a snapshot is held, the pool is in use",
    ),
    (5, "damaged", "what was read is not what was written; nothing wrong was given out"),
    (6, "unavailable", "the pool or its device does not take this work now, or no daemon answers"),
    (7, "out-of-space", "there is no room left"),
    (8, "retry", "the same command may succeed later"),
    (70, "bug", "a fault of firn itself; please report it"),
];

/// The exit status of an error's kind.
pub(crate) fn status(kind: Kind) -> u8 {
    match kind {
        Kind::Invalid => 2,
        Kind::NotFound => 3,
        Kind::Conflict => 4,
        Kind::Damaged => 5,
        Kind::Unavailable => 6,
        Kind::OutOfSpace => 7,
        Kind::Retry => 8,
        Kind::Bug => 70,
    }
}

/// What went wrong, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Failure {
    /// A word for what can be done about it: failed, invalid, not-found, conflict, damaged, unavailable, out-of-space,
    /// retry or bug.
    pub(crate) kind: String,
    /// The status that the command line exits with.
    pub(crate) status: u8,
    /// What was being done to what, and why it failed.
    pub(crate) message: String,
    /// What to do next, where that is known.
    pub(crate) next_step: Option<String>,
}

/// The body of an answer that is a failure.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Failed {
    /// What went wrong.
    pub(crate) error: Failure,
}

impl Failure {
    fn new(status: u8, message: String, next_step: Option<String>) -> Self {
        let word =
            STATUSES.iter().find(|(number, ..)| *number == status).map_or("failed", |(_, word, _)| word);
        Self { kind: word.to_owned(), status, message, next_step }
    }

    /// Whether it is of this kind.
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.status == status(kind)
    }

    /// The causes from the outermost on. An error of the engine, or of a daemon, names its own cause, so the chain ends
    /// there.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let mut parts = Vec::new();
        for cause in error.chain() {
            parts.push(cause.to_string());
            let known = match (cause.downcast_ref::<EngineError>(), cause.downcast_ref::<Self>()) {
                (Some(engine), _) => Some(engine.into()),
                (_, Some(told)) => Some(told.clone()),
                _ => None,
            };
            if let Some(known) = known {
                return Self { message: parts.join(": "), ..known };
            }
        }
        Self::new(1, parts.join(": "), None)
    }
}

impl From<&EngineError> for Failure {
    fn from(error: &EngineError) -> Self {
        Self::new(status(error.kind()), error.to_string(), error.next_step().map(ToOwned::to_owned))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::from(&error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word_in_the_table() {
        let kinds = [
            Kind::Retry,
            Kind::Invalid,
            Kind::NotFound,
            Kind::Conflict,
            Kind::Damaged,
            Kind::Unavailable,
            Kind::OutOfSpace,
            Kind::Bug,
        ];
        for kind in kinds {
            let failure = Failure::from(EngineError::new(kind, "read", "disk"));
            assert_eq!(failure.status, status(kind));
            assert_ne!(failure.kind, "failed", "{kind}");
        }
    }

    #[test]
    fn an_engine_error_names_its_cause_once_and_keeps_its_kind_across_a_wire() {
        let cause = std::io::Error::other("cable");
        let engine = EngineError::io("read", "disk", cause).hint("mend it");
        let near = Failure::of(&anyhow::Error::new(engine).context("export pg"));
        assert_eq!(near.message, "export pg: read: disk: cable");
        let json = serde_json::to_string(&near).expect("JSON");
        let far: Failure = serde_json::from_str(&json).expect("the same back");
        assert_eq!(Failure::of(&anyhow::Error::new(far)), near);
        assert_eq!(
            (near.kind.as_str(), near.status, near.next_step.as_deref()),
            ("unavailable", 6, Some("mend it"))
        );
        assert_eq!(Failure::of(&anyhow::anyhow!("a file")).status, 1);
    }
}
