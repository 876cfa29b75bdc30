//! How the program ends: one exit status per kind of error, and how an error is shown.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Error;
use firn_engine::error::Kind;

use crate::failure::{Failed, Failure, STATUSES, status};

/// The table of exit statuses for the long help.
pub(crate) fn statuses() -> String {
    let mut table = "Exit statuses:".to_owned();
    for (status, _, meaning) in STATUSES {
        // Writing to a string can't fail.
        let _ = write!(table, "\n  {status:>2}  {meaning}");
    }
    table
}

/// The status when a command did its work and what it found is damage.
pub(crate) fn damage() -> ExitCode {
    ExitCode::from(status(Kind::Damaged))
}

/// Shows the error on stderr and gives the status to exit with.
pub(crate) fn report(error: &Error, json: bool) -> ExitCode {
    let failure = Failure::of(error);
    let status = ExitCode::from(failure.status);
    if json {
        eprintln!("{}", serde_json::to_string_pretty(&Failed { error: failure }).unwrap_or_default());
    } else {
        eprintln!("firn: {}", failure.message);
        if let Some(next_step) = failure.next_step {
            eprintln!("next: {next_step}");
        }
    }
    status
}
