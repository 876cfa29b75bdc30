//! The process that is killed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use firn_engine::catalog::Tags;
use firn_engine::core::{CoreOptions, Request, Response};
use firn_engine::error::Result;
use firn_engine::group::Group;
use firn_engine::pool::{Pool, PoolOptions};
use firn_engine::sys::DeviceKind;
use firn_engine::volume::{Volume, VolumeRequest};

use crate::content::{VOLUMES, sector, stamp};
use crate::sequence::{Operation, Sequence};

/// Requests under way at once.
const DEPTH: usize = 16;
/// A writer that nobody kills ends by itself.
const OPERATIONS_MAX: u64 = 2_000_000;
/// The environment variable with its orders.
const WRITER: &str = "FIRN_KILL_WRITER";

/// What the writer is told, in one environment variable.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) path: PathBuf,
    pub(crate) shared: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) seed: u64,
    pub(crate) round: u64,
    pub(crate) plain: bool,
    /// Only open the pool.
    pub(crate) idle: bool,
}

impl Orders {
    fn encode(&self) -> String {
        let [path, shared, log] =
            [&self.path, &self.shared, &self.log].map(|path| path.to_str().expect("a plain path"));
        format!("{path}|{shared}|{log}|{}|{}|{}|{}", self.seed, self.round, self.plain, self.idle)
    }

    fn decode(text: &str) -> Self {
        let parts: Vec<&str> = text.split('|').collect();
        let [path, shared, log, seed, round, plain, idle] = parts[..] else { panic!("bad orders: {text}") };
        let number = |text: &str| text.parse().expect("a number");
        Self {
            path: path.into(),
            shared: shared.into(),
            log: log.into(),
            seed: number(seed),
            round: number(round),
            plain: plain == "true",
            idle: idle == "true",
        }
    }

    /// Short intervals and a small journal, so that every part of the engine is at work when the kill comes.
    pub(crate) fn options(&self) -> PoolOptions {
        let device = if self.plain { DeviceKind::Plain } else { DeviceKind::Uring };
        let core = CoreOptions {
            sync_interval_ms: 20 + self.round % 5 * 50,
            checkpoint_interval_ms: 100 + self.round % 3 * 400,
            ..CoreOptions::default()
        };
        let tail_directory = Some(self.shared.clone());
        PoolOptions { device, tail_directory, core, ..PoolOptions::default() }
    }

    pub(crate) fn open(&self) -> Result<Pool> {
        Pool::open(&self.path, &self.options())
    }
}

pub(crate) const SUBMITTED: u64 = 1;
pub(crate) const ACKNOWLEDGED: u64 = 2;

/// The log: 16 bytes for each submission and each acknowledgement, appended at once.
#[derive(Clone)]
pub(crate) struct Log(Arc<File>);

impl Log {
    fn note(&self, kind: u64, number: u64) {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&kind.to_le_bytes());
        entry[8..].copy_from_slice(&number.to_le_bytes());
        (&*self.0).write_all(&entry).expect("logged");
    }

    pub(crate) fn read(path: &Path) -> Vec<(u64, u64)> {
        let bytes = std::fs::read(path).expect("a log");
        let word = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().expect("8 bytes"));
        bytes.chunks_exact(16).map(|entry| (word(entry), word(&entry[8..]))).collect()
    }
}

/// The child of the other tests; by itself it does nothing.
#[test]
#[ignore = "it is the process that the other tests kill"]
fn writer() {
    if let Ok(orders) = std::env::var(WRITER) {
        Writer::new(Orders::decode(&orders)).run();
    }
}

struct Writer {
    orders: Orders,
    pool: Pool,
    volumes: [Volume; 2],
    group: Group,
    log: Log,
    done: (Sender<()>, Receiver<()>),
    under_way: usize,
}

impl Writer {
    fn new(orders: Orders) -> Self {
        let pool = orders.open().expect("opened by the writer");
        let volumes = VOLUMES.map(|name| pool.volume(name).expect("there"));
        let log = OpenOptions::new().append(true).create(true).open(&orders.log).expect("a log");
        let group = pool.group("both").expect("there");
        Self { orders, pool, volumes, group, log: Log(Arc::new(log)), done: channel(), under_way: 0 }
    }

