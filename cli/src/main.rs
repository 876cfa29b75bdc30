//! The `firn` program: the command line, and the daemon that it asks.
//!
//! `args` says what can be typed, one noun per file. `command` makes a request of it and text of the answer. `operation`
//! does what is requested, on a pool: in this process, or behind HTTP in `daemon`; `service` chooses, `client` asks. A
//! command answers with an [`Answer`](output::Answer), which is printed after the pool was closed: what is said to be
//! done is done.

mod args;
mod attach;
mod client;
mod command;
mod content;
mod daemon;
mod exit;
mod extents;
mod failure;
mod line;
mod name;
mod operation;
mod output;
mod progress;
mod retention;
mod runtime;
mod service;
mod size;
mod table;
mod time;
mod vaults;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(helper) = args::attach::Helper::started() {
        return attach::run_helper(&helper)
            .map_or_else(|error| exit::report(&error, false), |()| ExitCode::SUCCESS);
    }
    let cli = args::Cli::typed();
    let json = cli.globals.json;
    match command::run(cli).and_then(|answer| answer.print(json).map(|()| answer.exit_code())) {
        Ok(code) => code,
        Err(error) => exit::report(&error, json),
    }
}
