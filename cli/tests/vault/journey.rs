//! The main job: a volume is sent, first all of it and then what changed, lost, and restored to the byte.

use std::fs;

use serde_json::{Value, json};

use crate::shell::{Shell, noise};
use crate::volume::{MIB, change, filled, first_line, vault};

both_ways! {
    a_lost_volume_comes_back("128M")
    a_dry_run_says_what_a_send_would_do("64M")
    a_group_is_sent_as_one("64M")
    a_point_goes_to_a_file_or_stdout("64M")
    what_can_not_be_sent_or_restored_is_said("64M")
}

fn a_lost_volume_comes_back(shell: &Shell) {
    vault(shell);
    let mut content = filled(shell, 8);
    shell.done(&["snapshot", "create", "pg@monday"]);
    let sent = shell.json(&["vault", "send", "pg@monday", "main"]);
    assert_eq!((&sent["was_there"], &sent["dry_run"]), (&json!(false), &json!(false)));
    assert_eq!(sent["points"][0]["kind"], "baseline");
    assert_eq!(sent["points"][0]["changed_bytes"], 8 * MIB);
    let monday = content.clone();

    change(shell, "pg", &mut content, &[0, 1, 77, 2047]);
    let sent = shell.json(&["vault", "send", "pg", "main", "--application", "lsn=0/3000148"]);
    assert_eq!(sent["points"][0]["kind"], "increment");
    assert_eq!(sent["points"][0]["changed_bytes"], 4 * 4096);
    let stored = sent["stored_bytes"].as_u64().expect("a number");
    assert!(stored < 5 * 4096, "four blocks of noise and their map: {stored}");
    let again = shell.done(&["vault", "send", "pg@monday", "main"]);
    assert!(again.ends_with("nothing was sent: it is in main since entry 2\n"), "{again}");

    let points = shell.json(&["vault", "points", "main"]);
    let points = points["points"].as_array().expect("a list");
    assert_eq!(points.len(), 2);
    assert_eq!(points[1]["parent"], points[0]["id"]);
    let held = shell.json(&["snapshot", "list", "pg"]);
    let holds: Vec<&Value> =
        held["snapshots"].as_array().expect("a list").iter().map(|one| &one["holds"]).collect();
    assert_eq!(holds[0], &json!([]), "the snapshot of the user is not needed any more, and stays");
    assert_eq!(holds[1].as_array().map(Vec::len), Some(1), "the next send needs this one");

    shell.done(&["snapshot", "release", &common(shell), "--reason", &hold(shell)]);
    shell.done(&["volume", "delete", "pg", "--with-snapshots"]);
    let restored = shell.json(&["vault", "restore", "main", "pg", "--to", "pg"]);
    assert_eq!((&restored["bytes"], &restored["lost_bytes"]), (&json!(8 * MIB), &json!(0)));
    shell.done(&["export", "pg", "out"]);
    assert!(shell.read("out") == content, "the newest point");
    assert_eq!(shell.json(&["volume", "show", "pg"])["tags"], json!({}), "it is whole");
    shell.done(&["vault", "restore", "main", "pg@monday", "--to", "monday"]);
    shell.done(&["export", "monday", "out", "--overwrite"]);
    assert!(shell.read("out") == monday, "the point before");
    let sent = shell.json(&["vault", "send", "pg", "main"]);
    assert_eq!(sent["points"][0]["kind"], "baseline", "another volume of the same name begins anew");
}

/// The snapshot that the next send needs.
fn common(shell: &Shell) -> String {
    let snapshots = shell.json(&["snapshot", "list", "pg"]);
    let name = snapshots["snapshots"][1]["name"].as_str().expect("a name");
    format!("pg@{name}")
}

fn hold(shell: &Shell) -> String {
    shell.json(&["snapshot", "list", "pg"])["snapshots"][1]["holds"][0].as_str().expect("a hold").to_owned()
}

fn a_dry_run_says_what_a_send_would_do(shell: &Shell) {
    vault(shell);
    let mut content = filled(shell, 1);
    let plan = shell.done(&["vault", "send", "pg", "main", "--dry-run"]);
    assert_eq!(plan, "would send pg: baseline of 1M before compression\n");
    let points = shell.done(&["vault", "points", "main"]);
    assert_eq!(points, "no recovery points: `firn vault send VOLUME VAULT` makes one\n");
    assert_eq!(shell.json(&["snapshot", "list"])["snapshots"], json!([]), "it took no snapshot");
    shell.done(&["vault", "send", "pg", "main"]);
    change(shell, "pg", &mut content, &[3, 200]);
    let plan = shell.done(&["vault", "send", "pg", "main", "--dry-run"]);
    assert_eq!(plan, "would send pg: increment of 8K before compression\n");
    let left = || fs::read_dir(shell.path("")).expect("a folder").count();
    let (before, init) = (left(), ["vault", "init", "other", "./other/below", "--dry-run"]);
    let tried = shell.done(&init);
    assert!(tried.contains("would make vault other at ") && !shell.exists("other"), "{tried}");
    assert_eq!(left(), before, "nothing is left of a trial");
    fs::create_dir_all(shell.path("other/below")).expect("a folder");
    shell.done(&init);
    assert_eq!(fs::read_dir(shell.path("other/below")).expect("a folder").count(), 0);
    let path = shell.path("vault");
    shell.fails(
        &["vault", "init", "other", "./vault", "--dry-run"],
        4,
        &format!(
            "firn: make vault: {} holds a vault already\n\
             next: `firn vault add NAME ADDRESS` gives it a name on this machine\n",
            path.display()
        ),
    );
}

