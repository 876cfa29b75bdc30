//! Room that comes back, through the real program: what was condemned a week ago is deleted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::shell::Shell;
use crate::volume::{change, filled, vault};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The library that sets the store's clock ahead.
fn later(shell: &Shell) -> PathBuf {
    let (source, library) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vault/later.c"), shell.path("later.so"));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).output();
    let built = built.expect("a C compiler, as RocksDB needs one");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// The files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.append(&mut files(&path)),
            false => found.push(path),
        }
    }
    found
}

fn count(report: &Value, list: &str) -> u64 {
    report[list].as_u64().unwrap_or_else(|| panic!("no {list} in {report}"))
}

#[test]
fn what_was_condemned_a_week_ago_is_deleted_and_nothing_else() {
    let shell = Shell::with_pool("64M");
    vault(&shell);
    let mut content = filled(&shell, 2);
    for snapshot in ["a", "b"] {
        let blocks: Vec<usize> = (0..100).collect();
        change(&shell, "pg", &mut content, &blocks);
        let name = format!("pg@{snapshot}");
        shell.done(&["snapshot", "create", &name]);
        shell.done(&["vault", "send", &name, "main", "--baseline"]);
    }
    let needed = shell.json(&["vault", "ls", "main", "--point", "pg@b"]);
    shell.done(&["vault", "prune", "main", "--point", "pg@a"]);
    // Three weeks pass for what lies there.
    for path in files(&shell.path("vault")) {
        let file = File::options().write(true).open(&path).expect("it is there");
        let written = file.metadata().and_then(|metadata| metadata.modified()).expect("its time");
        file.set_modified(written - DAY * 21).expect("its time is set");
    }
    let library = later(&shell);
    let reclaim = |days: u32, options: &[&str]| -> Value {
        let mut command =
            shell.command(&[["vault", "reclaim", "main", "--json"].as_slice(), options].concat());
        let output = command.env("LD_PRELOAD", &library).env("LATER_DAYS", days.to_string()).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let before = files(&shell.path("vault/packs"));
    let condemned = reclaim(0, &[]);
    assert_eq!(
        (count(&condemned, "deleted_objects"), files(&shell.path("vault/packs"))),
        (0, before.clone())
    );
    assert_eq!(count(&reclaim(6, &[]), "deleted_objects"), 0, "a week has not passed");
    let plan = reclaim(8, &["--dry-run"]);
    assert_eq!(files(&shell.path("vault/packs")), before, "a plan deletes nothing: {plan}");

    let done = reclaim(8, &[]);
    assert_eq!(count(&done, "deleted_objects"), 3, "the pack, the run and the point of pg@a: {done}");
    assert_eq!(files(&shell.path("vault/packs")).len(), before.len() - 1);
    for object in needed["objects"].as_array().expect("a list") {
        assert!(shell.exists(Path::new("vault").join(object["key"].as_str().expect("a key"))), "{object}");
    }
    let left = shell.json(&["vault", "ls", "main"]);
    assert_eq!((&left["dead_bytes"], left["objects"].is_array()), (&json!(0), true));
    assert_eq!(count(&reclaim(16, &[]), "deleted_objects"), 0, "nothing is left to delete");
    shell.done(&["vault", "verify", "main", "--depth", "content"]);
    shell.done(&["vault", "check", "main"]);
    shell.done(&["vault", "restore", "main", "pg", "--to", "./out"]);
    assert!(shell.read("out") == content);
    let sent = shell.json(&["vault", "send", "pg", "main"]);
    assert_eq!(sent["points"][0]["kind"], "increment", "a send goes on from what is left");
}

#[test]
fn what_is_needed_of_a_mostly_dead_pack_leaves_it() {
    let shell = Shell::with_pool("64M");
    vault(&shell);
    let mut content = filled(&shell, 2);
    shell.done(&["vault", "send", "pg", "main"]);
    let first = shell.json(&["vault", "points", "main"])["points"][0]["id"].clone();
    // Nine blocks in ten change, and the point that saw the others leaves.
    let changed: Vec<usize> = (0..512).filter(|block| block % 10 != 0).collect();
    change(&shell, "pg", &mut content, &changed);
    shell.done(&["vault", "send", "pg", "main"]);
    shell.done(&["vault", "prune", "main", "--point", first.as_str().expect("an identity")]);
    let before = shell.json(&["vault", "points", "main"])["points"][0]["id"].clone();

    let plan = shell.json(&["vault", "reclaim", "main", "--compact", "--dry-run"]);
    let packs = plan["compaction"]["packs"].as_array().expect("packs");
    assert_eq!(
        packs.iter().map(|pack| (&pack["live_blocks"], &pack["blocks"])).collect::<Vec<_>>(),
        [(&json!(52), &json!(512))]
    );
    assert_eq!(shell.json(&["vault", "points", "main"])["points"][0]["id"], before, "a plan moves nothing");

    let said = shell.done(&["vault", "reclaim", "main", "--compact"]);
    assert!(said.contains("1 pack (2") && said.contains(" for 1 recovery point\n"), "{said}");
    let after = shell.json(&["vault", "points", "main"])["points"][0]["id"].clone();
    assert_ne!(after, before, "it goes on as another");
    for point in [&before, &after] {
        let point = point.as_str().expect("an identity");
        shell.done(&["vault", "restore", "main", point, "--to", "./out"]);
        assert!(shell.read("out") == content, "{point} is not what was sent");
        std::fs::remove_file(shell.path("out")).expect("removed");
    }
    let reached = shell.json(&["vault", "ls", "main", "--point", "pg"]);
    let reached = reached["objects"].as_array().expect("a list").iter();
    assert!(reached.map(|object| &object["key"]).all(|key| *key != packs[0]["object"]), "the pack is left");
    let again = shell.json(&["vault", "reclaim", "main", "--compact"]);
    assert_eq!(again["compaction"]["packs"], json!([]), "there is nothing more to copy");
    shell.done(&["vault", "verify", "main", "--depth", "content"]);
    shell.done(&["vault", "check", "main"]);
    change(&shell, "pg", &mut content, &[7]);
    let sent = shell.json(&["vault", "send", "pg", "main"]);
    assert_eq!(sent["points"][0]["kind"], "increment", "a send goes on from the point that moved");
}
