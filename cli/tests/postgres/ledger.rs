//! What firn is for: two databases that belong together, and snapshots in which they still do.
//!
//! A bank (see `bank`) works on two volumes of a consistency group. In every snapshot of the group both servers recover,
//! what is prepared is resolved by the rule, and no money appeared or vanished. Two snapshots, one after the other, are
//! not enough: then the same audit finds money that appeared or vanished, which shows that it can.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;
use std::time::Duration;

use serde_json::json;

use crate::bank::{Books, Counts, SETTINGS, SIDES, open_accounts, work};
use crate::cluster::Cluster;
use crate::shell::Shell;
use crate::shell::devices::Devices;
use crate::shell::http::Connection;
use crate::shell::random::seed;

const SNAPSHOTS: u64 = 200;
/// Tries of two single snapshots: one that shows the fault is enough.
const TRIES: u64 = 20;
/// Transfers that are made at a time.
const WORKERS: u64 = 6;
/// Transfers that are finished from one snapshot to the next.
const PACE: u64 = 10;
/// Snapshots that are looked at together.
const AUDITORS: usize = 2;

/// Two servers on two mounted volumes, both of the group `bank`.
struct Bank {
    clusters: [Cluster; 2],
    devices: Devices,
    shell: Shell,
}

/// A snapshot of both volumes, and what the workers knew of before and after.
struct Taken {
    name: String,
    finished_before: u64,
    begun_after: u64,
}

impl Bank {
    fn open() -> Option<Self> {
        let shell = Shell::served("8G");
        let devices = Devices::of(&shell)?;
        let first = tempfile::tempdir().expect("a folder");
        let mut cluster = Cluster::create(first.path());
        cluster.start(&SETTINGS);
        open_accounts(&cluster);
        cluster.stop();
        for side in SIDES {
            shell.done(&["volume", "create", side, "--size", "512M"]);
        }
        shell.done(&["group", "create", "bank", "east", "west"]);
        let clusters = [("east", "ext4"), ("west", "xfs")].map(|(side, file_system)| {
            let mut copied = cluster.copy_to(&devices.mount(&shell, side, Some(file_system)));
            copied.start(&SETTINGS);
            copied
        });
        Some(Self { clusters, devices, shell })
    }

    /// Takes snapshots while transfers are made.
    fn under_load<T>(&self, snapshots: impl FnOnce(&Counts) -> T) -> T {
        let (counts, seed) = (Counts::default(), seed());
        scope(|scope| {
            // However this ends, the workers end too, and if one of them does, so does this.
            let _ending = counts.ending();
            for worker in 0..WORKERS {
                let (counts, clusters) = (&counts, self.clusters.each_ref());
                scope.spawn(move || {
                    let _ending = counts.ending();
                    work(clusters, seed + worker, counts);
                });
            }
            snapshots(&counts)
        })
    }

    /// The books of the snapshots with this name.
    fn audit(&self, name: &str) -> Books {
        let mut daemon = Connection::open(&self.shell.socket());
        let clones = SIDES.map(|side| format!("{side}-{name}"));
        let clusters = [0, 1].map(|side| {
            let snapshot = format!("{}@{name}", SIDES[side]);
            let clone = json!({ "snapshot": snapshot, "volume": clones[side] });
            daemon.done("POST", "/v1/clone/create", &clone);
            Cluster::left_at(&self.devices.mount(&self.shell, &clones[side], None))
        });
        let books = Books::read(clusters);
        for clone in &clones {
            self.devices.detach(&self.shell, clone);
        }
        daemon.done("POST", "/v1/volume/delete", &json!({ "volumes": clones }));
        books
    }

    fn close(mut self) {
        self.clusters.iter_mut().for_each(Cluster::stop);
        for side in SIDES {
            self.devices.detach(&self.shell, side);
        }
        assert_eq!(self.shell.json(&["pool", "check"])["is_sound"], true);
    }
}

/// Waits until there were so many more transfers. Without it a snapshot could be the one before.
fn wait_for_transfers(counts: &Counts, more: u64) {
    let goal = counts.finished() + more;
    while counts.finished() < goal {
        assert!(!counts.is_over(), "a worker ended");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn take(bank: &Bank, counts: &Counts) -> Vec<Taken> {
    let mut daemon = Connection::open(&bank.shell.socket());
    let snapshots = (0..SNAPSHOTS).map(|number| {
        wait_for_transfers(counts, PACE);
        let name = format!("s{number}");
        let finished_before = counts.finished();
        daemon.done("POST", "/v1/group/snapshot", &json!({ "snapshot": format!("bank@{name}") }));
        Taken { name, finished_before, begun_after: counts.begun() }
    });
    snapshots.collect()
}

#[test]
fn no_money_appears_or_vanishes_in_two_hundred_snapshots_of_a_group() {
    let Some(bank) = Bank::open() else { return };
    let taken = bank.under_load(|counts| take(&bank, counts));
    let next = AtomicUsize::new(0);
    let audit = || {
        let mut resolved = [0, 0];
        while let Some(taken) = taken.get(next.fetch_add(1, Ordering::SeqCst)) {
            let books = bank.audit(&taken.name);
            let transfers = books.check();
            let Taken { name, finished_before, begun_after } = taken;
            assert!(
                (*finished_before..=*begun_after).contains(&transfers),
                "{name} has {transfers} transfers: {finished_before} were finished before it, {begun_after} begun after"
            );
            resolved = [resolved[0] + books.committed, resolved[1] + books.rolled_back];
        }
        resolved
    };
    let [committed, rolled_back] = scope(|scope| {
        let auditors: Vec<_> = (0..AUDITORS).map(|_| scope.spawn(audit)).collect();
        let resolved = auditors.into_iter().map(|auditor| auditor.join().expect("an audit"));
        resolved.fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
    });
    println!("{SNAPSHOTS} snapshots: {committed} prepared transactions committed, {rolled_back} rolled back");
    assert!(committed > 0 && rolled_back > 0, "the snapshots met transfers in every state");
    bank.close();
}

/// The snapshots are taken as a script would do it, one command after the other.
#[test]
fn two_single_snapshots_lose_money_and_the_audit_sees_it() {
    let Some(bank) = Bank::open() else { return };
    bank.under_load(|counts| {
        for number in 0..TRIES {
            wait_for_transfers(counts, PACE);
            for side in SIDES {
                bank.shell.done(&["snapshot", "create", &format!("{side}@s{number}")]);
            }
        }
    });
    let appeared = (0..TRIES).map(|number| bank.audit(&format!("s{number}")).appeared());
    let found = appeared.enumerate().find(|(_, appeared)| *appeared != 0);
    let (number, appeared) = found.expect("an audit that finds nothing wrong here is worth nothing");
    println!("{appeared} appeared in the snapshots of try {number}");
    bank.close();
}
