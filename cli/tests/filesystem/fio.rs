//! `fio` writes to an attached device and verifies every block, with snapshots taken meanwhile, and with rollbacks.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::shell::Shell;
use crate::shell::devices::Devices;
use crate::shell::http::Connection;

/// Times that the volume goes back and forth between two contents.
const ROUNDS: u64 = 3;

/// Writes a content, or looks for it: the content's number and the place, all over, in blocks of random sizes that are
/// the same each time. (A checksum in each block would not do: fio finds that right whichever content it is of.)
fn fio(device: &Path, content: u64, only: &[&str]) -> Command {
    let mut fio = Command::new("fio");
    fio.args(["--name=verify", "--ioengine=libaio", "--direct=1", "--iodepth=16", "--rw=randwrite"]);
    fio.args([
        "--bsrange=4k-64k",
        "--size=96m",
        "--verify=pattern",
        "--verify_fatal=1",
        "--verify_state_save=0",
    ]);
    fio.arg(format!("--verify_pattern=\"content {content}\"%o")).arg("--filename").arg(device).args(only);
    fio
}

/// Whether the device holds a content.
fn holds(device: &Path, content: u64) -> bool {
    let Output { status, .. } = fio(device, content, &["--verify_only"]).output().expect("fio runs");
    status.success()
}

/// Writes and verifies, with a snapshot now and then.
fn write(shell: &Shell, device: &Path, content: u64) {
    let mut daemon = Connection::open(&shell.socket());
    let mut fio: Child = fio(device, content, &[]).stdout(Stdio::null()).spawn().expect("fio runs");
    let mut snapshots = 0;
    let status = loop {
        if let Some(status) = fio.try_wait().expect("looked at") {
            break status;
        }
        let snapshot = format!("disk@{content}-{snapshots}");
        daemon.done("POST", "/v1/snapshot/create", &json!({ "snapshot": snapshot }));
        snapshots += 1;
        std::thread::park_timeout(Duration::from_millis(20));
    };
    assert!(status.success(), "fio found an error");
    assert!(snapshots > 0);
    daemon.done("POST", "/v1/snapshot/create", &json!({ "snapshot": format!("disk@{content}") }));
}

/// Rolls the volume back, and attaches it again.
fn roll_back(shell: &Shell, devices: &Devices, snapshot: &str, keep_as: &str) -> PathBuf {
    devices.detach(shell, "disk");
    let body = json!({ "snapshot": snapshot, "keep_as": keep_as });
    Connection::open(&shell.socket()).done("POST", "/v1/snapshot/rollback", &body);
    devices.attach(shell, "disk")
}

#[test]
fn fio_finds_what_it_wrote_through_snapshots_and_rollbacks() {
    let shell = Shell::served("4G");
    let Some(devices) = Devices::of(&shell) else { return };
    shell.done(&["volume", "create", "disk", "--size", "128M"]);
    let mut device = devices.attach(&shell, "disk");
    write(&shell, &device, 1);
    for round in 0..ROUNDS {
        let (old, new) = (round + 1, round + 2);
        write(&shell, &device, new);
        assert!(!holds(&device, old), "a verification that can't fail is worth nothing");
        let kept = format!("kept{round}");
        device = roll_back(&shell, &devices, &format!("disk@{old}"), &kept);
        assert!(holds(&device, old), "rolled back to {old}");
        for (snapshot, content) in [(kept, new), (new.to_string(), new), (old.to_string(), old)] {
            let clone = format!("clone{round}-{snapshot}");
            shell.done(&["clone", "create", &format!("disk@{snapshot}"), &clone]);
            assert!(holds(&devices.attach(&shell, &clone), content), "{clone}");
            devices.detach(&shell, &clone);
        }
        device = roll_back(&shell, &devices, &format!("disk@{new}"), &format!("again{round}"));
        assert!(holds(&device, new), "and forth to {new}");
    }
    devices.detach(&shell, "disk");
    assert_eq!(shell.json(&["pool", "check"])["is_sound"], true);
}
