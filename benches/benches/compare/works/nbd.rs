//! The engine's NBD server beside fio on a raw file, `qemu-nbd` on a raw file and `nbdkit memory`, each with the same
//! fio work. A round measures all four in turn.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use firn_engine::export::nbd::{Listen, Server, ServerOptions};

use crate::figure;
use crate::pairs::Pairs;
use crate::place::{Place, filled_volume};
use crate::raw::{self, Raw, RawWork};
use crate::settings::Settings;
use crate::table::Row;

/// How often it is looked whether a server listens, 10 ms apart.
const LISTEN_TRIES: u32 = 1000;

/// A work, and what of each yardstick is asked.
struct Work {
    name: &'static str,
    fio: RawWork<'static>,
    raw: f64,
    qemu: f64,
    /// `None`: the table of targets names none.
    nbdkit: Option<f64>,
}

const fn work(kind: &'static str, block_bytes: u64, depth: u64, jobs: u64, sync: bool) -> RawWork<'static> {
    RawWork { kind, block_bytes, depth, jobs, sync }
}

const WRITES: [Work; 3] = [
    Work {
        name: "4k random write, depth 32",
        fio: work("randwrite", 4096, 32, 1, false),
        raw: 1.2,
        qemu: 2.5,
        nbdkit: Some(1.0),
    },
    Work {
        name: "4k random write, 4 x depth 8",
        fio: work("randwrite", 4096, 8, 4, false),
        raw: 1.3,
        qemu: 4.0,
        nbdkit: Some(1.2),
    },
    Work {
        name: "4k random write, depth 1",
        fio: work("randwrite", 4096, 1, 1, false),
        raw: 1.0,
        qemu: 2.0,
        nbdkit: None,
    },
];

const READS: [Work; 2] = [
    Work {
        name: "4k random read, depth 32",
        fio: work("randread", 4096, 32, 1, false),
        raw: 0.8,
        qemu: 1.3,
        nbdkit: None,
    },
    Work {
        name: "4k random read, depth 1",
        fio: work("randread", 4096, 1, 1, false),
        raw: 0.75,
        qemu: 1.4,
        nbdkit: None,
    },
];

const FLUSHES: [Work; 2] = [
    Work {
        name: "4k write + flush",
        fio: work("randwrite", 4096, 1, 1, true),
        raw: 0.8,
        qemu: 1.4,
        nbdkit: None,
    },
    Work {
        name: "4k write + flush, 16 connections",
        fio: work("randwrite", 4096, 1, 16, true),
        raw: 0.9,
        qemu: 2.0,
        nbdkit: None,
    },
];

const SEQUENTIAL: [Work; 2] = [
    Work {
        name: "128k sequential write, depth 8",
        fio: work("write", 128 << 10, 8, 1, false),
        raw: 0.85,
        qemu: 0.0,
        nbdkit: None,
    },
    Work {
        name: "128k sequential read, depth 8",
        fio: work("read", 128 << 10, 8, 1, false),
        raw: 0.9,
        qemu: 0.0,
        nbdkit: None,
    },
];

/// Another server, ended when it is dropped.
struct Peer {
    process: Child,
    socket: PathBuf,
}

impl Peer {
    fn start(place: &Place, program: &str, arguments: impl FnOnce(&str) -> Vec<String>) -> Result<Self> {
        let socket = place.path(program);
        let arguments = arguments(socket.to_str().context("a plain path")?);
        let process = Command::new(program).args(arguments).stdout(Stdio::null()).spawn();
        let process = process
            .with_context(|| format!("{program} could not be run: `make packages-bench` installs it"))?;
        let peer = Self { process, socket };
        for _ in 0..LISTEN_TRIES {
            if peer.socket.exists() {
                return Ok(peer);
            }
            // `sleep` of its own process: what measures here never waits for time to pass.
            Command::new("sleep").arg("0.01").status().context("sleep could not be run")?;
        }
        bail!("{program} does not listen")
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // One that has ended by itself needs nothing more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn qemu(place: &Place) -> Result<Peer> {
    let file = place.path("raw");
    Peer::start(place, "qemu-nbd", |socket| {
        let fixed = "-f raw --cache=none --aio=io_uring --discard=unmap -e 16 -t -k";
        let last = [socket.to_owned(), file.display().to_string()];
        fixed.split(' ').map(str::to_owned).chain(last).collect()
    })
}

fn nbdkit(place: &Place, bytes: u64) -> Result<Peer> {
    Peer::start(place, "nbdkit", |socket| {
        let size = bytes.to_string();
        ["-f", "-U", socket, "-t", "16", "memory", &size, "allocator=malloc"].map(str::to_owned).to_vec()
    })
}

pub(crate) fn writes(settings: &Settings) -> Result<Vec<Row>> {
    run(settings, &WRITES)
}

pub(crate) fn reads(settings: &Settings) -> Result<Vec<Row>> {
    run(settings, &READS)
}

pub(crate) fn flushes(settings: &Settings) -> Result<Vec<Row>> {
    run(settings, &FLUSHES)
}

pub(crate) fn sequential(settings: &Settings) -> Result<Vec<Row>> {
    run(settings, &SEQUENTIAL)
}

fn run(settings: &Settings, works: &[Work]) -> Result<Vec<Row>> {
    let place = Place::create(settings)?;
    let raw = Raw::create(&place, settings)?;
    let pool = place.pool(settings.file_bytes * 3)?;
    filled_volume(&pool, "volume", settings.file_bytes)?;
    let listen = vec![Listen::Unix(place.path("firn"))];
    let server = Server::start(&pool, &ServerOptions { listen, ..ServerOptions::default() })?;
    let uri = server.addresses()[0].uri("volume");
    let peers = (qemu(&place)?, nbdkit(&place, settings.file_bytes)?);
    let mut rows = Vec::new();
    for work in works {
        let mut beside = [Pairs::new(), Pairs::new(), Pairs::new()];
        for _ in 0..settings.rounds {
            let bases = [
                raw.run(&work.fio)?,
                raw::run_nbd(&peers.0.uri(), &work.fio, settings)?,
                raw::run_nbd(&peers.1.uri(), &work.fio, settings)?,
            ];
            let firn = raw::run_nbd(&uri, &work.fio, settings)?;
            beside.iter_mut().zip(bases).for_each(|(pairs, base)| pairs.add(base, firn));
        }
        let targets = [Some(work.raw), Some(work.qemu), work.nbdkit];
        let names = ["raw", "qemu-nbd", "nbdkit memory"];
        for ((pairs, target), name) in beside.iter().zip(targets).zip(names) {
            let named = format!("NBD {} / {name}", work.name);
            let target = target.filter(|target| *target > 0.0);
            rows.push(pairs.row_if(&named, target, figure::rate));
        }
    }
    server.stop();
    Ok(rows)
}
