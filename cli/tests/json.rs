//! The JSON that other programs rely on: names and types of fields, sizes in bytes.

#[macro_use]
mod shell;

use serde_json::{Value, json};
use shell::{Shell, noise};

/// Takes away what differs from run to run, and where a daemon serves it, after a look at it.
fn without_times(mut value: Value) -> Value {
    let object = value.as_object_mut().expect("an object");
    if let Some(uri) = object.remove("nbd_uri") {
        let uri = uri.as_str().expect("a string");
        assert!(uri.starts_with("nbd+unix:///pg") && uri.ends_with("nbd.sock"), "{uri}");
    }
    let created_ms = object.remove("created_ms").expect("created_ms");
    assert!(created_ms.as_u64().is_some_and(|ms| ms > 1_700_000_000_000), "{created_ms}");
    let created = object.remove("created").expect("created");
    let created = created.as_str().expect("a string");
    assert!(created.ends_with('Z') && created.len() == "2026-11-23T04:13:03.042Z".len(), "{created}");
    value
}

both_ways! {
    a_volume("64M")
    a_snapshot("64M")
    a_delta("64M")
    import_and_export("64M")
    deletes_and_rollbacks_say_whether_they_were_real("64M")
    a_pool("64M")
    an_error("64M")
}

fn fill(shell: &Shell) {
    shell.write("file", &noise(1, 8192));
    shell.done(&["import", "file", "pg", "--size", "1G"]);
    shell.done(&["volume", "tag", "pg", "env=production"]);
    shell.done(&["snapshot", "create", "pg@one"]);
}

fn a_volume(shell: &Shell) {
    fill(shell);
    let volume = json!({
        "id": 1, "name": "pg", "bytes": 1 << 30, "mapped_bytes": 8192, "group": null, "origin": null,
        "snapshots": 1, "tags": { "env": "production" },
    });
    assert_eq!(without_times(shell.json(&["volume", "show", "pg"])), volume);
    let mut list = shell.json(&["volume", "list"]);
    assert_eq!(without_times(list["volumes"][0].take()), volume);
    let clone = shell.json(&["clone", "create", "pg@one", "test"]);
    assert_eq!(clone["origin"], json!({ "volume": "pg", "snapshot": "one" }));
}

fn a_snapshot(shell: &Shell) {
    fill(shell);
    let snapshot = json!({
        "key": { "layer": 1, "epoch": 1 }, "name": "one", "volume": "pg", "bytes": 1 << 30, "group": null,
        "referenced_bytes": 8192, "exclusive_bytes": 0, "clones": 0, "holds": ["user"], "tags": {},
    });
    assert_eq!(without_times(shell.json(&["snapshot", "hold", "pg@one"])), snapshot);
    assert_eq!(without_times(shell.json(&["snapshot", "show", "pg@one"])), snapshot);
    assert_eq!(shell.json(&["snapshot", "list", "pg"])["snapshots"][0]["name"], "one");
}

fn a_delta(shell: &Shell) {
    fill(shell);
    let mut content = noise(1, 8192);
    content[4096..].fill(0);
    shell.write("file", &content);
    shell.done(&["import", "file", "pg", "--overwrite"]);
    shell.done(&["snapshot", "create", "pg@two"]);
    let sums = json!({
        "older": "pg@one", "newer": "pg@two", "changed_bytes": 4096, "data_bytes": 0, "hole_bytes": 4096,
        "extents_total": 1,
    });
    assert_eq!(shell.json(&["delta", "pg@one", "pg@two"]), sums);
    let lines = shell.done(&["delta", "pg@one", "pg@two", "--extents", "--json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines, [json!({ "offset": 4096, "length": 4096, "kind": "hole" }), sums]);
}

fn import_and_export(shell: &Shell) {
    fill(shell);
    let imported = shell.json(&["import", "file", "copy"]);
    let expected = json!({
        "volume": "copy", "file": "file", "bytes": 8192, "data_bytes": 8192, "written_bytes": 8192,
    });
    assert_eq!(imported, expected);
    let exported = shell.json(&["export", "pg@one", "out"]);
    assert_eq!(exported, json!({ "source": "pg@one", "file": "out", "bytes": 1 << 30, "data_bytes": 8192 }));
}

fn deletes_and_rollbacks_say_whether_they_were_real(shell: &Shell) {
    fill(shell);
    let rollback = shell.json(&["snapshot", "rollback", "pg@one", "--dry-run"]);
    assert_eq!(rollback, json!({ "dry_run": true, "volume": "pg", "to": "pg@one", "kept_as": null }));
    let rollback = shell.json(&["snapshot", "rollback", "pg@one"]);
    let kept = json!("pg@before-rollback-1");
    assert_eq!(rollback, json!({ "dry_run": false, "volume": "pg", "to": "pg@one", "kept_as": kept }));
    let delete = shell.json(&["snapshot", "delete", "pg@before-rollback-1", "--dry-run"]);
    let gone = json!([{ "snapshot": "pg@before-rollback-1", "exclusive_bytes": 0, "clones": 0 }]);
    assert_eq!(delete, json!({ "dry_run": true, "snapshots": gone }));
    let delete = shell.json(&["volume", "delete", "pg", "--with-snapshots"]);
    let gone = json!([{ "volume": "pg", "mapped_bytes": 8192, "snapshots": ["one", "before-rollback-1"] }]);
    assert_eq!(delete, json!({ "dry_run": false, "volumes": gone }));
}

fn a_pool(shell: &Shell) {
    fill(shell);
    let status = shell.json(&["pool", "status"]);
    for field in
        ["pool_bytes", "used_bytes", "free_bytes", "reserve_bytes", "waiting_bytes", "metadata_disk_bytes"]
    {
        assert!(status[field].is_u64(), "{field}");
    }
    assert_eq!(status["path"], shell.pool_name());
    assert_eq!(status["metadata"], format!("{}.meta", shell.pool_name()));
    assert_eq!(status["read_only"], Value::Null);
    assert_eq!((&status["volumes"], &status["snapshots"]), (&json!(1), &json!(1)));
}

fn an_error(shell: &Shell) {
    fill(shell);
    let ran = shell.run(&["volume", "show", "mysql", "--json"]);
    let error: Value = serde_json::from_str(&ran.stderr).expect("JSON");
    let expected = json!({
        "kind": "not-found", "status": 3, "message": "find volume: no volume named \"mysql\"",
        "next_step": "`firn volume list` shows the names",
    });
    assert_eq!((ran.status, &error["error"]), (Some(3), &expected));
}
