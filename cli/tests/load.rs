//! Many volumes, many connections, many calls: all are answered, and memory stays within bounds.

#[macro_use]
mod shell;

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use shell::Shell;
use shell::http::Connection;

const VOLUMES: u64 = 200;
const CONNECTIONS: u64 = 64;
/// Rounds of each connection, each of five calls.
const ROUNDS: u64 = 30;
/// What the daemon may have in memory at its worst, shared memory included: its caches are 128 MiB for the map, 64 MiB
/// for RocksDB and 68 MiB of tail.
const RESIDENT_KIB_MAX: u64 = 400 << 10;

#[test]
fn two_hundred_volumes_and_sixty_four_clients() {
    let shell = Shell::served("1G");
    let mut connection = Connection::open(&shell.socket());
    for volume in 0..VOLUMES {
        let body = json!({ "volume": format!("v{volume}"), "bytes": 1 << 30, "tags": { "env": "load" } });
        done(&mut connection, "POST", "/v1/volume/create", &body.to_string());
    }
    let calls = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for client in 0..CONNECTIONS {
            let (shell, calls) = (&shell, &calls);
            scope.spawn(move || work(shell, client, calls));
        }
    });
    assert_eq!(calls.load(Ordering::Relaxed), CONNECTIONS * ROUNDS * 5);
    let volumes = done(&mut connection, "GET", "/v1/volume/list", "");
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

/// What one client does: it looks, takes a snapshot, holds it, lets it go and deletes it.
fn work(shell: &Shell, client: u64, calls: &AtomicU64) {
    let mut connection = Connection::open(&shell.socket());
    for round in 0..ROUNDS {
        let volume = (client + round * CONNECTIONS) % VOLUMES;
        let name = format!("v{volume}@c{client}-{round}");
        let snapshot = json!({ "snapshot": name }).to_string();
        let hold = json!({ "snapshot": name, "reason": "load" }).to_string();
        done(&mut connection, "POST", "/v1/snapshot/create", &snapshot);
        done(&mut connection, "POST", "/v1/snapshot/hold", &hold);
        let held = connection.ask("POST", "/v1/snapshot/delete", &json!({ "snapshots": [name] }).to_string());
        assert_eq!(held.status, 409, "a held snapshot stays: {held:?}");
        done(&mut connection, "POST", "/v1/snapshot/release", &hold);
        done(&mut connection, "POST", "/v1/snapshot/delete", &json!({ "snapshots": [name] }).to_string());
        calls.fetch_add(5, Ordering::Relaxed);
    }
}

fn done(connection: &mut Connection, method: &str, path: &str, body: &str) -> Value {
    let answered = connection.ask(method, path, body);
    assert_eq!(answered.status, 200, "{method} {path} {body}: {}", answered.body);
    serde_json::from_str(&answered.body).expect("JSON")
}
