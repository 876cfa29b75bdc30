//! Runs the real program in a folder of its own, with a daemon or without one.

// Each test binary uses a part of it.
#![allow(dead_code)]

pub(crate) mod devices;
pub(crate) mod http;
pub(crate) mod random;
pub(crate) mod takedown;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use random::Random;

/// A folder with a pool in it, or room for one.
pub(crate) struct Shell {
    folder: TempDir,
    /// Where sockets are: a short path, because a socket's may not be long.
    runtime: TempDir,
    daemon: Option<Child>,
}

/// The same test twice: the command line opens the pool itself, or asks a daemon.
#[allow(unused_macros)]
macro_rules! both_ways {
    ($($test:ident($size:literal))*) => {$(
        mod $test {
            #[test]
            fn by_itself() {
                super::$test(&crate::shell::Shell::with_pool($size));
            }

            #[test]
            fn by_a_daemon() {
                super::$test(&crate::shell::Shell::served($size));
            }
        }
    )*};
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Shell {
    /// An empty folder on a real disk: a pool needs O_DIRECT.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        Self { folder, runtime: tempfile::tempdir().expect("a folder for sockets"), daemon: None }
    }

    /// A folder with a pool of `size`.
    pub(crate) fn with_pool(size: &str) -> Self {
        let shell = Self::new();
        let created = shell.done(&["pool", "create", "--size", size]);
        assert_eq!(created, format!("pool pool created: {size}, metadata in pool.meta\n"));
        shell
    }

    /// The same with a daemon that serves it.
    pub(crate) fn served(size: &str) -> Self {
        let mut shell = Self::with_pool(size);
        shell.serve(&[]);
        shell
    }

    /// Starts the daemon, and waits until it answers.
    pub(crate) fn serve(&mut self, options: &[&str]) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        self.daemon = Some(self.start_daemon(options));
        self.done(&["pool", "status"]);
    }

    /// Starts a daemon that the shell does not look after. Its log is the file `log`.
    pub(crate) fn start_daemon(&self, options: &[&str]) -> Child {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log");
        let mut command = self.command(&[["serve"].as_slice(), options].concat());
        command.env("FIRN_SOCKET", self.socket()).stdout(Stdio::null()).stderr(log);
        command.spawn().expect("it starts")
    }

    /// Looks after a daemon that was started otherwise.
    pub(crate) fn adopt(&mut self, daemon: Child) {
        self.daemon = Some(daemon);
    }

    /// The daemon's process.
    pub(crate) fn daemon(&self) -> &Child {
        self.daemon.as_ref().expect("a daemon")
    }

    /// Tells the daemon to stop, and gives what it logged to its stderr meanwhile.
    pub(crate) fn stop_and_read(&mut self) -> (ExitStatus, String) {
        let mut stderr = self.daemon.as_mut().and_then(|daemon| daemon.stderr.take()).expect("a pipe");
        let ended = self.stop();
        let mut log = String::new();
        stderr.read_to_string(&mut log).expect("UTF-8");
        (ended, log)
    }

    /// Tells the daemon to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.end(Signal::TERM)
    }

    /// Kills the daemon.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon");
        kill_process(Pid::from_child(&daemon), signal).expect("it is there");
        daemon.wait().expect("it ends")
    }

    /// The daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime.path().join("firn.sock")
    }

    /// The runtime directory: where sockets are, and what is attached is written down.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.runtime.path().to_owned()
    }

    /// The pool as answers name it: a daemon has the whole path.
    pub(crate) fn pool_name(&self) -> String {
        match self.daemon {
            Some(_) => {
                self.folder.path().canonicalize().expect("a folder").join("pool").display().to_string()
            }
            None => "pool".to_owned(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command with its environment; the pool is the file `pool` in the folder, which is the working directory.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
        command.args(arguments).current_dir(self.folder.path());
        for variable in ["FIRN_META", "FIRN_SOCKET", "FIRN_CONFIG", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        for variable in ["FIRN_VAULT_PASSPHRASE_FILE", "FIRN_VAULT_KEY_FILE"] {
            command.env_remove(variable);
        }
        command.env("FIRN_POOL", "pool").env("FIRN_RUNTIME", self.runtime.path());
        command.env("FIRN_STATE", self.folder.path().join("state"));
        command.env("TZ", "UTC").stdin(Stdio::null());
        if self.daemon.is_some() {
            command.env("FIRN_SOCKET", self.socket());
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().expect("the program runs");
        Ran {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Runs it, which must succeed, and gives what it printed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.status, Some(0), "firn {}: {}", arguments.join(" "), ran.stderr);
        String::from_utf8(ran.stdout).expect("UTF-8")
    }

    /// The same with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).expect("JSON")
    }

    /// Runs it, which must fail with `status` and exactly this on stderr.
    pub(crate) fn fails(&self, arguments: &[&str], status: i32, stderr: &str) {
        let ran = self.run(arguments);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(status), stderr), "firn {}", arguments.join(" "));
        assert!(ran.stdout.is_empty(), "a failure says nothing on stdout");
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).expect("a file");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a file")
    }

    pub(crate) fn exists(&self, name: impl AsRef<Path>) -> bool {
        self.folder.path().join(name).exists()
    }
}

impl Drop for Shell {
    /// The daemon closes its pool, so that nothing stays in shared memory.
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.stop();
        }
    }
}

/// `bytes` bytes that differ from block to block and from seed to seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        content.extend_from_slice(&random.draw().to_le_bytes());
    }
    content.truncate(bytes);
    content
}
