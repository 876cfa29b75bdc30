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
