//! A writer is killed with SIGKILL at random moments, and what its pool then holds is compared with what it said.
//!
//! The writer (`writer`, this same binary) does a sequence of operations that its seed decides, several under way at
//! once. It notes each one in a log before it submits it and after it was acknowledged; the log outlives it, as
//! everything does that was handed to the kernel. It submits from one thread, so its operations take effect in the
//! order of their numbers, but for those that are not aligned and those on the catalog, which it does alone.
//! The checker replays the same sequence over a model and looks for a number of steps after which the model is
//! exactly what the pool holds: every sector of both volumes and of every snapshot. Some number must fit (I2, I3),
//! it must not be beyond what was submitted, and
//!
//! - after a kill, not before the last acknowledged operation (I8);
//! - when the shared memory is taken away too, as by a power cut, not before the last one that was acknowledged
//!   durable, or acknowledged before an acknowledged flush (I1).
//!
//! `FIRN_SEED` and `FIRN_KILLS` choose another run; the moments of the kills differ from run to run all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use firn_engine::catalog::Tags;
use firn_engine::core::{CoreOptions, Request, Response};
use firn_engine::error::Result;
use firn_engine::group::Group;
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};
use firn_engine::sim::random::Random;
use firn_engine::sys::DeviceKind;
use firn_engine::volume::{Volume, VolumeRequest};

const VOLUMES: [&str; 2] = ["a", "b"];
const SECTORS: u64 = 4096;
const BLOCK_SECTORS: u64 = 8;
/// Blocks of a request that take effect at once (I3).
const ATOMIC_BLOCKS: u64 = 16;
const DEPTH: usize = 16;
const SNAPSHOTS_MAX: usize = 5;
/// A writer that nobody kills ends by itself.
const OPERATIONS_MAX: u64 = 2_000_000;
const WRITER: &str = "FIRN_KILL_WRITER";

/// Something that the writer does.
#[derive(Clone, Debug)]
enum Operation {
    Write { volume: usize, first: u64, sectors: u64, durable: bool },
    Unmap { volume: usize, first: u64, sectors: u64, durable: bool },
    Flush,
    Checkpoint,
    Snapshot { volumes: Vec<usize>, name: String },
    Delete { volume: usize, name: String },
    Rollback { volume: usize, to: String, displaced: String },
}

impl Operation {
    fn is_aligned(&self) -> bool {
        match self {
            Self::Write { first, sectors, .. } | Self::Unmap { first, sectors, .. } => {
                first % BLOCK_SECTORS == 0 && sectors % BLOCK_SECTORS == 0
            }
            _ => true,
        }
    }

    fn is_on_catalog(&self) -> bool {
        matches!(self, Self::Snapshot { .. } | Self::Delete { .. } | Self::Rollback { .. })
    }

    /// Whether it is durable when it is acknowledged.
    fn is_durable(&self) -> bool {
        let durable = matches!(self, Self::Write { durable: true, .. } | Self::Unmap { durable: true, .. });
        durable || self.is_on_catalog()
    }

    /// The ranges of sectors that take effect one after the other, each at once.
    fn steps(&self) -> Vec<(u64, u64)> {
        let (first, end, unmap) = match *self {
            Self::Write { first, sectors, .. } => (first, first + sectors, false),
            Self::Unmap { first, sectors, .. } => (first, first + sectors, true),
            _ => return vec![(0, 0)],
        };
        let mut cuts: BTreeSet<u64> = match unmap {
            false => (first / BLOCK_SECTORS..).step_by(16).map(|block| block * BLOCK_SECTORS).take_while(|at| *at < end).collect(),
            true => [first.next_multiple_of(BLOCK_SECTORS), end - end % BLOCK_SECTORS].into(),
        };
        assert_eq!(ATOMIC_BLOCKS, 16);
        cuts.retain(|at| (first + 1..end).contains(at));
        let starts = std::iter::once(first).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(std::iter::once(end));
        starts.zip(ends).collect()
    }
}

/// The sequence of operations that a seed decides. Both sides make it.
struct Sequence {
    random: Random,
    number: u64,
    round: u64,
    snapshots: [BTreeSet<String>; 2],
}

