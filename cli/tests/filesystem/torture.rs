//! An ext4 and an xfs, each on a volume, in rounds of random work with snapshots taken under it.
//!
//! 1. `files`: in the middle of each round they are synced and a snapshot is taken, which holds exactly what they held.
//!    After some rounds the volume is rolled back to it, and everything goes on from there.
//! 2. `log`: every snapshot has each record that was synced before it, and none that was begun after it.
//! 3. `fio` writes through a shared mapping and verifies that.
//! 4. Clones of random snapshots, mounted once so that the file system recovers, are clean for its own checker.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::Duration;

use serde_json::json;

use crate::files::{Files, Model};
use crate::log::{self, Progress};
use crate::shell::Shell;
use crate::shell::devices::Devices;
use crate::shell::http::Connection;
use crate::shell::random::{Random, seed};

/// The volumes, which are named after their file systems.
const VOLUMES: [&str; 2] = ["ext4", "xfs"];
const ROUNDS: u64 = 6;
/// Operations on the files in a round.
const STEPS: u64 = 1200;
/// Records of the log from one snapshot to the next.
const PACE: u64 = 15;
/// Snapshots in a round, at most.
const SNAPSHOTS_MAX: u64 = 40;
/// Clones of each volume that are checked.
const CLONES: usize = 25;

/// A volume at work.
struct Place<'a> {
    shell: &'a Shell,
    devices: &'a Devices,
    volume: &'static str,
    random: Random,
    model: Model,
    taken: Vec<Taken>,
}

/// A snapshot, and what its log must have.
struct Taken {
    snapshot: String,
    synced_before: u64,
    begun_after: u64,
}

