//! The independent reader, `docs/reader/firn_vault.py`, in a Python environment of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firn_replicator::format::digest::Digest;

/// The reader, ready to run.
pub(crate) struct Reader {
    pub(crate) python: PathBuf,
    pub(crate) program: PathBuf,
}

/// What a run of it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Reader {
    /// Makes the environment below `target`, once for each version of its requirements.
    pub(crate) fn new() -> Self {
        let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reader");
        let requirements = documents.join("requirements.txt");
        let version = Digest::of(&fs::read(&requirements).expect("requirements")).short();
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("reader-{version}"));
        let is_ready = home.join("is-ready");
        // Tests are processes: the first one makes it, the others wait.
        let lock = File::create(home.with_extension("lock")).expect("a lock file");
        lock.lock().expect("locked");
        let python = home.join("bin/python");
        if !is_ready.exists() {
            let _ = fs::remove_dir_all(&home);
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&home));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
            succeed(Command::new(&python).args(pip).arg(&requirements));
            fs::write(is_ready, "").expect("written");
        }
        Self { python, program: documents.join("firn_vault.py") }
    }

    pub(crate) fn run(&self, command: &str, vault: &Path, rest: &[&str]) -> Said {
        let mut run = Command::new(&self.python);
        // Without -B it would leave compiled files in the sources.
        let Output { status, stdout, stderr } = run
            .arg("-B")
            .arg(&self.program)
            .arg(command)
            .arg(vault)
            .args(rest)
            .output()
            .expect("Python runs");
        let said = Said {
            status: status.code().expect("it ends by itself"),
            out: stdout,
            err: String::from_utf8(stderr).expect("text"),
        };
        assert!(!said.err.contains("Traceback"), "{command} {rest:?}: {}", said.err);
        said
    }
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