impl Sequence {
    fn new(seed: u64, round: u64, snapshots: [BTreeSet<String>; 2]) -> Self {
        Self { random: Random::new(seed ^ round << 32), number: 0, round, snapshots }
    }

    /// The next operation's number, from 1 in each round, and what it is.
    fn next(&mut self) -> (u64, Operation) {
        self.number += 1;
        let operation = match self.random.below(1000) {
            0..2 => self.snapshot(),
            2..4 => self.change_snapshots(),
            4..8 => Operation::Checkpoint,
            8..40 => Operation::Flush,
            40..80 => {
                let (volume, first, sectors) = self.range(512);
                Operation::Unmap { volume, first, sectors, durable: self.random.percent(10) }
            }
            80..110 => {
                let (volume, first, sectors) = self.range(160);
                Operation::Write { volume, first, sectors, durable: self.random.percent(10) }
            }
            _ => {
                let volume = self.random.index(2);
                let blocks = self.random.pick(&[1, 1, 1, 1, 2, 4, 16, 40]);
                let first = self.random.below(SECTORS / BLOCK_SECTORS - blocks + 1) * BLOCK_SECTORS;
                let durable = self.random.percent(2);
                Operation::Write { volume, first, sectors: blocks * BLOCK_SECTORS, durable }
            }
        };
        (self.number, operation)
    }

    fn range(&mut self, most: u64) -> (usize, u64, u64) {
        let sectors = self.random.range(1..most);
        (self.random.index(2), self.random.below(SECTORS - sectors + 1), sectors)
    }

    fn name(&self, prefix: &str) -> String {
        format!("{prefix}-{}-{}", self.round, self.number)
    }

    fn snapshot(&mut self) -> Operation {
        let volumes = self.random.pick(&[[true, true], [true, false], [false, true]]);
        let volumes: Vec<usize> = (0..2).filter(|volume| volumes[*volume]).collect();
        if let Some(&volume) = volumes.iter().find(|volume| self.snapshots[**volume].len() >= SNAPSHOTS_MAX) {
            return self.delete(volume);
        }
        let name = self.name("s");
        volumes.iter().for_each(|&volume| _ = self.snapshots[volume].insert(name.clone()));
        Operation::Snapshot { volumes, name }
    }

    fn change_snapshots(&mut self) -> Operation {
        let volume = self.random.index(2);
        match self.snapshots[volume].len() {
            0 => Operation::Flush,
            SNAPSHOTS_MAX.. => self.delete(volume),
            _ if self.random.coin() => self.delete(volume),
            count => {
                let to = self.snapshots[volume].iter().nth(self.random.index(count)).expect("counted").clone();
                let displaced = self.name("r");
                self.snapshots[volume].insert(displaced.clone());
                Operation::Rollback { volume, to, displaced }
            }
        }
    }

    fn delete(&mut self, volume: usize) -> Operation {
        let at = self.random.index(self.snapshots[volume].len());
        let name = self.snapshots[volume].iter().nth(at).expect("counted").clone();
        self.snapshots[volume].remove(&name);
        Operation::Delete { volume, name }
    }
}

/// What a sector holds: who wrote it, 0 for nobody.
type Stamp = u64;

fn stamp(round: u64, number: u64) -> Stamp {
    (round + 1) << 32 | number
}