impl Place<'_> {
    fn mount(&self) -> PathBuf {
        self.devices.mount_of(self.volume)
    }

    /// Takes a snapshot of the volume.
    fn take(&self, name: &str, progress: &Progress) -> Taken {
        let snapshot = format!("{}@{name}", self.volume);
        let synced_before = progress.synced();
        let body = json!({ "snapshot": snapshot });
        Connection::open(&self.shell.socket()).done("POST", "/v1/snapshot/create", &body);
        Taken { snapshot, synced_before, begun_after: progress.begun() }
    }

    /// One round. It ends with the volume attached and mounted.
    fn round(&mut self, number: u64) {
        let mark = format!("mark{number}");
        let (marked, last) = self.work(number, &mark);
        last.check(&self.mount().join("files"));
        self.devices.detach(self.shell, self.volume);
        self.model = last;
        if number % 2 == 1 {
            let kept = format!("displaced{number}");
            let body = json!({ "snapshot": format!("{}@{mark}", self.volume), "keep_as": kept });
            Connection::open(&self.shell.socket()).done("POST", "/v1/snapshot/rollback", &body);
            // What it was until then is not lost.
            self.with_clone(&format!("{}@{kept}", self.volume), |mount, _| {
                self.model.check(&mount.join("files"))
            });
            self.model = marked.clone();
        }
        self.with_clone(&format!("{}@{mark}", self.volume), |mount, _| marked.check(&mount.join("files")));
        let mount = self.devices.mount(self.shell, self.volume, None);
        self.model.check(&mount.join("files"));
    }

    /// Works on the files with everything else beside it. Gives what they held at the mark, and what they hold now.
    fn work(&mut self, number: u64, mark: &str) -> (Model, Model) {
        let mount = self.mount();
        let progress = if number == 0 { Progress::default() } else { log::read(&mount) };
        let is_over = AtomicBool::new(false);
        let mut files = Files::new(mount.join("files"), self.model.clone(), Random::new(self.random.draw()));
        let (marked, taken) = scope(|scope| {
            // However this ends, the others end too, or it never would.
            let _ending = Ending(&is_over);
            scope.spawn(|| {
                let _ending = Ending(&is_over);
                log::grow(&mount, &progress, &is_over);
            });
            let snapshots = scope.spawn(|| self.snapshots(number, &progress, &is_over));
            let mut mapped = mapped_fio(&mount);
            let mut marked = None;
            for step in 0..STEPS {
                files.step();
                if step == STEPS / 2 {
                    files.sync();
                    marked = Some((files.model().clone(), self.take(mark, &progress)));
                }
            }
            assert!(mapped.wait().expect("it ends").success(), "fio found an error");
            is_over.store(true, Ordering::SeqCst);
            let (marked, mark) = marked.expect("half of the steps");
            let mut taken = snapshots.join().expect("the snapshots");
            taken.push(mark);
            (marked, taken)
        });
        self.taken.extend(taken);
        (marked, files.model().clone())
    }

    fn snapshots(&self, number: u64, progress: &Progress, is_over: &AtomicBool) -> Vec<Taken> {
        let mut taken = Vec::new();
        for snapshot in 0..SNAPSHOTS_MAX {
            let goal = progress.synced() + PACE;
            while progress.synced() < goal {
                if is_over.load(Ordering::SeqCst) {
                    return taken;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            taken.push(self.take(&format!("s{number}-{snapshot}"), progress));
        }
        taken
    }

    /// Mounts a clone of a snapshot, lets `look` see its mount and device, and takes it away again.
    fn with_clone(&self, snapshot: &str, look: impl FnOnce(&Path, &Path)) {
        let clone = snapshot.replace('@', "-");
        let mut daemon = Connection::open(&self.shell.socket());
        daemon.done("POST", "/v1/clone/create", &json!({ "snapshot": snapshot, "volume": clone }));
        let mount = self.devices.mount(self.shell, &clone, None);
        let view = self.devices.view(self.shell, &clone);
        look(&mount, Path::new(view["device"].as_str().expect("a path")));
        self.devices.detach(self.shell, &clone);
        daemon.done("POST", "/v1/volume/delete", &json!({ "volumes": [clone] }));
    }

    /// Holds a snapshot's log against what is known of it, and its file system against its checker.
    fn check(&self, taken: &Taken) {
        let Taken { snapshot, synced_before, begun_after } = taken;
        self.with_clone(snapshot, |mount, device| {
            let records = log::read(mount).synced();
            assert!(
                (*synced_before..=*begun_after).contains(&records),
                "{snapshot} has {records} records: {synced_before} were synced before it, {begun_after} begun after"
            );
            run(Command::new("umount").arg(mount));
            let mut checker = match self.volume {
                "ext4" => Command::new("fsck.ext4"),
                _ => Command::new("xfs_repair"),
            };
            run(checker.arg(if self.volume == "ext4" { "-fn" } else { "-n" }).arg(device));
        });
    }

    /// Checks so many random snapshots.
    fn check_some(&mut self) {
        println!("{}: {CLONES} of {} snapshots are checked", self.volume, self.taken.len());
        for _ in 0..CLONES {
            let left = self.taken.len() as u64;
            assert!(left > 0, "too few snapshots were taken");
            let chosen = usize::try_from(self.random.below(left)).expect("an index");
            let taken = self.taken.swap_remove(chosen);
            self.check(&taken);
        }
    }
}

/// Says that it is over, when it is dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Writes through a shared mapping, then reads and verifies.
fn mapped_fio(mount: &Path) -> Child {
    let mut fio = Command::new("fio");
    fio.args(["--name=mapped", "--ioengine=mmap", "--rw=randwrite", "--bs=4k", "--size=8m", "--fsync=64"]);
    fio.args(["--verify=crc32c", "--verify_fatal=1", "--randrepeat=0", "--verify_state_save=0"])
        .arg("--directory")
        .arg(mount);
    fio.stdout(Stdio::null()).spawn().expect("fio runs")
}

fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {} {}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn ext4_and_xfs_hold_what_they_were_given_and_fifty_clones_are_clean() {
    let shell = Shell::served("8G");
    let Some(devices) = Devices::of(&shell) else { return };
    let seed = seed();
    for volume in VOLUMES {
        shell.done(&["volume", "create", volume, "--size", "512M"]);
        devices.mount(&shell, volume, Some(volume));
    }
    scope(|scope| {
        for (number, volume) in (0..).zip(VOLUMES) {
            let (shell, devices, random) = (&shell, &devices, Random::new(seed + number));
            let mut place =
                Place { shell, devices, volume, random, model: Model::default(), taken: Vec::new() };
            scope.spawn(move || {
                (0..ROUNDS).for_each(|number| place.round(number));
                place.check_some();
            });
        }
    });
    for volume in VOLUMES {
        devices.detach(&shell, volume);
    }
    assert_eq!(shell.json(&["pool", "check"])["is_sound"], true);
}
