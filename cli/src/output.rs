//! What a command answers, as text or as JSON.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::exit;

/// What a command answers. It is printed when the pool is closed again.
#[derive(Debug)]
pub(crate) struct Answer {
    json: String,
    text: String,
    stream: Stream,
    /// The answer is that something is damaged.
    is_of_damage: bool,
}

#[derive(Debug)]
enum Stream {
    Stdout,
    /// Stdout has the data that was asked for.
    Stderr,
}

impl Answer {
    /// `text` for people, `value` for programs.
    pub(crate) fn new(value: &impl Serialize, text: impl Into<String>) -> Result<Self> {
        let json = serde_json::to_string_pretty(value).context("write the answer as JSON")?;
        Ok(Self { json, text: text.into(), stream: Stream::Stdout, is_of_damage: false })
    }

    /// The same text whether JSON was asked for or not: for scripts and pages.
    pub(crate) fn verbatim(text: String) -> Self {
        Self { json: text.clone(), text, stream: Stream::Stdout, is_of_damage: false }
    }

    /// Leaves stdout alone.
    pub(crate) fn on_stderr(self) -> Self {
        Self { stream: Stream::Stderr, ..self }
    }

    /// Ends the program with the status of damage.
    pub(crate) fn of_damage(self) -> Self {
        Self { is_of_damage: true, ..self }
    }

    /// The status to exit with when it was printed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.is_of_damage { exit::damage() } else { ExitCode::SUCCESS }
    }

    /// Prints it, with a new line at its end. A reader that has gone away has seen what it wanted.
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        let text = if json { &self.json } else { &self.text };
        let printed = match self.stream {
            Stream::Stdout => write_to(io::stdout().lock(), text),
            Stream::Stderr => write_to(io::stderr().lock(), text),
        };
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed.context("print the answer"),
        }
    }
}

fn write_to(mut to: impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        to.write_all(b"\n")?;
    }
    to.flush()
}
