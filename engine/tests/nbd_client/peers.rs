//! Servers that others wrote, as processes in a folder of their own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use firn_engine::export::nbd::client::Uri;
use tempfile::TempDir;

pub(crate) const MIB: usize = 1 << 20;

/// Waits; nobody ever sends.
fn pause() {
    let (_sender, receiver) = channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(5));
}

/// A folder on a real disk.
pub(crate) struct Folder(TempDir);

/// A server on a unix socket; killed when it is dropped.
pub(crate) struct Server {
    pub(crate) uri: Uri,
    socket: PathBuf,
    program: &'static str,
    arguments: Vec<String>,
    /// What comes last, after what a restart may add.
    file: Vec<String>,
    child: Option<Child>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a file")
    }

    /// qemu-nbd over a new file that is all hole. It writes with O_DIRECT, so what it answered outlives it.
    pub(crate) fn qemu(&self, name: &str, bytes: usize, options: &[&str]) -> Server {
        let file = self.path(name);
        std::fs::File::create(&file).expect("a file").set_len(bytes as u64).expect("its size");
        let arguments = "-f raw --cache=none --aio=threads --discard=unmap -e 16 -t".split(' ');
        let file = vec![file.to_str().expect("UTF-8").to_owned()];
        self.server("qemu-nbd", "-k", arguments.chain(options.iter().copied()), file)
    }

    pub(crate) fn nbdkit(&self, arguments: &[&str]) -> Server {
        self.server("nbdkit", "-U", ["-f"].into_iter().chain(arguments.iter().copied()), Vec::new())
    }

    fn server<'a>(
        &self,
        program: &'static str,
        option: &str,
        arguments: impl Iterator<Item = &'a str>,
        file: Vec<String>,
    ) -> Server {
        let socket = self.path(&format!("{program}.sock"));
        let place = [option, socket.to_str().expect("UTF-8")].map(str::to_owned);
        let arguments = place.into_iter().chain(arguments.map(str::to_owned)).collect();
        let uri = Uri::unix(&socket, "");
        let mut server = Server { uri, socket, program, arguments, file, child: None };
        server.start();
        server
    }
}

impl Server {
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts it with more arguments, which win over those that it has, and waits until it listens.
    pub(crate) fn start_with(&mut self, more: &[&str]) {
        self.kill();
        // One that was killed leaves its socket's file.
        let _ = std::fs::remove_file(&self.socket);
        let mut command = Command::new(self.program);
        command.args(&self.arguments).args(more).args(&self.file).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{} is needed: {error}", self.program));
        let child = self.child.insert(child);
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            assert!(child.try_wait().expect("looked at").is_none(), "{} does not start", self.program);
            pause();
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `bytes` bytes that differ from place to place and from seed to seed (xorshift64*).
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
