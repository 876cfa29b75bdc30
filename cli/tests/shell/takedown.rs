//! What a test attached is taken away when the test ends, however it ends.
//!
//! 1. Each device's helper is killed first: that ends every request that waits for a server, so nothing that follows
//!    can be stuck, not even the end of the test's own process.
//! 2. A test whose thread is stuck in a request never drops anything. A thread of its own watches over that.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Takes everything away that is attached under a runtime directory, when it is dropped.
pub(crate) struct Takedown {
    runtime: PathBuf,
    /// Dropped, it tells the watch that all is well.
    _alive: Sender<()>,
}

impl Takedown {
    /// A test that still goes on after `limit` is taken to be stuck.
    pub(crate) fn of(runtime: &Path, limit: Duration) -> Self {
        let (alive, ended) = channel();
        let runtime = runtime.to_owned();
        let watched = runtime.clone();
        std::thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("stuck for {limit:?}: what is attached is taken away by force");
                take_away(&watched);
            }
        });
        Self { runtime, _alive: alive }
    }
}

impl Drop for Takedown {
    fn drop(&mut self) {
        take_away(&self.runtime);
    }
}

fn take_away(runtime: &Path) {
    let firn = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
        command.args(arguments).env("FIRN_RUNTIME", runtime).stdin(Stdio::null()).output()
    };
    let Ok(listed) = firn(&["attach", "--list", "--json"]) else { return };
    let left: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    for view in &left {
        let pid = view["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        // One that is dead already may have left its number to somebody else.
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && view["state"] != "dead"
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    for view in &left {
        let _ = firn(&["detach", "--force", view["device"].as_str().unwrap_or_default()]);
    }
}
