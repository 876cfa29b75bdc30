//! A pool with a server on it, and programs that are run against it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use firn_engine::catalog::Tags;
use firn_engine::export::nbd::{Limits, Listen, Server, ServerOptions, Statistics};
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::sys::DeviceKind;
use firn_engine::volume::Volume;

pub(crate) const MIB: u64 = 1 << 20;

/// A pool of 512 MiB, and a server at a unix socket.
pub(crate) struct Place {
    pub(crate) disk: tempfile::TempDir,
    _shared: tempfile::TempDir,
    options: PoolOptions,
    pub(crate) pool: Arc<Pool>,
    pub(crate) server: Option<Server>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), DeviceKind::Auto)
    }

    pub(crate) fn with(limits: Limits, device: DeviceKind) -> Self {
        let shared = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let options =
            PoolOptions { device, tail_directory: Some(shared.path().to_owned()), ..PoolOptions::default() };
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        let create = CreateOptions { bytes: Some(512 * MIB), ..CreateOptions::default() };
        let pool = Pool::create(&disk.path().join("pool"), &create, &options).expect("created");
        let mut place = Self { disk, _shared: shared, options, pool: Arc::new(pool), server: None };
        let listen = vec![Listen::Unix(place.socket())];
        place.serve(&ServerOptions { listen, limits, ..ServerOptions::default() });
        place
    }

    /// Replaces the server.
    pub(crate) fn serve(&mut self, options: &ServerOptions) {
        self.server = None;
        self.server = Some(Server::start(&self.pool, options).expect("the server starts"));
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.disk.path().join("nbd")
    }

    pub(crate) fn uri(&self, export: &str) -> String {
        self.server().addresses()[0].uri(export)
    }

    pub(crate) fn volume(&self, name: &str, bytes: u64) -> Volume {
        self.pool.create_volume(name, bytes, Tags::new()).expect("created")
    }

    /// Waits until the server's counters are as they should become.
    #[expect(clippy::disallowed_methods, reason = "a test waits for other threads, with a bound")]
    pub(crate) fn wait_until(&self, is_so: impl Fn(&Statistics) -> bool) {
        let start = std::time::Instant::now();
        while !is_so(&self.server().statistics()) {
            let statistics = self.server().statistics();
            assert!(start.elapsed().as_secs() < 60, "it does not become so: {statistics:?}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Opens the pool again after a test has closed it.
    pub(crate) fn reopen(mut self) -> Self {
        self.server = None;
        let path = self.disk.path().join("pool");
        self.pool = Arc::new(Pool::open(&path, &self.options).expect("opened"));
        self
    }

    /// Runs a script of nbdsh with a handle `h` that is connected to an export.
    pub(crate) fn script(&self, export: &str, script: &str) -> String {
        run("nbdsh", &["-u", &self.uri(export), "-c", script])
    }
}

impl Drop for Place {
    /// Whatever clients did, everything in the pool agrees.
    fn drop(&mut self) {
        self.server = None;
        if std::thread::panicking() {
            return;
        }
        self.pool.close().expect("closed");
        let report = Pool::check(&self.disk.path().join("pool"), &self.options, true).expect("checked");
        assert!(report.is_clean(), "{report:?}");
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    // Debian's python3 with Debian's libnbd, whatever else is in front of it.
    command.env("PATH", format!("/usr/bin:{}", std::env::var("PATH").unwrap_or_default()));
    command.args(["120", program]).args(arguments);
    command
}

/// Runs a program to its good end and gives what it said.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = command(program, arguments).output().expect("timeout is part of every Debian");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(
        status.success(),
        "{program} {arguments:?}: {status} (`make packages-test` installs it)\n{said}\n{complaint}"
    );
    said
}

/// Runs a program that must fail, and gives its complaint.
pub(crate) fn fail(program: &str, arguments: &[&str]) -> String {
    let output = command(program, arguments).output().expect("timeout is part of every Debian");
    let code = output.status.code();
    assert!(!output.status.success(), "{program} {arguments:?} went well");
    assert!(code != Some(127) && code != Some(124), "{program}: {code:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Bytes that look random and depend on `seed`, in blocks that all differ.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
    });
    words.take(length.div_ceil(8)).flat_map(u64::to_le_bytes).take(length).collect()
}

pub(crate) fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    if let Some(at) = found.iter().zip(expected).position(|(found, expected)| found != expected) {
        panic!("{what}: byte {at} of {} is {:02x}, not {:02x}", found.len(), found[at], expected[at]);
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary directory's name is plain")
}
