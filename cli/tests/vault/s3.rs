//! A bucket with Object Lock, on a real service: what is locked until a date stays until then, whoever asks.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::shell::Shell;
use crate::volume::{change, filled};

/// The service that the tests of all crates share. While the file is locked the service stays.
struct Service {
    directory: PathBuf,
    environment: Vec<(String, String)>,
    _lock: File,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../replicator/tests/s3-server")
}

impl Service {
    fn borrow() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s3-server");
        let starting = File::create(directory.with_extension("starting")).expect("a file");
        starting.lock().expect("it is locked");
        let lock = File::create(directory.with_extension("lock")).expect("a file");
        lock.lock_shared().expect("it is locked");
        let started = Command::new(script()).arg("lend").arg(&directory).output().expect("it runs");
        let said = String::from_utf8(started.stdout).expect("UTF-8");
        assert!(started.status.success(), "{said}{}", String::from_utf8_lossy(&started.stderr));
        let variables = said.lines().filter_map(|line| line.split_once('='));
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { directory, environment, _lock: lock }
    }

    fn value(&self, wanted: &str) -> &str {
        self.environment
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
            .expect("a value")
    }

    /// The address of a new bucket with Object Lock, and the file with what its owner signs with.
    fn bucket(&self, shell: &Shell) -> String {
        let name = format!("firn-cli-{}", std::process::id());
        let made =
            Command::new(script()).arg("bucket").arg(&self.directory).arg(&name).output().expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let keys = [self.value("AWS_ACCESS_KEY_ID"), self.value("AWS_SECRET_ACCESS_KEY")];
        let text = format!("[default]\naws_access_key_id={}\naws_secret_access_key={}\n", keys[0], keys[1]);
        shell.write("credentials", text.as_bytes());
        let (endpoint, region) = (self.value("S3_ENDPOINT"), self.value("AWS_REGION"));
        let credentials = shell.path("credentials");
        format!(
            "s3://{name}/pg?endpoint={endpoint}&region={region}&path-style=true&credentials={}",
            credentials.display()
        )
    }
}

#[test]
fn a_locked_point_stays_until_its_date() {
    let service = Service::borrow();
    let shell = Shell::served("128M");
    let address = service.bucket(&shell);
    let made = shell.json(&[
        "vault",
        "init",
        "main",
        &address,
        "--lock",
        "compliance",
        "--encrypt",
        "--key-file",
        "key",
    ]);
    assert_eq!((&made["lock"], &made["probe"]["mode"]), (&json!("compliance"), &json!("worm")), "{made}");
    let again = shell.run(&["vault", "init", "other", &address, "--dry-run"]);
    assert_eq!(again.status, Some(4), "{}", again.stderr);
    assert!(again.stderr.contains(" holds a vault already\nnext: `firn vault add "), "{}", again.stderr);
    let mut content = filled(&shell, 4);
    let baseline = shell.json(&["vault", "send", "pg", "main", "--retain", "1h"]);
    change(&shell, "pg", &mut content, &[5, 6]);
    let sent = shell.json(&["vault", "send", "pg", "main"]);
    assert_eq!(sent["points"][0]["kind"], "increment");

    let first = &baseline["points"][0]["id"].as_str().expect("an id")[..12];
    let points = shell.json(&["vault", "points", "main"]);
    let locked: Vec<_> =
        points["points"].as_array().expect("a list").iter().map(|one| &one["is_locked"]).collect();
    assert_eq!(locked, [&json!(true), &json!(false)]);
    let objects = shell.json(&["vault", "ls", "main", "--point", first]);
    let objects = objects["objects"].as_array().expect("a list");
    // Pack, run and point; settings, slot and data key. Those that open a point were once left unlocked by a send: who
    // deleted them had deleted the point.
    assert_eq!(objects.len(), 6, "{objects:?}");
    assert!(objects.iter().all(|one| one["lock"]["mode"] == "compliance"), "{objects:?}");
    let verified = shell.json(&["vault", "verify", "main"]);
    assert_eq!(verified["damaged"], json!([]), "all that must be locked is");
    let all = shell.json(&["vault", "ls", "main"]);
    let all = all["objects"].as_array().expect("a list").iter();
    let log: Vec<_> =
        all.filter(|one| one["key"].as_str().is_some_and(|key| key.starts_with("log/"))).collect();
    assert!(log.len() >= 5, "init, slot, data key and two commits: {log:?}");
    assert!(log.iter().all(|one| one["lock"]["mode"] == "compliance"), "the proof is locked too: {log:?}");
    shell.done(&["vault", "check", "main"]);

    let ran = shell.run(&["vault", "prune", "main", "--point", first]);
    assert_eq!(ran.status, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains(" must stay: it is retained until "), "{}", ran.stderr);
    let pruned = shell.json(&["vault", "prune", "main", "--keep", "last=1"]);
    assert_eq!(pruned["points"][0]["kept"], true, "{pruned}");
    shell.done(&["vault", "retain", "main", first, "2h"]);
    assert_eq!(
        shell.run(&["vault", "retain", "main", first, "1h"]).status,
        Some(4),
        "a date only moves later"
    );
    shell.done(&["vault", "restore", "main", "pg", "--to", "pg2"]);
    shell.done(&["export", "pg2", "out"]);
    assert!(shell.read("out") == content);
    shell.done(&["vault", "check", "main"]);
}