fn sector(stamp: Stamp, volume: usize, sector: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    let place = (volume as u64) << 48 | sector;
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        let value = if index == 0 { stamp } else { (stamp ^ place.rotate_left(24)).wrapping_mul(index as u64 * 2 + 1) };
        word.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Everything a pool holds.
#[derive(Clone, PartialEq, Eq)]
struct Content {
    live: [Vec<Stamp>; 2],
    snapshots: BTreeMap<(usize, String), Vec<Stamp>>,
}

impl Content {
    fn new() -> Self {
        let empty = vec![0; usize::try_from(SECTORS).expect("small")];
        Self { live: [empty.clone(), empty], snapshots: BTreeMap::new() }
    }

    fn apply(&mut self, operation: &Operation, (first, end): (u64, u64), stamp: Stamp) {
        let range = usize::try_from(first).expect("small")..usize::try_from(end).expect("small");
        match operation {
            Operation::Write { volume, .. } => self.live[*volume][range].fill(stamp),
            Operation::Unmap { volume, .. } => self.live[*volume][range].fill(0),
            Operation::Flush | Operation::Checkpoint => {}
            Operation::Snapshot { volumes, name } => {
                for &volume in volumes {
                    self.snapshots.insert((volume, name.clone()), self.live[volume].clone());
                }
            }
            Operation::Delete { volume, name } => _ = self.snapshots.remove(&(*volume, name.clone())),
            Operation::Rollback { volume, to, displaced } => {
                let content = self.snapshots[&(*volume, to.clone())].clone();
                let before = std::mem::replace(&mut self.live[*volume], content);
                self.snapshots.insert((*volume, displaced.clone()), before);
            }
        }
    }

    fn names(&self) -> [BTreeSet<String>; 2] {
        [0, 1].map(|wanted| {
            let names = self.snapshots.keys().filter(|(volume, _)| *volume == wanted);
            names.map(|(_, name)| name.clone()).collect()
        })
    }

    /// Reads all of a pool; every sector must be whole.
    fn read(pool: &Pool) -> Self {
        let mut content = Self::new();
        let length = usize::try_from(SECTORS * 512).expect("small");
        for (index, name) in VOLUMES.into_iter().enumerate() {
            let volume = pool.volume(name).expect("the volume is there");
            let mut bytes = vec![0xee; length];
            volume.read_at(0, &mut bytes).expect("read");
            content.live[index] = stamps(&bytes, index, name);
            for snapshot in volume.snapshots().expect("listed") {
                let name = snapshot.info().expect("info").name;
                bytes.fill(0xee);
                snapshot.read_at(0, &mut bytes).expect("read");
                let stamps = stamps(&bytes, index, &name);
                content.snapshots.insert((index, name), stamps);
            }
        }
        content
    }

    /// The first difference, for people.
    fn difference(&self, found: &Self) -> String {
        for volume in 0..2 {
            if let Some(what) = differ(&self.live[volume], &found.live[volume]) {
                return format!("volume {}: {what}", VOLUMES[volume]);
            }
        }
        let (expected, names): (Vec<_>, Vec<_>) = (self.snapshots.keys().collect(), found.snapshots.keys().collect());
        if expected != names {
            return format!("snapshots {names:?}, not {expected:?}");
        }
        let different = self.snapshots.iter().find_map(|(key, stamps)| {
            let what = differ(stamps, &found.snapshots[key])?;
            Some(format!("snapshot {key:?}: {what}"))
        });
        different.unwrap_or_else(|| "none".to_owned())
    }
}

fn differ(expected: &[Stamp], found: &[Stamp]) -> Option<String> {
    let at = expected.iter().zip(found).position(|(expected, found)| expected != found)?;
    let count = expected.iter().zip(found).filter(|(expected, found)| expected != found).count();
    Some(format!("sector {at} has {:x}, not {:x}; {count} sectors differ", found[at], expected[at]))
}

fn stamps(bytes: &[u8], volume: usize, what: &str) -> Vec<Stamp> {
    let sectors = bytes.chunks_exact(512).zip(0..);
    sectors
        .map(|(found, at)| {
            let stamp = u64::from_le_bytes(*found.first_chunk().expect("8 bytes"));
            let expected = if stamp == 0 { [0; 512] } else { sector(stamp, volume, at) };
            assert!(found == expected, "sector {at} of {what} with stamp {stamp:x} is not what anybody wrote");
            stamp
        })
        .collect()
}

/// What the writer is told, in one environment variable.
#[derive(Clone)]
struct Orders {
    path: PathBuf,
    shared: PathBuf,
    log: PathBuf,
    seed: u64,
    round: u64,
    plain: bool,
    /// Only open the pool.
    idle: bool,
}

impl Orders {
    fn encode(&self) -> String {
        let [path, shared, log] = [&self.path, &self.shared, &self.log].map(|path| path.to_str().expect("a plain path"));
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
    fn options(&self) -> PoolOptions {
        let device = if self.plain { DeviceKind::Plain } else { DeviceKind::Uring };
        let core = CoreOptions {
            sync_interval_ms: 20 + self.round % 5 * 50,
            checkpoint_interval_ms: 100 + self.round % 3 * 400,
            ..CoreOptions::default()
        };
        let tail_directory = Some(self.shared.clone());
        PoolOptions { device, tail_directory, core, ..PoolOptions::default() }
    }

    fn open(&self) -> Result<Pool> {
        Pool::open(&self.path, &self.options())
    }
}

const SUBMITTED: u64 = 1;
const ACKNOWLEDGED: u64 = 2;

/// The log: 16 bytes for each submission and each acknowledgement, appended at once.
#[derive(Clone)]
struct Log(Arc<File>);

impl Log {
    fn note(&self, kind: u64, number: u64) {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&kind.to_le_bytes());
        entry[8..].copy_from_slice(&number.to_le_bytes());
        (&*self.0).write_all(&entry).expect("logged");
    }

    fn read(path: &Path) -> Vec<(u64, u64)> {
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
            snapshots.iter().map(|snapshot| snapshot.info().expect("info").name).collect()
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
                let bytes: Vec<u8> = (first..first + sectors).flat_map(|at| sector(stamp, volume, at)).collect();
                let data = self.volumes[volume].buffer(bytes.len());
                data.copy_in(0, &bytes);
                let request = VolumeRequest::Write { offset: first * 512, data, fua: durable };
                self.volumes[volume].submit(request, acknowledge);
            }
            Operation::Unmap { volume, first, sectors, durable } => {
                let request = VolumeRequest::Unmap { offset: first * 512, length: sectors * 512, fua: durable };
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
struct Victim(Child);

impl Victim {
    fn start(orders: &Orders) -> Self {
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["writer", "--exact", "--ignored", "--nocapture"])
            .env(WRITER, orders.encode())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("started"))
    }

    /// Kills it, and sees to it that this is what it died of.
    fn kill(mut self) {
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

/// Waits; nobody ever sends.
fn pause(milliseconds: u64) {
    let (_sender, receiver) = channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(milliseconds));
}

/// The pool that is written, killed and compared over and over.
struct Trial {
    disk: tempfile::TempDir,
    shared: tempfile::TempDir,
    random: Random,
    orders: Orders,
    model: Content,
    kills: u64,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        let shared = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let orders = Orders {
            path: disk.path().join("pool"),
            shared: shared.path().to_owned(),
            log: disk.path().join("log"),
            seed,
            round: 0,
            plain: false,
            idle: false,
        };
        let create =
            CreateOptions { bytes: Some(256 << 20), journal_blocks: Some(512), ..CreateOptions::default() };
        let pool = Pool::create(&orders.path, &create, &orders.options()).expect("created");
        let group = pool.create_group("both", Tags::new()).expect("created");
        for name in VOLUMES {
            group.add(&pool.create_volume(name, SECTORS * 512, Tags::new()).expect("created")).expect("added");
        }
        pool.close().expect("closed");
        Self { disk, shared, random: Random::new(seed), orders, model: Content::new(), kills: 0 }
    }

    /// Lets a writer run for a while, kills it, maybe takes the shared memory away, and compares.
    fn round(&mut self, power_cut: bool) {
        self.orders.round += 1;
        self.orders.plain = self.random.percent(30);
        File::create(&self.orders.log).expect("an empty log");
        self.write_and_kill(power_cut);
        while self.random.percent(25) {
            self.kill_recovery(power_cut);
        }
        if std::env::var("HACK").is_ok() { for entry in std::fs::read_dir(self.shared.path()).expect("listed") {
                std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
        } }
        let pool = self.orders.open().expect("opened after the kill");
        eprintln!("round {} cut {power_cut} log {} {:?}", self.orders.round, std::fs::metadata(&self.orders.log).expect("a log").len()/32, pool.status().map(|s| s.recovery));
        self.compare(&pool, power_cut);
        if self.random.percent(30) {
            pool.close().expect("closed");
        }
    }

    fn write_and_kill(&mut self, power_cut: bool) {
        let victim = Victim::start(&self.orders);
        if self.random.percent(85) {
            // Once it has begun; a writer that never does is ended by the test's own time limit.
            while std::fs::metadata(&self.orders.log).expect("a log").len() == 0 {
                pause(2);
            }
            pause(self.random.below(250));
        } else {
            pause(self.random.below(120));
        }
        self.end(victim, power_cut);
    }

    /// Kills a process that does nothing but open the pool, maybe in the middle of that.
    fn kill_recovery(&mut self, power_cut: bool) {
        let victim = Victim::start(&Orders { idle: true, ..self.orders.clone() });
        pause(self.random.below(120));
        self.end(victim, power_cut);
    }

    fn end(&mut self, victim: Victim, power_cut: bool) {
        victim.kill();
        self.kills += 1;
        if power_cut {
            for entry in std::fs::read_dir(self.shared.path()).expect("listed") {
                std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
            }
        }
    }

    fn compare(&mut self, pool: &Pool, power_cut: bool) {
        let found = Content::read(pool);
        let entries = Log::read(&self.orders.log);
        let submitted = entries.iter().filter(|(kind, _)| *kind == SUBMITTED).count() as u64;
        let mut sequence = Sequence::new(self.orders.seed, self.orders.round, self.model.names());
        let operations: Vec<_> = (0..submitted).map(|_| sequence.next()).collect();
        let needed = if power_cut { durable(&entries, &operations) } else { acknowledged(&entries) };
        let mut model = self.model.clone();
        let mut fits = (needed == 0 && model == found).then(|| model.clone());
        let mut difference = model.difference(&found);
        for (number, operation) in &operations {
            let steps = operation.steps();
            for (index, &step) in steps.iter().enumerate() {
                model.apply(operation, step, stamp(self.orders.round, *number));
                let enough = *number > needed || *number == needed && index + 1 == steps.len();
                if enough && fits.is_none() {
                    difference = model.difference(&found);
                    fits = (model == found).then(|| model.clone());
                }
            }
        }
        let told = || {
            let disk = self.disk.path().display();
            format!(
                "FIRN_SEED={} round {} ({}): none of the states from operation {needed} to {submitted} fits; with all of \
                 them: {difference}; recovery: {:?}; see {disk}",
                self.orders.seed,
                self.orders.round,
                if power_cut { "power cut" } else { "kill" },
                pool.status().map(|status| status.recovery),
            )
        };
        self.model = fits.unwrap_or_else(|| panic!("{}", told()));
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // Left for whoever looks into it.
        self.disk.disable_cleanup(std::thread::panicking());
    }
}

/// The last operation that was acknowledged.
fn acknowledged(entries: &[(u64, u64)]) -> u64 {
    entries.iter().filter(|(kind, _)| *kind == ACKNOWLEDGED).map(|(_, number)| *number).max().unwrap_or(0)
}

/// The last operation that was acknowledged as durable, or before an acknowledged flush was submitted.
fn durable(entries: &[(u64, u64)], operations: &[(u64, Operation)]) -> u64 {
    let done: BTreeSet<u64> =
        entries.iter().filter(|(kind, _)| *kind == ACKNOWLEDGED).map(|(_, number)| *number).collect();
    let mut before = 0;
    let mut durable = 0;
    for &(kind, number) in entries {
        let operation = &operations[usize::try_from(number - 1).expect("small")].1;
        match (kind, operation) {
            (SUBMITTED, Operation::Flush | Operation::Checkpoint) if done.contains(&number) => {
                durable = durable.max(before);
            }
            (ACKNOWLEDGED, operation) => {
                before = before.max(number);
                durable = if operation.is_durable() { durable.max(number) } else { durable };
            }
            _ => {}
        }
    }
    durable
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn what_was_acknowledged_survives_the_process() {
    let mut trial = Trial::new(setting("FIRN_SEED", 8));
    while trial.kills < setting("FIRN_KILLS", 30) {
        trial.round(false);
    }
}

#[test]
fn what_was_flushed_survives_a_power_cut_and_nothing_is_missing_before_it() {
    let mut trial = Trial::new(setting("FIRN_SEED", 1));
    while trial.kills < setting("FIRN_KILLS", 40) {
        let power_cut = trial.random.percent(75);
        trial.round(power_cut);
    }
}
