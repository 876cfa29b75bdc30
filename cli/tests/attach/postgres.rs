//! PostgreSQL on an attached volume, through the whole stack: file system, loop device, FUSE, NBD, engine.
//!
//! pgbench writes while snapshots are taken and the server is killed under it. At the end the database is whole, and
//! so is each snapshot, cloned, attached and started: every index fits its table (pg_amcheck), every page has its
//! checksum, and in the balances of pgbench no money appeared or vanished.
//!
//! `FIRN_PG_SECONDS` and `FIRN_PG_SNAPSHOTS` make it longer: the seconds of load, the snapshots that are started.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::stage::{Stage, pause};

const GIB: u64 = 1 << 30;
/// Kills, spread over the load.
const KILLS: u64 = 5;

/// A mounted volume with a PostgreSQL on it.
struct Postgres {
    target: PathBuf,
    /// Not on the volume: what is left of a socket there would be in the snapshots.
    sockets: TempDir,
    programs: PathBuf,
}

impl Postgres {
    /// One whose data is, or will be, in `target`, a mount.
    fn at(target: &Path) -> Self {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("the package postgresql is needed");
        let programs = versions.map(|version| version.expect("a version").path().join("bin")).max();
        let sockets = place();
        give(sockets.path());
        Self { target: target.to_owned(), sockets, programs: programs.expect("a version") }
    }

    /// A program of PostgreSQL's, run as its user.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(self.programs.join(program)).args(arguments);
        command
            .current_dir("/")
            .env("PGHOST", self.sockets.path())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().expect("runuser runs");
        let told = String::from_utf8_lossy(&output.stderr);
        let log = std::fs::read_to_string(self.target.join("log")).unwrap_or_default();
        assert!(output.status.success(), "{program} {arguments:?}: {told}\n{log}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn data(&self) -> String {
        self.target.join("data").to_str().expect("UTF-8").to_owned()
    }

    /// A new database with page checksums, and pgbench's tables.
    fn create(&self) {
        give(&self.target);
        self.run("initdb", &["--data-checksums", "--auth", "trust", "-D", &self.data()]);
        self.start();
        self.run("pgbench", &["--initialize", "--quiet", "--scale", "10"]);
        self.run("psql", &["-qc", "create extension amcheck"]);
    }

    fn start(&self) {
        let target = self.sockets.path().to_str().expect("UTF-8");
        let options =
            format!("-c listen_addresses='' -c unix_socket_directories='{target}' -c max_wal_size=256MB");
        let log = self.target.join("log");
        let log = log.to_str().expect("UTF-8");
        // It goes on in the background and must not keep our pipes.
        let arguments = ["start", "-w", "-s", "-t", "120", "-D", &self.data(), "-o", &options, "-l", log];
        let mut command = self.command("pg_ctl", &arguments);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs");
        assert!(status.success(), "{}", std::fs::read_to_string(log).unwrap_or_default());
    }

    fn stop(&self) {
        self.run("pg_ctl", &["stop", "-w", "-s", "-m", "fast", "-D", &self.data()]);
    }

    fn load(&self, seconds: u64) -> Child {
        let mut command = self.command("pgbench", &["-c", "4", "-j", "2", "-n", "-T", &seconds.to_string()]);
        command.stdout(Stdio::null()).spawn().expect("pgbench runs")
    }

    /// Looks at everything; the database is stopped afterwards.
    fn verify(&self) -> u64 {
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

/// Makes a directory PostgreSQL's own.
fn give(directory: &Path) {
    let status = Command::new("chown").arg("postgres:").arg(directory).status().expect("chown runs");
    assert!(status.success());
}

/// A place to mount that another user may go through.
fn place() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
    folder
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn run(file_system: &str) {
    let Some(mut stage) = Stage::new(&[("pg", 2 * GIB)]) else { return };
    let (folder, other) = (place(), place());
    let target = folder.path().to_str().expect("UTF-8");
    stage.done(&["attach", "pg", "--mkfs", file_system, "--mount", target]);
    let postgres = Postgres::at(folder.path());
    postgres.create();

    let seconds = setting("FIRN_PG_SECONDS", 12);
    let mut load = postgres.load(seconds);
    let mut snapshots = 0;
    for second in 1..seconds {
        pause(1000);
        stage.tell(&format!("snapshot pg s{second}"));
        snapshots = second;
        if second * (KILLS + 1) % seconds < KILLS + 1 {
            stage.kill();
            stage.start();
        }
    }
    assert!(load.wait().expect("it ends").success(), "pgbench saw an error");
    let transactions = postgres.verify();
    assert!(transactions > 0);
    let reconnects = stage.list()[0]["reconnects"].as_u64().expect("a number");
    assert!(reconnects >= KILLS, "{reconnects} reconnects");
    stage.done(&["detach", target]);

    let wanted = setting("FIRN_PG_SNAPSHOTS", 3).min(snapshots);
    let mut before = 0;
    for number in 1..=wanted {
        let snapshot = snapshots * number / wanted;
        let clone = format!("clone{snapshot}");
        stage.tell(&format!("clone pg s{snapshot} {clone}"));
        stage.done(&["attach", &clone, "--mount", other.path().to_str().expect("UTF-8")]);
        let postgres = Postgres::at(other.path());
        // The snapshot was taken of a running database, whose lock file names a process of then.
        std::fs::remove_file(other.path().join("data/postmaster.pid")).expect("it was running");
        postgres.start();
        let then = postgres.verify();
        assert!(before <= then && then <= transactions, "{before} {then} {transactions}");
        before = then;
        stage.done(&["detach", &clone]);
    }
    println!(
        "{file_system}: {transactions} transactions, {wanted} of {snapshots} snapshots recovered, {KILLS} kills"
    );
}

#[test]
fn postgres_lives_on_ext4_through_kills_and_in_snapshots() {
    run("ext4");
}

#[test]
fn postgres_lives_on_xfs_through_kills_and_in_snapshots() {
    run("xfs");
}
