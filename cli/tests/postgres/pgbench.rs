//! A PostgreSQL that works for minutes while a snapshot is taken each second and the daemon is killed under it.
//!
//! There are two at once, on an ext4 and on an xfs, each on a volume of its own: every kill hits both. At the end the
//! databases are whole, and so are random snapshots of them, cloned, attached and started: every index fits its table
//! (pg_amcheck), every page has its checksum, and in the balances of pgbench no money appeared or vanished.
//!
//! `FIRN_PG_SECONDS` and `FIRN_PG_SNAPSHOTS` make it longer or shorter: the seconds of load, the snapshots of each
//! volume that are started.

use std::process::{Child, Stdio};
use std::thread::scope;
use std::time::Duration;

use serde_json::json;

use crate::cluster::Cluster;
use crate::shell::Shell;
use crate::shell::devices::Devices;
use crate::shell::http::Connection;
use crate::shell::random::{Random, seed};

/// The volumes, which are named after their file systems.
const VOLUMES: [&str; 2] = ["ext4", "xfs"];
/// Kills, spread over the load.
const KILLS: u64 = 5;
/// PostgreSQL's checkpoints come every few seconds, so that kills meet pages on their way and not only its log.
const SETTINGS: [&str; 2] = ["max_wal_size=64MB", "shared_buffers=16MB"];
/// A clone is thrown away when it was looked at.
const CLONE_SETTINGS: [&str; 3] = ["fsync=off", "shared_buffers=32MB", "autovacuum=off"];

impl Cluster {
    /// Makes pgbench's tables.
    fn prepare(&self) {
        self.run("pgbench", &["--initialize", "--quiet", "--scale", "5"]);
        self.run("psql", &["-qc", "create extension amcheck"]);
    }

    fn load(&self, seconds: u64) -> Child {
        let mut command = self.command("pgbench", &["-c", "4", "-j", "1", "-n", "-T", &seconds.to_string()]);
        command.stdout(Stdio::null()).spawn().expect("pgbench runs")
    }

    /// Looks at everything, stops the server, and gives the number of transactions that there were.
    fn verify(&mut self) -> u64 {
        self.run("pg_amcheck", &["--heapallindexed", "--database", "postgres"]);
        let sums = "select (select sum(abalance) from pgbench_accounts) || ' ' ||
            (select sum(tbalance) from pgbench_tellers) || ' ' || (select sum(bbalance) from pgbench_branches) || ' ' ||
            (select coalesce(sum(delta), 0) from pgbench_history) || ' ' || (select count(*) from pgbench_history)";
        let sums = self.run("psql", &["-Atqc", sums]);
        let sums: Vec<i64> = sums.split_whitespace().map(|sum| sum.parse().expect("a number")).collect();
        let [accounts, tellers, branches, history, transactions] = sums[..] else { panic!("{sums:?}") };
        assert_eq!((accounts, tellers, branches), (history, history, history), "money appeared or vanished");
        self.stop();
        self.run("pg_checksums", &["--check", "-D", &self.data()]);
        u64::try_from(transactions).expect("a count")
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Works for so many seconds with a snapshot of each volume in each, and kills in between. Gives the number of
/// snapshots.
fn work(shell: &mut Shell, clusters: &[Cluster; 2], seconds: u64) -> u64 {
    let mut loads = clusters.each_ref().map(|cluster| cluster.load(seconds));
    let mut snapshots = 0;
    while loads.iter_mut().any(|load| load.try_wait().expect("looked at").is_none()) {
        std::thread::park_timeout(Duration::from_secs(1));
        snapshots += 1;
        for volume in VOLUMES {
            shell.done(&["snapshot", "create", &format!("{volume}@s{snapshots}")]);
        }
        // With room to spare at the end: a turn takes longer than its second.
        let between = (seconds / (KILLS + 2)).max(1);
        if snapshots % between == 0 && snapshots / between <= KILLS {
            let is_loaded = loads.iter_mut().all(|load| load.try_wait().expect("looked at").is_none());
            assert!(is_loaded, "pgbench ended before the kills did");
            shell.kill();
            shell.serve(&[]);
        }
    }
    for mut load in loads {
        assert!(load.wait().expect("it ends").success(), "pgbench saw an error");
    }
    snapshots
}

/// Some of the numbers from 1 on, in order.
fn choose(snapshots: u64, wanted: u64, seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    let mut chosen: Vec<u64> = (1..=snapshots).collect();
    while chosen.len() as u64 > wanted {
        chosen.swap_remove(usize::try_from(random.below(chosen.len() as u64)).expect("an index"));
    }
    chosen.sort_unstable();
    chosen
}

/// Clones, attaches and starts these snapshots of a volume, whose last state has `end` transactions.
fn recover(shell: &Shell, devices: &Devices, volume: &str, snapshots: &[u64], end: u64) {
    let mut daemon = Connection::open(&shell.socket());
    let mut before = 0;
    for snapshot in snapshots {
        let clone = format!("{volume}-s{snapshot}");
        let body = json!({ "snapshot": format!("{volume}@s{snapshot}"), "volume": clone });
        daemon.done("POST", "/v1/clone/create", &body);
        let mut cluster = Cluster::left_at(&devices.mount(shell, &clone, None));
        cluster.start(&CLONE_SETTINGS);
        let then = cluster.verify();
        assert!(before <= then && then <= end, "{clone} has {then} transactions, of {before} to {end}");
        before = then;
        devices.detach(shell, &clone);
        daemon.done("POST", "/v1/volume/delete", &json!({ "volumes": [clone] }));
    }
    println!("{volume}: {end} transactions, {KILLS} kills, snapshots {snapshots:?} recovered");
}

#[test]
fn postgres_lives_on_ext4_and_xfs_through_kills_and_in_snapshots() {
    let mut shell = Shell::served("24G");
    let Some(devices) = Devices::of(&shell) else { return };
    let mut clusters = VOLUMES.map(|volume| {
        shell.done(&["volume", "create", volume, "--size", "2G"]);
        let mut cluster = Cluster::create(&devices.mount(&shell, volume, Some(volume)));
        cluster.start(&SETTINGS);
        cluster.prepare();
        cluster
    });
    let snapshots = work(&mut shell, &clusters, setting("FIRN_PG_SECONDS", 120));
    // What the kernel has in memory is right whatever became of the volume: mounted anew, everything is read from it.
    for (volume, cluster) in VOLUMES.into_iter().zip(&mut clusters) {
        let reconnects = devices.view(&shell, volume)["reconnects"].as_u64().expect("a number");
        assert!(reconnects >= KILLS, "{reconnects} reconnects");
        cluster.stop();
        devices.detach(&shell, volume);
        devices.mount(&shell, volume, None);
        cluster.start(&SETTINGS);
    }
    let transactions = clusters.each_mut().map(Cluster::verify);
    for (volume, transactions) in VOLUMES.into_iter().zip(transactions) {
        assert!(transactions > 0);
        devices.detach(&shell, volume);
    }
    let (wanted, seed) = (setting("FIRN_PG_SNAPSHOTS", 10), seed());
    scope(|scope| {
        for (number, (volume, end)) in VOLUMES.into_iter().zip(transactions).enumerate() {
            let (shell, devices) = (&shell, &devices);
            let chosen = choose(snapshots, wanted, seed + number as u64);
            scope.spawn(move || recover(shell, devices, volume, &chosen, end));
        }
    });
    assert_eq!(shell.json(&["pool", "check"])["is_sound"], true);
}
