//! A PostgreSQL server whose data is in one directory.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The cluster in a directory. Its server is killed when it is dropped.
pub(crate) struct Cluster {
    data: PathBuf,
    /// Not beside the data: what is left of a socket there would be in the snapshots.
    sockets: TempDir,
    server: Option<Child>,
}

/// The user that PostgreSQL runs as, since it refuses to be root.
struct User {
    id: u32,
    group: u32,
}

impl Cluster {
    /// The cluster whose data is, or will be, in `folder`.
    pub(crate) fn at(folder: &Path) -> Self {
        let sockets = tempfile::tempdir().expect("a folder");
        give(sockets.path());
        Self { data: folder.join("data"), sockets, server: None }
    }

    /// A new cluster with page checksums, small and without a server.
    pub(crate) fn create(folder: &Path) -> Self {
        give(folder);
        let cluster = Self::at(folder);
        let data = cluster.data();
        cluster.run("initdb", &["--data-checksums", "--auth", "trust", "-U", "postgres", "-D", &data]);
        cluster
    }

    /// A cluster with the same data in another folder, on stable storage. Neither may have a server.
    pub(crate) fn copy_to(&self, folder: &Path) -> Self {
        let copied = Command::new("cp").args(["-a", &self.data()]).arg(folder).status().expect("cp runs");
        assert!(copied.success());
        rustix::fs::syncfs(File::open(folder).expect("opened")).expect("synced");
        Self::at(folder)
    }

    /// What another process left, or a snapshot of a running server: its lock file names a process of then.
    pub(crate) fn left_at(folder: &Path) -> Self {
        let cluster = Self::at(folder);
        std::fs::remove_file(cluster.data.join("postmaster.pid")).expect("it was running");
        cluster
    }

    /// Starts the server with these settings, such as `fsync=off`, and waits until it is recovered and answers.
    pub(crate) fn start(&mut self, settings: &[&str]) {
        let log = File::create(self.log()).expect("a log");
        let sockets = format!("unix_socket_directories={}", self.sockets.path().display());
        let mut command =
            self.command("postgres", &["-D", &self.data(), "-c", "listen_addresses=", "-c", &sockets]);
        command.args(settings.iter().flat_map(|setting| ["-c", setting]));
        let server = command.stdout(Stdio::null()).stderr(log).spawn().expect("postgres starts");
        self.server = Some(server);
        while !self.is_ready() {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().expect("looked at"));
            assert!(ended.is_none(), "it ended with {ended:?}:\n{}", self.told());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Whether the server has noted itself as ready, which is where `pg_ctl` looks too.
    fn is_ready(&self) -> bool {
        let noted = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let pid = self.server.as_ref().expect("a server").id().to_string();
        let mut lines = noted.lines();
        lines.next() == Some(&pid) && lines.next_back().is_some_and(|line| line.trim() == "ready")
    }

    /// Stops the server cleanly.
    pub(crate) fn stop(&mut self) {
        let mut server = self.server.take().expect("a server");
        kill_process(Pid::from_child(&server), Signal::INT).expect("it is there");
        assert!(server.wait().expect("it ends").success(), "{}", self.told());
    }

    /// Stops the server at once, as a crash would.
    pub(crate) fn abort(&mut self) {
        let mut server = self.server.take().expect("a server");
        kill_process(Pid::from_child(&server), Signal::QUIT).expect("it is there");
        server.wait().expect("it ends");
    }

    /// A program of PostgreSQL's as its user, to be run against this cluster.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let user = user();
        let mut command = Command::new(programs().join(program));
        command.args(arguments).uid(user.id).gid(user.group).current_dir("/").stdin(Stdio::null());
        command.env("PGHOST", self.sockets.path()).env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        command
    }

    /// Runs one, which must succeed, and gives what it printed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {told}\n{}", self.told());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub(crate) fn data(&self) -> String {
        self.data.to_str().expect("UTF-8").to_owned()
    }

    fn log(&self) -> PathBuf {
        self.sockets.path().join("log")
    }

    /// What the server said.
    fn told(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    /// Its children end with it. Nobody waits for them: they may be stuck in a request until the device is taken away.
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
        }
    }
}

/// Where the newest PostgreSQL has its programs.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("the package postgresql is needed");
    let programs = versions.map(|version| version.expect("a version").path().join("bin")).max();
    programs.expect("a version")
}

fn user() -> &'static User {
    static USER: OnceLock<User> = OnceLock::new();
    USER.get_or_init(|| {
        let ask = |option| {
            let output = Command::new("id").args([option, "postgres"]).output().expect("id runs");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            text.trim().parse().expect("the package postgresql makes the user")
        };
        User { id: ask("-u"), group: ask("-g") }
    })
}

/// Makes a directory PostgreSQL's own.
fn give(directory: &Path) {
    let user = user();
    std::os::unix::fs::chown(directory, Some(user.id), Some(user.group)).expect("given");
}
