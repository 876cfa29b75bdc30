//! Starting a helper, and hearing from it how that went.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use firn_engine::error::{Error, Kind};
use firn_engine::export::nbd::client::Uri;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Record};
use super::{holders, transport};
use crate::args::attach::{By, Helper};
use crate::failure::Failure;

/// What a helper says of its start, in one line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Started {
    Ready(Record),
    Failed(Failure),
}

impl Started {
    /// Says it to the parent, which may be gone: nobody hears it then, and the device is there all the same.
    pub(super) fn tell(&self) -> anyhow::Result<()> {
        let line = serde_json::to_string(self).context("write down how the start went")?;
        let _ = writeln!(std::io::stdout(), "{line}");
        Ok(())
    }
}

/// How a helper is started.
pub(super) struct Start<'a> {
    pub(super) entry: &'a Entry,
    pub(super) uri: &'a Uri,
    pub(super) by: Option<By>,
    pub(super) connections: usize,
    pub(super) reconnect_timeout: Option<Duration>,
}

impl Start<'_> {
    /// Starts it and waits until the device is there.
    pub(super) fn run(&self) -> anyhow::Result<Record> {
        let Some(lock) = self.entry.lock()? else { return Err(self.attached_already().into()) };
        clean(self.entry)?;
        self.entry.create()?;
        let mut child = self.spawn(lock)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            // A helper that dies says nothing, and that is seen below.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        match serde_json::from_str(&line) {
            Ok(Started::Ready(record)) => Ok(record),
            Ok(Started::Failed(failure)) => Err(anyhow::Error::new(failure).context("attach")),
            Err(_) => Err(self.died(child).into()),
        }
    }

    fn spawn(&self, lock: File) -> Result<Child, Error> {
        let failed = |source| Error::io("start helper", self.entry.folder().display(), source);
        let log = File::create(self.entry.log_path()).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg(Helper::WORD).arg("--entry").arg(self.entry.folder());
        command.arg("--uri").arg(self.uri.to_string());
        if let Some(by) = self.by {
            command.arg("--by").arg(by.name());
        }
        command.arg("--connections").arg(self.connections.to_string());
        if let Some(limit) = self.reconnect_timeout {
            command.arg("--reconnect-timeout-ms").arg(limit.as_millis().to_string());
        }
        // It must not keep the folder busy that it was started in.
        command.current_dir("/").stdin(lock).stdout(Stdio::piped()).stderr(log);
        command.spawn().map_err(failed)
    }

    fn attached_already(&self) -> Error {
        let name = &self.uri.export;
        let detail = match self.entry.record() {
            Ok(Some(record)) => format!("{name} is attached already, as {}", record.device.display()),
            _ => format!("{name} is being attached or detached already"),
        };
        Error::new(Kind::Conflict, "attach", detail).hint(format!("`firn detach {name}` takes it away"))
    }

    /// Explains a helper that ended without a word, and puts away what it left.
    fn died(&self, mut child: Child) -> Error {
        let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let log = std::fs::read_to_string(self.entry.log_path()).unwrap_or_default();
        let last = log.lines().next_back().unwrap_or("it logged nothing");
        let error =
            Error::new(Kind::Unavailable, "attach", format!("the helper ended with {status}: {last}"));
        match self.entry.lock().and_then(|_lock| clean(self.entry)) {
            Ok(()) => error,
            Err(left) => error.hint(format!("it left something behind: {left}")),
        }
    }
}

/// Puts away what a helper that died left, if nobody uses it. The entry's lock is held.
pub(super) fn clean(entry: &Entry) -> Result<(), Error> {
    if let Some(record) = entry.record()?
        && transport::is_present(entry)?
    {
        let used = transport::mounts(entry, &record.device)?;
        let holders = match transport::is_on(entry, &record.device)? {
            true => holders::of_device(&record.device),
            false => Vec::new(),
        };
        if !used.is_empty() || !holders.is_empty() {
            let where_used =
                used.first().map_or(String::new(), |target| format!(", mounted at {}", target.display()));
            let detail = format!(
                "{} is attached as {}, whose helper died{where_used}{}",
                record.name,
                record.device.display(),
                holders::text(&holders)
            );
            let hint = format!("stop what uses it, then `firn detach --force {}`", record.name);
            return Err(Error::new(Kind::Conflict, "attach", detail).hint(hint));
        }
    }
    transport::release(entry)?;
    entry.remove()
}
