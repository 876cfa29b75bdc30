//! What the README shows, from the first command to the last, and what each answers.

#[macro_use]
mod shell;

use shell::{Shell, noise};

const MIB: usize = 1 << 20;

both_ways! {
    the_tour("256M")
    a_group_is_snapshotted_at_one_point("64M")
    volumes_are_renamed_resized_tagged_and_deleted("64M")
    snapshots_are_held_released_and_deleted("64M")
    a_pool_grows("64M")
}

fn the_tour(shell: &Shell) {
    let before = noise(1, 4 * MIB);
    shell.write("pg.img", &before);
    assert_eq!(shell.done(&["import", "pg.img", "pg"]), "pg.img imported into pg: 4M of 4M written\n");
    assert_eq!(
        shell.done(&["snapshot", "create", "pg@before-upgrade"]),
        "snapshot pg@before-upgrade created\n"
    );

    let mut after = before.clone();
    after[MIB..MIB + 8192].copy_from_slice(&noise(2, 8192));
    after[3 * MIB..3 * MIB + 4096].fill(0);
    shell.write("pg.img", &after);
    assert_eq!(
        shell.done(&["import", "pg.img", "pg", "--overwrite"]),
        "pg.img imported into pg: 12K of 4M written\n"
    );
    assert_eq!(
        shell.done(&["delta", "pg@before-upgrade", "pg"]),
        "12K changed from pg@before-upgrade to pg: 8K of data, 4K of holes\n"
    );
    assert_eq!(
        shell.done(&["clone", "create", "pg@before-upgrade", "test"]),
        "volume test created as a clone of pg@before-upgrade\n"
    );
    assert_eq!(
        shell.done(&["volume", "list"]),
        "VOLUME  SIZE  MAPPED  SNAPSHOTS  GROUP  ORIGIN             TAGS\n\
         pg        4M      4M          1  -      -                  -\n\
         test      4M      4M          0  -      pg@before-upgrade  -\n"
    );
    assert_eq!(
        shell.done(&["snapshot", "rollback", "pg@before-upgrade", "--keep-as", "upgraded"]),
        "volume pg is what pg@before-upgrade was; what it was until now is pg@upgraded\n"
    );
    for (point, content) in [("pg", &before), ("pg@upgraded", &after), ("test", &before)] {
        shell.done(&["export", point, "out.img", "--overwrite"]);
        assert!(shell.read("out.img") == *content, "{point}");
    }
    assert_eq!(shell.done(&["clone", "detach", "test"]), "volume test stands on its own: 4M copied\n");
    assert_eq!(shell.json(&["volume", "show", "test"])["origin"], serde_json::Value::Null);
}

fn a_group_is_snapshotted_at_one_point(shell: &Shell) {
    for volume in ["orders", "stock"] {
        shell.done(&["volume", "create", volume, "--size", "1G"]);
    }
    assert_eq!(shell.done(&["group", "create", "shop", "orders"]), "group shop created: orders\n");
    assert_eq!(shell.done(&["group", "add", "shop", "stock"]), "group shop has orders stock\n");
    assert_eq!(
        shell.done(&["group", "snapshot", "shop@nightly", "--tag", "kept=7d"]),
        "2 snapshots created at one point: orders@nightly, stock@nightly\n"
    );
    let snapshots = shell.json(&["snapshot", "list"]);
    let epochs: Vec<_> = (0..2).map(|at| &snapshots["snapshots"][at]["key"]["epoch"]).collect();
    assert_eq!(epochs[0], epochs[1]);
    assert_eq!(snapshots["snapshots"][1]["group"], "shop");
    assert_eq!(snapshots["snapshots"][1]["tags"]["kept"], "7d");
    assert_eq!(shell.done(&["group", "remove", "shop", "stock"]), "group shop has orders\n");
    assert_eq!(
        shell.done(&["group", "delete", "shop", "--dry-run"]),
        "group shop would be deleted; its volumes stay: orders\n"
    );
    assert_eq!(shell.done(&["group", "delete", "shop"]), "group shop deleted; its volumes stay: orders\n");
    assert_eq!(shell.json(&["group", "list"])["groups"], serde_json::json!([]));
}

