//! A send that is killed in the middle harms nothing, and the next one goes on with it.

use std::path::Path;

use crate::shell::{Shell, noise};
use crate::volume::{MIB, vault};

/// Whether a pack has been stored: from then on a send has something to lose.
fn has_pack(packs: &Path) -> bool {
    let below =
        |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    below(packs).any(|epoch| below(&epoch).any(|folder| below(&folder).next().is_some()))
}

#[test]
fn a_killed_send_is_gone_on_with() {
    let shell = Shell::with_pool("512M");
    vault(&shell);
    let content = noise(3, 192 * MIB);
    shell.write("content", &content);
    shell.done(&["import", "content", "pg"]);
    // Slow enough that it can't be done before it is seen.
    let mut send = shell.start(&["vault", "send", "pg", "main", "--rate", "48M"]);
    while !has_pack(&shell.path("vault/packs")) {
        assert!(send.try_wait().expect("its state").is_none(), "it ended before it was killed");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    send.kill().expect("it was running");
    assert!(!send.wait().expect("it ended").success());

    let points = shell.json(&["vault", "points", "main"]);
    assert_eq!(points["points"], serde_json::json!([]), "no half point is seen");
    let taken = shell.json(&["snapshot", "list", "pg"]);
    let pending = taken["snapshots"][0]["name"].as_str().expect("the snapshot of the killed send").to_owned();
    let stored = packs_bytes(&shell);

    shell.done(&["vault", "send", "pg", "main"]);
    let points = shell.json(&["vault", "points", "main"]);
    let points = points["points"].as_array().expect("a list");
    assert_eq!(points[0]["snapshot"], pending.as_str(), "what was begun comes first");
    assert_eq!((points.len(), &points[1]["changed_bytes"]), (2, &0.into()), "then the state of now");
    let twice = packs_bytes(&shell) - (192 << 20);
    assert!(stored >= 60 << 20 && twice <= 65 << 20, "{stored} bytes were there, {twice} were sent again");
    let left = shell.json(&["snapshot", "list", "pg"]);
    assert_eq!(left["snapshots"].as_array().map(Vec::len), Some(1), "the pending snapshot went");
    shell.done(&["vault", "restore", "main", "pg", "--to", "./out"]);
    assert!(shell.read("out") == content);
    shell.done(&["vault", "verify", "main", "--depth", "content"]);
}

fn packs_bytes(shell: &Shell) -> u64 {
    let objects = shell.json(&["vault", "ls", "main"]);
    let packs = objects["objects"].as_array().expect("a list").iter();
    let packs = packs.filter(|one| one["key"].as_str().is_some_and(|key| key.starts_with("packs/")));
    packs.map(|one| one["bytes"].as_u64().expect("bytes")).sum()
}

/// A daemon dies with the send that it was asked for; the next one goes on with the same snapshot.
#[test]
fn a_send_whose_daemon_was_killed_is_gone_on_with() {
    let mut shell = Shell::served("512M");
    vault(&shell);
    let content = noise(4, 192 * MIB);
    shell.write("content", &content);
    shell.done(&["import", "content", "pg"]);
    let mut send = shell.start(&["vault", "send", "pg", "main", "--rate", "48M"]);
    while !has_pack(&shell.path("vault/packs")) {
        assert!(send.try_wait().expect("its state").is_none(), "it ended before it was killed");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    shell.kill();
    assert!(!send.wait().expect("it ended").success(), "who asked hears of it");
    shell.serve(&[]);
    let taken = shell.json(&["snapshot", "list", "pg"]);
    let taken = taken["snapshots"].as_array().expect("a list");
    assert_eq!(taken.len(), 1, "{taken:?}");
    let stored = packs_bytes(&shell);

    shell.done(&["vault", "send", "pg", "main"]);
    let points = shell.json(&["vault", "points", "main"]);
    let points = points["points"].as_array().expect("a list");
    assert_eq!((points.len(), &points[0]["snapshot"]), (2, &taken[0]["name"]), "what was begun, and now");
    let twice = packs_bytes(&shell) - (192 << 20);
    assert!(stored >= 60 << 20 && twice <= 65 << 20, "{stored} bytes were there, {twice} were sent again");
    shell.done(&["vault", "restore", "main", "pg", "--to", "./out"]);
    assert!(shell.read("out") == content);
    shell.done(&["vault", "verify", "main", "--depth", "content"]);
    shell.done(&["vault", "check", "main"]);
}

/// A snapshot that was sent, and stays for another reason, was taken for one that a killed send had left.
#[test]
fn only_a_snapshot_newer_than_what_was_sent_is_pending() {
    let shell = Shell::with_pool("64M");
    vault(&shell);
    shell.write("content", &noise(5, MIB));
    shell.done(&["import", "content", "pg"]);
    shell.done(&["vault", "send", "pg", "main"]);
    let first = shell.json(&["snapshot", "list", "pg"])["snapshots"][0]["name"].as_str().map(str::to_owned);
    let first = format!("pg@{}", first.expect("a name"));
    shell.done(&["snapshot", "hold", &first, "--reason", "mine"]);
    shell.done(&["vault", "send", "pg", "main"]);
    shell.done(&["vault", "prune", "main", "--point", &first]);
    shell.done(&["vault", "send", "pg", "main"]);
    let points = shell.json(&["vault", "points", "main"]);
    let points = points["points"].as_array().expect("a list");
    assert_eq!(points.len(), 2, "the pruned point does not come back: {points:?}");
    let kept = shell.json(&["snapshot", "list", "pg"]);
    assert_eq!(kept["snapshots"].as_array().map(Vec::len), Some(2), "the held one, and the newest");
}