    fn run(mut self) {
        if self.orders.idle {
            // Until it is killed.
            let _ = self.done.1.recv();
        }
        let names = self.volumes.each_ref().map(|volume| {
            let snapshots = volume.snapshots().expect("listed");
            snapshots.iter().map(|snapshot| snapshot.name().expect("a name")).collect()
        });
        let mut sequence = Sequence::new(self.orders.seed, self.orders.round, names);
        for _ in 0..OPERATIONS_MAX {
            let (number, operation) = sequence.next();
            self.one(number, &operation);
        }
    }

    fn one(&mut self, number: u64, operation: &Operation) {
        let alone = operation.is_on_catalog() || !operation.is_aligned();
        self.wait_until_at_most(if alone { 0 } else { DEPTH - 1 });
        self.log.note(SUBMITTED, number);
        if operation.is_on_catalog() {
            self.change(operation);
            return self.log.note(ACKNOWLEDGED, number);
        }
        self.submit(number, operation);
        if alone {
            self.wait_until_at_most(0);
        }
    }

    fn wait_until_at_most(&mut self, most: usize) {
        while self.under_way > most {
            self.done.1.recv().expect("answered");
            self.under_way -= 1;
        }
    }

    fn submit(&mut self, number: u64, operation: &Operation) {
        let (log, done) = (self.log.clone(), self.done.0.clone());
        let acknowledge = move |result: Result<Response>| {
            if let Err(error) = result {
                eprintln!("operation {number}: {error:?}");
                std::process::abort();
            }
            log.note(ACKNOWLEDGED, number);
            let _ = done.send(());
        };
        self.under_way += 1;
        match *operation {
            Operation::Write { volume, first, sectors, durable } => {
                let stamp = stamp(self.orders.round, number);
                let bytes: Vec<u8> =
                    (first..first + sectors).flat_map(|at| sector(stamp, volume, at)).collect();
                let data = self.volumes[volume].buffer(bytes.len());
                data.copy_in(0, &bytes);
                let request = VolumeRequest::Write { offset: first * 512, data, fua: durable };
                self.volumes[volume].submit(request, acknowledge);
            }
            Operation::Unmap { volume, first, sectors, durable } => {
                let request =
                    VolumeRequest::Unmap { offset: first * 512, length: sectors * 512, fua: durable };
                self.volumes[volume].submit(request, acknowledge);
            }
            Operation::Checkpoint => self.pool.handle().submit(Request::Checkpoint, acknowledge),
            _ => self.pool.handle().submit(Request::Flush, acknowledge),
        }
    }

    fn change(&self, operation: &Operation) {
        match operation {
            Operation::Snapshot { volumes, name } if volumes.len() == 2 => {
                self.group.snapshot(name, Tags::new()).expect("taken");
            }
            Operation::Snapshot { volumes, name } => {
                self.volumes[volumes[0]].snapshot(name, Tags::new()).expect("taken");
            }
            Operation::Delete { volume, name } => {
                self.volumes[*volume].snapshot_named(name).expect("found").delete().expect("deleted");
            }
            Operation::Rollback { volume, to, displaced } => {
                self.volumes[*volume].rollback(to, Some(displaced)).expect("rolled back");
            }
            other => panic!("{other:?} does not change the catalog"),
        }
    }
}

/// A process that does not outlive its test.
pub(crate) struct Victim(Child);

impl Victim {
    pub(crate) fn start(orders: &Orders) -> Self {
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["writer::writer", "--exact", "--ignored", "--nocapture"])
            .env(WRITER, orders.encode())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("started"))
    }

    /// Whether it has ended by itself, which it should not.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("looked at").is_some()
    }

    /// Kills it, and sees to it that this is what it died of.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("killed");
        let status = self.0.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9), "the writer ended by itself: {status}");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
