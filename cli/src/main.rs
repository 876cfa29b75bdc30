//! The `firn` program. It opens the pool itself, does one thing, and closes it again.
//!
//! `args` says what can be typed, one noun per file; `command` does it, one noun per file. A command answers with an
//! [`Answer`](output::Answer), which is printed after the pool was closed: what is said to be done is done.

mod args;
mod attach;
mod command;
mod exit;
mod extents;
mod name;
mod output;
mod progress;
mod session;
mod size;
mod table;
mod time;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let json = cli.globals.json;
    match command::run(cli).and_then(|answer| answer.print(json).map(|()| answer.exit_code())) {
        Ok(code) => code,
        Err(error) => exit::report(&error, json),
    }
}