fn volumes_are_renamed_resized_tagged_and_deleted(shell: &Shell) {
    shell.done(&["volume", "create", "a", "--size", "1.5G", "--tag", "env=test"]);
    assert_eq!(shell.done(&["volume", "rename", "a", "b"]), "volume a is called b now\n");
    assert_eq!(
        shell.done(&["volume", "tag", "b", "owner=ada", "--remove", "env"]),
        "volume b has tags owner=ada\n"
    );
    assert_eq!(shell.done(&["volume", "resize", "b", "--size", "2G"]), "volume b resized from 1.5G to 2G\n");
    shell.done(&["snapshot", "create", "b@one"]);
    assert_eq!(
        shell.done(&["volume", "delete", "b", "--with-snapshots", "--dry-run"]),
        "volume b would be deleted with 1 snapshot: one\n"
    );
    assert_eq!(shell.json(&["volume", "show", "b"])["bytes"], 2_u64 << 30, "a dry run deletes nothing");
    assert_eq!(
        shell.done(&["volume", "delete", "b", "--with-snapshots"]),
        "volume b deleted with 1 snapshot: one\n"
    );
    assert_eq!(
        shell.done(&["volume", "list"]),
        "no volumes: `firn volume create pg --size 100G` makes one\n"
    );
}

fn snapshots_are_held_released_and_deleted(shell: &Shell) {
    shell.write("file", &noise(3, 8192));
    shell.done(&["import", "file", "v"]);
    shell.done(&["snapshot", "create", "v@a"]);
    assert_eq!(
        shell.done(&["snapshot", "hold", "v@a", "--reason", "audit"]),
        "snapshot v@a is held: audit\n"
    );
    shell.fails(
        &["snapshot", "delete", "v@a"],
        4,
        "firn: change catalog: snapshot \"a\" is held: audit\nnext: release every hold, then delete it\n",
    );
    shell.done(&["snapshot", "hold", "v@a"]);
    assert_eq!(
        shell.done(&["snapshot", "release", "v@a", "--reason", "audit"]),
        "snapshot v@a is still held: user\n"
    );
    assert_eq!(shell.done(&["snapshot", "release", "v@a"]), "snapshot v@a is not held any more\n");
    shell.write("file", &noise(4, 8192));
    shell.done(&["import", "file", "v", "--overwrite"]);
    assert_eq!(
        shell.done(&["snapshot", "delete", "v@a", "--dry-run"]),
        "snapshot v@a would be deleted: 8K comes back\n"
    );
    assert_eq!(shell.done(&["snapshot", "delete", "v@a"]), "snapshot v@a deleted: 8K comes back\n");
}

fn a_pool_grows(shell: &Shell) {
    let grown = format!("pool {} grown from 64M to 128M\n", shell.pool_name());
    assert_eq!(shell.done(&["pool", "grow", "--size", "128M"]), grown);
    let status = shell.json(&["pool", "status"]);
    assert_eq!(status["pool_bytes"], 128 << 20);
    assert_eq!(status["recovery"]["clean"], true);
}

#[test]
fn the_manual_and_completions_come_from_the_definition() {
    let shell = Shell::new();
    let completions = shell.done(&["completions", "bash"]);
    assert!(completions.contains("complete -F _firn"));
    assert!(!completions.contains("attach-helper"), "nobody types that");
    assert!(shell.done(&["man"]).contains(".TH firn 1"));
    shell.done(&["man", "--directory", "pages"]);
    assert!(shell.exists("pages/firn-snapshot-create.1"));
    let help = shell.done(&["--help"]);
    assert!(help.contains("Exit statuses:\n   0  done\n"), "{help}");
    assert!(!shell.done(&["-h"]).contains("Exit statuses"));
}
