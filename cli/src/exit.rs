//! How the program ends: one exit status per kind of error, and how an error is shown.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Error;
use firn_engine::error::{Error as EngineError, Kind};
use serde::Serialize;

/// Every exit status, the word for it in JSON, and what it means.
const STATUSES: [(u8, &str, &str); 10] = [
    (0, "done", "done"),
    (1, "failed", "something outside the pool failed, such as reading a file"),
    (2, "invalid", "the command can't succeed as it was given"),
    (3, "not-found", "no such pool, volume, snapshot or group"),
    (
        4,
        "conflict",
        "the present state is against it: a name is taken, a snapshot is held, the pool is in use",
    ),
    (5, "damaged", "what was read is not what was written; nothing wrong was given out"),
    (6, "unavailable", "the pool or its device does not take this work now"),
    (7, "out-of-space", "there is no room left"),
    (8, "retry", "the same command may succeed later"),
    (70, "bug", "a fault of firn itself; please report it"),
];

/// The table of exit statuses for the long help.
pub(crate) fn statuses() -> String {
    let mut table = "Exit statuses:".to_owned();
    for (status, _, meaning) in STATUSES {
        // Writing to a string can't fail.
        let _ = write!(table, "\n  {status:>2}  {meaning}");
    }
    table
}

fn status(kind: Option<Kind>) -> u8 {
    match kind {
        None => 1,
        Some(Kind::Invalid) => 2,
        Some(Kind::NotFound) => 3,
        Some(Kind::Conflict) => 4,
        Some(Kind::Damaged) => 5,
        Some(Kind::Unavailable) => 6,
        Some(Kind::OutOfSpace) => 7,
        Some(Kind::Retry) => 8,
        Some(Kind::Bug) => 70,
    }
}

/// The status when a command did its work and what it found is damage.
pub(crate) fn damage() -> ExitCode {
    ExitCode::from(status(Some(Kind::Damaged)))
}

#[derive(Serialize)]
struct Failure<'a> {
    kind: &'static str,
    status: u8,
    message: String,
    next_step: Option<&'a str>,
}

#[derive(Serialize)]
struct Failed<'a> {
    error: Failure<'a>,
}

/// Shows the error on stderr and gives the status to exit with.
pub(crate) fn report(error: &Error, json: bool) -> ExitCode {
    let known = error.chain().find_map(|cause| cause.downcast_ref::<EngineError>());
    let status = status(known.map(EngineError::kind));
    let message = message(error);
    let next_step = known.and_then(EngineError::next_step);
    let kind = STATUSES.iter().find(|(number, ..)| *number == status).map_or("failed", |(_, kind, _)| kind);
    if json {
        let failed = Failed { error: Failure { kind, status, message, next_step } };
        eprintln!("{}", serde_json::to_string_pretty(&failed).unwrap_or_default());
    } else {
        eprintln!("firn: {message}");
        if let Some(next_step) = next_step {
            eprintln!("next: {next_step}");
        }
    }
    ExitCode::from(status)
}

/// The causes from the outermost on. An error of the engine names its own cause, so the chain ends there.
fn message(error: &Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<EngineError>() {
            break;
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status_in_the_table() {
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
        for status in kinds.map(|kind| status(Some(kind))).into_iter().chain([status(None)]) {
            assert!(STATUSES.iter().any(|(number, ..)| *number == status), "{status} is not in the table");
        }
    }

    #[test]
    fn an_engine_error_names_its_cause_once() {
        let cause = std::io::Error::other("cable");
        let engine = EngineError::io("read", "disk", cause);
        let error = Error::new(engine).context("export pg");
        assert_eq!(message(&error), "export pg: read: disk: cable");
    }
}
