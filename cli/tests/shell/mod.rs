//! Runs the real program in a folder of its own.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with a pool in it, or room for one.
pub(crate) struct Shell {
    folder: TempDir,
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
        Self { folder }
    }

    /// A folder with a pool of `size`.
    pub(crate) fn with_pool(size: &str) -> Self {
        let shell = Self::new();
        shell.done(&["pool", "create", "--size", size]);
        shell
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command with its environment; the pool is the file `pool` in the folder, which is the working directory.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("FIRN_POOL", "pool").env_remove("FIRN_META").env("TZ", "UTC").stdin(Stdio::null());
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

/// `bytes` bytes that differ from block to block and from seed to seed (xorshift64*).
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        content.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    content.truncate(bytes);
    content
}
