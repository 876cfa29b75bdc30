//! The system's own tools: `losetup`, `mount`, `blkid`, `mkfs`.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, Stdio};

use firn_engine::error::{Error, Kind};

/// How a tool ended.
pub(super) struct Ran {
    pub(super) status: Option<i32>,
    /// Without the new line at its end.
    pub(super) stdout: String,
    stderr: String,
}

/// Runs a tool to its end.
pub(super) fn run<S: AsRef<OsStr>>(tool: &'static str, arguments: &[S]) -> Result<Ran, Error> {
    let output = Command::new(tool).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::new(Kind::NotFound, "run", format!("{tool} is not there"))
            .hint(format!("install the package that has {tool}, or add it to PATH")),
        _ => Error::io("run", tool, source),
    })?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    Ok(Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
}

/// Runs a tool that must succeed, and gives what it printed.
pub(super) fn done<S: AsRef<OsStr>>(tool: &'static str, arguments: &[S]) -> Result<String, Error> {
    let ran = run(tool, arguments)?;
    match ran.status {
        Some(0) => Ok(ran.stdout),
        _ => Err(ran.error(tool)),
    }
}

impl Ran {
    pub(super) fn error(&self, tool: &'static str) -> Error {
        // A tool that was killed has no status.
        let status = self.status.map_or("no status".to_owned(), |status| format!("status {status}"));
        let said = if self.stderr.is_empty() { &self.stdout } else { &self.stderr };
        // Some print their whole help after it.
        let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        Error::new(Kind::Unavailable, "run", format!("{tool} ended with {status}: {}", first.trim()))
    }
}