fn a_group_is_sent_as_one(shell: &Shell) {
    vault(shell);
    let content = filled(shell, 1);
    shell.done(&["volume", "create", "log", "--size", "4M"]);
    shell.done(&["group", "create", "shop", "pg", "log"]);
    let sent = shell.json(&["vault", "send", "shop", "main"]);
    let names: Vec<&Value> =
        sent["points"].as_array().expect("a list").iter().map(|one| &one["volume"]).collect();
    assert_eq!(names, [&json!("pg"), &json!("log")]);
    shell.done(&["group", "snapshot", "shop@closing"]);
    let plan = shell.done(&["vault", "send", "shop@closing", "main", "--dry-run"]);
    let increment = "increment of 0 before compression";
    assert_eq!(plan, format!("would send pg@closing: {increment}\nwould send log@closing: {increment}\n"));
    shell.done(&["vault", "send", "shop@closing", "main"]);
    let points = shell.json(&["vault", "points", "main"]);
    let points = points["points"].as_array().expect("a list");
    assert_eq!(points.len(), 4);
    assert!(points.iter().all(|point| point["group"] == "shop"), "{points:?}");
    assert_eq!(points[2]["committed_ms"], points[3]["committed_ms"], "one entry commits both");
    shell.done(&["vault", "restore", "main", "pg@closing", "--to", "./out"]);
    assert!(shell.read("out") == content);

    shell.done(&["volume", "create", "shop", "--size", "1M"]);
    shell.fails(
        &["vault", "send", "shop", "main"],
        2,
        "firn: send: \"shop\" is a volume and a group\n\
         next: give the volume another name with `firn volume rename`\n",
    );
}

fn a_point_goes_to_a_file_or_stdout(shell: &Shell) {
    vault(shell);
    let content = filled(shell, 2);
    shell.done(&["vault", "send", "pg", "main"]);
    let restored = shell.done(&["vault", "restore", "main", "pg", "--to", "./out"]);
    assert!(first_line(&restored).ends_with(" s: 2M, of which 2M is data"), "{restored}");
    assert!(shell.read("out") == content, "to a file");
    let ran = shell.run(&["vault", "restore", "main", "pg", "--to", "-"]);
    assert!(ran.status == Some(0) && ran.stdout == content, "to stdout: {}", ran.stderr);

    let range = ["vault", "restore", "main", "pg", "--range", "4000:1M", "--to"];
    let part = &content[4000..4000 + MIB];
    let ran = shell.run(&[range.as_slice(), &["-"]].concat());
    assert!(ran.status == Some(0) && ran.stdout == part, "a range to stdout: {}", ran.stderr);
    shell.fails(
        &[range.as_slice(), &["./out"]].concat(),
        4,
        "firn: restore: ./out exists\nnext: name another file, or lose what is in it: --overwrite\n",
    );
    assert!(shell.read("out") == content, "a refused restore changes nothing");
    let restored = shell.json(&[range.as_slice(), &["./out", "--overwrite"]].concat());
    assert_eq!(restored["bytes"], MIB);
    assert!(shell.read("out") == part, "nothing is left of what was in it");
    shell.write("out", &noise(9, 4 * MIB));
    shell.done(&["vault", "restore", "main", "pg", "--to", "./out", "--overwrite"]);
    assert!(shell.read("out") == content, "over what was longer");
}

fn what_can_not_be_sent_or_restored_is_said(shell: &Shell) {
    vault(shell);
    filled(shell, 1);
    shell.done(&["vault", "send", "pg", "main"]);
    let names = "next: `firn volume list` and `firn group list` show the names\n";
    let send = |source, status, why: &str| shell.fails(&["vault", "send", source, "main"], status, why);
    send("nope", 3, &format!("firn: send: there is no volume and no group \"nope\"\n{names}"));
    send("pg@nope", 3, "firn: find snapshot: volume \"pg\" has no snapshot \"nope\"\n");
    shell.fails(
        &["vault", "send", "pg", "nope"],
        3,
        "firn: find vault: no vault is known as \"nope\" on this machine\n\
         next: `firn vault list` shows the names; `firn vault add NAME ADDRESS` names one that exists; a directory is \
         written with a slash, such as ./vault\n",
    );
    let restore = |options: &[&str], status, why: &str| {
        shell.fails(&[["vault", "restore", "main"].as_slice(), options].concat(), status, why);
    };
    let no_point = "is no point of this vault\nnext: `firn vault points` lists them\n";
    restore(&["pg@nope", "--to", "./out"], 3, &format!("firn: find point: \"pg@nope\" {no_point}"));
    restore(&["pg:2020-01-01", "--to", "x"], 3, &format!("firn: find point: \"pg:2020-01-01\" {no_point}"));
    restore(
        &["pg", "--to", "pg"],
        4,
        "firn: restore: a volume named \"pg\" exists\n\
         next: name another one; a clone or a rollback can then take its place\n",
    );
    restore(
        &["pg", "--to", "x", "--range", "0:1"],
        2,
        "firn: restore: --range and --overwrite are for a file or stdout, not for a volume\n\
         next: a file's name has a slash in it, such as ./pg.img\n",
    );
    restore(
        &["pg", "--to", "-", "--range", "1M:1"],
        2,
        "firn: restore: the range 1M:1 is not all in the point, which has 1M\n",
    );
    restore(
        &["pg", "--to", "./no/out"],
        3,
        "firn: restore: there is no directory ./no\nnext: make it, or name another file\n",
    );
    restore(
        &["pg", "--to", "./", "--overwrite"],
        2,
        "firn: restore: ./ is a directory\nnext: name a file in it\n",
    );
}
