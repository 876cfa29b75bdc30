//! A pool, a server process for it that can be killed, and the real program that attaches its volumes.
//!
//! The server is this same binary: it opens the pool, serves it by NBD on a unix socket, and does what it is told on
//! its stdin. It stands for `firn serve`, whose whole is tried elsewhere.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use firn_engine::catalog::Tags;
use firn_engine::export::nbd::{Listen, Server, ServerOptions};
use firn_engine::journal::tail::TailShape;
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use serde_json::Value;
use tempfile::TempDir;

use crate::emulated;
use crate::takedown::Takedown;

/// The environment variable with a server's orders.
const ORDERS: &str = "FIRN_ATTACH_SERVER";
/// A test that takes longer is stuck in a request that nobody answers, and can't even be killed.
const STUCK: Duration = Duration::from_secs(240);
/// The file is sparse.
const POOL_BYTES: u64 = 16 << 30;
/// What is read whenever a pool is opened is small where reading is slow.
const JOURNAL_BLOCKS_INSIDE: u64 = 2048;
const TAIL_INSIDE: TailShape = TailShape { data_slots: 512, journal_slots: 128 };

/// Waits; nobody ever sends.
pub(crate) fn pause(milliseconds: u64) {
    let (_sender, receiver) = channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(milliseconds));
}

/// A folder with a pool, its server, and what is attached. All of it is gone when it is dropped.
pub(crate) struct Stage {
    folder: TempDir,
    shared: TempDir,
    server: Option<Running>,
    takedown: Option<Takedown>,
}

struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Stage {
    /// A pool with volumes of these sizes, and its server. `None`, said aloud, where nobody may attach anything.
    pub(crate) fn new(volumes: &[(&str, u64)]) -> Option<Self> {
        if !rustix::process::geteuid().is_root()
            || !(emulated::is_inside() || Path::new("/dev/fuse").exists())
        {
            eprintln!("skipped: only root can attach, with the kernel modules fuse and loop");
            return None;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on disk");
        let shared = tempfile::tempdir_in("/dev/shm").expect("a folder in shared memory");
        let takedown = Some(Takedown::of(&folder.path().join("run"), STUCK));
        let mut stage = Self { folder, shared, server: None, takedown };
        let journal_blocks = emulated::is_inside().then_some(JOURNAL_BLOCKS_INSIDE);
        let create = CreateOptions { bytes: Some(POOL_BYTES), journal_blocks, ..CreateOptions::default() };
        let pool = Pool::create(&stage.path("pool"), &create, &options(&stage.shared())).expect("created");
        for (name, bytes) in volumes {
            pool.create_volume(name, *bytes, Tags::new()).expect("created");
        }
        pool.close().expect("closed");
        stage.start();
        Some(stage)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new directory.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    fn shared(&self) -> PathBuf {
        self.shared.path().to_owned()
    }

    pub(crate) fn start(&mut self) {
        self.kill();
        let orders = [self.path("pool"), self.shared(), self.path("nbd.sock")];
        let orders = orders.map(|path| path.to_str().expect("UTF-8").to_owned()).join("|");
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "stage::server", "--ignored", "--nocapture"]).env(ORDERS, orders);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut server = Running { child, stdin, stdout };
        server.wait_for("serving");
        self.server = Some(server);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.child.kill().expect("killed");
            server.child.wait().expect("gone");
        }
    }

    /// Ends the server as a service is stopped.
    pub(crate) fn stop(&mut self) {
        let mut server = self.server.take().expect("a server");
        drop(server.stdin.take());
        assert!(server.child.wait().expect("gone").success(), "it closes its pool");
    }

    /// Has the server do one of what [`obey`] knows.
    pub(crate) fn tell(&mut self, order: &str) {
        let server = self.server.as_mut().expect("a server");
        writeln!(server.stdin.as_mut().expect("a pipe"), "{order}").expect("told");
        server.wait_for(&format!("done {order}"));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(self.folder.path(), arguments)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs it, which must succeed, and gives what it printed, without the end of the line.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.status, Some(0), "firn {}: {}", arguments.join(" "), ran.stderr);
        ran.stdout.trim_end().to_owned()
    }

    /// Runs it, which must fail with `status` and this in its message.
    pub(crate) fn fails(&self, arguments: &[&str], status: i32, message: &str) {
        let ran = self.run(arguments);
        assert_eq!(ran.status, Some(status), "firn {}: {}", arguments.join(" "), ran.stderr);
        assert!(ran.stderr.contains(message), "{message:?} is not in {:?}", ran.stderr);
    }

    /// What is attached.
    pub(crate) fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.done(&["attach", "--list", "--json"])).expect("JSON")
    }

    /// Waits until the one attached device is in this state.
    pub(crate) fn wait_for_state(&self, state: &str) {
        for _ in 0..6000 {
            if self.list().first().is_some_and(|view| view["state"] == state) {
                return;
            }
            pause(10);
        }
        panic!("it never was {state}: {:?}", self.list());
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Before its server: what waits for that would wait for ever.
        drop(self.takedown.take());
        self.kill();
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env("FIRN_RUNTIME", folder.join("run")).env("FIRN_NBD", folder.join("nbd.sock"));
    if !emulated::is_inside() {
        // This machine's kernel may have an NBD client too: the emulated one is the place for that.
        command.env("FIRN_ATTACH_BY", "fuse");
    }
    command
}

impl Running {
    fn wait_for(&mut self, expected: &str) {
        let mut line = String::new();
        while line.trim_end() != expected {
            line.clear();
            let read = self.stdout.read_line(&mut line).expect("read");
            assert!(read > 0, "the server ended before it said {expected:?}");
        }
    }
}

fn options(shared: &Path) -> PoolOptions {
    let mut options = PoolOptions { tail_directory: Some(shared.to_owned()), ..PoolOptions::default() };
    if emulated::is_inside() {
        options.tail = TAIL_INSIDE;
    }
    options
}

/// The server of the other tests; by itself it does nothing.
#[test]
#[ignore = "it is the process that the other tests start and kill"]
fn server() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Vec<&str> = orders.split('|').collect();
    let [pool, shared, socket] = orders[..] else { panic!("bad orders: {orders:?}") };
    let pool = Pool::open(Path::new(pool), &options(Path::new(shared))).expect("opened");
    let listen = vec![Listen::Unix(socket.into())];
    let server =
        Server::start(&pool, &ServerOptions { listen, ..ServerOptions::default() }).expect("started");
    println!("\nserving");
    for order in std::io::stdin().lines() {
        let order = order.expect("an order");
        obey(&pool, &order);
        println!("\ndone {order}");
    }
    server.stop();
    pool.close().expect("closed");
}

fn obey(pool: &Pool, order: &str) {
    let words: Vec<&str> = order.split(' ').collect();
    let volume = |name: &str| pool.volume(name).expect("a volume");
    match words[..] {
        ["snapshot", name, snapshot] => drop(volume(name).snapshot(snapshot, Tags::new()).expect("taken")),
        ["clone", name, snapshot, new] => {
            let snapshot = volume(name).snapshot_named(snapshot).expect("a snapshot");
            snapshot.clone_to(new, Tags::new()).expect("cloned");
        }
        ["delete", name] => volume(name).delete(true).expect("deleted"),
        ["create", name, bytes] => {
            pool.create_volume(name, bytes.parse().expect("a number"), Tags::new()).expect("created");
        }
        _ => panic!("bad order: {order}"),
    }
}
