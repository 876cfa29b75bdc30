//! Many volumes, many connections, many calls: all are answered, and memory stays within bounds.

#[macro_use]
mod shell;

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use shell::Shell;
use shell::http::Connection;

const VOLUMES: u64 = 200;
const CONNECTIONS: u64 = 64;
/// What each connection asks for: an hour of one call a second. A round is ten calls.
const CALLS: u64 = 3600;
const ROUNDS: u64 = CALLS / 10;
/// Rounds from one list of all volumes to the next.
const LIST_PERIOD: u64 = 20;
/// What the daemon may have in memory at its worst, shared memory included: its caches are 128 MiB for the map, 64 MiB
/// for RocksDB and 68 MiB of tail.
const RESIDENT_KIB_MAX: u64 = 400 << 10;

#[test]
fn two_hundred_volumes_and_sixty_four_clients() {
    let shell = Shell::served("1G");
    let mut connection = Connection::open(&shell.socket());
    for volume in 0..VOLUMES {
        let body = json!({ "volume": format!("v{volume}"), "bytes": 1 << 30, "tags": { "env": "load" } });
        connection.done("POST", "/v1/volume/create", &body);
    }
    let calls = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for client in 0..CONNECTIONS {
            let (shell, calls) = (&shell, &calls);
            scope.spawn(move || work(shell, client, calls));
        }
    });
    assert_eq!(calls.load(Ordering::Relaxed), CONNECTIONS * CALLS);
    let volumes = connection.done("GET", "/v1/volume/list", &Value::Null);
    let volumes = volumes["volumes"].as_array().expect("a list");
    assert_eq!(volumes.len() as u64, VOLUMES);
    assert!(volumes.iter().all(|volume| volume["snapshots"] == 0), "each client deleted what it took");

    let status =
        std::fs::read_to_string(format!("/proc/{}/status", shell.daemon().id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let resident_kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    println!("{} calls, at most {} MiB resident", calls.load(Ordering::Relaxed), resident_kib >> 10);
    assert!(resident_kib < RESIDENT_KIB_MAX, "{resident_kib} KiB");
    assert_eq!(shell.json(&["pool", "check"])["is_sound"], true);
}

/// What one client does: it takes a snapshot, looks, holds it, lets it go and deletes it.
fn work(shell: &Shell, client: u64, calls: &AtomicU64) {
    let mut connection = Connection::open(&shell.socket());
    for round in 0..ROUNDS {
        let volume = (client + round * CONNECTIONS) % VOLUMES;
        let name = format!("v{volume}@c{client}-{round}");
        let snapshot = json!({ "snapshot": name });
        let hold = json!({ "snapshot": name, "reason": "load" });
        let deletion = json!({ "snapshots": [name] });
        connection.done("POST", "/v1/snapshot/create", &snapshot);
        let path = format!("/v1/snapshot/show?snapshot=v{volume}%40c{client}-{round}");
        connection.done("GET", &path, &Value::Null);
        connection.done("POST", "/v1/snapshot/hold", &hold);
        let held = connection.ask("POST", "/v1/snapshot/delete", &deletion.to_string());
        assert_eq!(held.status, 409, "a held snapshot stays: {held:?}");
        look(&mut connection, volume, round);
        connection.done("POST", "/v1/snapshot/release", &hold);
        connection.done("POST", "/v1/snapshot/delete", &deletion);
        calls.fetch_add(10, Ordering::Relaxed);
    }
}

/// Four calls that change nothing.
fn look(connection: &mut Connection, volume: u64, round: u64) {
    let listed = connection.done("GET", &format!("/v1/snapshot/list?volume=v{volume}"), &Value::Null);
    assert!(listed["snapshots"].as_array().is_some_and(|snapshots| !snapshots.is_empty()), "{listed}");
    let shown = connection.done("GET", &format!("/v1/volume/show?volume=v{volume}"), &Value::Null);
    assert!(shown["snapshots"].as_u64() > Some(0), "{shown}");
    connection.done("GET", "/v1/pool/status", &Value::Null);
    let path = if round.is_multiple_of(LIST_PERIOD) { "/v1/volume/list" } else { "/v1/group/list" };
    connection.done("GET", path, &Value::Null);
}
